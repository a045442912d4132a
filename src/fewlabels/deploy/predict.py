"""`predict`: labels for any number of images, as CSV, in constant memory."""

import csv
from collections.abc import Callable, Iterator, Sequence
from itertools import tee
from pathlib import Path
from typing import TextIO

from fewlabels.deploy.classifier import Classifier
from fewlabels.errors import UserError
from fewlabels.pool.pool import SUFFIXES


def find(paths: Sequence[Path]) -> Iterator[Path]:
    """The images that `paths` name: files as they are, folders with all that lies in them."""
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES)
            if not inside:
                raise UserError(f"{path}: no images in this folder")
            yield from inside
        elif path.exists():
            yield path
        else:
            raise UserError(f"{path}: no such file or folder")


def write_csv(
    classifier: Classifier,
    paths: Sequence[Path],
    file: TextIO,
    count: Callable[[int, int], None] | None = None,
) -> tuple[int, int]:
    """Writes `image,label,confidence,<probability of each class…>,error`; returns (images, errors).

    A file that cannot be read keeps its row, with an empty label and its error.
    """
    images = list(find(paths))
    writer = csv.writer(file)
    probability = [f"p({name})" for name in classifier.classes]
    writer.writerow(["image", "label", "confidence", *probability, "error"])
    failed = 0
    names, pictures = tee(images)
    for done, (name, said) in enumerate(zip(names, classifier.stream(pictures), strict=True), 1):
        failed += bool(said.error)
        numbers = [f"{p:.6f}" for p in said.probabilities] or [""] * len(classifier.classes)
        confidence = "" if said.error else f"{said.confidence:.6f}"
        writer.writerow([name, said.label, confidence, *numbers, said.error])
        if count:
            count(done, len(images))
    return len(images), failed
