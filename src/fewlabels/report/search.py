"""A search: its last word in the terminal, and its page, from `search.json` alone."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from fewlabels.report import search_augmentation, search_scaling, trials
from fewlabels.report.html import template
from fewlabels.report.listing import show
from fewlabels.training.folder import RunFolder, write_text

SHOWN = 10  # of the best


@dataclass(frozen=True)
class Kind:
    """How a kind of search is told; its page is `search_<what>.html`."""

    default: str  # what the default is called
    caution: str
    verdict: Callable[[dict[str, Any]], str]
    page: Callable[[dict[str, Any]], dict[str, Any]]
    table: Callable[[dict[str, Any]], Table]


KINDS = {
    "augmentation": Kind(
        search_augmentation.DEFAULT,
        search_augmentation.CAUTION,
        search_augmentation.verdict,
        search_augmentation.page,
        search_augmentation.table,
    ),
    "scaling": Kind(
        search_scaling.DEFAULT,
        search_scaling.CAUTION,
        search_scaling.verdict,
        search_scaling.page,
        search_scaling.table,
    ),
}


def write(folder: Path) -> Path:
    """Writes `folder/search.html`, which loads nothing and runs no script; returns its path."""
    target = folder / "search.html"
    write_text(target, render(RunFolder(folder).read_json("search.json")))
    return target


def render(result: dict[str, Any]) -> str:
    """The page as text."""
    kind, default, every = KINDS[result["what"]], result["default"], result["trials"]
    return template(f"search_{result['what']}.html").render(
        **result,
        complete=sum(trial["state"] == "complete" for trial in every),
        pruned=sum(trial["state"] == "pruned" for trial in every),
        best=trials.best(result, SHOWN),
        every=[default, *every],
        spent=default["seconds"] + sum(trial["seconds"] for trial in every),
        unit=trials.unit(result) + "s",
        measured=trials.measured(result),
        chart=trials.chart(result, kind.default),
        name=kind.default,
        caution=kind.caution,
        verdict=kind.verdict(result),
        **kind.page(result),
    )


def print_search(path: Path, result: dict[str, Any], console: Console) -> None:
    """What was found, the default beside it, and the command that trains with it."""
    kind = KINDS[result["what"]]
    console.print()
    show(kind.table(result), console)
    console.print()
    for line in (
        kind.verdict(result),
        f"Accuracy is {trials.measured(result)}. {kind.caution}",
        f"Page: {path / 'search.html'}",
        f"Use it: {result['use']}",
    ):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
