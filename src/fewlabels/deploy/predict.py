"""`predict`: labels for any number of images, as CSV or Parquet, in constant memory."""

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice, tee
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from fewlabels.deploy.classifier import Classifier, Picture, Prediction
from fewlabels.errors import UserError
from fewlabels.pool import shards, table
from fewlabels.pool.folder import unread_format, walk
from fewlabels.pool.pool import SINGLE, Pool, Skipped, is_path
from fewlabels.pool.source import Source

ROWS = 10_000  # of a table that are written together

Count = Callable[[Prediction], None]  # hears each prediction that has been written


@dataclass(frozen=True)
class Found:
    """Images with their names, and what was left out beside them."""

    images: Iterator[tuple[str, Picture]]
    skipped: tuple[Skipped, ...] = ()


def find(data: Sequence[str | Path]) -> Found:
    """The images that `data` name, whether labelled or not: files, folders with all that lies in
    them, tables, and what else `Pool.scan` takes.

    Each row of a table counts, also where its file does not exist. UserError, at once, for a path
    that does not exist or a folder without images.
    """
    found = [_found(one) for one in data]
    skipped = tuple(item for each in found for item in each.skipped)
    return Found(chain.from_iterable(each.images for each in found), skipped)


def _found(data: str | Path) -> Found:
    if not is_path(str(data)) and not isinstance(data, Path):
        return _scanned(data)
    path = Path(data)
    kind = path.suffix.lower()
    if path.is_dir():
        inside = walk(path)
        if inside.images:
            others = (Skipped(name, unread_format(name)) for name in inside.others)
            images = ((str(path / name), path / name) for name in inside.images)
            return Found(images, (*inside.skipped, *others))
        if any(name.lower().endswith(".parquet") for name in inside.others):
            return _scanned(path)
        raise UserError(f"{path}: no images in this folder")
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    if kind in (".csv", ".tsv"):
        return Found(table.listed(path, table.read_csv(path, ("image",))))
    if kind == ".parquet":
        listed = shards.names_files(path)
        return _scanned(path) if listed is None else Found(listed)
    return Found(iter([(str(path), path)]))


def _scanned(data: str | Path) -> Found:
    pool = Pool.scan(data, to_train=False)
    return Found(_rows(pool.source), pool.skipped)


def _rows(source: Source) -> Iterator[tuple[str, Picture]]:
    for row in range(len(source)):
        try:
            yield source.name(row), source.read(row)
        except OSError:  # there is none in this row, or its file vanished: no image can be read
            yield source.name(row), b""


def write_csv(
    classifier: Classifier,
    images: Iterator[tuple[str, Picture]],
    file: IO[str],
    count: Count | None = None,
) -> None:
    """Writes `image,label,confidence,unknown,<probability of each class…>,error`; without
    confidence and unknown where labels are several classes an image, or numbers.

    A file that cannot be read keeps its row, with an empty label and its error. `unknown` is true
    or false, and empty where the classifier cannot tell.
    """
    writer, one = csv.writer(file), classifier.outputs.task == SINGLE
    sure = ("confidence", "unknown") if one else ()
    writer.writerow(["image", "label", *sure, *_columns(classifier), "error"])
    for name, said in _said(classifier, images, count):
        numbers = [f"{p:.6f}" for p in said.probabilities] or [""] * len(classifier.classes)
        confidence = "" if said.error else f"{said.confidence:.6f}"
        unknown = "" if said.unknown is None else str(said.unknown).lower()
        how = (confidence, unknown) if one else ()
        writer.writerow([name, said.label, *how, *numbers, said.error])


def write_parquet(
    classifier: Classifier,
    images: Iterator[tuple[str, Picture]],
    file: IO[bytes],
    count: Count | None = None,
) -> None:
    """The same columns, with null where there is nothing to say."""
    columns = _columns(classifier)
    one = classifier.outputs.task == SINGLE
    schema = pa.schema(
        [
            ("image", pa.string()),
            ("label", pa.string()),
            *((("confidence", pa.float32()), ("unknown", pa.bool_())) if one else ()),
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
