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
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from threading import Lock

import pools
import results_pages

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
# Noisy Student's kinds of noise, with students as large as their teachers; and other students
NOISE = {
    "none": "--set view=weak --set dropout=0 --set survival=1",
    "views": "--set dropout=0 --set survival=1",
    "all": "",
    "all, smaller student": "--set models=cnn_small(width=0.67)",
    "all, larger student": "--set models=cnn_small(width=1.41)",
}
AUTO = ("auto", "supervised", "fixmatch", BEST)
CIFAR = ("cifar10-25", "cifar10-400")  # labels a class


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
    rounds: str = ""  # test accuracy of each student, in percent


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
    found += [
        Cell("noise", "sign-digits-50", "noisy_student", variant, seed, "4m")
        for seed in range(3)
        for variant in NOISE.values()
    ]
    found += [
        Cell("auto", pool, "auto", "", seed, "2m")
        for seed in range(3)
        for pool in ("sign-digits-50", "digits-20")
    ]
    found += [
        Cell("auto", pool, method, "", seed, "8m")
        for seed in range(2)
        for pool in reversed(CIFAR)
        for method in AUTO
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
        rounds=" ".join(f"{100 * each['test']['accuracy']:.2f}" for each in result.get("runs", [])),
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
        left = len(cells()) - len(rows)
        note = f"**{left} of {len(cells())} runs are still to come.**" if left else ""
        results_pages.write(list(rows.values()), note, DOCS, list(POOLS), BEST, NOISE)


if __name__ == "__main__":
    main()
