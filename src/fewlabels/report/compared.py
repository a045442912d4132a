"""What the terminal shows of a comparison, and the words that its page shares."""

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from fewlabels.report import form
from fewlabels.report.listing import FILE, show
from fewlabels.report.read import Row

# what tells runs apart, where it differs, and how it is written
APART = {"method": "{}", "model": "{}", "seed": "seed {}", "labels": "{} labels"}


def names(folders: Sequence[str]) -> dict[str, str]:
    """What folders are called where there is little room: their last parts, as many as tell them
    apart, and "runs/1" rather than "1"."""
    parts = [Path(os.path.abspath(folder)).parts for folder in folders]
    for count in range(1, max(map(len, parts)) + 1):
        short = [Path(*some[-count:]).as_posix() for some in parts]
        if len(set(short)) == len(folders) and not any(name.isdecimal() for name in short):
            break
    return dict(zip(folders, short, strict=True))


def differing(told: dict[str, Any]) -> list[str]:
    """Which of method, model, seed and number of labels are not the same in all runs."""
    return [name for name in APART if len({row[name] for row in told["runs"]}) > 1]


def said_of(row: Row, apart: Sequence[str]) -> list[str]:
    """What tells a run from the others: fixmatch, seed 1"""
    return [APART[name].format(row[name]) for name in apart if row[name] is not None]


def verdict(told: dict[str, Any]) -> str:
    """What the differences come to, in a sentence or two."""
    name = names([row["run"] for row in told["runs"]])
    base, kinds = name[told["against"]], defaultdict(list)
    for row in told["differences"]:
        kinds[_kind(row)].append(name[row["run"]])
    sentences = (
        f"More accurate than {base}: ",
        f"Less accurate than {base}: ",
        f"No different from {base}, as far as these images tell: ",
        f"Not comparable with {base}, image by image: ",
    )
    told_of = [text + ", ".join(kinds[i]) for i, text in enumerate(sentences) if kinds[i]]
    return ". ".join([*told_of, ""]).strip()


def not_common(row: Row, against: str, name: Mapping[str, str]) -> str:
    """What must be said of a difference that does not rest on all images; "" where it does."""
    run, base = name[row["run"]], name[against]
    if not row["n"]:
        return f"{run}: no image in common with {base}: {row['why']}"
    ours, theirs = row["judged"]
    if row["n"] == ours == theirs:
        return ""
    return (
        f"{run}: only {row['n']:,} images are common; it was judged on {ours:,}, {base} on "
        f"{theirs:,}"
    )


def print_compared(told: dict[str, Any], console: Console) -> None:
    """Prints what `compare` tells."""

    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    name = names([row["run"] for row in told["runs"]])
    base = name[told["against"]]
    show(_scores(told, name, console), console)
    say(f"\nDifference from {base} on the images that both were judged on")
    compared = [row for row in told["differences"] if row["n"]]
    if compared:
        say(f"(won: only the run is right; lost: only {base}):")
        show(_differences(compared, name), console)
    for row in told["differences"]:
        if why := not_common(row, told["against"], name):
            say(why)
    say(verdict(told))
    for row in told["seeds"]:
        mean = f"{form.percent(row['mean'])} {form.spread(row['deviation'])}"
        its = ", ".join(name[run] for run in row["runs"])
        say(f"{row['method']}, {len(row['runs'])} seeds: {mean} ({its})")
    if told["settings"]:
        say("\nWhat differs in the settings:")
    for setting, values in told["settings"].items():
        say(f"  {setting}: {' | '.join(_whose(values, list(name.values())))}")
    for run in told["unfinished"]:
        say(f"{run}: not finished, left out")


def _kind(row: Row) -> int:
    if row["interval"] is None:
        return 3
    low, high = row["interval"]
    return 0 if low > 0 else 1 if high < 0 else 2


def _scores(told: dict[str, Any], name: Mapping[str, str], console: Console) -> Table:
    """A row a run; what it took, too, where there is room."""
    apart = differing(told)

    def made(cost: bool) -> Table:
        numbers = ("accuracy", "95 % interval", "images", *(("time", "images/s") if cost else ()))
        table = _table(["run", ", ".join(apart)] if apart else ["run"], numbers)
        for row in told["runs"]:
            texts = [name[row["run"]], *([", ".join(said_of(row, apart))] if apart else [])]
            _add(table, *texts, *_score(row), *(_cost(row) if cost else ()))
        return table

    room = console.width if console.is_terminal else FILE
    whole, wide = made(cost=True), console.options.update(max_width=10_000)
    return whole if Measurement.get(console, wide, whole).maximum <= room else made(cost=False)


def _differences(rows: Sequence[Row], name: Mapping[str, str]) -> Table:
    table = _table(["run"], ("points", "95 % interval", "bootstrap", "images", "won", "lost"))
    for row in rows:
        spans = [form.span(row[each], signed=True) for each in ("interval", "bootstrap")]
        counts = [form.count(row[each]) for each in ("n", "won", "lost")]
        _add(table, name[row["run"]], form.points(row["difference"]), *spans, *counts)
    return table


def _table(texts: Sequence[str], numbers: Sequence[str]) -> Table:
    """A table with columns of text, which may be broken, and of numbers, which may not."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for head in texts:
        table.add_column(head, overflow="fold")
    for head in numbers:
        table.add_column(head, justify="right", no_wrap=True)
    return table


def _add(table: Table, *cells: str) -> None:
    table.add_row(*map(Text, cells))  # a name is no markup


def _score(row: Row) -> tuple[str, str, str]:
    if row["accuracy"] is None:
        return "-", "-", "-"
    n = form.count(row["n"]) + ("" if row["estimate"] == "test" else " val")
    return form.percent(row["accuracy"]), form.span(row["interval"]), n


def _cost(row: Row) -> tuple[str, str]:
    seconds, rate = row["seconds"], row["images_per_second"]
    return (
        "-" if seconds is None else form.duration(seconds),
        "-" if rate is None else form.count(rate),
    )


def _whose(values: Sequence[str], runs: Sequence[str]) -> Iterator[str]:
    """0.03 (runs/1, runs/2), 0.1 (runs/3)"""
    its: dict[str, list[str]] = defaultdict(list)
    for value, run in zip(values, runs, strict=True):
        its[value or "-"].append(run)
    for value, some in its.items():
        yield f"{value} ({', '.join(some)})"
