"""Tables of paths and labels: image,label[,split][,group]."""

import csv
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fewlabels.errors import UserError
from fewlabels.pool.folder import is_image, unread_format
from fewlabels.pool.pool import SPLIT_NAMES, Pool, Skipped, assemble
from fewlabels.pool.source import Files

COLUMNS = ("image", "label", "split", "group")


@dataclass(frozen=True)
class Row:
    """One row as text; `place` is where it stands, for messages."""

    place: str  # "line 3", "row 2"
    image: str
    label: str
    split: str = ""
    group: str = ""


def scan_csv(path: Path) -> Pool:
    """The Pool of a CSV file; its paths are relative to the CSV's folder. Raises UserError."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return from_rows(path, list(_csv_rows(path, file)))
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8 text; save the table as CSV in UTF-8") from None
    except csv.Error as error:
        raise UserError(f"{path}: not a CSV table ({error})") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None


def _csv_rows(path: Path, file: Iterable[str]) -> Iterator[Row]:
    reader = csv.reader(file)
    header = [name.strip().lower() for name in next(reader, [])]
    require_columns(path, header)
    at = {name: header.index(name) for name in COLUMNS if name in header}
    for fields in reader:
        if not any(field.strip() for field in fields):
            continue  # an empty line, as editors leave at the end
        if len(fields) != len(header):
            raise UserError(
                f"{path}: line {reader.line_num} has {len(fields)} fields, the header has "
                f"{len(header)}; put a value that holds a comma into double quotes"
            )
        values = {name: fields[column].strip() for name, column in at.items()}
        yield Row(f"line {reader.line_num}", **values)


def require_columns(path: object, names: Iterable[str]) -> None:
    """Raises UserError unless `image` and `label` are among the column names."""
    names = list(names)
    for name in ("image", "label"):
        if name not in names:
            found = ", ".join(names) or "none"
            raise UserError(
                f"{path}: no column {name!r} (found: {found}); "
                "a table has the columns image,label[,split][,group], separated by commas"
            )


def cell_text(value: object) -> str:
    """A table cell as text; null and NaN are "", and 3.0 (an integer beside nulls) is "3"."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def from_rows(path: Path, rows: list[Row]) -> Pool:
    """The Pool of a table's rows. Files that do not exist are skipped, with their reason.

    Raises UserError for a row that cannot be understood, naming its place.
    """
    if not rows:
        raise UserError(f"{path}: the table has no rows")
    kept: list[tuple[Row, str]] = []  # with its split
    skipped: list[Skipped] = []
    first: dict[str, Row] = {}
    missing = 0
    for row in rows:
        split = _side(path, row)
        key = os.path.normpath(path.parent / row.image)
        if key in first:
            _same_or_error(path, first[key], row)
            skipped.append(Skipped(row.image, f"the same image again ({row.place})"))
            continue
        first[key] = row
        if not os.path.isfile(key):
            missing += 1
            skipped.append(Skipped(row.image, f"no such file ({row.place})"))
        elif not is_image(row.image):
            skipped.append(Skipped(row.image, unread_format(row.image)))
        else:
            kept.append((row, split))
    if missing == len(first):
        raise UserError(
            f"{path}: none of the {missing} images exists, the first is {rows[0].image!r}; "
            f"paths are relative to {path.parent}"
        )
    if not kept:
        raise UserError(f"{path}: no image in a format that is read; {skipped[0].reason}")
    return assemble(
        str(path),
        Files(path.parent, tuple(row.image for row, _ in kept)),
        [row.label for row, _ in kept],
        [split for _, split in kept],
        group=number_groups([row.group for row, _ in kept]),
        skipped=skipped,
        hint="fill the column label for some training rows",
    )


def _side(path: Path, row: Row) -> str:
    """The row's split, after checking the row."""
    if not row.image:
        raise UserError(f"{path}: {row.place} names no image")
    if "|" in row.label:
        raise UserError(
            f"{path}: {row.place} has the label {row.label!r}; "
            "several labels an image are not supported yet"
        )
    return side_of(row.split, row.label, f"{path}: {row.place}")


def side_of(split: str, label: str, place: str) -> str:
    """ "train", "val", "test" or "" for a split as written; `place` begins the error's line."""
    if not split:
        return "" if label else "train"
    side = SPLIT_NAMES.get(split.lower())
    if side is None:
        raise UserError(f"{place} has the split {split!r}; it is train, val, test or empty")
    if side != "train" and not label:
        raise UserError(
            f"{place} is in {side} but has no label; give it one, or make its split train"
        )
    return side


def _same_or_error(path: Path, before: Row, row: Row) -> None:
    for what, a, b in (("labels", before.label, row.label), ("splits", before.split, row.split)):
        if a != b:
            raise UserError(
                f"{path}: {row.image!r} has two {what}: {a or 'none'} ({before.place}) and "
                f"{b or 'none'} ({row.place}); keep one of the rows"
            )


def number_groups(names: list[str]) -> NDArray[np.int64] | None:
    """Group names [N] as numbers [N]; an empty name is a group of its own; None if all are."""
    if not any(names):
        return None
    numbers: dict[str, int] = {}
    return np.array(
        [numbers.setdefault(name or f"\0{row}", len(numbers)) for row, name in enumerate(names)],
        dtype=np.int64,
    )
