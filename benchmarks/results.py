"""The tables of docs/results.md: every method beside labels only, one command, cell by cell.

    make results SIGNS=…/splits CIFAR=…/train.parquet    (or python benchmarks/results.py --help)

A cell is one `fewlabels train` under a time limit, on one thread, two cells side by side. What it
found becomes a line of docs/results.csv at once; cells that are there are not run again, and one
that was cut off is resumed, so the command can be given at any time, and on any part of the cells.
Nothing is chosen here: every setting is the product's default, and test images are counted once.
docs/results.md and the figures in docs/methods/ are written from the lines that are there.
"""

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from threading import Lock
from typing import Any

import pools

from fewlabels.methods import METHODS

DOCS = Path(__file__).parents[1] / "docs"
ROWS = DOCS / "results.csv"
# gets more time and seeds; the best on development images, which are other training images
BEST = "flexmatch"
POOLS = {
    "sign-digits-20": "photographs of hand signs, 20 labels",
    "sign-digits-50": "photographs of hand signs, 50 labels",
    "digits-20": "scikit-learn's digits, 20 labels",
}


@dataclass(frozen=True)
class Cell:
    """One run: of which table, on what, how, which draw of labels."""

    table: str
    pool: str
    method: str
    variant: str
    seed: int
    limit: str


@dataclass(frozen=True)
class Row(Cell):
    """What came of it: test accuracies in percent."""

    accuracy: float
    balanced: float
    labels_only: float  # of the baseline in the same run, which has a fifth of its time
    labels_only_balanced: float
    n: int
    left_out: int  # unlabelled images, by the guard
    steps: int
    seconds: float


def cells() -> list[Cell]:
    """All there are, the most wanted first."""
    found = [
        Cell("methods", pool, method, "", seed, "2m")
        for pool in reversed(POOLS)
        for seed in range(3)
        for method in METHODS
    ]
    found += [
        Cell("best", pool, BEST, "", seed, "4m")
        for pool in ("sign-digits-50", "sign-digits-20")
        for seed in range(5)
    ]
    found += [
        Cell("polluted", pool, BEST, variant, seed, "2m")
        for seed in range(3)
        for pool in ("sign-digits-50", "sign-digits-50+cifar")
        for variant in ("--guard on", "--guard off")
    ]
    found += [
        Cell("imbalanced", pools.IMBALANCED, BEST, f"--balance {how}", seed, "2m")
        for seed in range(3)
        for how in ("none", "sampling", "logits")
    ]
    return found


def home(cell: Cell, out: Path) -> Path:
    """Its run folder."""
    parts = (cell.table, cell.pool, cell.method, cell.variant.replace(" ", ""), str(cell.seed))
    return out / "_".join(part for part in parts if part)


def run(cell: Cell, out: Path, sources: pools.Sources) -> Row:
    """Trains, or goes on with what was cut off."""
    folder = home(cell, out)
    if not (folder / "result.json").exists():
        data, extra = pools.find(cell.pool, cell.seed, out / "pools", sources)
        begun = (folder / "config.yaml").exists()
        what = ["--resume", str(folder)]
        if not begun:
            what = [data, "--out", str(folder), "--method", cell.method, "--model", "cnn_small"]
            what += ["--time-limit", cell.limit, "--seed", str(cell.seed), *extra]
            what += cell.variant.split()
        command = [sys.executable, "-m", "fewlabels", "train", *what]
        one = os.environ | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=one, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)}\n{done.stdout[-2000:]}{done.stderr}")
    result = json.loads((folder / "result.json").read_text())
    test = result["test"]
    base = result.get("baseline", result)["test"]
    return Row(
        **asdict(cell),
        accuracy=round(100 * test["accuracy"], 2),
        balanced=round(100 * test["balanced_accuracy"], 2),
        labels_only=round(100 * base["accuracy"], 2),
        labels_only_balanced=round(100 * base["balanced_accuracy"], 2),
        n=test["n"],
        left_out=result.get("guard", {}).get("left_out", 0),
        steps=result["steps"],
        seconds=result["seconds"],
    )


def read() -> list[Row]:
    if not ROWS.exists():
        return []
    with ROWS.open(newline="") as file:
        kinds = {about.name: about.type for about in fields(Row)}
        return [
            Row(**{name: kinds[name](value) for name, value in line.items()})  # type: ignore[operator]
            for line in csv.DictReader(file)
        ]


def write(rows: Iterable[Row]) -> None:
    order = {cell: number for number, cell in enumerate(cells())}
    kept = sorted(rows, key=lambda row: order.get(key(row), len(order)))
    with ROWS.open("w", newline="") as file:
        writer = csv.DictWriter(file, [about.name for about in fields(Row)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in kept)


def key(row: Row) -> Cell:
    return Cell(**{about.name: getattr(row, about.name) for about in fields(Cell)})


def spread(values: list[float], unit: str = "") -> str:
    """ "97.1 ± 0.4", and of how many where they are fewer than three."""
    if not values:
        return ""
    sd = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    few = f" ({len(values)} draw{'s'[: len(values) - 1]})" if len(values) < 3 else ""
    return f"{statistics.mean(values):.1f}{sd}{unit}{few}"


def of(rows: list[Row], value: str = "accuracy", **wanted: str) -> list[Any]:
    """That value of the rows that are as `wanted`."""
    some = [row for row in rows if all(getattr(row, k) == v for k, v in wanted.items())]
    return [getattr(row, value) for row in some]


def table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    marks = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, marks, *lines))


