"""How good a run is where its labels are several classes an image, or numbers.

multi: `mean_average_precision`, over the classes that some of the images have and some have not, is
what runs are compared by; `accuracy` is the share of images with every class right. A class is said
from THRESHOLD on: another threshold for each class would have to be chosen on images that few
labels cannot spare. regression: `mae`, the mean absolute error, by which runs are compared, less
being better; `rmse`; `r2`.

`said` are the numbers of a model, [R, K or T], on the images `rows` [R] of a pool.
"""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewlabels.evaluate import metrics
from fewlabels.evaluate.intervals import (
    DRAWS,
    Array,
    Estimate,
    Statistic,
    bootstrap,
    named,
    share,
)
from fewlabels.evaluate.metrics import AP_DRAWS, THRESHOLD
from fewlabels.pool.pool import MULTI, REGRESSION, Pool

Rows = NDArray[np.int64]
Said = NDArray[np.float64]

MAIN = {MULTI: "mean_average_precision", REGRESSION: "mae"}


def scores(pool: Pool, rows: Rows, said: Said) -> dict[str, Any]:
    """Each score with its interval, for `result.json`: the first one's is `interval`."""
    truth, group = _truth(pool, rows), _group(pool, rows)
    if pool.task == MULTI:
        found = {"accuracy": share(((said >= THRESHOLD) == truth).all(1), group)}
        if (both := _both(truth)).any():
            of = metrics.multi(truth[:, both], said[:, both], group)
            found |= {MAIN[MULTI]: of[MAIN[MULTI]]}
    else:
        found = metrics.regression(truth, said, group)
    told = named(found)
    first = next(iter(told))
    rest = {name: its for name, its in told.items() if name != first}
    summary: dict[str, Any] = told[first]
    for name, its in rest.items():
        summary |= {name: its[name], f"{name}_interval": its["interval"]}
    return summary


def difference(pool: Pool, rows: Rows, mine: Said, base: Said) -> dict[str, Any] | None:
    """The main score of `mine` less that of `base` on the same images, with its bootstrap interval:
    {"score", "difference", "interval", "n"}. None where neither can be told.

    An end of the interval is None where nothing bounds it: on one image or group, or where every
    draw of images has the same difference.
    """
    truth, group = _truth(pool, rows), _group(pool, rows)
    if pool.task == MULTI:
        both, draws = _both(truth), AP_DRAWS
        if not both.any():
            return None
        own, other = (
            metrics.over_labels(metrics.average_precisions(truth[:, both], p[:, both]))
            for p in (mine, base)
        )
    else:
        own, other, draws = metrics.errors(truth, mine), metrics.errors(truth, base), DRAWS
    (found, *_) = bootstrap(_less(own, other), len(rows), group, draws=draws)
    if found.low == found.high:
        found = replace(found, low=-np.inf, high=np.inf)
    return {"score": MAIN[pool.task]} | found.to_json("difference")


def at_a_glance(pool: Pool, rows: Rows, said: Said) -> dict[str, float]:
    """The main score for the log, without an interval."""
    truth, name = _truth(pool, rows), MAIN[pool.task]
    every = np.ones((1, len(rows)))
    if pool.task == REGRESSION:
        value = float(metrics.errors(truth, said)(every)[0, 0])
    elif (both := _both(truth)).any():
        precisions = metrics.average_precisions(truth[:, both], said[:, both])
        value = float(precisions(every).mean())
    else:
        return {}
    return {f"val_{name}": value, "val_n": len(rows)}


def by_part(pool: Pool, rows: Rows, said: Said) -> list[dict[str, Any]]:
    """A row each class, with recall, precision and F1 at THRESHOLD and the average precision, as
    far as something can be said; or each number of several."""
    truth, group = _truth(pool, rows), _group(pool, rows)
    if pool.task == REGRESSION:
        columns = range(truth.shape[1]) if truth.shape[1] > 1 else ()
        return [named(metrics.regression(truth[:, t], said[:, t], group)) for t in columns]
    both, found = _both(truth), []
    each = metrics.by_label(truth.astype(np.int64), said, group)
    for name, told_apart, score in zip(pool.classes, both, each, strict=True):
        told: dict[str, Estimate | None] = {
            "average_precision": score.average_precision if told_apart else None,
            "recall": score.recall,
            "precision": score.precision,
            "f1": score.f1,
        }
        there = {key: value for key, value in told.items() if value is not None}
        found.append({"class": name, "n": score.n} | named(there))
    return found


def _truth(pool: Pool, rows: Rows) -> Array:
    assert pool.target is not None
    return pool.target[rows]


def _group(pool: Pool, rows: Rows) -> Array | None:
    return None if pool.group is None else pool.group[rows]


def _both(truth: Array) -> NDArray[np.bool_]:
    """The classes [K] that some of the images have and some have not: others cannot be ranked."""
    return np.asarray(truth.any(0) & ~truth.all(0), dtype=np.bool_)


def _less(one: Statistic, other: Statistic) -> Statistic:
    return lambda counts: one(counts) - other(counts)
