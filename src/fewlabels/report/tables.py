"""The numbers behind the report: the confusion matrix, a row a class, the settings."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewlabels.evaluate.intervals import wilson
from fewlabels.report.read import Predictions, Run

Matrix = NDArray[np.int64]  # [K, K]: row = given label, column = predicted


@dataclass(frozen=True)
class ClassRow:
    """How one class fares."""

    name: str
    n: int
    recall: float
    low: float  # of the recall's 95 % interval
    high: float
    precision: float | None  # None: never predicted
    confused: str  # with which class most; "" = with none
    confused_count: int


@dataclass(frozen=True)
class PairRow:
    """Images of one class that were taken for another."""

    label: str
    predicted: str
    count: int
    share: float  # of the label's images


def confusion(predictions: Predictions, classes: int) -> Matrix:
    """Counts [K, K]."""
    label, predicted = predictions.label, predictions.predicted
    k = max(classes, int(label.max()) + 1, int(predicted.max()) + 1)
    return np.bincount(label * k + predicted, minlength=k * k).reshape(k, k)


def row_shares(matrix: Matrix) -> NDArray[np.float64]:
    """Each row over its sum; a row without images is all zero."""
    return np.asarray(matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1), dtype=np.float64)


def by_class(matrix: Matrix, run: Run) -> list[ClassRow]:
    """One row for each class that has images, in the order of the classes."""
    errors = matrix - np.diag(np.diag(matrix))
    seen, said = matrix.sum(axis=1), matrix.sum(axis=0)
    rows = []
    for i in np.flatnonzero(seen):
        n, right, worst = int(seen[i]), int(matrix[i, i]), int(errors[i].argmax())
        low, high = wilson(right, n)
        wrong = int(errors[i, worst])
        rows.append(
            ClassRow(
                name=run.name(int(i)),
                n=n,
                recall=right / n,
                low=low,
                high=high,
                precision=right / int(said[i]) if said[i] else None,
                confused=run.name(worst) if wrong else "",
                confused_count=wrong,
            )
        )
    return rows


def confused_pairs(matrix: Matrix, run: Run, most: int = 20) -> list[PairRow]:
    """The pairs of classes with most errors, the largest first."""
    errors = matrix - np.diag(np.diag(matrix))
    shares = row_shares(matrix)
    order = np.argsort(-errors, axis=None, kind="stable")[:most]
    return [
        PairRow(run.name(int(i)), run.name(int(j)), int(errors[i, j]), float(shares[i, j]))
        for i, j in (np.unravel_index(flat, errors.shape) for flat in order)
        if errors[i, j]
    ]


def won_and_lost(predictions: Predictions) -> tuple[int, int] | None:
    """How many images only the run, and only the labels-only model, has right."""
    if (predictions.baseline < 0).any():
        return None
    ours = predictions.predicted == predictions.label
    theirs = predictions.baseline == predictions.label
    return int((ours & ~theirs).sum()), int((theirs & ~ours).sum())


def flatten(settings: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested settings as (dotted name, value)."""
    for key, value in settings.items():
        if isinstance(value, dict) and value:
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", "none" if value is None else str(value)
