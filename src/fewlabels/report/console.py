"""What the terminal shows of a check and of a finished run."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fewlabels.pool.check import Checked, Copy
from fewlabels.report.form import beside

SHOWN = 5  # of a long list; --json and the report have all of it


def print_run(path: Path, result: dict[str, Any], console: Console) -> None:
    """The answer: accuracy with its interval, labels only beside it, and the verdict."""
    split = result["estimate"]
    kind = "test" if split == "test" else "validation"
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("")
    table.add_column(f"{kind} accuracy", justify="right")
    table.add_column("95 % interval", justify="right")
    table.add_column("images", justify="right")
    ours = "labels only" if result["method"] == "supervised" else result["method"]
    if "baseline" in result:
        table.add_row(beside(result), *_score(result["baseline"].get(split)))
    for each in result.get("runs", [])[:-1]:  # the last is what is kept, or follows it
        table.add_row(each["folder"], *_score(each.get(split)))
    table.add_row(ours, *_score(result.get(split)))
    if split in result:
        console.print()
        console.print(table)
    if split == "val" and "val" in result:
        console.print(
            "There are no test images: the estimate comes from validation images, whose labels "
            "the measured model had not seen.",
            highlight=False,
        )
    console.print()
    console.print(result["verdict"], highlight=False)
    if result["choice"]["how"] == "auto":
        console.print(f"Chosen: {result['choice']['why']}.", highlight=False)
    console.print(f"Next: {result['next']}", highlight=False, markup=False, soft_wrap=True)
    for line in (
        f"Report: {path / 'report.html'}",
        f"Classifier: {path / 'artefact'}, after {result['seconds']:.0f} s",
    ):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def print_check(checked: Checked, console: Console) -> None:
    """Counts by class and split, then whatever is wrong."""
    names = {"": "to be split"}
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("class")
    for split in checked.counts:
        table.add_column(names.get(split, split), justify="right")
    for name in next(iter(checked.counts.values())):
        cells = [f"{of[name]:,}" if of[name] else "·" for of in checked.counts.values()]
        table.add_row(Text(name, "dim" if name == "unlabelled" else ""), *cells)
    title = f"{checked.origin}: {checked.images:,} images"
    console.print(title, highlight=False, markup=False, soft_wrap=True)
    if checked.sizes:
        low, middle, high = (
            f"{w} x {h}" for w, h in (checked.sizes.least, checked.sizes.median, checked.sizes.most)
        )
        console.print(f"{low} to {high} pixels, median {middle}", highlight=False)
    console.print()
    console.print(table)

    def listed(title: str, items: list[str]) -> None:
        if not items:
            return
        console.print(f"\n{title}: {len(items):,}", highlight=False)
        for item in items[:SHOWN]:
            console.print(f"  {item}", highlight=False, markup=False, soft_wrap=True)
        if len(items) > SHOWN:
            console.print(f"  and {len(items) - SHOWN:,} more (--json lists them)", highlight=False)

    listed("Unreadable", [f"{item.name}: {item.reason}" for item in checked.unreadable])
    listed("Left out", [f"{item.name}: {item.reason}" for item in checked.skipped])
    listed("The same content", [" = ".join(group) for group in checked.duplicates])
    listed("The same content in several splits", [_copies(group) for group in checked.leaks])
    listed("The same content, other labels", [_copies(group) for group in checked.contradictions])


def _score(score: dict[str, Any] | None) -> tuple[str, str, str]:
    if score is None:
        return "-", "-", "-"
    low, high = score["interval"]
    return (
        f"{100 * score['accuracy']:.1f} %",
        f"{100 * low:.1f} to {100 * high:.1f}",
        str(score["n"]),
    )


def _copies(group: tuple[Copy, ...]) -> str:
    return " = ".join(
        f"{copy.name} ({copy.split or 'undecided'}, {copy.label or 'unlabelled'})" for copy in group
    )
