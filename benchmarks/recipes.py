"""Measures recipes: each with three seeds, and what their headers say of it.

    python benchmarks/recipes.py recipes/cutmix.yaml … [--data DATA] [--model NAME] [--run RUN]

A run lies in OUT; what is done is not done again. Test images are counted once a run.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("recipes", nargs="+", type=Path)
    parser.add_argument("--data", help="for recipes that name none; {seed} stands for the seed")
    parser.add_argument("--model", help="in the place of the recipe's")
    parser.add_argument("--run", help="an earlier run; {seed} stands for the seed")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("runs/recipes"))
    arguments = parser.parse_args()
    for recipe in arguments.recipes:
        found, base, seconds = [], [], []
        for seed in range(arguments.seeds):
            folder = arguments.out / f"{recipe.stem}-{seed}"
            if not (folder / "result.json").exists():
                begun = (folder / "config.yaml").exists()
                what = ["--resume", str(folder)]
                if not begun:
                    what = ["-c", str(recipe), "--seed", str(seed), "--out", str(folder)]
                    what += [arguments.data.format(seed=seed)] if arguments.data else []
                    what += ["--model", arguments.model] if arguments.model else []
                    what += ["--run", arguments.run.format(seed=seed)] if arguments.run else []
                command = [sys.executable, "-m", "fewlabels", "train", *what]
                subprocess.run(command, check=True, capture_output=True)
            result = json.loads((folder / "result.json").read_text())
            found.append(100 * result["test"]["accuracy"])
            base.append(100 * result.get("baseline", result)["test"]["accuracy"])
            seconds.append(result["seconds"])
        told = [f"{statistics.mean(v):.1f} ± {statistics.stdev(v):.1f} %" for v in (found, base)]
        each = ", ".join(f"{value:.1f}" for value in found)
        print(
            f"{recipe.name}: {told[0]} ({each}), beside it {told[1]}, "
            f"{statistics.mean(seconds):.0f} s each",
            flush=True,
        )


if __name__ == "__main__":
    main()
