"""What is told of a search for a scaling: the candidates, and accuracy against multiply-adds."""

import math
from collections.abc import Iterator
from typing import Any

from markupsafe import Markup
from rich.table import Table

from fewlabels.report import form, plots, trials
from fewlabels.report.listing import short

DEFAULT = "base model"
CAUTION = (
    "Trainings are short and start from random weights: the order may be another after a long one."
)
LETTERS = {
    "alpha": "\N{GREEK SMALL LETTER ALPHA}",
    "beta": "\N{GREEK SMALL LETTER BETA}",
    "gamma": "\N{GREEK SMALL LETTER GAMMA}",
}
# the curves, as the page names and colours them
STYLES = {"depth": "s2", "width": "s3", "resolution": "s4", "compound": "s0"}


def verdict(result: dict[str, Any]) -> str:
    """What came of it, in a sentence or two."""
    n, winner = len(result["trials"]), result["winner"]
    if not n:
        return "There was no time for any trial: the base model stands."
    if not result["improved"]:
        return (
            f"No scaling of {n} beat the base model in this search: {winner['model']} at "
            f"{winner['img_size']} px stands."
        )
    return (
        f"Trial {winner['number']} ({multipliers(winner)}) is {trials.ahead(result, DEFAULT)}, at "
        f"{times(winner, result)} its multiply-adds. {trials.chosen(result)}"
    )


def page(result: dict[str, Any]) -> dict[str, Any]:
    """What `search_scaling.html` shows beside what every search has."""
    costs = [trial["flops"] / result["default"]["flops"] for trial in result["trials"]]
    return {
        "figure": figure(result),
        "styles": STYLES,
        "points": list(points(result)),
        "cost_of_trials": f"{min(costs):.1f} to {max(costs):.1f}" if costs else "",
        "times": lambda row: times(row, result),
        "short": short,
        "net": net,
    }


def table(result: dict[str, Any]) -> Table:
    """The base, the winner, the curves' points."""
    rows = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("", "accuracy", "multiply-adds"):
        rows.add_column(name, justify="right" if name else "left", no_wrap=True)
    rows.add_column("model", overflow="fold")
    named = [("base", result["default"])]
    if result["improved"]:
        named.append((f"trial {result['winner']['number']}", result["winner"]))
    named += [(f"{name}, φ = {row['phi']}", row) for name, row in points(result)]
    for name, row in named:
        score = row["state"]
        if row["accuracy"] is not None:
            score = f"{form.percent(row['accuracy'])} {form.spread(row['spread'])}"
        rows.add_row(name, score, short(row["flops"]), net(row))
    return rows


def points(result: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The curves' points, one curve after another."""
    for name, rows in result["curves"].items():
        for row in rows:
            yield name, row


def net(row: dict[str, Any]) -> str:
    """What `train` needs, in short."""
    return f"{row['model']} at {row['img_size']} px"


def multipliers(row: dict[str, Any]) -> str:
    """α = 1.20, β = 1.10, γ = 1.15"""
    return ", ".join(f"{letter} = {row[name]:.2f}" for name, letter in LETTERS.items())


def times(row: dict[str, Any], result: dict[str, Any]) -> str:
    """The multiply-adds of a row, in those of the base."""
    return f"{row['flops'] / result['default']['flops']:.2f} times"


def figure(result: dict[str, Any]) -> Markup | None:
    """Accuracy against multiply-adds on a logarithmic axis, a curve for each way to grow; None
    before there is any."""
    base = result["default"]
    known = [row for _, row in points(result) if row["accuracy"] is not None]
    if not known:
        return None
    least = min(row["flops"] for row in (base, *known))
    rows = []
    for name, its in result["curves"].items():
        some = [base, *(row for row in its if row["accuracy"] is not None)]
        places = sorted((math.log2(row["flops"] / least), row["accuracy"]) for row in some)
        if len(some) > 1:
            rows.append(plots.Curve(name, places, STYLES[name], dots=True))
    place = (math.log2(base["flops"] / least), base["accuracy"])
    rows.append(plots.Curve(DEFAULT, [place], "s1 only-dots", dots=True))
    values = [row["accuracy"] for row in (base, *known)]
    return plots.curves(
        rows,
        f"Accuracy against multiply-adds of {len(rows) - 1} ways to scale {result['model']}, from "
        f"{form.percent(min(values))} to {form.percent(max(values))}; the base model has "
        f"{form.percent(base['accuracy'])} at {short(base['flops'])}.",
        lambda x: short(least * 2**x),
        form.tick,
        min(values) - 0.02,
    )
