"""The labels of a store as tables, CSV or Parquet: written for others, and read from them."""

import csv
import math
import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from pathlib import Path

from fewlabels.errors import UserError, one_line
from fewlabels.pool.columns import find_columns, names_images
from fewlabels.pool.store import Event, LabelStore, Mark, cleaned
from fewlabels.pool.table import SEPARATORS

CURRENT = ("image", "label", "sha256", "who", "when", "source")
HISTORY = (*CURRENT, "previous", "event", "action", "kind", "target")
NUMBERS = ("event", "action", "target")
ROWS = 50_000  # of a Parquet file that are in memory at once
PLAIN = ("image", "label", "who", "when", "source")  # what is read of a table without digests
KINDS = "a table of labels is a .csv or a .parquet file"

Row = tuple[str, dict[str, str]]  # where it stands ("line 3", "row 2") and its texts by column


@dataclass(frozen=True)
class Imported:
    """What an import has come to, in images."""

    new: int  # the store had no label of them
    changed: int
    same: int  # nothing was written for these
    newer: int = 0  # the store has a later label of these, which stays
    empty: int = 0  # rows of a table without digests that give no label
    action: int | None = (
        None  # what `undo` takes back; None where nothing was written, or a history
    )
    notes: tuple[str, ...] = ()  # what the columns of a table were taken for

    def line(self) -> str:
        """For the terminal."""
        said = f"{self.new:,} new labels, {self.changed:,} changed, {self.same:,} as they were"
        said += f", {self.newer:,} newer here and kept" if self.newer else ""
        return said + (f", {self.empty:,} without a label" if self.empty else "")


def export_table(store: LabelStore, path: Path, history: bool = False) -> int:
    """Writes the current labels, or all events, to a new .csv or .parquet file; returns how many.

    `import_table` makes the same labels, or the same events, of it. The file is there whole or not
    at all. UserError where there is a file of that name, or it cannot be written.
    """
    write = {".csv": _write_csv, ".parquet": _write_parquet}.get(path.suffix.lower())
    if write is None:
        raise UserError(f"{path}: {KINDS}")
    if path.exists():
        raise UserError(f"{path}: exists; name a new file, nothing is overwritten")
    part = path.with_name(f".{path.name}-{uuid.uuid4().hex[:8]}")
    columns, events = (HISTORY, store.history()) if history else (CURRENT, store.current())
    try:
        count = write(part, columns, events)
        os.replace(part, path)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror or one_line(error)})"
        ) from None
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
    return count


def import_table(
    store: LabelStore,
    path: Path,
    who: str,
    digests: Mapping[str, str] | None = None,
    root: Path = Path(),
) -> Imported:
    """Writes the labels of a table to the store, all of them or none; a later label of its own
    stays.

    A row is of the image with its `sha256`; without one, of that which `digests` {name: digest} has
    under `image`, or has at that path where the names are relative to the folder `root`. `who` and
    the source "import" are what rows get that name none. An empty label takes an image back to
    unlabelled where the table has a column `sha256`; in other tables it says nothing, and their
    columns are found as those of DATA. A table with a column `event` is a history, for an empty
    store. UserError names the place of what cannot be understood.
    """
    columns, rows, notes = _read(path)
    _require(path, columns, digests)
    if "event" in columns:
        try:
            store.restore(_event(path, place, row) for place, row in rows)
        except UserError as error:
            raise _at(path, error) from None
        known = store.labels()
        return Imported(new=len(known), changed=0, same=0)
    digest_of = None if digests is None else _finder(path, digests, root)
    marks: dict[str, tuple[str, Mark]] = {}
    empty = 0
    for place, row in rows:
        if not row["label"].strip() and "sha256" not in columns:
            empty += 1
            continue
        try:
            mark = cleaned(_mark(row, who, digest_of))
        except UserError as error:
            raise UserError(f"{path}: {place}: {error}") from None
        first, other = marks.setdefault(mark.digest, (place, mark))
        if other.label != mark.label:
            raise UserError(
                f"{path}: {place} gives {mark.image or mark.digest} the label {mark.label!r}, "
                f"{first} gives the same image {other.label!r}; keep one of them"
            )
    told = _written(store, [mark for _, mark in marks.values()])
    return replace(told, empty=empty, notes=notes)


