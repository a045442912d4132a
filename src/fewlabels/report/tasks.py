"""What the page and the terminal tell of a run whose labels are several classes an image, or
numbers: its scores, a row each class, and what was predicted against what is true."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from markupsafe import Markup

from fewlabels.errors import UserError
from fewlabels.pool.pool import MULTI, REGRESSION, SINGLE
from fewlabels.report import form, plots, read

IMAGES = {"test": "test images", "val": "validation images"}
SCORES = {  # the first is what runs are compared by
    MULTI: {"mean_average_precision": "mean average precision", "accuracy": "every class right"},
    REGRESSION: {
        "mae": "mean absolute error",
        "r2": "R²",
        "rmse": "root of the mean squared error",
    },
}
MOST_DOTS = 1000  # of a scatter: more cannot be told apart, and would make the file heavy


@dataclass(frozen=True)
class Line:
    """A score of one model, as it is shown."""

    model: str
    score: str
    value: str
    interval: str
    n: int


def task_of(config: dict[str, Any]) -> str:
    """The task that a run's settings name."""
    return str(config.get("task") or SINGLE)


def need_one_class(what: str, run: read.Run) -> None:
    """UserError, which begins with `what` asks, unless the run is about one class an image."""
    if (task := task_of(run.config)) != SINGLE:
        raise UserError(
            f"{what}: is for runs of one class an image, and the task of {run.folder} is {task}"
        )


def lines(result: dict[str, Any]) -> list[Line]:
    """The scores of a finished run on the images that it is judged by, labels only beside them."""
    split = result["estimate"]
    ours = "labels only" if result["method"] == "supervised" else str(result["method"])
    of = [(ours, result.get(split))]
    if "baseline" in result:
        of.append(("labels only", result["baseline"].get(split)))
    return [
        line
        for name in SCORES[result["task"]]
        for model, score in of
        if (line := _line(model, name, score or {}, result["task"])) is not None
    ]


def difference(told: dict[str, Any]) -> Line:
    """The paired difference of the main score; an end that nothing bounds is a question mark."""
    mae = told["score"] == "mae"
    value, low, high = (
        "?" if x is None else f"{x:+.4g}" if mae else form.points(x)
        for x in (told["difference"], *told["interval"])
    )
    name = SCORES[REGRESSION if mae else MULTI][told["score"]]
    return Line("difference", name, value, f"{low} to {high}", told["n"])


def told(run: read.Run) -> dict[str, Any]:
    """For the page."""
    result, task = run.result, task_of(run.config)
    split = result.get("estimate", "val")
    found = lines(result) if result else []
    about = (result.get("difference") or {}).get(split)
    parts = [_part(part, number) for number, part in enumerate(result.get("parts", ()), 1)]
    return {
        "task": task,
        "lines": found,
        "main": found[0] if found else None,
        "difference": difference(about) if about else None,
        "images": IMAGES[split],
        "split": split,
        "parts": sorted(parts, key=lambda part: part["order"]),
        "columns": _columns(task),
        "scatters": _scatters(Path(run.folder), split) if task == REGRESSION else [],
    }


def _line(model: str, name: str, score: dict[str, Any], task: str) -> Line | None:
    value = score.get(name)
    if value is None:
        return None
    # the interval of the score that stands first has no name of its own
    low, high = score.get(f"{name}_interval", score["interval"])
    if task == MULTI:
        return Line(
            model, SCORES[task][name], form.percent(value), form.span((low, high)), score["n"]
        )
    ends = ("?" if x is None else f"{x:.4g}" for x in (low, high))
    return Line(model, SCORES[task][name], f"{value:.4g}", " to ".join(ends), score["n"])


def _columns(task: str) -> dict[str, str]:
    if task == REGRESSION:
        return SCORES[REGRESSION]
    return {
        "average_precision": "average precision",
        "recall": "recall",
        "precision": "precision",
        "f1": "F1",
    }


def _part(part: dict[str, Any], number: int) -> dict[str, Any]:
    """A row: a class, those that fare worst first, or the number at a place of the label."""
    if "class" not in part:
        cells = [_cell(part.get(name), False) for name in SCORES[REGRESSION]]
        return {"name": f"number {number}", "n": part["mae"]["n"], "cells": cells, "order": number}
    cells = [_cell(part.get(name), True) for name in _columns(MULTI)]
    order = part.get("average_precision", {}).get("average_precision", 2.0)
    return {"name": part["class"], "n": part["n"], "cells": cells, "order": order}


def _cell(score: dict[str, Any] | None, share: bool) -> tuple[str, str]:
    """A value and its interval; a dash where nothing can be said."""
    if score is None:
        return "\N{EN DASH}", ""
    value, (low, high) = next(iter(score.values())), score["interval"]
    if share:
        return form.percent(value), form.span((low, high))
    ends = ("?" if x is None else f"{x:.4g}" for x in (low, high))
    return f"{value:.4g}", " to ".join(ends)


def _scatters(folder: Path, split: str) -> Iterator[Markup]:
    """Predicted against true, one plot for each number of a label."""
    file = folder / "predictions.parquet"
    if not file.is_file():
        return
    table = pq.read_table(file, columns=["split", "label", "said"]).to_pylist()
    rows = [row for row in table if row["split"] == split]
    rows = rows[:: -(-len(rows) // MOST_DOTS) or 1]
    for number in range(len(rows[0]["label"]) if rows else 0):
        points = [(row["label"][number], row["said"][number]) for row in rows]
        which = f" of number {number + 1}" if len(rows[0]["label"]) > 1 else ""
        yield plots.scatter(
            points, f"Predicted{which} against true, {len(points)} images.", "{:.4g}".format
        )
