"""A search: its last word in the terminal, and its page, from `search.json` alone."""

import math
from pathlib import Path
from typing import Any

from markupsafe import Markup
from rich.console import Console
from rich.table import Table

from fewlabels.report import form, plots
from fewlabels.report.html import template
from fewlabels.training.folder import RunFolder, write_text

SHOWN = 10  # of the best
CAUTION = "Short trainings favour gentle policies: the order may be another after a long one."


def write(folder: Path) -> Path:
    """Writes `folder/search.html`, which loads nothing and runs no script; returns its path."""
    target = folder / "search.html"
    write_text(target, render(RunFolder(folder).read_json("search.json")))
    return target


def render(result: dict[str, Any]) -> str:
    """The page as text."""
    trials, default = result["trials"], result["default"]
    complete = [trial for trial in trials if trial["state"] == "complete"]
    best = sorted([default, *complete], key=lambda trial: -trial["accuracy"])
    return template("search.html").render(
        **result,
        complete=len(complete),
        pruned=sum(trial["state"] == "pruned" for trial in trials),
        best=best[:SHOWN],
        every=[default, *trials],
        spent=default["seconds"] + sum(trial["seconds"] for trial in trials),
        verdict=verdict(result),
        measured=measured(result),
        caution=CAUTION,
        chart=chart(result),
    )


def verdict(result: dict[str, Any]) -> str:
    """What came of it, in a sentence or two."""
    n, difference = len(result["trials"]), result["difference"]
    if not n:
        return "There was no time for any trial: the default policy stands."
    if not result["improved"]:
        return (
            f"No policy of {n} beat the default one in this search: the default is what "
            "policy.txt holds."
        )
    parts = ", ".join(form.points(value) for value in difference["folds"])
    name = "fold" if result["judged_on"] == "folds" else "training"
    return (
        f"Trial {result['winner']['number']} is {100 * difference['mean']:.1f} points above the "
        f"default policy (by {name}: {parts}). It is the best of {n}, chosen on these very images: "
        "expect less of it on new ones."
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


def chart(result: dict[str, Any]) -> Markup:
    """The accuracy of each trial in order, the best so far, and the default policy as a line."""
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
        plots.Curve("default policy", [(0.0, default), (end, default)], "s1 trial"),
        plots.Curve("best so far", [*best, (end, so_far)], "s0"),
        plots.Curve("trial cut off early", points["pruned"], "s1 only-dots hollow", dots=True),
        plots.Curve("trial", points["complete"], "s0 only-dots", dots=True),
    ]
    values = [default] + [trial["accuracy"] for trial in trials]
    return plots.curves(
        [row for row in rows if row.points],
        f"Accuracy of {len(trials)} trials in order, from {form.percent(min(values))} to "
        f"{form.percent(max(values))}; the default policy has {form.percent(default)}.",
        lambda x: f"{x:.0f}" if x == math.floor(x) else "",
        form.tick,
        min(values) - 0.02,
    )


def print_search(path: Path, result: dict[str, Any], console: Console) -> None:
    """The winner, the default policy beside it, and the command that trains with it."""
    default, winner = result["default"], result["winner"]
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("")
    table.add_column("accuracy", justify="right")
    table.add_column("policy", overflow="fold")
    for trial in (default, winner) if result["improved"] else (default,):
        name = f"trial {trial['number']}" if trial["number"] else "default"
        score = f"{form.percent(trial['accuracy'])} {form.spread(trial['spread'])}"
        table.add_row(name, score, trial["policy"])
    console.print()
    console.print(table)
    console.print()
    for line in (
        verdict(result),
        f"Accuracy is {measured(result)}. {CAUTION}",
        f"Use it: {result['use']}",
        f"Page: {path / 'search.html'}",
    ):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
