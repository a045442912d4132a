"""Side by side with USB's FixMatch: steps a second, and time to 90 and 95 % test accuracy.

    pip install --no-deps semilearn==0.3.2 && pip install progress ruamel.yaml
    python benchmarks/usb.py OUT sign-digits-50-s0.csv sign-digits-50-s1.csv sign-digits-50-s2.csv
        [--ours 60 120 --theirs 300 600]

semilearn (github.com/microsoft/Semi-supervised-learning) pins packages that it does not need here,
hence --no-deps; it has never run on a CPU, and `usb_fixmatch.py` says how it does.

A cell is one training: a system, a draw of the labels (one CSV each) and a budget in seconds, which
the rates of both fall over. It is over when the accuracy has reached 95 %. What is done stands in
OUT/cells.csv, so the command can be given again; a cell that was cut off is done anew. One cell at
a time, on two cores.

The same in both: images, decoded at 32 px, and labels; `cnn_small`, with random weights; 16
labelled and 4 * 16 unlabelled images a step, each of the latter in two views; no mirroring.
Each has its own: RandAugment; optimiser and schedule (ours AdamW and a cosine, theirs SGD with
Nesterov's momentum, 0.03 and 7/16 of a cosine); the decay of the moving average (0.99, 0.999).

Ours is `fewlabels train --method fixmatch --time-limit BUDGET`: labels only first, in a fifth of
the time, then FixMatch. Theirs gets as many steps as it makes in its budget, with the fastest of
four numbers of threads and loaders (the cells "speed").

Time runs from the start of the command; "training" is the method's loop alone. Theirs is looked at
every five seconds, and the better of its average and of the model itself counts; that time is not
counted. Ours is looked at as its user would, 20 times a stage, the average alone, and that time is
counted. The test images stand where validation images do, because nothing is chosen by them:
accuracy over time is looked at only to time both. Of each system the budget counts that is best for
it, of those at which all draws get there.
"""

import argparse
import csv
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from fewlabels.augment.views import compile_kernel
from fewlabels.pixels import cache
from fewlabels.pool.pool import Pool

GOALS = (0.90, 0.95)
OURS, THEIRS, SPEED = "fewlabels", "usb", "usb speed"
SETTINGS = ((2, 1), (2, 0), (1, 1), (1, 0))  # threads, and loaders of labelled images, of theirs
TRIAL = 20.0  # seconds of training in which their speed is measured
MARGIN = 1.5  # times the budget, after which a cell is ended


@dataclass(frozen=True)
class Cell:
    """One training. Times are in seconds; 0.0: not reached."""

    system: str
    draw: str
    budget: float
    threads: int  # 0: as the system chooses
    workers: int
    steps: int = 0  # of the method
    steps_per_second: float = 0.0
    best: float = 0.0  # accuracy
    to_90: float = 0.0  # from the start of the command
    to_95: float = 0.0
    training_90: float = 0.0  # in the method's loop
    training_95: float = 0.0

    @property
    def key(self) -> tuple[str, str, float, int, int]:
        """What is to be measured."""
        return self.system, self.draw, self.budget, self.threads, self.workers


@dataclass(frozen=True)
class Row:
    """One look at the accuracy."""

    step: int
    training: float
    since_start: float  # without the time for looking, where that is known
    accuracy: float


def watched(command: list[str], file: Path, log: Path, limit: float) -> list[Row]:
    """The rows that a command writes into `file`, until it ends, `limit` seconds are over, or the
    last goal is reached."""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    rows: list[Row] = []
    begun, size = time.monotonic(), 0
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
        try:
            over = False
            while not over:
                over = process.poll() is not None or time.monotonic() - begun > limit
                lines = file.read_text().splitlines(keepends=True) if file.exists() else []
                whole = [line for line in lines if line.endswith("\n")]
                for line in whole[size:]:
                    rows += read(json.loads(line), time.monotonic() - begun)
                size = len(whole)
                over = over or (bool(rows) and rows[-1].accuracy >= GOALS[-1])
                time.sleep(0.05)
        finally:
            process.terminate()
            process.wait()
    if not rows:
        sys.exit(f"{' '.join(command)}: has told nothing; see {log}")
    return rows