def import_store(store: LabelStore, path: Path) -> Imported:
    """Writes the current labels of another store, all of them or none, each with who gave it, when
    and how; a later label of its own stays. UserError where there is none at `path`, or it cannot
    be read."""
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    with LabelStore(path, read_only=True) as other:
        said = [
            Mark(event.digest, event.label or "", event.who, event.source, event.image, event.time)
            for event in other.current()
        ]
    return _written(store, said)


def _written(store: LabelStore, marks: Sequence[Mark]) -> Imported:
    """Writes those of the marks that say what the store does not, but not over a later label; a
    mark without a time is of now."""
    known = {event.digest: event for event in store.current()}
    different, new, newer = list[Mark](), 0, 0
    for mark in marks:
        here = known.get(mark.digest)
        if here and here.label == mark.label:
            continue
        if here and mark.time and here.time > mark.time:
            newer += 1
            continue
        new += here is None
        different.append(mark)
    action = store.add(different) if different else None
    same = len(marks) - len(different) - newer
    return Imported(new, len(different) - new, same, newer, action=action)


def _at(path: Path, error: UserError) -> UserError:
    """The error, which may be about a row or about the store, with the table in front."""
    return error if str(error).startswith(str(path)) else UserError(f"{path}: {error}")


def _finder(table: Path, digests: Mapping[str, str], root: Path) -> Callable[[str], str]:
    """What gives the digest of an image as a row names it. UserError where the pool has none."""
    places = {os.path.normpath(root / name): digest for name, digest in digests.items()}

    def find(image: str) -> str:
        name = image.strip()
        path = name.removeprefix("file://").replace("\\", "/")
        at = (os.path.normpath(folder / path) for folder in (root, table.absolute().parent))
        found = (*map(digests.get, (image, name)), *map(places.get, at))
        if not any(found):
            raise UserError(f"no image of the pool has the name {image!r}")
        return next(filter(None, found))

    return find


def _mark(row: dict[str, str], who: str, digest_of: Callable[[str], str] | None) -> Mark:
    image, digest = row.get("image", ""), row.get("sha256", "").strip()
    if not digest and digest_of is not None:
        digest = digest_of(image)
    by, source = row.get("who", "").strip() or who, row.get("source", "").strip() or "import"
    return Mark(digest, row["label"], by, source, image, row.get("when", "").strip())


def _event(path: Path, place: str, row: dict[str, str]) -> Event:
    try:
        number, action = int(row["event"]), int(row["action"])
        target = int(row["target"]) if row["target"] else None
    except ValueError:
        raise UserError(
            f"{path}: {place}: event, action and target are whole numbers, not "
            f"{row['event']!r}, {row['action']!r} and {row['target']!r}"
        ) from None
    said = row["sha256"], row["label"], row["previous"], row["who"], row["when"]
    return Event(number, action, row["kind"], target, *said, row["source"], row["image"])


def _cells(event: Event) -> dict[str, str | int | None]:
    return {
        "image": event.image,
        "label": event.label,
        "sha256": event.digest,
        "who": event.who,
        "when": event.time,
        "source": event.source,
        "previous": event.previous,
        "event": event.number,
        "action": event.action,
        "kind": event.kind,
        "target": event.target,
    }


def _require(path: Path, columns: list[str], digests: Mapping[str, str] | None) -> None:
    """UserError for columns that no table of labels has, or that do not suffice."""
    has = f"a table of labels has image or sha256, label, and maybe {', '.join(CURRENT[3:])}"
    if unknown := [name for name in columns if name not in HISTORY]:
        raise UserError(f"{path}: unknown columns {', '.join(map(repr, unknown))}; {has}")
    if twice := [name for name in HISTORY if columns.count(name) > 1]:
        raise UserError(f"{path}: more than one column {twice[0]!r}; keep one of them")
    if "label" not in columns or not {"image", "sha256"} & set(columns):
        raise UserError(f"{path}: has the columns {', '.join(columns) or 'none'}; {has}")
    if "event" in columns and (missing := [name for name in HISTORY if name not in columns]):
        raise UserError(f"{path}: a history (it has 'event') without {', '.join(missing)}")
    if "sha256" not in columns and digests is None:
        raise UserError(f"{path}: no column 'sha256', and no pool to look the images up in")


