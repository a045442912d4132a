"""Does it cost accuracy that the kernel fuses operations? The same training with fused views and
with views made one operation after another by Pillow, on the same draws.

    python benchmarks/fused_or_sequential.py OUT TABLE.csv… [--steps 600]

A cell is one FixMatch run of a fixed number of steps; finished cells in OUT are kept. What counts
is the last line: fused less sequential, the mean over the tables with its 95 % interval (Student's
t).
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import sequential
from numpy.typing import NDArray
from scipy.stats import t

import fewlabels as fl
from fewlabels.augment import views
from fewlabels.augment.sampler import Program


def execute_in_sequence(
    images: NDArray[np.uint8],
    rows: NDArray[np.int64],
    program: Program,
    nearest: bool,
    fill: NDArray[np.float64],
    mean: NDArray[np.float64],
    std: NDArray[np.float64],
    out: NDArray[np.float32],
    planar: bool,
    threads: int = 1,
) -> None:
    """In the place of `views.execute`."""
    r, g, b = (int(level + 0.5) for level in fill)  # as the kernel rounds
    for k, row in enumerate(rows):
        code, operand = program.code[k], program.operand[k]
        pixels = sequential.execute(np.asarray(images[row]), code, operand, nearest, (r, g, b))
        normal = ((pixels - mean) / std).astype(np.float32)
        out[k] = normal.transpose(2, 0, 1) if planar else normal


def accuracy(out: Path, table: str, steps: int, fused: bool) -> float:
    """Test accuracy of one cell."""
    cell = out / f"{Path(table).stem}-{'fused' if fused else 'sequential'}"
    if not (cell / "result.json").exists():
        settings: dict[str, Any] = {"method": "fixmatch", "steps": steps, "flip": "off"}
        made_by = views.execute if fused else execute_in_sequence
        with patch.object(views, "execute", made_by):
            fl.train(table, out=cell, rotate="off", **settings)
    return float(json.loads((cell / "result.json").read_text())["test"]["accuracy"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("tables", nargs="+")
    parser.add_argument("--steps", type=int, default=600)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    differences = []
    for table in args.tables:
        fused, one_by_one = (accuracy(args.out, table, args.steps, f) for f in (True, False))
        differences.append(100 * (fused - one_by_one))
        print(f"{Path(table).stem}: fused {fused:.1%}, sequential {one_by_one:.1%}", flush=True)
    mean, n = statistics.mean(differences), len(differences)
    half = 0.0 if n < 2 else t.ppf(0.975, n - 1) * statistics.stdev(differences) / n**0.5
    print(f"fused less sequential: {mean:+.1f} points ({mean - half:+.1f} to {mean + half:+.1f})")


if __name__ == "__main__":
    main()
