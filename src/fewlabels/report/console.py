"""What the terminal shows of a finished run."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from fewlabels.report import tasks
from fewlabels.report.form import beside


def print_run(path: Path, result: dict[str, Any], console: Console) -> None:
    """The answer: accuracy with its interval, labels only beside it, and the verdict."""
    if "task" in result:
        _print_task(result, console)
        _print_end(path, result, console)
        return
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
    _print_end(path, result, console)


def _print_task(result: dict[str, Any], console: Console) -> None:
    """The scores of a run whose labels are several classes an image, or numbers."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("")
    table.add_column("test" if result["estimate"] == "test" else "validation")
    for title in ("", "95 % interval", "images"):
        table.add_column(title, justify="right")
    for line in tasks.lines(result):
        table.add_row(line.model, line.score, line.value, line.interval, str(line.n))
    if table.row_count:
        console.print()
        console.print(table)


def _print_end(path: Path, result: dict[str, Any], console: Console) -> None:
    """What the numbers mean, what to do next, and where all lies."""
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


def _score(score: dict[str, Any] | None) -> tuple[str, str, str]:
    if score is None:
        return "-", "-", "-"
    low, high = score["interval"]
    return (
        f"{100 * score['accuracy']:.1f} %",
        f"{100 * low:.1f} to {100 * high:.1f}",
        str(score["n"]),
    )
