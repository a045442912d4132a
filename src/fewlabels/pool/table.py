"""Tables of paths and labels: image,label[,split][,group]."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from io import TextIOBase
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fewlabels.errors import UserError
from fewlabels.pool.columns import ALSO, find_columns, names_images
from fewlabels.pool.folder import unread_format
from fewlabels.pool.paths import Places, are_images, by_name, exist, first_same, places, plain
from fewlabels.pool.pool import REGRESSION, SPLIT_NAMES, Pool, Skipped, assemble
from fewlabels.pool.source import Files
from fewlabels.pool.texts import BLOCK, TEXT, Texts, codes, encoded, mask, numbered, repeated

SEPARATORS = ",;\t"
HIDDEN = "-1"  # in the place of a label


@dataclass(frozen=True, eq=False)
class Rows:
    """N rows of a table, a column of trimmed text [N] each; `place(row)`: "line 3", "row 2"."""

    image: Any
    label: Any
    split: Any
    group: Any
    place: Callable[[int], str]
    notes: tuple[str, ...]
    hint: str  # what to do where no row has a label


def scan_csv(path: Path, task: str | None = None) -> Pool:
    """The Pool of a CSV file; its paths are relative to the CSV's folder. Raises UserError.

    Commas, semicolons or tabs separate, whichever makes a column of images.
    """
    rows = read_csv(path)
    label, told = as_meant(rows.label, task)
    return from_rows(path, replace(rows, label=label, notes=(*rows.notes, *told)), task)


def read_csv(path: Path, wanted: Sequence[str] = tuple(ALSO)) -> Rows:
    """The rows of a CSV file as they are written, "" in columns that are not wanted. Raises
    UserError."""
    try:
        with path.open("rb") as file:
            utf16 = file.read(2) in (b"\xff\xfe", b"\xfe\xff")  # "Unicode text" of spreadsheets
        with path.open(encoding="utf-16" if utf16 else "utf-8-sig", newline="") as file:
            return _read_csv(path, file, wanted)
    except UnicodeError:
        raise UserError(
            f"{path}: not UTF-8 text (Latin-1, perhaps); save the table as CSV in UTF-8, or "
            "convert it: iconv -f LATIN1 -t UTF-8"
        ) from None
    except csv.Error as error:
        raise UserError(f"{path}: not a CSV table ({error})") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None


def _read_csv(path: Path, file: TextIOBase, wanted: Sequence[str]) -> Rows:
    # The csv module, not pyarrow's reader, which cannot tell on which line a row stands.
    first = next((line for line in file if line.strip()), "")
    separator = next((s for s in SEPARATORS if names_images(_fields(first, s))), ",")
    header = _fields(first, separator)
    columns = find_columns(path, header, wanted)
    file.seek(0)
    texts: dict[str, list[Any]] = {name: [] for name in columns.at}
    lines = []
    for chunk in _chunks(path, csv.reader(file, delimiter=separator), len(header)):
        lines.append(np.array([line for line, _ in chunk], dtype=np.int64))
        for name, column in columns.at.items():
            texts[name].append(pa.array([fields[column] for _, fields in chunk], TEXT))
    line = np.concatenate(lines) if lines else np.zeros(0, dtype=np.int64)
    read = {name: repeated("", len(line)) for name in ("label", "split", "group")}
    for name, some in texts.items():
        read[name] = pc.utf8_trim_whitespace(pa.chunked_array(some, TEXT).combine_chunks())
    return Rows(
        **read,
        place=lambda row: f"line {line[row]}",
        notes=columns.notes,
        hint=columns.unlabelled or "fill the column label for some training rows",
    )


def _fields(line: str, separator: str) -> list[str]:
    return next(csv.reader([line], delimiter=separator), [])


def _chunks(path: Path, reader: Any, width: int) -> Iterator[list[tuple[int, list[str]]]]:
    """The rows below the header with the lines they end on, some at a time; blank ones left out."""
    chunk: list[tuple[int, list[str]]] = []
    header = True
    for fields in reader:
        if not "".join(fields).strip():
            continue
        if len(fields) != width:
            raise UserError(
                f"{path}: line {reader.line_num} has {len(fields)} fields, the header has "
                f"{width}; put a value that holds a separator into double quotes"
            )
        if header:
            header = False
            continue
        chunk.append((reader.line_num, fields))
        if len(chunk) == BLOCK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def from_rows(path: Path, rows: Rows, task: str | None = None) -> Pool:
    """The Pool of a table's rows. Files that do not exist are skipped, with their reason.

    Raises UserError for a row that cannot be understood, naming its place.
    """
    split = sides(rows.split, rows.label, lambda row: f"{path}: {rows.place(row)}")
    image, at, there, by = _found(path, rows)
    first = first_same(at)
    again = first != np.arange(len(first))
    _same_or_error(path, rows, again, first)
    missing = ~again & ~there
    if missing.sum() == (~again).sum():
        raise UserError(
            f"{path}: none of the {missing.sum()} images exists, the first is "
            f"{rows.image[0].as_py()!r}; paths are relative to {path.parent}"
        )
    other = ~again & ~missing & ~are_images(at.name)
    skipped = []
    for row in np.flatnonzero(again | missing | other).tolist():
        reason = "the same image again" if again[row] else "no such file"
        reason = f"{reason} ({rows.place(row)})"
        name = image[row].as_py()
        skipped.append(Skipped(name, unread_format(name) if other[row] else reason))
    kept = np.flatnonzero(~(again | missing | other))
    if not len(kept):
        raise UserError(f"{path}: no image in a format that is read; {skipped[0].reason}")
    taken = pa.array(kept)
    return assemble(
        str(path),
        Files(path.parent, Texts(image.take(taken))),
        Texts(rows.label.take(taken)),
        split[kept],
        group=number_groups(rows.group.take(taken)),
        skipped=skipped,
        hint=rows.hint,
        task=task,
        notes=(*rows.notes, *by),
        place=lambda row: rows.place(int(kept[row])),
    )


def listed(path: Path, rows: Rows) -> Iterator[tuple[str, Path]]:
    """All images that rows name, whether they exist or not: as they are written, and where they
    lie. Raises UserError, at once."""
    image, *_ = _found(path, rows)
    written = zip(Texts(rows.image), Texts(image), strict=True)
    return ((name, path.parent / place) for name, place in written)


def _found(path: Path, rows: Rows) -> tuple[Any, Places, NDArray[np.bool_], tuple[str, ...]]:
    """The paths of the images [N], where they lie, which of them exist [N], and notes."""
    if not len(rows.image):
        raise UserError(f"{path}: the table has no rows")
    if (blank := np.flatnonzero(mask(pc.equal(rows.image, "")))).size:
        raise UserError(f"{path}: {rows.place(int(blank[0]))} names no image")
    image = plain(path.parent, rows.image)
    at = places(path.parent, image)
    there = exist(at)
    if there.any():
        return image, at, there, ()
    image, told = by_name(path.parent, image)
    if not told:
        return image, at, there, ()
    at = places(path.parent, image)
    return image, at, exist(at), (told,)


def as_meant(label: Any, task: str | None) -> tuple[Any, tuple[str, ...]]:
    """Labels as arrow texts [N], "" where they are -1, and a note about it. Where all are whole
    numbers that end in `.0` (integers beside blanks, as pandas writes them), they are integers.

    So the hub's test splits and scikit-learn write unlabelled. Beside 1 alone, -1 is a class; and
    it is a number like others where numbers are asked for. Not for labels whose names are declared.
    """
    if task == REGRESSION:
        return label, ()
    if pc.all(pc.match_substring_regex(label, r"^(-?[0-9]+\.0)?$")).as_py():
        label = pc.replace_substring(label, ".0", "")
    hidden = pc.equal(label, HIDDEN)
    count = pc.sum(hidden).as_py() or 0
    if not count:
        return label, ()
    if set(pc.unique(label).to_pylist()) - {HIDDEN, ""} == {"1"}:
        return label, ()
    note = f"-1 is read as unlabelled ({count:,} images); if it is a class, call it otherwise"
    return pc.if_else(hidden, "", label), (note,)


def sides(split: Any, label: Any, place: Callable[[int], str]) -> NDArray[np.str_]:
    """ "train", "val", "test" or "" [N] for splits and labels as written (arrow texts [N]).

    What has neither a label nor a split trains. What stands in validation or test without a label
    stays there: its label may come from elsewhere. `place(row)` begins the line of a UserError.
    """
    number, words = encoded(split)
    side = np.array([SPLIT_NAMES.get(word.lower(), "") for word in words], dtype="U5")[number]
    given = mask(pc.not_equal(split, ""))
    if (odd := np.flatnonzero(given & (side == ""))).size:
        row = int(odd[0])
        raise UserError(
            f"{place(row)} has the split {split[row].as_py()!r}; it is train, val, test or empty"
        )
    side[mask(pc.equal(label, "")) & ~given] = "train"
    return side


def _same_or_error(
    path: Path, rows: Rows, again: NDArray[np.bool_], first: NDArray[np.int64]
) -> None:
    """Raises UserError where a row says another thing of an image than the first did."""
    later = np.flatnonzero(again)
    before = first[later]
    said = (("labels", rows.label), ("splits", rows.split), ("groups", rows.group))
    for what, texts in said:
        differ = mask(pc.not_equal(texts.take(pa.array(later)), texts.take(pa.array(before))))
        for i in np.flatnonzero(differ):
            row, one = int(later[i]), int(before[i])
            raise UserError(
                f"{path}: {rows.image[row].as_py()!r} has two {what}: "
                f"{texts[one].as_py() or 'none'} ({rows.place(one)}) and "
                f"{texts[row].as_py() or 'none'} ({rows.place(row)}); keep one of the rows"
            )


def number_groups(names: Any) -> NDArray[np.int64] | None:
    """Group names (arrow texts [N]) as numbers [N]; an empty one is a group of its own; None if
    all are."""
    alone = mask(pc.equal(names, ""))
    if alone.all():
        return None
    number = codes(names)
    return numbered(np.where(alone, number.max() + 1 + np.arange(len(number)), number))