def read(told: dict[str, Any], since_start: float) -> list[Row]:
    """A line of metrics.jsonl, or of usb_fixmatch.py; none for a stage before the method."""
    if "val_accuracy" in told:
        if told["stage"] != "fixmatch":
            return []
        accuracy, looking = told["val_accuracy"], 0.0
    else:
        accuracy, looking = max(told["average"], told["itself"]), told["looking"]
    return [Row(int(told["step"]), told["seconds"], since_start - looking, accuracy)]


def measured(cell: Cell, pool: Path, home: Path, steps_per_second: float) -> Cell:
    """The cell with what came of it."""
    home.mkdir(parents=True)
    seed = pool.stem.rpartition("-s")[2]
    if cell.system == OURS:
        command = [sys.executable, "-m", "fewlabels", "train", str(pool), "--method", "fixmatch"]
        command += ["--model", "cnn_small", "--img-size", "32", "--batch-size", "16"]
        command += ["--set", "ratio=4", "--flip", "off", "--rotate", "off", "--seed", seed]
        command += ["--time-limit", f"{cell.budget:g}s", "--out", str(home / "run")]
        file = home / "run" / "metrics.jsonl"
    else:
        file = home / "rows.jsonl"
        beside = Path(__file__).with_name("usb_fixmatch.py")
        command = [sys.executable, "-W", "ignore", str(beside), str(pool), str(file)]
        command += ["--threads", str(cell.threads), "--workers", str(cell.workers)]
        command += ["--draw", seed, "--steps"]
        if cell.system == SPEED:
            command += ["100000", "--seconds", str(cell.budget), "--every", "1e9"]
        else:
            command += [str(round(cell.budget * steps_per_second))]
    rows = watched(command, file, home / "output.txt", MARGIN * cell.budget + 60)
    found = {
        f"{name}_{goal * 100:.0f}": next((getattr(r, of) for r in rows if r.accuracy >= goal), 0.0)
        for goal in GOALS
        for name, of in (("to", "since_start"), ("training", "training"))
    }
    last = rows[-1]
    rate = last.step / last.training
    best = max(row.accuracy for row in rows)
    told: dict[str, Any] = asdict(cell) | found
    told |= {"steps": last.step, "steps_per_second": rate, "best": best}
    told = {n: round(v, 4) if isinstance(v, float) else v for n, v in told.items()}
    return Cell(**told)


def as_pool(split: Path, out: Path) -> Path:
    """The CSV with its test rows where validation rows stand, and paths that hold anywhere."""
    with split.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["image"] = str((split.parent / row["image"]).resolve())
        row["split"] = "val" if row["split"] == "test" else row["split"]
    made = out / split.name
    with made.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return made


def kept(file: Path) -> dict[tuple[str, str, float, int, int], Cell]:
    """The cells that are done, by key."""
    if not file.exists():
        return {}
    kinds: dict[str, type] = {about.name: type(about.default) for about in fields(Cell)[5:]}
    kinds |= {"system": str, "draw": str, "budget": float, "threads": int, "workers": int}
    with file.open(newline="") as lines:
        cells = [Cell(**{n: kinds[n](v) for n, v in row.items()}) for row in csv.DictReader(lines)]
    return {cell.key: cell for cell in cells}


def keep(cell: Cell, file: Path) -> None:
    """One more line."""
    new = not file.exists()
    with file.open("a", newline="") as lines:
        writer = csv.DictWriter(lines, list(asdict(cell)))
        if new:
            writer.writeheader()
        writer.writerow(asdict(cell))


