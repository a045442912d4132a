"""Is self-training with noise more robust? A Noisy Student, its teacher, and labels only.

    python benchmarks/robustness.py --signs …/splits [--out runs/results] [--images 356]

The runs are those of `benchmarks/results.py --table noise`, which are trained where they are not
there: hand signs, 50 labels, three draws, four minutes on one core, students as large as their
teachers. Each model is asked about the same test images: as they are, under 15 corruptions, along
the 10 perturbation sequences, and under attack. A model's line goes to docs/robustness.csv at once;
those that are there are not asked again. The table of docs/robustness.md is printed from all lines.
"""

import argparse
import csv
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import pools
import results

from fewlabels.deploy import artefact, judges
from fewlabels.deploy.classifier import Classifier
from fewlabels.deploy.evaluate import Asked, evaluated
from fewlabels.models.built import restore
from fewlabels.training import checkpoint

ROWS = Path(__file__).parents[1] / "docs" / "robustness.csv"
POOL, METHOD, LIMIT = "sign-digits-50", "noisy_student", "4m"
SEEDS = range(3)
EPSILONS = (1.0, 2.0)  # levels of 255


@dataclass(frozen=True)
class Row:
    """What came of one model; all in percent."""

    model: str
    seed: int
    n: int
    accuracy: float
    c_like_error: float
    flip_rate: float
    fgsm_1: float
    fgsm_2: float
    pgd_1: float
    ece: float


def student(noise: str, last: str) -> Callable[[int, Path, pools.Sources], Classifier]:
    """The model of a round, in a run with this kind of noise."""

    def load(seed: int, out: Path, sources: pools.Sources) -> Classifier:
        return artefact.load(trained(noise, seed, out, sources) / "rounds" / last)

    return load


def labels_only(seed: int, out: Path, sources: pools.Sources) -> Classifier:
    """The first teacher."""
    run = trained("all", seed, out, sources)
    saved = artefact.read(run)
    done = checkpoint.load(run / "stages" / "labels-only")
    assert done is not None
    restore(saved.built.model, done["weights"])
    return Classifier(saved.built.model, saved.classes, saved.preprocess, "cpu")


MODELS = {
    "labels only, the first teacher": labels_only,
    "Noisy Student, round 2: the teacher": student("all", "2"),
    "Noisy Student, round 3": student("all", "3"),
    "round 3, noise in the views only": student("views", "3"),
    "round 3 without noise": student("none", "3"),
}


def trained(noise: str, seed: int, out: Path, sources: pools.Sources) -> Path:
    """The run folder; it is trained where it is not there."""
    cell = results.Cell("noise", POOL, METHOD, results.NOISE[noise], seed, LIMIT)
    results.run(cell, out, sources)
    return results.home(cell, out)


def asked(name: str, seed: int, net: Classifier, data: str, images: int) -> Row:
    size = net.preprocess.size
    mine = judges.find(Path("none"), net.classes, size, data, lambda *_: None)
    what = Asked(corruptions=True, perturbations=True, adversarial=True, images=images)
    found = evaluated(net, mine, what, lambda *_: None)
    under = {
        (attack, cell["epsilon"]): cell["accuracy"]
        for attack, row in found["adversarial"].items()
        for cell in row
    }
    shares = (
        found["accuracy"]["accuracy"],
        found["corruptions"]["c_like_error"],
        found["perturbations"]["mean_flip_rate"],
        under["fgsm", 1.0],
        under["fgsm", 2.0],
        under["pgd", 1.0],
        found["calibration"]["ece"]["ece"],
    )
    return Row(name, seed, found["corruptions"]["n"], *(round(100 * x, 2) for x in shares))


def read() -> list[Row]:
    if not ROWS.exists():
        return []
    with ROWS.open(newline="") as file:
        kinds = {field.name: field.type for field in fields(Row)}
        return [
            Row(**{name: kinds[name](value) for name, value in row.items()})  # type: ignore[operator]
            for row in csv.DictReader(file)
        ]


def write(rows: list[Row]) -> None:
    with ROWS.open("w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)


def table(rows: list[Row]) -> str:
    """Means over the draws with their spread, as Markdown."""
    names = {
        "accuracy": "accuracy",
        "c_like_error": "C-like error",
        "flip_rate": "mean flip rate",
        "fgsm_1": "FGSM, ε 1",
        "fgsm_2": "FGSM, ε 2",
        "pgd_1": "PGD, ε 1",
        "ece": "ECE",
    }
    lines = ["| model | " + " | ".join(names.values()) + " |", "|---" * (len(names) + 1) + "|"]
    for model in MODELS:
        mine = [row for row in rows if row.model == model]
        if mine:
            columns = [[getattr(row, name) for row in mine] for name in names]
            cells = [
                f"{np.mean(c):.1f} ± {statistics.stdev(c) if c[1:] else 0:.1f}" for c in columns
            ]
            lines.append(f"| {model} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--signs", type=Path, required=True, help="folder of the draws' tables")
    parser.add_argument("--out", type=Path, default=Path("runs/results"), help="the run folders")
    parser.add_argument("--images", type=int, default=356, help="test images that are asked about")
    given = parser.parse_args()
    sources = pools.Sources(signs=given.signs, cifar=None)
    rows = read()
    for seed in SEEDS:
        data, _ = pools.find(POOL, seed, given.out / "pools", sources)
        for name, load in MODELS.items():
            if not any((row.model, row.seed) == (name, seed) for row in rows):
                net = load(seed, given.out, sources)
                rows.append(asked(name, seed, net, data, given.images))
                write(rows)
                print(rows[-1], flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