def _read(path: Path) -> tuple[list[str], Iterator[Row], tuple[str, ...]]:
    """The columns of a table, its rows, and notes. UserError where it cannot be read.

    Of a table without digests only the columns of PLAIN are read.
    """
    kinds = {".csv": _read_csv, ".tsv": _read_csv, ".parquet": _read_parquet}
    read = kinds.get(path.suffix.lower())
    if read is None:
        raise UserError(f"{path}: {KINDS}")
    rows = read(path)
    _, header = next(rows)
    columns = [name.strip().lower() for name in header]
    numbers, notes = list(range(len(header))), tuple[str, ...]()
    if "sha256" not in columns and names_images(header):
        found = find_columns(path, header, PLAIN)
        if found.unlabelled:
            raise UserError(f"{path}: {found.unlabelled}; call the column of labels 'label'")
        columns, numbers, notes = list(found.at), list(found.at.values()), found.notes
    at = list(zip(columns, numbers, strict=True))
    return columns, ((place, {name: texts[n] for name, n in at}) for place, texts in rows), notes


def _read_csv(path: Path) -> Iterator[tuple[str, list[str]]]:
    """The header, then the rows that are not empty, each with its place."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            separator = next((s for s in SEPARATORS if _is_header(first, s)), ",")
            file.seek(0)
            reader = csv.reader(file, delimiter=separator, strict=True)
            header = next(reader, [])
            yield "line 1", header
            for texts in reader:
                if not any(text.strip() for text in texts):
                    continue
                if len(texts) != len(header):
                    raise UserError(
                        f"{path}: line {reader.line_num} has {len(texts)} fields, the header has "
                        f"{len(header)}; put a value that holds a separator into double quotes"
                    )
                yield f"line {reader.line_num}", texts
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8 text; save the table as CSV in UTF-8") from None
    except csv.Error as error:
        raise UserError(f"{path}: not a CSV table ({error})") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None


def _is_header(line: str, separator: str) -> bool:
    names = next(csv.reader([line], delimiter=separator), [])
    return "sha256" in names or names_images(names)


def _read_parquet(path: Path) -> Iterator[tuple[str, list[str]]]:
    """The header, then the rows, each with its place."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            yield "the schema", file.schema_arrow.names
            number = 0
            for batch in file.iter_batches(batch_size=ROWS):
                columns = [column.to_pylist() for column in batch.columns]
                for values in zip(*columns, strict=True):
                    yield f"row {number}", [_text(value) for value in values]
                    number += 1
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path}: cannot be read as Parquet ({one_line(error)})") from None


def _text(value: object) -> str:
    """A cell as text, as it would stand in a CSV file; several labels are separated by `|`."""
    match value:
        case None:
            return ""
        case list():
            return "|".join(_text(one) for one in value)
        case bytes():  # a digest
            return value.hex()
        case datetime():
            return value.isoformat()
        case float() if math.isnan(value):
            return ""
        case float() if value.is_integer():  # integers beside nulls, as pandas writes them
            return str(int(value))
        case _:
            return str(value)


def _write_csv(path: Path, columns: tuple[str, ...], events: Iterable[Event]) -> int:
    count = 0
    with path.open("x", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for event in events:
            cells = _cells(event)
            writer.writerow([cells[name] for name in columns])
            count += 1
    return count


def _write_parquet(path: Path, columns: tuple[str, ...], events: Iterable[Event]) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {name: pa.int64() if name in NUMBERS else pa.string() for name in columns}
    schema, count = pa.schema(list(kinds.items())), 0
    events = iter(events)
    with pq.ParquetWriter(path, schema) as file:
        while some := [_cells(event) for event in islice(events, ROWS)]:
            file.write_table(pa.Table.from_pylist(some, schema=schema))
            count += len(some)
    return count
