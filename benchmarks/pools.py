"""The pools that benchmarks/results.py trains on; those that need it are made from others."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

STRANGERS = "cifar"
IMBALANCED = "sign-digits-10:1"
_MAKING = Lock()  # two cells may want one pool


@dataclass(frozen=True)
class Sources:
    """Where the images lie that do not come with scikit-learn."""

    signs: Path | None  # sign-digits-<labels>-s<draw>.csv
    cifar: Path | None  # a Parquet file with images in the Hugging Face layout


def find(pool: str, seed: int, home: Path, sources: Sources) -> tuple[str, list[str]]:
    """DATA and further arguments of `fewlabels train` for a pool's draw number `seed`."""
    with _MAKING:
        return _find(pool, seed, home, sources)


def lacking(pool: str, sources: Sources) -> str:
    """What must be named for that pool, if it is not; else nothing."""
    cifar = "+" in pool or pool.startswith("cifar10-")
    if not pool.startswith(("digits-", "cifar10-")) and sources.signs is None:
        return "--signs, the folder of sign-digits-<labels>-s<draw>.csv"
    if cifar and sources.cifar is None:
        return "--cifar, CIFAR-10's train.parquet"
    return ""


def _find(pool: str, seed: int, home: Path, sources: Sources) -> tuple[str, list[str]]:
    if missing := lacking(pool, sources):
        raise SystemExit(f"{pool}: name {missing}")
    if pool == "digits-20":
        return "digits", ["--labels-per-class", "2"]
    if pool.startswith("cifar10-"):
        assert sources.cifar is not None
        return str(sources.cifar.parent), ["--labels-per-class", pool.partition("-")[2]]
    name, _, strangers = pool.partition("+")
    assert sources.signs is not None
    if name == IMBALANCED:
        table = sources.signs / f"sign-digits-50-s{seed}.csv"
        return str(_imbalanced(home / f"imbalanced-{seed}", table, seed)), []
    table = sources.signs / f"{name}-s{seed}.csv"
    if not strangers:
        return str(table), []
    assert sources.cifar is not None
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


def _imbalanced(home: Path, table: Path, seed: int) -> Path:
    """The hand signs of `table`, of whose ten classes the training part has 1 to 1/10 of the images
    and 20 to 2 labels, in equal steps of the logarithm; which class is rare is drawn."""
    made = home / "pool.csv"
    if made.exists():
        return made
    home.mkdir(parents=True, exist_ok=True)
    with table.open(newline="") as file:
        lines = [{**row, "image": _at(table, row)} for row in csv.DictReader(file)]
    rows = [line for line in lines if line["split"] == "test"]
    rng = np.random.default_rng(seed)
    shares = 10.0 ** -(rng.permutation(10) / 9)
    for c in range(10):  # the folder's name is the class
        paths = [
            line["image"]
            for line in lines
            if line["split"] != "test" and Path(line["image"]).parent.name == str(c)
        ]
        kept = [paths[i] for i in rng.permutation(len(paths))[: round(len(paths) * shares[c])]]
        for number, path in enumerate(kept):
            label = str(c) if number < round(20 * shares[c]) else ""
            rows.append({"image": path, "label": label, "split": "train"})
    return _write(made, rows)


def _at(table: Path, row: dict[str, str]) -> str:
    return str((table.parent / row["image"]).resolve())


def _write(path: Path, rows: list[dict[str, str]]) -> Path:
    fresh = path.with_suffix(".part")
    with fresh.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["image", "label", "split"])
        writer.writeheader()
        writer.writerows(rows)
    return fresh.rename(path)
