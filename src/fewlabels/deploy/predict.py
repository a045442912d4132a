"""`predict`: labels for any number of images, as CSV, in constant memory."""

import csv
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, tee
from pathlib import Path
from typing import TextIO

from fewlabels.deploy.classifier import Classifier, Picture
from fewlabels.errors import UserError
from fewlabels.pool.folder import walk
from fewlabels.pool.pool import Pool

DIGITS = Path("digits")


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
        return _rows(Pool.scan(path))
    if path.is_dir():
        inside = walk(path)
        if not inside.images and any(name.lower().endswith(".parquet") for name in inside.others):
            return _rows(Pool.scan(path))
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
    with table.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file)
        if "image" not in (rows.fieldnames or ()):
            raise UserError(f"{table}: has no column 'image'")
        names = [row["image"] for row in rows]
    return ((name, table.parent / name) for name in names)


def write_csv(
    classifier: Classifier,
    images: Iterator[tuple[str, Picture]],
    file: TextIO,
    count: Callable[[int], None] | None = None,
) -> tuple[int, int]:
    """Writes `image,label,confidence,<probability of each class…>,error`; returns (images, errors).

    A file that cannot be read keeps its row, with an empty label and its error. `count` hears how
    many are done.
    """
    writer = csv.writer(file)
    probability = [f"p({name})" for name in classifier.classes]
    writer.writerow(["image", "label", "confidence", *probability, "error"])
    done = failed = 0
    found, pictures = tee(images)
    said = classifier.stream(picture for _, picture in pictures)
    for (name, _), prediction in zip(found, said, strict=True):
        done, failed = done + 1, failed + bool(prediction.error)
        numbers = [f"{p:.6f}" for p in prediction.probabilities] or [""] * len(probability)
        confidence = "" if prediction.error else f"{prediction.confidence:.6f}"
        writer.writerow([name, prediction.label, confidence, *numbers, prediction.error])
        if count:
            count(done)
    return done, failed
