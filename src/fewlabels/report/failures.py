"""Where it fails: the weakest classes, what is taken for what, and the most confident mistakes."""

from typing import Any

import numpy as np

from fewlabels.evaluate import metrics
from fewlabels.report import tables
from fewlabels.report.answer import SPLITS
from fewlabels.report.pictures import shown
from fewlabels.report.read import Run

HEAT_MAP_CLASSES = 20  # a larger matrix cannot be read; its worst pairs can


def told(run: Run) -> dict[str, Any]:
    """Classes, confusion and pictures, as far as there are predictions."""
    wrong = [shown(row, run) for row in run.gallery.get("wrong", [])]
    return {
        **_classes(run),
        "wrong": wrong,
        "heat": any(picture["heat"] for picture in wrong),
        "right": [shown(row, run) for row in run.gallery.get("right", [])],
    }


def _classes(run: Run) -> dict[str, Any]:
    """A row a class; the confusion matrix as a heat map, or its worst pairs."""
    split = "val" if run.result.get("estimate") == "val" else "test"
    if split not in run.predictions:
        split = next(iter(run.predictions), "")
    if not split:
        return {"classes": []}
    asked = run.predictions[split]
    k = max(len(run.classes), int(asked.label.max()) + 1, int(asked.predicted.max()) + 1)
    matrix = metrics.confusion(asked.label, asked.predicted, k)
    rows = tables.by_class(asked, matrix, run)
    out: dict[str, Any] = {
        "images": SPLITS[split],
        "n": len(asked.label),
        "classes": rows,
        "smallest": min(row.recall.n for row in rows),
        "pairs": tables.confused_pairs(matrix, run),
    }
    if k > HEAT_MAP_CLASSES:
        return out
    names = [run.name(i) for i in range(k)]
    shares = tables.row_shares(matrix)
    # 1 wrong in 100 must be seen beside 99 right: the root lifts it from 1 % to 10 % of the colour
    right = np.eye(k, dtype=bool)
    return out | {
        "matrix": matrix.tolist(),
        "shares": shares.tolist(),
        "shades": (100 * np.where(right, shares, np.sqrt(shares))).tolist(),
        "names": names,
        "long_names": max(map(len, names)) > 4,  # longer ones stand upright
    }
