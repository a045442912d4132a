"""The listing of models in the terminal."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from fewlabels.models.listing import Entry

WITH_PAPERS = 120  # columns of a terminal that leave room for them
FILE = 170  # columns where there is no terminal: whole lines, to be searched


def print_listing(rows: Sequence[Entry], more: int, console: Console) -> None:
    """A row a model; then how many `more` there are, if any, and how to see them."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("model", no_wrap=True)
    table.add_column("family", no_wrap=True)
    for name in ("year", "parameters", "FLOPs", "px", "top-1"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("weights", no_wrap=True)
    wide = not console.is_terminal or console.width >= WITH_PAPERS
    table.add_column("from", no_wrap=True)
    if wide:
        table.add_column("paper", no_wrap=True, overflow="ellipsis")
    for entry in rows:
        cells = (
            entry.name,
            entry.family,
            str(entry.year or "·"),
            short(entry.parameters),
            short(entry.flops),
            str(entry.size),
            "·" if entry.top1 is None else f"{entry.top1:.1f}",
            "yes" if entry.pretrained else "·",
            entry.source,
        )
        table.add_row(*cells, *([entry.paper] if wide else []))
    show(table, console)
    lines = ["", f"{len(rows):,} models. FLOPs are multiply-adds of one image of that size in px;"]
    lines.append("top-1 is ImageNet accuracy in per cent, as the library publishes it.")
    if more:
        lines.append(
            f"{more:,} more of timm: --all lists them, --family vit, --max-params 5M and "
            "--pretrained search them; models NAME shows the layers."
        )
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def show(table: Table, console: Console, columns: int = FILE) -> None:
    """A table, with room for whole rows, of so many columns, where the output is a file."""
    width = console.width
    console.width = width if console.is_terminal else columns
    console.print(table)
    console.width = width


def short(value: float | None) -> str:
    """25557032 -> 25.6 M: three digits"""
    if value is None:
        return "·"
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= 0.9995 * unit:
            scaled = value / unit
            digits = 2 if scaled < 9.995 else 1 if scaled < 99.95 else 0
            return f"{scaled:.{digits}f} {name}"
    return f"{value:.0f}"
