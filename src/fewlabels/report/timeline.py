"""What the log says over time: curves by stage, and the same numbers as rows of a table."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from fewlabels.evaluate.intervals import wilson
from fewlabels.report import plots
from fewlabels.report.form import percent, tick
from fewlabels.report.read import Row, Run, number

LABELS_ONLY = "labels only"  # the name of the baseline's stages
TRIAL = " trial"  # how the stages are named that only choose a method
MOST_POINTS = 150  # on a curve: more cannot be seen, and would make the file heavy
UNITS = (("h", 3600), ("min", 60), ("s", 1))
MOST_ROWS = 15  # of a stage in the table


@dataclass(frozen=True)
class Stage:
    """One stage of the log and its colour."""

    name: str
    style: str
    rows: list[Row]


@dataclass(frozen=True)
class Chart:
    """A plot with its title and a note below."""

    title: str
    plot: Markup
    note: str = ""


def stages(run: Run) -> list[Stage]:
    """A trial has the colour of what it tries, and is dashed; labels only is grey."""
    names = list(dict.fromkeys(name.removesuffix(TRIAL) for name in run.stages))
    method = str(run.result.get("method"))
    if method == "supervised" and method not in names:  # the baseline itself is the answer
        method = LABELS_ONLY
    if method not in names:  # unfinished: what it is at now
        latest = [name.removesuffix(TRIAL) for name in reversed(run.stages)]
        method = next((name for name in latest if name != LABELS_ONLY), LABELS_ONLY)
    others = [name for name in names if name not in (LABELS_ONLY, method)]
    colour = {name: f"s{2 + i % 4}" for i, name in enumerate(others)}
    colour |= {LABELS_ONLY: "s1", method: "s0"}
    return [
        Stage(
            name,
            colour[name.removesuffix(TRIAL)] + (" trial" if name.endswith(TRIAL) else ""),
            rows,
        )
        for name, rows in run.stages.items()
    ]


def charts(found: list[Stage]) -> list[Chart]:
    """Validation accuracy, loss and confident pseudo-labels over time, where the log has them."""
    latest = max((number(row, "seconds", 0.0) for s in found for row in s.rows), default=0.0)
    unit, divisor = next(u for u in UNITS if latest >= 3 * u[1] or u[1] == 1)

    def plain(value: float) -> str:
        return f"{value:.3g}"

    def time(value: float) -> str:
        return f"{value:.4g} {unit}"

    out = []
    for key, title in (
        ("val_accuracy", "Accuracy on the validation images"),
        ("val_mean_average_precision", "Mean average precision on the validation images"),
        ("val_mae", "Mean absolute error on the validation images"),
        ("loss", "Loss"),
        ("confident", "Unlabelled images above the confidence threshold"),
    ):
        counted = key not in ("loss", "val_mae")  # a share of images
        validated = key.startswith("val_")
        lines = []
        for stage in found:
            rows = [row for row in stage.rows if math.isfinite(number(row, key))]
            rows = [row for row in rows if math.isfinite(number(row, "seconds"))]
            if not rows:
                continue
            final = key == "val_accuracy" and stage is found[-1]
            lines.append(
                plots.Curve(
                    name=stage.name,
                    points=_thin([(row["seconds"] / divisor, row[key]) for row in rows]),
                    style=stage.style,
                    dots=validated and len(rows) <= 40 and "trial" not in stage.style,
                    band=list(_band(rows, divisor)) if final else [],
                )
            )
        if not lines:
            continue
        last = "; ".join(f"{c.name} ends at {_said(c.points[-1][1], counted)}" for c in lines)
        plot = plots.curves(
            lines,
            text=f"{title} over the time of training. {last}.",
            x_tick=time,
            y_tick=tick if counted else plain,
            y_low=math.inf if validated else 0.0,
        )
        out.append(Chart(title, plot, _note(lines, found) if key == "val_accuracy" else ""))
    return out


def table(found: list[Stage]) -> list[dict[str, Any]]:
    """The same numbers as rows, at most `MOST_ROWS` a stage: the validated ones, if any."""
    out = []
    for stage in found:
        rows = [row for row in stage.rows if "val_accuracy" in row] or stage.rows
        step = max(1, math.ceil(len(rows) / MOST_ROWS))
        chosen = rows[::-1][::step][::-1]  # counted from the end: the last row must be there
        out += [
            {
                "stage": stage.name,
                **{
                    key: None if math.isnan(value := number(row, key)) else value
                    for key in ("step", "seconds", "loss", "val_accuracy", "val_n", "confident")
                },
                "val_interval": _interval(row),
            }
            for row in chosen
        ]
    return out


def _interval(row: Row) -> tuple[float, float] | None:
    value, n = number(row, "val_accuracy"), int(number(row, "val_n", 0.0))
    return wilson(round(value * n), n) if n and math.isfinite(value) else None


def _said(value: float, counted: bool) -> str:
    return percent(value) if counted else f"{value:.3g}"


def _thin(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Means of neighbours, so that at most `MOST_POINTS` are left."""
    size = math.ceil(len(points) / MOST_POINTS)
    groups = [points[i : i + size] for i in range(0, len(points), size)]
    return [(g[-1][0], sum(y for _, y in g) / len(g)) for g in groups]


def _band(rows: list[Row], divisor: float) -> Iterator[tuple[float, float, float]]:
    for row in rows[:: math.ceil(len(rows) / MOST_POINTS)]:
        if interval := _interval(row):
            yield row["seconds"] / divisor, *interval


def _note(lines: list[plots.Curve], found: list[Stage]) -> str:
    counts = {int(number(r, "val_n")) for s in found for r in s.rows if number(r, "val_n", 0) > 0}
    if len(counts) != 1:
        return ""
    n = counts.pop()
    note = f"Measured on {n:,} images: one of them is {100 / n:.2g} points."
    if lines[-1].band:
        note += f" The band is the 95 % interval of {lines[-1].name}."
    return note
