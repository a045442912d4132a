"""Scores of several classes an image, and of numbers, against scikit-learn."""

import json
from typing import Any

import numpy as np
import pytest
import sklearn.metrics as sk
from numpy.typing import NDArray

from fewlabels.pool.pool import Pool, assemble
from fewlabels.pool.source import Encoded
from fewlabels.procedures.scores import at_a_glance, by_part, difference, scores

CLASSES = ("a", "b", "c", "never")


def pool_of(labels: list[str], task: str, groups: NDArray[np.int64] | None = None) -> Pool:
    names = tuple(map(str, range(len(labels))))
    source = Encoded(names, (b"",) * len(names))
    return assemble("here", source, labels, ["train"] * len(names), groups, task=task)


def several(n: int, seed: int, groups: NDArray[np.int64] | None = None) -> Pool:
    """n images, then one that has the fourth class, which the others lack."""
    has = np.random.default_rng(seed).random((n, 3)) < (0.5, 0.3, 0.1)
    labels = ["|".join(c for c, there in zip("abc", row, strict=True) if there) for row in has]
    if groups is not None:
        groups = np.append(groups, groups.max() + 1)
    return pool_of([*(label or "|" for label in labels), "never"], "multi", groups)


def numbers(n: int, seed: int) -> Pool:
    drawn = np.random.default_rng(seed).normal(50, 10, n)
    return pool_of([f"{value:.4f}" for value in drawn], "regression")


def near(pool: Pool, rows: NDArray[np.int64], noise: float, seed: int) -> NDArray[np.float64]:
    """What a model may say of them."""
    assert pool.target is not None
    truth = pool.target[rows].astype(np.float64)
    said = truth + noise * np.random.default_rng(seed).normal(size=truth.shape)
    return said if pool.task == "regression" else 1 / (1 + np.exp(1.0 - 2 * said))


def test_several_classes_equal_scikit_learn() -> None:
    pool, rows = several(80, 1), np.arange(80)
    assert pool.classes == CLASSES
    assert pool.target is not None
    said, truth = near(pool, rows, 1.0, 2), pool.target[rows]
    found = scores(pool, rows, said)
    assert found["accuracy"] == round(sk.accuracy_score(truth, said >= 0.5), 4)
    assert found["n"] == 80
    assert found["interval"][0] < found["accuracy"] < found["interval"][1]
    each = [sk.average_precision_score(truth[:, k], said[:, k]) for k in range(3)]
    assert found["mean_average_precision"] == round(np.mean(each), 4)
    low, high = found["mean_average_precision_interval"]
    assert low < found["mean_average_precision"] < high
    parts = by_part(pool, rows, said)
    told = [part["average_precision"]["average_precision"] for part in parts[:3]]
    assert told == pytest.approx(each, abs=1e-4)
    assert [part["n"] for part in parts] == [*truth[:, :3].sum(0), 0]
    assert "average_precision" not in parts[3]
    recall = sk.recall_score(truth, said >= 0.5, average=None, zero_division=0)[:3]
    assert [part["recall"]["recall"] for part in parts[:3]] == pytest.approx(recall, abs=1e-4)
    glance = at_a_glance(pool, rows, said)
    assert glance == {"val_mean_average_precision": pytest.approx(np.mean(each)), "val_n": 80}


def test_a_class_that_all_images_have_is_not_ranked() -> None:
    pool, rows = pool_of(["a|b", "a", "a|b", "a"], "multi"), np.arange(4)
    said = np.array([[0.9, 0.8], [0.1, 0.9], [0.9, 0.7], [0.9, 0.1]])
    b = sk.average_precision_score([1, 0, 1, 0], said[:, 1])
    assert scores(pool, rows, said)["mean_average_precision"] == round(b, 4)
    assert "average_precision" not in by_part(pool, rows, said)[0]
    nobody = pool_of(["a", "a"], "multi")
    found = scores(nobody, np.arange(2), said[:2, :1])
    assert "mean_average_precision" not in found
    assert found["accuracy"] == 0.5
    assert difference(nobody, np.arange(2), said[:2, :1], said[:2, :1]) is None
    assert at_a_glance(nobody, np.arange(2), said[:2, :1]) == {}


def test_numbers_equal_scikit_learn() -> None:
    pool, rows = numbers(60, 3), np.arange(60)
    assert pool.target is not None
    said, truth = near(pool, rows, 4.0, 4), pool.target[rows]
    found = scores(pool, rows, said)
    assert found["mae"] == pytest.approx(sk.mean_absolute_error(truth, said), abs=1e-4)
    assert found["r2"] == pytest.approx(sk.r2_score(truth, said), abs=1e-4)
    assert found["interval"][0] < found["mae"] < found["interval"][1]
    assert found["r2_interval"][0] < found["r2"] < found["r2_interval"][1]
    assert "accuracy" not in found
    assert at_a_glance(pool, rows, said)["val_mae"] == pytest.approx(found["mae"], abs=1e-3)


@pytest.mark.parametrize("make", [several, numbers])
def test_the_difference_is_paired(make: Any) -> None:
    """Two models with the same noise, one a little better everywhere: each by itself is far less
    sure than their difference."""
    pool, rows = make(120, 5), np.arange(120)
    worse = near(pool, rows, 5.0 if make is numbers else 1.0, 6)
    assert pool.target is not None
    truth = pool.target[rows]
    better = 0.9 * worse + 0.1 * truth
    told = difference(pool, rows, better, worse)
    assert told is not None
    name = told["score"]
    one, other = scores(pool, rows, better), scores(pool, rows, worse)
    assert told["difference"] == pytest.approx(one[name] - other[name], abs=2e-3)
    low, high = told["interval"]
    assert low < told["difference"] < high
    assert not low <= 0 <= high
    own = one.get(f"{name}_interval", one["interval"])
    assert high - low < 0.6 * (own[1] - own[0])
    back = difference(pool, rows, worse, better)
    assert back is not None
    assert back["difference"] == pytest.approx(-told["difference"])


def test_what_nothing_bounds_is_null() -> None:
    pool, rows = numbers(40, 7), np.arange(40)
    said = near(pool, rows, 3.0, 8)
    told = difference(pool, rows, said, said)
    assert told == {"score": "mae", "difference": 0.0, "interval": [None, None], "n": 40}
    assert json.loads(json.dumps(scores(pool, rows[:1], said[:1])))["interval"] == [0.0, None]


def test_copies_in_a_group_add_nothing() -> None:
    once = several(30, 9)
    labels = [once.label_text(row) for row in range(30) for _ in range(10)]
    said = np.repeat(near(once, np.arange(30), 1.0, 10)[:, :3], 10, axis=0)
    rows = np.arange(300)

    def width(pool: Pool, score: str) -> float:
        low, high = scores(pool, rows, said)[score]
        return float(high - low)

    alone, together = (
        pool_of(labels, "multi", groups) for groups in (None, np.repeat(np.arange(30), 10))
    )
    for score in ("interval", "mean_average_precision_interval"):
        assert width(together, score) > 2 * width(alone, score)