def told(cells: Sequence[Cell], draws: int) -> None:
    """The tables, and ours / theirs."""
    by: dict[tuple[str, float], list[Cell]] = defaultdict(list)
    for cell in cells:
        by[cell.system, cell.budget].append(cell)
    print("system     budget  steps/s  best      to 90 %, to 95 % from the start  training alone")
    for (system, budget), some in sorted(by.items()):
        speed = statistics.mean(cell.steps_per_second for cell in some)
        best = statistics.mean(cell.best for cell in some)
        times = [
            spread([getattr(cell, name) for cell in some])
            for name in ("to_90", "to_95", "training_90", "training_95")
        ]
        print(f"{system:10} {budget:5.0f} s  {speed:7.2f}  {best:6.1%}  {'  '.join(times)}")
    for name in ("to_90", "to_95", "training_90", "training_95"):
        reached = {}
        for system in (OURS, THEIRS):
            of = {b: [getattr(c, name) for c in some] for (s, b), some in by.items() if s == system}
            whole = [statistics.mean(t) for t in of.values() if all(t) and len(t) == draws]
            # where not all get there, those that do not need their budget at least
            least = [statistics.mean(t or b for t in ts) for b, ts in of.items()]
            reached[system] = (min(whole), "") if whole else (min(least), "> ")
        (ours, not_ours), (theirs, not_theirs) = reached[OURS], reached[THEIRS]
        if not_ours:
            print(f"{name}: ours does not get there in all draws")
            continue
        most = " at most" if not_theirs else ""
        print(
            f"{name}: ours {ours:.1f} s, theirs {not_theirs}{theirs:.1f} s; "
            f"ours / theirs{most} {ours / theirs:.3f}"
        )


def spread(times: Sequence[float]) -> str:
    """Mean and range of those that got there, and how many these are."""
    there = [t for t in times if t]
    if not there:
        return f"never (0 of {len(times)})"
    mean, low, high = statistics.mean(there), min(there), max(there)
    return f"{mean:.1f} s [{low:.1f}, {high:.1f}] ({len(there)} of {len(times)})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("splits", type=Path, nargs="+", help="CSV files, one a draw: NAME-s<n>.csv")
    parser.add_argument("--ours", type=float, nargs="+", default=[60.0, 120.0], help="seconds")
    parser.add_argument("--theirs", type=float, nargs="+", default=[300.0, 600.0], help="seconds")
    asked = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    asked.out.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("FEWLABELS_CACHE", str((asked.out / "cache").resolve()))
    compile_kernel()  # once for an installation
    pools = {split.stem: as_pool(split, asked.out) for split in asked.splits}
    for path in pools.values():  # once for the images
        source = Pool.scan(path).source
        cache.build(source, cache.fingerprint(source), 32)
    file = asked.out / "cells.csv"
    first, *_ = pools
    cells = kept(file)

    def done(cell: Cell, steps_per_second: float = 0.0) -> Cell:
        if cell.key not in cells:
            home = asked.out / "-".join(str(part).replace(" ", "-") for part in cell.key)
            shutil.rmtree(home, ignore_errors=True)
            cells[cell.key] = measured(cell, pools[cell.draw], home, steps_per_second)
            keep(cells[cell.key], file)
        print(cells[cell.key], flush=True)
        return cells[cell.key]

    trials = [done(Cell(SPEED, first, TRIAL, *setting)) for setting in SETTINGS]
    fastest = max(trials, key=lambda cell: cell.steps_per_second)
    setting, speed = (fastest.threads, fastest.workers), fastest.steps_per_second
    found = []
    for draw in pools:  # a draw after another, so that both meet the machine at the same time
        found += [done(Cell(OURS, draw, budget, 0, 0)) for budget in sorted(asked.ours)]
        found += [done(Cell(THEIRS, draw, b, *setting), speed) for b in sorted(asked.theirs)]
    told(found, len(pools))


if __name__ == "__main__":
    main()
