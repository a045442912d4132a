"""What is told of a search for an augmentation."""

from typing import Any

from rich.table import Table

from fewlabels.report import form, trials

DEFAULT = "default policy"
CAUTION = "Short trainings favour gentle policies: the order may be another after a long one."


def verdict(result: dict[str, Any]) -> str:
    """What came of it, in a sentence or two."""
    n = len(result["trials"])
    if not n:
        return "There was no time for any trial: the default policy stands."
    if not result["improved"]:
        return (
            f"No policy of {n} beat the default one in this search: the default is what "
            "policy.txt holds."
        )
    return (
        f"Trial {result['winner']['number']} is {trials.ahead(result, DEFAULT)}. "
        f"{trials.chosen(result)}"
    )


def page(result: dict[str, Any]) -> dict[str, Any]:
    """What `search_augmentation.html` shows beside what every search has."""
    return {}


def table(result: dict[str, Any]) -> Table:
    """The winner, and the default policy beside it."""
    default, winner = result["default"], result["winner"]
    rows = Table(box=None, pad_edge=False, header_style="dim")
    rows.add_column("")
    rows.add_column("accuracy", justify="right")
    rows.add_column("policy", overflow="fold")
    for trial in (default, winner) if result["improved"] else (default,):
        name = f"trial {trial['number']}" if trial["number"] else "default"
        score = f"{form.percent(trial['accuracy'])} {form.spread(trial['spread'])}"
        rows.add_row(name, score, trial["policy"])
    return rows
