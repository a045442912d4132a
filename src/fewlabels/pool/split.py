"""Who trains, who validates, who tests: stratified, seeded, and never a copy on two sides."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.stats import rankdata

from fewlabels.errors import UserError
from fewlabels.pool.pool import MULTI, REGRESSION, Pool
from fewlabels.pool.texts import as_texts, codes, first_of_each, mask, numbered

# Classes of N images, for a draw: the number of each one's class, [N], -1 = none; or which it has,
# [N, K], none in a row without any.
Strata = NDArray[np.int64] | NDArray[np.bool_]

TEST_FRACTION = 0.2
TEST_NEEDS = 10  # labelled images in every class; with fewer, labels are worth more in training

# Each draw has a generator of its own, so that one of them never shifts another.
_TEST, _HOLDOUT, _LABELS = 1, 2, 3

QUANTILES = 10  # strata of labels that are numbers, at most


def strata_of(pool: Pool) -> Strata:
    """What a split keeps in proportion: the classes, or quantiles of the numbers.

    multi: the last column stands for the labelled images of no class. regression: as many quantiles
    as have TEST_NEEDS images, at most QUANTILES; of several numbers, of the mean of their ranks.
    """
    if pool.target is None:
        return pool.label
    labelled = pool.label >= 0
    if pool.task == MULTI:
        target: NDArray[np.bool_] = pool.target.astype(np.bool_)
        return np.column_stack([target, labelled & ~target.any(1)])
    ranks = rankdata(pool.target[labelled], axis=0).mean(1)
    parts = min(QUANTILES, max(1, len(ranks) // TEST_NEEDS))
    result = np.full(len(pool), -1, dtype=np.int64)
    result[labelled] = (rankdata(ranks, method="ordinal") - 1) * parts // max(1, len(ranks))
    return result


def _sizes(strata: Strata, least: int = 0) -> NDArray[np.int64]:
    """How many rows each stratum has, [K]; K is at least `least`."""
    if strata.ndim == 2:
        return np.asarray(strata.sum(0), dtype=np.int64)
    return np.bincount(strata[strata >= 0], minlength=least).astype(np.int64)


def unmeasured(pool: Pool, rows: NDArray[np.int64]) -> tuple[str, ...]:
    """The classes without a labelled image among `rows` [n]: nothing can be said of them there.

    Those are the rare ones: of one label, which trains, and of few large groups.
    """
    if pool.task == REGRESSION:
        return ()
    n = _sizes(strata_of(pool)[rows], len(pool.classes)).tolist()
    return tuple(name for name, count in zip(pool.classes, n, strict=False) if not count)


def tied(
    pool: Pool,
    digests: Sequence[str] | None = None,
    near: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """A number a row [N], the same for rows that must stay on one side of every split.

    Those are the rows of one group, with `digests` [N] ("" = unknown) the exact copies, with the
    same number in `near` [N] the near duplicates; and what hangs together through them.
    """
    if digests is not None and len(digests) != len(pool):
        raise ValueError(f"{len(digests)} digests for {len(pool)} images")
    rows = np.arange(len(pool))
    links = [] if pool.group is None else [first_of_each(pool.group)]
    if digests is not None:
        texts = as_texts(digests)
        known = mask(pc.not_equal(texts, ""))
        links.append(np.where(known, first_of_each(codes(texts)), rows))
    if near is not None:
        links.append(first_of_each(near))
    if not links:
        return rows
    ends = np.concatenate(links)
    graph = coo_array(
        (np.ones(len(ends), dtype=np.bool_), (np.tile(rows, len(links)), ends)),
        shape=(len(pool), len(pool)),
    )
    return first_of_each(connected_components(graph, directed=False)[1])


def assign(pool: Pool, seed: int, keys: NDArray[np.int64] | None = None) -> Pool:
    """The pool with every split "" filled in as "train" or "test".

    A fifth of each class goes to test, if every class has at least TEST_NEEDS undecided labels and
    the pool has no test images yet; everything else trains. What has the same number in `keys` [N]
    (from `tied`) as an image whose side is given follows it, into val or test too, so that no copy
    stands on both sides; if its ties already do, it trains where one of them trains. A class of few
    large groups may get more or less than a fifth. The same seed gives the same split.
    """
    undecided = pool.split == ""
    if not undecided.any():
        return pool
    if pool.drawn_by is not None:
        names = tuple(map(str, range(int(pool.drawn_by.max(initial=-1)) + 1)))
        before = replace(pool, label=pool.drawn_by, classes=names, drawn_by=None)
        return replace(pool, split=assign(before, seed, keys).split)
    split, labelled = pool.split.copy(), undecided & (pool.label >= 0)
    keys = tied(pool) if keys is None else keys
    has = {side: np.zeros(len(pool), dtype=np.bool_) for side in ("train", "val", "test")}
    for side, keyed in has.items():
        keyed[keys[pool.split == side]] = True
    split[undecided] = "train"
    for side in ("val", "test"):
        split[labelled & has[side][keys] & ~has["train"][keys]] = side
    if labelled.any() and not (pool.split == "test").any():
        classes = strata_of(pool.without_labels(~undecided))
        counts = _sizes(classes, len(pool.classes))
        needing = counts[: len(pool.classes)] if pool.classes else counts
        if needing.min(initial=TEST_NEEDS) >= TEST_NEEDS:
            free = ~(has["train"] | has["val"])[keys]
            quota = np.rint(TEST_FRACTION * counts).astype(np.int64)
            rng = np.random.default_rng([_TEST, seed])
            split[_draw(classes, labelled & free, keys, quota, rng)] = "test"
    return replace(pool, split=split)


def holdout(
    strata: Strata,
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
    in_any = np.asarray(strata.any(1) if strata.ndim == 2 else strata >= 0, dtype=np.bool_)
    labelled: NDArray[np.bool_] = in_any & (split == "train")
    keys = np.arange(len(strata)) if group_keys is None else group_keys
    if not labelled.any():
        return labelled
    counts = _sizes(strata[labelled])
    quota = np.where(counts >= 2, np.maximum(1, np.rint(fraction * counts)), 0).astype(np.int64)
    quota = np.minimum(quota, np.maximum(counts - 1, 0))
    rng = np.random.default_rng([_HOLDOUT, seed])
    return _draw(strata, labelled, keys, _at_most(quota, most), rng)


def keep_labels(pool: Pool, per_class: int, seed: int) -> Pool:
    """The pool with `per_class` labels a class among its train rows; the others become unlabelled.

    multi: at least so many, because what is kept for one class may have others, and so many images
    of no class, if there are. The draws of one seed are nested: the labels kept for 2 are among
    those kept for 5. Raises UserError if a class has fewer, or the labels are numbers. Splits must
    have been assigned.
    """
    if (pool.split == "").any():
        raise ValueError("assign the splits before keeping labels")
    if per_class < 1:
        raise UserError(f"labels per class: {per_class}; keep at least 1")
    if pool.task == REGRESSION:
        raise UserError(f"{pool.origin}: the labels are numbers; there are no labels per class")
    labelled = (pool.split == "train") & (pool.label >= 0)
    keep = np.zeros(len(pool), dtype=np.bool_)
    for number, rows in enumerate(_members(strata_of(pool), labelled, len(pool.classes))):
        if number < len(pool.classes) and len(rows) < per_class:
            raise UserError(
                f"{pool.origin}: class {pool.classes[number]!r} has {len(rows)} training labels, "
                f"not {per_class}; ask for fewer labels per class"
            )
        rng = np.random.default_rng([_LABELS, seed, number])
        keep[rng.permutation(rows)[:per_class]] = True
    return pool.without_labels(labelled & ~keep)


def _members(strata: Strata, allowed: NDArray[np.bool_], least: int) -> Iterator[NDArray[np.int64]]:
    """The allowed rows of each stratum, of at least `least` strata, ascending."""
    if strata.ndim == 2:
        for column in strata.T:
            yield np.flatnonzero(column & allowed)
    else:
        rows = np.flatnonzero(allowed)
        rows = rows[np.argsort(strata[rows], kind="stable")]
        yield from np.split(rows, np.cumsum(_sizes(strata[rows], least))[:-1])


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
    strata: Strata,
    allowed: NDArray[np.bool_],
    keys: NDArray[np.int64],
    quota: NDArray[np.int64],
    rng: np.random.Generator,
) -> NDArray[np.bool_]:
    """A mask [N] of allowed rows, whole units of equal key, near quota[k] of each stratum k.

    Units come in random order and are taken while that brings the counts nearer to the quotas. A
    stratum that got none although it should takes its smallest unit. Every stratum keeps a row.
    Where rows are in several strata, units of the rarest come first, because there is least choice
    (after Sechidis et al. 2011, "On the stratification of multi-label data"), and distances are
    parts of the quotas, so that a frequent stratum does not fill up at the cost of a rare one.
    """
    rows = np.flatnonzero(allowed)
    unit = numbered(keys[rows])
    size = np.bincount(unit)
    if strata.ndim == 2:
        row, stratum = np.nonzero(strata[rows])
        owner = unit[row]
    else:
        owner, stratum = unit, strata[rows].astype(np.int64)
    # What each unit holds: n[i] rows of stratum[i] for i in starts[unit] .. starts[unit + 1].
    pair, n = np.unique(owner * len(quota) + stratum, return_counts=True)
    owner, stratum = np.divmod(pair, len(quota))
    starts = np.searchsorted(owner, np.arange(len(size) + 1))
    total = np.bincount(stratum, n, minlength=len(quota)).astype(np.int64)
    order = rng.permutation(len(size))
    weight = np.ones(len(quota))
    if strata.ndim == 2:
        weight = 1 / np.maximum(quota, 1)
        rarest = np.minimum.reduceat(total[stratum], starts[:-1])
        order = order[np.argsort(rarest[order], kind="stable")]

    holds, start = list(zip(stratum.tolist(), n.tolist(), strict=True)), starts.tolist()
    missing, left, weigh = quota.tolist(), total.tolist(), weight.tolist()
    taken = np.zeros(len(size), dtype=np.bool_)

    def may_go(held: list[tuple[int, int]]) -> bool:
        return all(left[k] > n for k, n in held)

    def take(number: int) -> None:
        taken[number] = True
        for k, n in holds[start[number] : start[number + 1]]:
            missing[k] -= n
            left[k] -= n

    for number in order.tolist():
        held = holds[start[number] : start[number + 1]]
        nearer = sum(weigh[k] * (abs(missing[k] - n) - abs(missing[k])) for k, n in held) < 0
        if nearer and may_go(held):
            take(number)
    place = np.argsort(order)
    for k, wanted in enumerate(quota.tolist()):
        if wanted and missing[k] == wanted:
            its = owner[stratum == k].tolist()
            fitting = [u for u in its if may_go(holds[start[u] : start[u + 1]])]
            if fitting:
                take(min(fitting, key=lambda u: (size[u], place[u])))
    result = np.zeros(len(strata), dtype=np.bool_)
    result[rows] = taken[unit]
    return result
