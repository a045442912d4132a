"""Does it help to have learnt other classes? Five classes of CIFAR-10, then the other five.

    python benchmarks/new_classes.py OUT CIFAR10 [--seeds 3]

CIFAR10 is a folder with train.parquet and test.parquet in the Hugging Face layout. For each seed
the ten classes are parted at random; `cnn_small` learns all training images of five of them, and is
then adapted to the other five with 10 labels a class, on labels alone: from scratch, its head only,
or as a whole with lower rates for earlier layers. Finished cells are kept.

Prints accuracy on the test images of the five new classes, mean and standard deviation. Nothing is
chosen on them: steps are fixed and rates are the product's defaults.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

LABELS = 10  # a class
WAYS = {
    "from scratch": [],
    "head only": ["--freeze", "backbone"],
    "fine-tune, lower rates": [],  # what pretrained weights get by default
}


def part(source: Path, classes: list[int], out: Path) -> Path:
    """A pool of some classes only, numbered anew; made if it is not there."""
    out.mkdir(parents=True, exist_ok=True)
    for name in ("train", "test"):
        file = out / f"{name}.parquet"
        if file.exists():
            continue
        table = pq.read_table(source / f"{name}.parquet")
        table = table.filter(pc.is_in(table["label"], pa.array(classes, table["label"].type)))
        place = {old: new for new, old in enumerate(classes)}
        label = pa.array([place[old] for old in table["label"].to_pylist()], pa.int64())
        table = table.set_column(table.schema.get_field_index("label"), "label", label)
        pq.write_table(table.replace_schema_metadata(None), file)
    return out


def train(home: Path, data: Path, *options: str) -> float:
    """The test accuracy of one run, made if it is not there."""
    if not (home / "result.json").exists():
        begun = (home / "config.yaml").exists()
        what = ["--resume", str(home)] if begun else [str(data), "--out", str(home), *options]
        command = [sys.executable, "-m", "fewlabels", "train", *what]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    result = json.loads((home / "result.json").read_text())
    print(f"{home.name}: {result['test']['accuracy']:.3f}, {result['seconds']:.0f} s", flush=True)
    return 100 * float(result["test"]["accuracy"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("cifar10", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=1000, help="of an adaptation")
    parser.add_argument("--first-steps", type=int, default=2000, help="of 128 images, before it")
    arguments = parser.parse_args()

    found: dict[str, list[float]] = {way: [] for way in WAYS}
    common = ["--method", "supervised", "--model", "cnn_small", "--flip", "on", "--rotate", "off"]
    for seed in range(arguments.seeds):
        order = np.random.default_rng(seed).permutation(10).tolist()
        old = part(arguments.cifar10, sorted(order[:5]), arguments.out / f"old-{seed}")
        new = part(arguments.cifar10, sorted(order[5:]), arguments.out / f"new-{seed}")
        first = arguments.out / f"s{seed}-first"
        more = ["--seed", str(seed)]
        steps = ["--steps", str(arguments.first_steps), "--batch-size", "128"]
        train(first, old, *common, *more, *steps)
        for way, options in WAYS.items():
            weights = [] if way == "from scratch" else ["--weights", str(first)]
            home = arguments.out / f"s{seed}-{way.replace(', ', '-').replace(' ', '-')}"
            more = ["--seed", str(seed), "--labels-per-class", str(LABELS)]
            more += ["--steps", str(arguments.steps)]
            found[way].append(train(home, new, *common, *more, *weights, *options))
    print("\n| | accuracy | by seed |\n|---|---|---|")
    for way, values in found.items():
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        each = ", ".join(f"{value:.1f}" for value in values)
        print(f"| {way} | {statistics.mean(values):.1f} ± {spread:.1f} % | {each} |")


if __name__ == "__main__":
    main()
