"""What the pages of all searches share: how an accuracy was measured, and the trials in order."""

import math
from typing import Any

from markupsafe import Markup

from fewlabels.report import form, plots


def best(result: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """The `count` most accurate of the default and the trials that are complete."""
    complete = [trial for trial in result["trials"] if trial["state"] == "complete"]
    return sorted([result["default"], *complete], key=lambda trial: -trial["accuracy"])[:count]


def unit(result: dict[str, Any]) -> str:
    """What an accuracy is the mean over, one of them."""
    return "fold" if result["judged_on"] == "folds" else "training"


def ahead(result: dict[str, Any], what: str) -> str:
    """How far the winner is above the default, fold by fold."""
    difference = result["difference"]
    parts = ", ".join(form.points(value) for value in difference["folds"])
    return f"{100 * difference['mean']:.1f} points above the {what} (by {unit(result)}: {parts})"


def chosen(result: dict[str, Any]) -> str:
    """What must be said of the best of many."""
    return (
        f"It is the best of {len(result['trials'])}, chosen on these very images: expect less of "
        "it on new ones."
    )


def measured(result: dict[str, Any]) -> str:
    """What an accuracy is measured on."""
    steps, n = form.count(result["steps"]), form.count(result["judged"])
    if result["judged_on"] == "folds":
        return (
            f"the mean over {result['folds']} folds of trainings of {steps} steps, which together "
            f"were asked about {n} labelled images that each had not seen"
        )
    return (
        f"the mean over {result['folds']} trainings of {steps} steps, on the {n} validation images"
    )


def chart(result: dict[str, Any], what: str) -> Markup:
    """The accuracy of each trial in order, the best so far, and the default as a line."""
    trials = [trial for trial in result["trials"] if trial["accuracy"] is not None]
    default = result["default"]["accuracy"]
    best, so_far = [(0.0, default)], default
    points: dict[str, list[tuple[float, float]]] = {"complete": [], "pruned": []}
    for trial in trials:
        place, value = float(trial["number"]), trial["accuracy"]
        points["complete" if trial["state"] == "complete" else "pruned"].append((place, value))
        if trial["state"] == "complete" and value > so_far:
            best += [(place, so_far), (place, value)]  # a step
            so_far = value
    end = float(max(1, len(result["trials"])))
    rows = [
        plots.Curve(what, [(0.0, default), (end, default)], "s1 trial"),
        plots.Curve("best so far", [*best, (end, so_far)], "s0"),
        plots.Curve("trial cut off early", points["pruned"], "s1 only-dots hollow", dots=True),
        plots.Curve("trial", points["complete"], "s0 only-dots", dots=True),
    ]
    values = [default] + [trial["accuracy"] for trial in trials]
    return plots.curves(
        [row for row in rows if row.points],
        f"Accuracy of {len(trials)} trials in order, from {form.percent(min(values))} to "
        f"{form.percent(max(values))}; the {what} has {form.percent(default)}.",
        lambda x: f"{x:.0f}" if x == math.floor(x) else "",
        form.tick,
        min(values) - 0.02,
    )