def methods_table(rows: list[Row]) -> str:
    """Methods by pools, the best on average first."""

    def mean(method: str) -> float:
        found = of(rows, table="methods", method=method)
        return -statistics.mean(found) if found else 0.0

    def steps(method: str) -> str:
        found = of(rows, "steps", table="methods", method=method)
        return f"{statistics.mean(found):,.0f}" if found else ""

    lines = [
        [
            f"[`{method}`](methods/{method}.md)",
            *(spread(of(rows, table="methods", pool=pool, method=method)) for pool in POOLS),
            steps(method),
        ]
        for method in sorted(METHODS, key=mean)
    ]
    return table(["method", *POOLS, "steps"], lines)


def best_table(rows: list[Row]) -> str:
    lines = []
    for pool in ("sign-digits-20", "sign-digits-50"):
        found = of(rows, table="best", pool=pool)
        each = ", ".join(f"{value:.1f}" for value in found)
        base = spread(of(rows, "labels_only", table="best", pool=pool))
        lines.append([pool, base, spread(found), each])
    return table(["images", "labels only, a fifth of the time", BEST, "draws"], lines)


def polluted_table(rows: list[Row]) -> str:
    lines = [
        [
            what,
            *(
                spread(of(rows, table="polluted", pool=pool, variant=f"--guard {guard}"))
                for guard in ("on", "off")
            ),
            ", ".join(
                f"{left:,}"
                for left in of(rows, "left_out", table="polluted", pool=pool, variant="--guard on")
            ),
        ]
        for what, pool in (
            ("hand signs alone", "sign-digits-50"),
            ("and as many photographs of CIFAR-10", "sign-digits-50+cifar"),
        )
    ]
    return table(["unlabelled images", "with the guard", "without", "left out by it"], lines)


def imbalanced_table(rows: list[Row]) -> str:
    lines = [
        [
            f"`--balance {how}`",
            *(
                spread(of(rows, value, table="imbalanced", variant=f"--balance {how}"))
                for value in ("labels_only_balanced", "balanced")
            ),
        ]
        for how in ("none", "sampling", "logits")
    ]
    return table(["balanced accuracy", "labels only", BEST], lines)


def write_docs(rows: list[Row]) -> None:
    """docs/results.md from its template, and each method's own line into its page."""
    page = (Path(__file__).parent / "results.md").read_text(encoding="utf-8")
    for name, make in (
        ("methods", methods_table),
        ("best", best_table),
        ("polluted", polluted_table),
        ("imbalanced", imbalanced_table),
    ):
        page = page.replace(f"<!-- {name} -->", make(rows))
    missing = len(cells()) - len(rows)
    note = f"**{missing} of {len(cells())} runs are still to come.**" if missing else ""
    page = page.replace("<!-- missing -->", note)
    (DOCS / "results.md").write_text(page, encoding="utf-8")
    for method in METHODS:
        told = []
        for pool in POOLS:
            ours, base = (
                spread(of(rows, table="methods", pool=pool, method=name), " %")
                for name in (method, "supervised")
            )
            if ours:
                beside = f" (labels only {base})" if method != "supervised" and base else ""
                told.append(f"{pool} {ours}{beside}")
        if told:
            line = f"Two minutes on one thread: {'; '.join(told)}. [All methods](../results.md)"
            measured(DOCS / "methods" / f"{method}.md", f"<!-- results:{method} -->", line)


def measured(file: Path, mark: str, line: str) -> None:
    """Puts the line below the mark, which ends the page, in the place of what stood there."""
    before = file.read_text(encoding="utf-8").partition(mark)[0]
    file.write_text(f"{before}{mark}\n\n{line}\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("runs/results"), help="the run folders")
    parser.add_argument("--signs", type=Path, help="folder of sign-digits-<labels>-s<draw>.csv")
    parser.add_argument("--cifar", type=Path, help="CIFAR-10's train.parquet")
    parser.add_argument("--table", help="only this table: methods, best, polluted, imbalanced")
    parser.add_argument("--only", default="", help="only these methods, separated by commas")
    parser.add_argument("--jobs", type=int, default=2, help="cells side by side, a thread each")
    arguments = parser.parse_args()
    sources = pools.Sources(arguments.signs, arguments.cifar)
    rows, lock = {key(row): row for row in read()}, Lock()
    wanted = [cell for cell in cells() if cell not in rows]
    wanted = [cell for cell in wanted if arguments.table in (None, cell.table)]
    some = arguments.only.split(",")
    wanted = [cell for cell in wanted if some == [""] or cell.method in some]

    def one(cell: Cell) -> None:
        row = run(cell, arguments.out, sources)
        with lock:
            rows[cell] = row
            write(rows.values())
            print(f"{len(rows)} of {len(cells())}: {row}", flush=True)

    for pool in dict.fromkeys(cell.pool for cell in wanted):
        if missing := pools.lacking(pool, sources):
            print(f"{pool} is left out: name {missing}")
    wanted = [cell for cell in wanted if not pools.lacking(cell.pool, sources)]
    workers = ThreadPoolExecutor(arguments.jobs)
    try:
        for done in [workers.submit(one, cell) for cell in wanted]:
            done.result()
    finally:
        workers.shutdown(cancel_futures=True)
        write_docs(list(rows.values()))


if __name__ == "__main__":
    main()
