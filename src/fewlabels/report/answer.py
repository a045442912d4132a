"""The headline: the estimate, labels only beside it, and the paired difference."""

import math
import shlex
from datetime import datetime
from typing import Any

from markupsafe import Markup

from fewlabels.evaluate.intervals import wilson
from fewlabels.report import form, plots, read, tables

SPLITS = {"test": "test images", "val": "validation images"}


def told(run: read.Run) -> dict[str, Any]:
    """What the page begins with; `latest`, where an unfinished run stands."""
    result, split = run.result, split_of(run)
    score = result.get(split)
    if not score:
        quoted = shlex.quote(run.folder)
        return {
            "score": None,
            "latest": _latest(run),
            "watch": f"fewlabels status {quoted}",
            "resume": f"fewlabels train --resume {quoted}",
        }
    method = str(result.get("method", "this run"))
    baseline = (result.get("baseline") or {}).get(split)
    difference = (result.get("difference") or {}).get(split)
    beside = form.beside(result)
    whiskers = [whisker(method, score, "main")]
    if baseline:
        whiskers.append(whisker(beside, baseline, "plain"))
    predictions = run.predictions.get(split)
    return {
        "split": split,
        "images": SPLITS[split],
        "score": score,
        "baseline": baseline,
        "beside": beside,
        "difference": difference,
        "chart": accuracies(whiskers),
        "difference_chart": _difference(method, beside, difference) if difference else None,
        "won_and_lost": tables.won_and_lost(predictions) if predictions and difference else None,
        # the other split's number, for the record
        "validation": result.get("val") if split == "test" else None,
    }


def split_of(run: read.Run) -> str:
    """The images that the run is judged by: "test" or "val"."""
    result = run.result
    return "test" if result.get("test") and result.get("estimate") != "val" else "val"


def whisker(name: str, score: dict[str, Any], style: str) -> plots.Whisker:
    """An accuracy of `result.json`."""
    low, high = score["interval"]
    return plots.Whisker(name, score["accuracy"], low, high, style)


def accuracies(rows: list[plots.Whisker]) -> Markup:
    """Accuracies on a common axis."""
    text = "Accuracy with 95 % intervals: " + "; ".join(
        f"{row.name} {form.percent(row.value)}, {form.span((row.low, row.high))}" for row in rows
    )
    return plots.intervals(rows, text, form.tick)


def _difference(method: str, beside: str, difference: dict[str, Any]) -> Markup:
    low, high = difference["interval"]
    row = plots.Whisker(f"{method} less {beside}", difference["difference"], low, high, "main")
    text = (
        f"Difference {form.points(row.value)} points, 95 % interval {form.span((low, high), True)};"
        f" zero is {'inside' if low <= 0 <= high else 'outside'}."
    )
    # zero belongs on this axis, wherever the interval lies
    return plots.intervals([row], text, form.point_tick, around=0.0)


def _latest(run: read.Run) -> dict[str, Any]:
    """Where it said last that it is, or else its log's last row; and its last validation there."""
    if run.result or not (run.now or run.stages):
        return {}
    stage, rows = list(run.stages.items())[-1] if run.stages else ("", [{}])
    latest: dict[str, Any] = {"stage": stage, "seconds": read.number(rows[-1], "seconds", 0.0)}
    latest["progress"] = read.number(rows[-1], "progress", 0.0)
    if math.isfinite(at := read.number(run.now, "at")):
        stage = read.called(str(run.now.get("folder", ".")), str(run.now.get("stage")))
        rows = run.stages.get(stage, [])
        latest |= {
            "stage": stage,
            "at": f"{datetime.fromtimestamp(at):%Y-%m-%d %H:%M:%S}",
            "progress": read.number(run.now, "progress", 0.0),
            "step": run.now.get("step"),
            "rate": run.now.get("images_per_second"),
            "loss": run.now.get("loss"),
            "used": run.now.get("seconds"),
        }
    validated = [
        row for row in rows if read.number(row, "val_n", 0.0) > 0 and "val_accuracy" in row
    ]
    if validated:
        value, n = read.number(validated[-1], "val_accuracy", 0.0), int(validated[-1]["val_n"])
        latest["score"] = {"accuracy": value, "interval": wilson(round(value * n), n), "n": n}
    return latest
