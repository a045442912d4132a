"""The report: what a run folder says, as one HTML file that loads nothing and runs no script."""

import re
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, Template
from markupsafe import Markup

from fewlabels.evaluate.intervals import wilson
from fewlabels.report import form, plots, read, tables, timeline
from fewlabels.report.pictures import data_uri
from fewlabels.training.folder import write_text

HEAT_MAP_CLASSES = 20  # a larger matrix cannot be read; its worst pairs can
SPLITS = {"test": "test images", "val": "validation images"}


def write(run: Path) -> Path:
    """Writes `run/report.html` from what the run folder holds, finished or not; returns its path.

    Raises UserError when `run` is no run folder.
    """
    page = render(read.load(run))
    target = run / "report.html"
    write_text(target, page)
    return target


def template(name: str) -> Template:
    """A page of this room, with its filters."""
    pages = Environment(
        loader=PackageLoader("fewlabels.report", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.filters |= {
        "percent": form.percent,
        "whole": form.whole,
        "span": form.span,
        "points": form.points,
        "count": form.count,
        "duration": form.duration,
        "spread": form.spread,
    }
    return pages.get_template(name)


def render(run: read.Run) -> str:
    """The page as text."""
    found = timeline.stages(run)
    facts = run.config | run.result
    data = str(facts.get("data", "images"))
    return template("template.html").render(
        data=data,
        # the last part of a path is what people call their data
        title=_last_part(data),
        finished=bool(run.result),
        facts=facts,
        classes=run.classes,
        **_answer(run),
        **_choice(run),
        latest=_latest(run),
        stages=found,
        charts=timeline.charts(found),
        log=timeline.table(found),
        **_classes(run),
        gallery=_gallery(run),
        guard=run.result.get("guard"),
        rounds=_rounds(run),
        kept=run.result.get("kept"),
        members=run.result.get("members") or [],
        skipped=run.result.get("skipped") or [],
        settings=list(tables.flatten(run.config)),
        command=run.config.get("command"),
    )


def _answer(run: read.Run) -> dict[str, Any]:
    """The headline: the estimate, labels only beside it, and the paired difference."""
    result = run.result
    split = "test" if result.get("test") and result.get("estimate") != "val" else "val"
    score = result.get(split)
    if not score:
        return {"score": None}
    method = str(result.get("method", "this run"))
    baseline = (result.get("baseline") or {}).get(split)
    difference = (result.get("difference") or {}).get(split)
    beside = form.beside(result)
    whiskers = [_whisker(method, score, "main")]
    if baseline:
        whiskers.append(_whisker(beside, baseline, "plain"))
    predictions = run.predictions.get(split)
    return {
        "split": split,
        "images": SPLITS[split],
        "score": score,
        "baseline": baseline,
        "beside": beside,
        "difference": difference,
        "chart": plots.intervals(whiskers, _told(whiskers), form.tick),
        "difference_chart": _difference(method, beside, difference) if difference else None,
        "won_and_lost": tables.won_and_lost(predictions) if predictions and difference else None,
        # the other split's number, for the record
        "validation": result.get("val") if split == "test" else None,
    }


def _difference(method: str, beside: str, difference: dict[str, Any]) -> Markup:
    low, high = difference["interval"]
    row = plots.Whisker(f"{method} less {beside}", difference["difference"], low, high, "main")
    text = (
        f"Difference {form.points(row.value)} points, 95 % interval {form.span((low, high), True)};"
        f" zero is {'inside' if low <= 0 <= high else 'outside'}."
    )
    # zero belongs on this axis, wherever the interval lies
    return plots.intervals([row], text, form.point_tick, around=0.0)


def _choice(run: read.Run) -> dict[str, Any]:
    choice = run.result.get("choice") or {}
    chosen = run.result.get("method")
    candidates = [c for c in choice.get("candidates") or [] if c.get("val")]
    whiskers = [
        _whisker(c["method"], c["val"], "main" if c["method"] == chosen else "plain")
        for c in candidates
    ]
    chart = plots.intervals(whiskers, _told(whiskers), form.tick) if whiskers else None
    return {
        "choice": choice,
        "decisions": run.result.get("decisions") or [],
        "candidates": [(c["method"], c["val"]) for c in candidates],
        "candidates_chart": chart,
    }


def _rounds(run: read.Run) -> list[dict[str, Any]]:
    """The runs inside this one that learnt from pseudo-labels, with their sums over the classes."""
    out = []
    for each in run.result.get("runs") or []:
        if labels := each.get("pseudo_labels"):
            sums = {key: sum(row[key] for row in labels) for key in ("said", "learnt", "shown")}
            out.append(each | {"sums": sums})
    return out


def _latest(run: read.Run) -> dict[str, Any]:
    """Where an unfinished run stands: the log's last row, its last validation with its interval."""
    if run.result or not run.stages:
        return {}
    stage, rows = list(run.stages.items())[-1]
    latest: dict[str, Any] = {"stage": stage, "seconds": read.number(rows[-1], "seconds", 0.0)}
    latest["progress"] = read.number(rows[-1], "progress", 0.0)
    validated = [
        row for row in rows if read.number(row, "val_n", 0.0) > 0 and "val_accuracy" in row
    ]
    if validated:
        value, n = read.number(validated[-1], "val_accuracy", 0.0), int(validated[-1]["val_n"])
        latest["score"] = {"accuracy": value, "interval": wilson(round(value * n), n), "n": n}
    return latest


def _classes(run: read.Run) -> dict[str, Any]:
    """The confusion matrix as a heat map, or its worst pairs; and a row a class."""
    split = "val" if run.result.get("estimate") == "val" else "test"
    predictions = run.predictions.get(split) or next(iter(run.predictions.values()), None)
    if predictions is None:
        return {"by_class": []}
    matrix = tables.confusion(predictions, len(run.classes))
    names = [run.name(i) for i in range(len(matrix))]
    rows = tables.by_class(matrix, run)
    out: dict[str, Any] = {
        "matrix_images": SPLITS["test" if predictions is run.predictions.get("test") else "val"],
        "pairs": tables.confused_pairs(matrix, run),
        "by_class": rows,
        "smallest": min(row.n for row in rows),
    }
    if len(names) > HEAT_MAP_CLASSES:  # nobody reads on to the worst of 1000
        rows.sort(key=lambda row: (row.recall, -row.n))
        return out
    shares = tables.row_shares(matrix)
    # 1 wrong in 100 must be seen beside 99 right: the root lifts it from 1 % to 10 % of the colour
    right = np.eye(len(names), dtype=bool)
    shades = 100 * np.where(right, shares, np.sqrt(shares))
    return out | {
        "matrix": matrix.tolist(),
        "shares": shares.tolist(),
        "shades": shades.tolist(),
        "matrix_names": names,
        # where the text on a cell must change sides to stay legible
        "deep": (shades > np.where(right, 65, 75)).tolist(),
        "long_names": max(map(len, names)) > 4,  # longer ones stand upright
    }


def _gallery(run: read.Run) -> dict[str, list[dict[str, Any]]]:
    out: dict[str, list[dict[str, Any]]] = {}
    for kind, rows in run.gallery.items():
        out[kind] = []
        for row in rows:
            source, tiny = data_uri(row["picture"])
            out[kind].append(
                {
                    "name": row["name"],
                    "short": _last_part(row["name"]),
                    "source": source,
                    "tiny": tiny,
                    "label": run.name(row["label"]) if row["label"] >= 0 else None,
                    "predicted": run.name(row["predicted"]),
                    "confidence": row["confidence"],
                }
            )
    return out


def _last_part(path: str) -> str:
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1] or path


def _whisker(name: str, score: dict[str, Any], style: str) -> plots.Whisker:
    low, high = score["interval"]
    return plots.Whisker(name, score["accuracy"], low, high, style)


def _told(rows: list[plots.Whisker]) -> str:
    return "Accuracy with 95 % intervals: " + "; ".join(
        f"{row.name} {form.percent(row.value)}, {form.span((row.low, row.high))}" for row in rows
    )
