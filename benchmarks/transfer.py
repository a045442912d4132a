"""Who should use what on a CPU: a pretrained backbone in several ways, and nets from scratch.

    python benchmarks/transfer.py OUT MODEL [--jobs 2] sign-digits-20=splits/sign-digits-20-s{}.csv
        cifar10-250=cifar10/:25 …

A data set is a name, the path of its pool with {} for the seed (or none), and :N for N labels a
class. MODEL is a pretrained one, such as local-dir:FOLDER. A cell is one `fewlabels train`, whose
run folder lies in OUT; finished cells are kept and one that was cut off is resumed, so the command
can be given again at any time. `--jobs 2` runs two cells side by side, each on one thread.

Prints the table: accuracy on the test images, mean and standard deviation over the seeds, and the
seconds that a run took. Nothing is chosen on those images: all settings are the product's defaults,
but for the image size and the time limit.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Way:
    """A row of the table: what `train` is told beside the data."""

    title: str
    options: tuple[str, ...]
    pretrained: bool = True
    limited: bool = False  # whether it takes as long as it is given


WAYS = {
    "probe": Way("linear probe", ("--method", "linear_probe")),
    "knn": Way("nearest neighbours", ("--method", "knn")),
    "spread": Way("label spreading", ("--method", "label_spreading")),
    "tune": Way("fine-tune, layer decay", ("--method", "supervised"), limited=True),
    "both": Way("pretrained and FixMatch", ("--method", "fixmatch"), limited=True),
    "scratch": Way(
        "from scratch, labels only", ("--method", "supervised"), pretrained=False, limited=True
    ),
    "fixmatch": Way(
        "from scratch, FixMatch", ("--method", "fixmatch"), pretrained=False, limited=True
    ),
}


def cell(
    out: Path, way: str, name: str, path: str, per_class: str, seed: int, model: str, limit: str
) -> dict[str, Any]:
    """The result of one run, made if it is not there."""
    home = out / f"{name}-{way}-s{seed}"
    done = home / "result.json"
    if not done.exists():
        row = WAYS[way]
        if (home / "config.yaml").exists():
            command = ["--resume", str(home)]
        else:
            command = [path.format(seed), "--out", str(home), "--seed", str(seed), *row.options]
            command += ["--model", model if row.pretrained else "cnn_small"]
            command += ["--time-limit", limit] if row.limited else []
            command += ["--labels-per-class", per_class] if per_class else []
        subprocess.run(
            [sys.executable, "-m", "fewlabels", "train", *command],
            check=True,
            stdout=subprocess.DEVNULL,
        )
    result: dict[str, Any] = json.loads(done.read_text())
    print(f"{home.name}: {result['test']['accuracy']:.3f}, {result['seconds']:.0f} s", flush=True)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("model")
    parser.add_argument("data", nargs="+", metavar="NAME=PATH[:N]")
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--time-limit", default="2m")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.jobs > 1:
        os.environ["OMP_NUM_THREADS"] = "1"

    tasks: list[tuple[str, str, str, str, int]] = []
    for way in arguments.ways:
        for text in arguments.data:
            name, _, rest = text.partition("=")
            path, _, per_class = rest.partition(":")
            tasks += [(way, name, path, per_class, seed) for seed in range(arguments.seeds)]

    def one(task: tuple[str, str, str, str, int]) -> dict[str, Any]:
        return cell(arguments.out, *task, arguments.model, arguments.time_limit)

    with ThreadPoolExecutor(arguments.jobs) as pool:
        results = list(pool.map(one, tasks))
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for (way, name, *_), result in zip(tasks, results, strict=True):
        found.setdefault((way, name), []).append(result)
    names = list(dict.fromkeys(name for _, name in found))
    print("\n| |" + "".join(f" {name} | s |" for name in names))
    print("|---|" + "---|---|" * len(names))
    for way in arguments.ways:
        cells = ""
        for name in names:
            values = [100 * result["test"]["accuracy"] for result in found[way, name]]
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            took = statistics.mean(result["seconds"] for result in found[way, name])
            cells += f" {statistics.mean(values):.1f} ± {spread:.1f} | {took:.0f} |"
        print(f"| {WAYS[way].title} |{cells}")


if __name__ == "__main__":
    main()
