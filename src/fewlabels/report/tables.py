"""The numbers behind the report: the confusion matrix, a row a class, the settings."""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewlabels.evaluate import metrics
from fewlabels.evaluate.intervals import Estimate, scored
from fewlabels.report.read import Predictions, Run

Matrix = NDArray[np.int64]  # [K, K]: row = given label, column = predicted


@dataclass(frozen=True)
class ClassRow:
    """How one class fares."""

    name: str
    recall: Estimate
    precision: Estimate | None  # None: never predicted
    confused: str  # with which class most; "" = with none
    confused_count: int


@dataclass(frozen=True)
class PairRow:
    """Images of one class that were taken for another."""

    label: str
    predicted: str
    count: int
    share: Estimate  # of the label's images


def row_shares(matrix: Matrix) -> NDArray[np.float64]:
    """Each row over its sum; a row without images is all zero."""
    return np.asarray(matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1), dtype=np.float64)


def by_class(predictions: Predictions, matrix: Matrix, run: Run) -> list[ClassRow]:
    """One row for each class that has images, the weakest first, of these the largest."""
    errors = matrix - np.diag(np.diag(matrix))
    about = predictions.label, predictions.predicted, len(matrix), predictions.group
    scores = metrics.by_class(*about)
    rows = []
    for i, score in enumerate(scores):
        if score.recall is None:
            continue
        worst = int(errors[i].argmax())
        wrong = int(errors[i, worst])
        name, confused = run.name(i), run.name(worst) if wrong else ""
        rows.append(ClassRow(name, score.recall, score.precision, confused, wrong))
    return sorted(rows, key=lambda row: (row.recall.value, -row.recall.n))


def confused_pairs(matrix: Matrix, run: Run, most: int = 20) -> list[PairRow]:
    """The pairs of classes with most errors, the largest first."""
    errors = matrix - np.diag(np.diag(matrix))
    rows = []
    for flat in np.argsort(-errors, axis=None, kind="stable")[:most]:
        i, j = (int(k) for k in np.unravel_index(flat, errors.shape))
        count, n = int(errors[i, j]), int(matrix[i].sum())
        if count:
            rows.append(PairRow(run.name(i), run.name(j), count, scored(count / n, n, n)))
    return rows


def won_and_lost(predictions: Predictions) -> tuple[int, int] | None:
    """How many images only the run, and only the labels-only model, has right."""
    if (predictions.baseline < 0).any():
        return None
    ours = predictions.predicted == predictions.label
    theirs = predictions.baseline == predictions.label
    return int((ours & ~theirs).sum()), int((theirs & ~ours).sum())


def commands(run: str) -> list[tuple[str, str]]:
    """What can be done with a finished run: the command, and what for."""
    commands = [
        (["predict", run, "PHOTOS", "-o", "labels.csv"], "label any images"),
        (["explain", run, "PHOTO", "-o", "why"], "see where it looks, and which images it recalls"),
        (["evaluate", run, "DATA"], "ask it about further labelled images"),
    ]
    return [(shlex.join(["fewlabels", *words]), what) for words, what in commands]


def flatten(settings: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested settings as (dotted name, value)."""
    for key, value in settings.items():
        if isinstance(value, dict) and value:
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", "none" if value is None else str(value)
