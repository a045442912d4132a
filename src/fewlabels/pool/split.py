"""Who trains, who validates, who tests: stratified, seeded, and never a copy on two sides."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fewlabels.errors import UserError
from fewlabels.pool.pool import Pool

TEST_FRACTION = 0.2
TEST_NEEDS = 10  # labelled images in every class; with fewer, labels are worth more in training

# Each draw has a generator of its own, so that one of them never shifts another.
_TEST, _HOLDOUT, _LABELS = 1, 2, 3


def tied(pool: Pool, digests: Sequence[str] | None = None) -> NDArray[np.int64]:
    """A number a row [N], the same for rows that must stay on one side of every split.

    Those are the rows of one group and, with `digests` [N] ("" = unknown), the exact copies; and
    what hangs together through both.
    """
    if digests is not None and len(digests) != len(pool):
        raise ValueError(f"{len(digests)} digests for {len(pool)} images")
    parent = list(range(len(pool)))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    first: dict[object, int] = {}
    for row in range(len(pool)):
        if pool.group is not None:
            parent[root(row)] = root(first.setdefault(int(pool.group[row]), row))
        if digests is not None and digests[row]:
            parent[root(row)] = root(first.setdefault(digests[row], row))
    return np.array([root(row) for row in range(len(pool))], dtype=np.int64)


def assign(pool: Pool, seed: int, digests: Sequence[str] | None = None) -> Pool:
    """The pool with every split "" filled in as "train" or "test".

    A fifth of each class goes to test, if every class has at least TEST_NEEDS undecided labels and
    the pool has no test images yet; everything else trains. What is tied (see `tied`) to an image
    whose side is given follows it, into val or test too, so that no copy stands on both sides; if
    its ties already do, it trains where one of them trains. A class of few large groups may get
    more or less than a fifth. The same seed gives the same split.
    """
    undecided = pool.split == ""
    if not undecided.any():
        return pool
    split = pool.split.copy()
    keys = tied(pool, digests)
    given: dict[int, set[str]] = {}
    for key, side in zip(keys[~undecided].tolist(), split[~undecided].tolist(), strict=True):
        given.setdefault(key, set()).add(side)
    for row in np.flatnonzero(undecided).tolist():
        sides = given.get(int(keys[row]), {"train"})
        split[row] = "train" if "train" in sides or pool.label[row] < 0 else min(sides)
    if not (pool.split == "test").any():
        labelled = undecided & (pool.label >= 0)
        counts = np.bincount(pool.label[labelled], minlength=len(pool.classes))
        if counts.min() >= TEST_NEEDS:
            free = np.array([int(key) not in given for key in keys], dtype=np.bool_)
            quota = np.rint(TEST_FRACTION * counts).astype(np.int64)
            rng = np.random.default_rng([_TEST, seed])
            split[_draw(pool.label, labelled & free, keys, quota, rng)] = "test"
    return replace(pool, split=split)


def holdout(
    label: NDArray[np.int64],
    split: NDArray[np.str_],
    seed: int,
    group_keys: NDArray[np.int64] | None = None,
    fraction: float = 0.2,
    most: int = 1000,
) -> NDArray[np.bool_]:
    """Which labelled train rows are held out for validation, as a mask [N].

    Of a class with n labels round(fraction * n), but at least 1 where n >= 2 and none where n = 1;
    scaled down where that makes more than `most` in all. Rows of equal `group_keys` [N] (from
    `tied`) stay together, and for their sake the numbers may be missed; no class loses its last
    training label. Unlabelled rows with the key of a held-out row are not in the mask: whoever
    trains on unlabelled images leaves them out.
    """
    labelled = (split == "train") & (label >= 0)
    keys = np.arange(len(label)) if group_keys is None else group_keys
    if not labelled.any():
        return np.zeros(len(label), dtype=np.bool_)
    counts = np.bincount(label[labelled])
    quota = np.where(counts >= 2, np.maximum(1, np.rint(fraction * counts)), 0).astype(np.int64)
    quota = np.minimum(quota, np.maximum(counts - 1, 0))
    return _draw(
        label, labelled, keys, _at_most(quota, most), np.random.default_rng([_HOLDOUT, seed])
    )


def keep_labels(pool: Pool, per_class: int, seed: int) -> Pool:
    """The pool with `per_class` labels a class among its train rows; the others become -1.

    The draws of one seed are nested: the labels kept for 2 are among those kept for 5. Raises
    UserError if a class has fewer. Splits must have been assigned.
    """
    if (pool.split == "").any():
        raise ValueError("assign the splits before keeping labels")
    if per_class < 1:
        raise UserError(f"labels per class: {per_class}; keep at least 1")
    label = pool.label.copy()
    for number, name in enumerate(pool.classes):
        rows = np.flatnonzero((pool.split == "train") & (pool.label == number))
        if len(rows) < per_class:
            raise UserError(
                f"{pool.origin}: class {name!r} has {len(rows)} training labels, not {per_class}; "
                "ask for fewer labels per class"
            )
        rng = np.random.default_rng([_LABELS, seed, number])
        label[rng.permutation(rows)[per_class:]] = -1
    return replace(pool, label=label)


def _at_most(quota: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """The quotas [K] scaled to `most` in all; what rounding leaves goes to empty classes first."""
    if quota.sum() <= most:
        return quota
    exact = quota * (most / quota.sum())
    scaled: NDArray[np.int64] = np.floor(exact).astype(np.int64)
    rest = exact - scaled
    order = np.lexsort((-rest, scaled > 0, quota == 0))
    scaled[order[: most - int(scaled.sum())]] += 1
    return scaled


def _draw(
    label: NDArray[np.int64],
    allowed: NDArray[np.bool_],
    keys: NDArray[np.int64],
    quota: NDArray[np.int64],
    rng: np.random.Generator,
) -> NDArray[np.bool_]:
    """A mask [N] of allowed rows, whole units of equal key, near quota[c] of each class c.

    Units come in random order and are taken while that brings the counts nearer to the quotas. A
    class that got none although it should takes its smallest unit. Every class keeps a row.
    """
    units: dict[int, list[int]] = {}
    for row in np.flatnonzero(allowed).tolist():
        units.setdefault(int(keys[row]), []).append(row)
    sizes = [Counter(label[rows].tolist()) for rows in units.values()]
    members = list(units.values())
    missing = Counter(dict(enumerate(quota.tolist())))  # how many each class still wants
    left = Counter(label[allowed].tolist())  # how many each class still has
    taken = np.zeros(len(label), dtype=np.bool_)

    def may_go(size: Counter[int]) -> bool:
        return all(left[c] > n for c, n in size.items())

    def take(unit: int) -> None:
        taken[members[unit]] = True
        missing.subtract(sizes[unit])
        left.subtract(sizes[unit])

    order = rng.permutation(len(members)).tolist()
    for unit in order:
        size = sizes[unit]
        nearer = sum(abs(missing[c] - n) - abs(missing[c]) for c, n in size.items()) < 0
        if nearer and may_go(size):
            take(unit)
    for c, wanted in enumerate(quota.tolist()):
        if wanted and missing[c] == wanted:
            fitting = [u for u in order if sizes[u][c] and may_go(sizes[u])]
            if fitting:
                take(min(fitting, key=lambda u: len(members[u])))
    return taken
