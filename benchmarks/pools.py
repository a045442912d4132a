"""The pools that benchmarks/results.py trains on; those that need it are made from others."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

STRANGERS = "cifar"


@dataclass(frozen=True)
class Sources:
    """Where the images lie that do not come with scikit-learn."""

    signs: Path | None  # sign-digits-<labels>-s<draw>.csv
    cifar: Path | None  # a Parquet file with images in the Hugging Face layout


def find(pool: str, seed: int, home: Path, sources: Sources) -> tuple[str, list[str]]:
    """DATA and further arguments of `fewlabels train` for a pool's draw number `seed`."""
    if pool == "digits-20":
        return "digits", ["--labels-per-class", "2"]
    if pool == "digits-10:1":
        return str(_imbalanced(home / f"imbalanced-{seed}", seed)), []
    name, _, strangers = pool.partition("+")
    if sources.signs is None:
        raise SystemExit(f"{pool}: name --signs, the folder of {name}-s{seed}.csv")
    table = sources.signs / f"{name}-s{seed}.csv"
    if not strangers:
        return str(table), []
    if sources.cifar is None:
        raise SystemExit(f"{pool}: name --cifar, CIFAR-10's train.parquet")
    return str(_polluted(home / f"{pool}-{seed}", table, sources.cifar, seed)), []


def _polluted(home: Path, table: Path, cifar: Path, seed: int) -> Path:
    """The pool of `table` with as many of CIFAR-10's images among its unlabelled ones."""
    made = home / "pool.csv"
    if made.exists():
        return made
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    folder = home / STRANGERS
    folder.mkdir(parents=True, exist_ok=True)
    unlabelled = sum(not row["label"] for row in rows)
    strangers = pq.read_table(cifar, columns=["image"])["image"]
    for number in np.random.default_rng(seed).permutation(len(strangers))[:unlabelled].tolist():
        image = Image.open(io.BytesIO(strangers[number]["bytes"].as_py()))
        image.save(folder / f"{number}.png")
        path = f"{STRANGERS}/{number}.png"
        rows.append({"image": path, "label": "", "split": "train"})
    lines = [
        {**row, "image": row["image"] if row["image"].startswith(STRANGERS) else _at(table, row)}
        for row in rows
    ]
    return _write(made, lines)


def _imbalanced(home: Path, seed: int) -> Path:
    """scikit-learn's digits, of which the ten classes have 1 to 1/10 of their training images, and
    of these 20 to 2 labelled: halfway between the two in equal steps of the logarithm."""
    from sklearn.datasets import load_digits

    made = home / "pool.csv"
    if made.exists():
        return made
    digits = load_digits()
    rng = np.random.default_rng(seed)
    home.mkdir(parents=True, exist_ok=True)
    rows = []
    shares = 10.0 ** -(rng.permutation(10) / 9)  # which class is rare is drawn
    for c in range(10):
        order = np.random.default_rng(0).permutation(np.flatnonzero(digits.target == c))
        test, train = order[:36], rng.permutation(order[36:])
        train = train[: round(len(train) * shares[c])]
        labels = round(20 * shares[c])
        for number, row in enumerate([*test, *train]):
            image = Image.fromarray((digits.images[row] * 255 / 16).astype(np.uint8))
            image.save(home / f"{row}.png")
            is_test = number < len(test)
            known = is_test or number < len(test) + labels
            rows.append(
                {
                    "image": f"{row}.png",
                    "label": str(c) if known else "",
                    "split": "test" if is_test else "train",
                }
            )
    return _write(made, rows)


def _at(table: Path, row: dict[str, str]) -> str:
    return str((table.parent / row["image"]).resolve())


def _write(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["image", "label", "split"])
        writer.writeheader()
        writer.writerows(rows)
    return path
