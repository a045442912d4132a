"""Tables of paths and labels: image,label[,split][,group]."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import TextIOBase
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fewlabels.errors import UserError
from fewlabels.pool.columns import find_columns, names_images
from fewlabels.pool.folder import unread_format
from fewlabels.pool.paths import are_images, by_name, exist, first_same, places, plain
from fewlabels.pool.pool import SPLIT_NAMES, Pool, Skipped, assemble
from fewlabels.pool.source import Files
from fewlabels.pool.texts import BLOCK, TEXT, Texts, codes, encoded, mask, numbered, repeated

SEPARATORS = ",;\t"


@dataclass(frozen=True, eq=False)
class Rows:
    """N rows of a table, a column of trimmed text [N] each; `place(row)`: "line 3", "row 2"."""

    image: Any
    label: Any
    split: Any
    group: Any
    place: Callable[[int], str]


def scan_csv(path: Path, task: str | None = None) -> Pool:
    """The Pool of a CSV file; its paths are relative to the CSV's folder. Raises UserError.

    Commas, semicolons or tabs separate, whichever makes a column of images.
    """
    try:
        with path.open("rb") as file:
            utf16 = file.read(2) in (b"\xff\xfe", b"\xfe\xff")  # "Unicode text" of spreadsheets
        with path.open(encoding="utf-16" if utf16 else "utf-8-sig", newline="") as file:
            rows, notes = _read_csv(path, file)
    except UnicodeError:
        raise UserError(
            f"{path}: not UTF-8 text (Latin-1, perhaps); save the table as CSV in UTF-8, or "
            "convert it: iconv -f LATIN1 -t UTF-8"
        ) from None
    except csv.Error as error:
        raise UserError(f"{path}: not a CSV table ({error})") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    return from_rows(path, rows, task, notes)


def _read_csv(path: Path, file: TextIOBase) -> tuple[Rows, tuple[str, ...]]:
    # The csv module, not pyarrow's reader, which cannot tell on which line a row stands.
    first = next((line for line in file if line.strip()), "")
    separator = next((s for s in SEPARATORS if names_images(_fields(first, s))), ",")
    header = _fields(first, separator)
    columns = find_columns(path, header)
    file.seek(0)
    texts: dict[str, list[Any]] = {name: [] for name in columns.at}
    lines = []
    for chunk in _chunks(path, csv.reader(file, delimiter=separator), len(header)):
        lines.append(np.array([line for line, _ in chunk], dtype=np.int64))
        for name, column in columns.at.items():
            texts[name].append(pa.array([fields[column] for _, fields in chunk], TEXT))
    line = np.concatenate(lines) if lines else np.zeros(0, dtype=np.int64)
    read = {name: repeated("", len(line)) for name in ("split", "group")}
    for name, some in texts.items():
        read[name] = pc.utf8_trim_whitespace(pa.chunked_array(some, TEXT).combine_chunks())
    return Rows(**read, place=lambda row: f"line {line[row]}"), columns.notes


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


def from_rows(path: Path, rows: Rows, task: str | None = None, notes: tuple[str, ...] = ()) -> Pool:
    """The Pool of a table's rows. Files that do not exist are skipped, with their reason.

    Raises UserError for a row that cannot be understood, naming its place.
    """
    if not len(rows.image):
        raise UserError(f"{path}: the table has no rows")
    if (blank := np.flatnonzero(mask(pc.equal(rows.image, "")))).size:
        raise UserError(f"{path}: {rows.place(int(blank[0]))} names no image")
    split = sides(rows.split, rows.label, lambda row: f"{path}: {rows.place(row)}")
    image = plain(path.parent, rows.image)
    at = places(path.parent, image)
    there = exist(at)
    if not there.any():
        image, told = by_name(path.parent, image)
        if told:
            at, notes = places(path.parent, image), (*notes, told)
            there = exist(at)
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
        hint="fill the column label for some training rows",
        task=task,
        notes=notes,
        place=lambda row: rows.place(int(kept[row])),
    )


def sides(split: Any, label: Any, place: Callable[[int], str]) -> NDArray[np.str_]:
    """ "train", "val", "test" or "" [N] for splits and labels as written (arrow texts [N]).

    `place(row)` begins the line of a UserError.
    """
    number, words = encoded(split)
    side = np.array([SPLIT_NAMES.get(word.lower(), "") for word in words], dtype="U5")[number]
    given = mask(pc.not_equal(split, ""))
    if (odd := np.flatnonzero(given & (side == ""))).size:
        row = int(odd[0])
        raise UserError(
            f"{place(row)} has the split {split[row].as_py()!r}; it is train, val, test or empty"
        )
    unlabelled = mask(pc.equal(label, ""))
    if (odd := np.flatnonzero(unlabelled & given & (side != "train"))).size:
        row = int(odd[0])
        raise UserError(
            f"{place(row)} is in {side[row]} but has no label; give it one, or make its split train"
        )
    side[unlabelled] = "train"
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
