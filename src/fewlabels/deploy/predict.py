"""`predict`: labels for any number of images, as CSV or Parquet, in constant memory."""

import csv
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice, tee
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from fewlabels.deploy.classifier import Classifier, Picture, Prediction
from fewlabels.errors import UserError, one_line
from fewlabels.pool.folder import walk
from fewlabels.pool.pool import Pool

DIGITS = Path("digits")
ROWS = 10_000  # of a table that are written together

Count = Callable[[Prediction], None]  # hears each prediction that has been written


def find(paths: Sequence[Path]) -> Iterator[tuple[str, Picture]]:
    """The images that `paths` name, with their names: files, folders with all that lies in them,
    and tables (CSV, Parquet, digits) as `Pool.scan` reads them.

    UserError, at once, for a path that does not exist or a folder without images.
    """
    return chain.from_iterable([_images(path) for path in paths])


def _images(path: Path) -> Iterator[tuple[str, Picture]]:
    if path == DIGITS and not path.exists():
        return _rows(Pool.scan("digits"))
    if path.suffix.lower() == ".csv" and path.is_file():
        return _listed(path)
    if path.suffix.lower() == ".parquet" and path.is_file():
        return _rows(Pool.scan(path, to_train=False))
    if path.is_dir():
        inside = walk(path)
        if not inside.images and any(name.lower().endswith(".parquet") for name in inside.others):
            return _rows(Pool.scan(path, to_train=False))
        if not inside.images:
            raise UserError(f"{path}: no images in this folder")
        return ((str(path / name), path / name) for name in inside.images)
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    return iter([(str(path), path)])


def _rows(pool: Pool) -> Iterator[tuple[str, Picture]]:
    for row in range(len(pool)):
        try:
            yield pool.source.name(row), pool.source.read(row)
        except OSError:  # it vanished since the table was read
            yield pool.source.name(row), b""


def _listed(table: Path) -> Iterator[tuple[str, Picture]]:
    """The column `image` of a CSV; nobody needs labels to predict."""
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            if "image" not in (rows.fieldnames or ()):
                raise UserError(f"{table}: has no column 'image'")
            names = [row["image"] or "" for row in rows]
    except (UnicodeDecodeError, csv.Error) as error:
        reason = one_line(error)
        raise UserError(f"{table}: cannot be read as CSV in UTF-8 ({reason})") from error
    return ((name, table.parent / name) for name in names)


def write_csv(
    classifier: Classifier,
    images: Iterator[tuple[str, Picture]],
    file: IO[str],
    count: Count | None = None,
) -> None:
    """Writes `image,label,confidence,unknown,<probability of each class…>,error`.

    A file that cannot be read keeps its row, with an empty label and its error. `unknown` is true
    or false, and empty where the classifier cannot tell.
    """
    writer = csv.writer(file)
    writer.writerow(["image", "label", "confidence", "unknown", *_columns(classifier), "error"])
    for name, said in _said(classifier, images, count):
        numbers = [f"{p:.6f}" for p in said.probabilities] or [""] * len(classifier.classes)
        confidence = "" if said.error else f"{said.confidence:.6f}"
        unknown = "" if said.unknown is None else str(said.unknown).lower()
        writer.writerow([name, said.label, confidence, unknown, *numbers, said.error])


def write_parquet(
    classifier: Classifier,
    images: Iterator[tuple[str, Picture]],
    file: IO[bytes],
    count: Count | None = None,
) -> None:
    """The same columns, with null where there is nothing to say."""
    columns = _columns(classifier)
    schema = pa.schema(
        [
            ("image", pa.string()),
            ("label", pa.string()),
            ("confidence", pa.float32()),
            ("unknown", pa.bool_()),
            *((column, pa.float32()) for column in columns),
            ("error", pa.string()),
        ]
    )
    said = _said(classifier, images, count)
    with pq.ParquetWriter(file, schema) as writer:
        while part := list(islice(said, ROWS)):
            rows = [_row(name, prediction, columns) for name, prediction in part]
            writer.write_table(pa.Table.from_pylist(rows, schema))


def _row(name: str, said: Prediction, columns: Sequence[str]) -> dict[str, Any]:
    if said.error:
        return {"image": _text(name), "error": said.error}
    known = {"image": _text(name), "label": said.label, "confidence": said.confidence}
    numbers = dict(zip(columns, said.probabilities, strict=True))
    return known | {"unknown": said.unknown} | numbers


def _text(name: str) -> str:
    """A file name whose bytes are no UTF-8 keeps those that are."""
    return name.encode("utf-8", "replace").decode("utf-8")


def _columns(classifier: Classifier) -> list[str]:
    return [f"p({name})" for name in classifier.classes]


def _said(
    classifier: Classifier, images: Iterator[tuple[str, Picture]], count: Count | None
) -> Iterator[tuple[str, Prediction]]:
    found, pictures = tee(images)
    said = classifier.stream(picture for _, picture in pictures)
    for (name, _), prediction in zip(found, said, strict=True):
        yield name, prediction
        if count:
            count(prediction)
