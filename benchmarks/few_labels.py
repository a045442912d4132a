"""Accuracy from few labels: one command over several pools and seeds, and the mean with its spread.

    python benchmarks/few_labels.py OUT --time-limit 4m DATA… [--labels-per-class N --seeds 3]

A cell is one `fewlabels train`; its run folder lies in OUT. Cells that are finished are kept, one
that was cut off is resumed, so the command can be given again at any time. Nothing is chosen here:
every setting is the product's default, and test images are counted once a cell.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any


def cell(out: Path, data: str, seed: int, extra: list[str]) -> dict[str, Any]:
    """The result of one run, made if it is not there."""
    home = out / f"{Path(data).stem}-seed{seed}"
    if not (home / "result.json").exists():
        begun = (home / "config.yaml").exists()
        what = ["--resume", str(home)] if begun else [data, "--out", str(home), *extra]
        seeded = [] if begun else ["--seed", str(seed)]
        subprocess.run([sys.executable, "-m", "fewlabels", "train", *what, *seeded], check=True)
    result: dict[str, Any] = json.loads((home / "result.json").read_text())
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("data", nargs="+")
    parser.add_argument("--time-limit", default="4m")
    parser.add_argument("--labels-per-class")
    parser.add_argument("--seeds", type=int, default=1)
    arguments = parser.parse_args()
    extra = ["--time-limit", arguments.time_limit]
    if arguments.labels_per_class:
        extra += ["--labels-per-class", arguments.labels_per_class]

    ours, base = [], []
    for data in arguments.data:
        for seed in range(arguments.seeds):
            result = cell(arguments.out, data, seed, extra)
            ours.append(100 * result["test"]["accuracy"])
            beside = result.get("baseline", result)  # absent where the run is labels only itself
            base.append(100 * beside["test"]["accuracy"])
            print(f"{Path(data).stem} seed {seed}: {ours[-1]:.1f} %, labels only {base[-1]:.1f} %")
    for name, values in (("fewlabels", ours), ("labels only", base)):
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        print(
            f"{name}: mean {statistics.mean(values):.1f} % ± {spread:.1f} (sd) over {len(values)} "
            f"runs, {min(values):.1f} to {max(values):.1f}"
        )


if __name__ == "__main__":
    main()
