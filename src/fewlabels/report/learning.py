"""The learning curves of several runs on common axes."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from fewlabels.report import form, plots
from fewlabels.report.read import Row, Run, number
from fewlabels.report.timeline import LABELS_ONLY, TRIAL, UNITS, Chart, Stage, stages

OWN = "own"  # what a run is, beside the baseline that it has as well
AXES = ("seconds", "step")
CURVES = {"val_accuracy": "Accuracy on validation images", "loss": "Loss of the training"}
MOST_DOTS = 40  # of a curve: more would run into each other


def told(runs: Sequence[Run], name: Mapping[str, str], style: Mapping[str, str]) -> dict[str, Any]:
    """The charts by axis, and what their legend needs: whether a `baseline` or a `trial` is drawn,
    and which runs are `unjudged`, asked about no validation image on their way."""
    curves = {(key, over): lines(runs, name, style, key, over) for key in CURVES for over in AXES}
    charts = {
        over: [chart(runs, curves[key, over], key, over) for key in CURVES if curves[key, over]]
        for over in AXES
    }
    drawn = [one.style for some in curves.values() for one in some]
    return {
        "charts": charts,
        "baseline": any(one.startswith("s1") for one in drawn),
        "trial": any(one.endswith(" trial") for one in drawn),
        "unjudged": [
            name[run.folder] for run in runs if _latest(run, OWN, "val_accuracy", "step") is None
        ],
    }


def lines(
    runs: Sequence[Run], name: Mapping[str, str], style: Mapping[str, str], key: str, over: str
) -> list[plots.Curve]:
    """A number of the log over "seconds" or "step": a curve for each run that has it.

    It is that of the run's own stage, or where it was not measured there of its trial, dotted. So
    it is of the labels-only baseline beside the run, in grey and first, so that it lies below.
    """
    found = []
    for kind in (LABELS_ONLY, OWN):
        for run in runs:
            stage = _latest(run, kind, key, over)
            if stage is None:
                continue
            rows = _with(stage, key, over)
            short, dotted = name[run.folder], " trial" if stage.name.endswith(TRIAL) else ""
            found.append(
                plots.Curve(
                    short if kind == OWN else f"{LABELS_ONLY} beside {short}",
                    [(row[over], row[key]) for row in rows],
                    (style[run.folder] if kind == OWN else "s1") + dotted,
                    dots=kind == OWN and key == "val_accuracy" and len(rows) <= MOST_DOTS,
                )
            )
    return found


def chart(runs: Sequence[Run], curves: Sequence[plots.Curve], key: str, over: str) -> Chart:
    """One or more curves on common axes."""
    rate = key == "val_accuracy"
    tick, divisor = _axis(curves, over)
    scaled = [replace(one, points=[(x / divisor, y) for x, y in one.points]) for one in curves]
    value: Callable[[float], str] = form.tick if rate else _plain
    ends = "; ".join(f"{one.name} ends at {value(one.points[-1][1])}" for one in curves)
    title = f"{CURVES[key]}, over {'time' if over == 'seconds' else 'steps'}"
    plot = plots.curves(scaled, f"{title}. {ends}.", tick, value, math.inf if rate else 0.0)
    return Chart(title, plot, _judges(runs, over) if rate else "")


def _latest(run: Run, kind: str, key: str, over: str) -> Stage | None:
    """The last stage of that kind that has both numbers: of what the run is, or of its baseline."""
    colour = {OWN: "s0", LABELS_ONLY: "s1"}[kind]
    some = [stage for stage in stages(run) if stage.style.split()[0] == colour]
    return next((stage for stage in reversed(some) if _with(stage, key, over)), None)


def _with(stage: Stage, *keys: str) -> list[Row]:
    """The rows that have finite numbers there."""
    return [row for row in stage.rows if all(math.isfinite(number(row, key)) for key in keys)]


def _axis(curves: Sequence[plots.Curve], over: str) -> tuple[Callable[[float], str], float]:
    """How a place on the x axis is written, and in how many seconds it is counted."""
    if over == "step":
        return form.count, 1.0
    latest = max(one.points[-1][0] for one in curves)
    unit, divisor = next(u for u in UNITS if latest >= 3 * u[1] or u[1] == 1)
    return (lambda x: f"{x:.4g} {unit}"), float(divisor)


def _plain(value: float) -> str:
    return f"{value:.3g}"


def _judges(runs: Sequence[Run], over: str) -> str:
    """How many images stand behind a point of validation accuracy."""
    counts = set()
    for kind in (OWN, LABELS_ONLY):
        for run in runs:
            if stage := _latest(run, kind, "val_accuracy", over):
                counts |= {int(row["val_n"]) for row in _with(stage, "val_accuracy", "val_n")}
    few, many = min(counts, default=0), max(counts, default=0)
    if few == 0:
        return ""
    if few < many:
        return f"A point is measured on {few:,} to {many:,} images."
    return f"A point is measured on {few:,} images: one of them is {100 / few:.2g} points."
