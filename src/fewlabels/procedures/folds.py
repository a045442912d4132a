"""Short trainings on parts of the labels: what a search judges its candidates by."""

import hashlib
from collections import Counter
from dataclasses import dataclass

import numpy as np

from fewlabels.errors import UserError
from fewlabels.procedures.prepare import Data, Rows

_FOLDS = 4  # names the generator of the folds; pool.split has 1 to 3


@dataclass(frozen=True, eq=False)
class Fold:
    """One short training: the rows it learns from and those it is asked about."""

    train: Rows
    judged: Rows


def make_folds(data: Data, count: int, seed: int) -> tuple[Fold, ...]:
    """`count` trainings: each labelled image is held out of one of them, class by class as evenly
    as can be; or, where the pool has validation images, all learn from all labels.

    Copies and groups stay together, and a class keeps a label in every training: what would take
    its last one is never held out. UserError where the labels are too few.
    """
    if len(data.val):
        return (Fold(data.labelled, data.val),) * count
    label, rows = data.pool.label, data.labelled
    keys = data.tied
    rng = np.random.default_rng([_FOLDS, seed])
    units: dict[int, list[int]] = {}  # in random order
    for row in rng.permutation(rows).tolist():
        units.setdefault(int(keys[row]), []).append(row)
    held: list[list[int]] = [[] for _ in range(count)]
    have = [Counter[int]() for _ in range(count)]
    for unit in sorted(units.values(), key=lambda unit: int(label[unit[0]])):  # class by class
        c = int(label[unit[0]])
        least = min(range(count), key=lambda fold: (have[fold][c], len(held[fold])))
        held[least] += unit
        have[least].update(label[unit].tolist())
    every = Counter(label[rows].tolist())
    for fold, its in enumerate(have):
        lost = [c for c, n in its.items() if n == every[c]]
        alone = set(keys[rows[np.isin(label[rows], lost)]].tolist())
        held[fold] = [row for row in held[fold] if keys[row] not in alone]
    if not all(held):
        raise UserError(
            f"{data.pool.origin}: {len(rows)} labelled training images of {len(every)} classes are "
            f"too few for --folds {count}: a class must have two for one to be held out"
        )
    judged = [np.sort(np.array(some, np.int64)) for some in held]
    return tuple(Fold(np.setdiff1d(rows, some), some) for some in judged)


def fingerprint(data: Data, folds: tuple[Fold, ...]) -> str:
    """Of what the folds hold: contents and labels, in order."""
    digest = hashlib.blake2b(digest_size=16)
    for fold in folds:
        for rows in (fold.train, fold.judged):
            digest.update(data.pool.label[rows].tobytes())
            digest.update("\n".join(data.digest[row] for row in rows).encode())
    return digest.hexdigest()
