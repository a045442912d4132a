import numpy as np
import pytest
from scipy.stats import binomtest

from fewlabels.evaluate.intervals import accuracy, paired_difference, wilson


@pytest.mark.parametrize(("correct", "n"), [(0, 10), (1, 10), (7, 10), (344, 356), (356, 356)])
def test_wilson_equals_scipys(correct: int, n: int) -> None:
    theirs = binomtest(correct, n).proportion_ci(method="wilson")
    assert wilson(correct, n) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_wilson_of_nothing_says_nothing() -> None:
    assert wilson(0, 0) == (0.0, 1.0)


def test_paired_difference_equals_resampling_the_images() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.random(200) < 0.9, rng.random(200) < 0.8
    gain, low, high = paired_difference(a, b)
    assert gain == pytest.approx(a.mean() - b.mean())
    draws = rng.integers(0, 200, (10_000, 200))
    direct = (a[draws].mean(1) - b[draws].mean(1)).tolist()
    assert (low, high) == pytest.approx(tuple(np.quantile(direct, [0.025, 0.975])), abs=0.01)


def test_paired_difference_is_antisymmetric_and_repeatable() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.random(100) < 0.9, rng.random(100) < 0.7
    gain, low, high = paired_difference(a, b)
    assert paired_difference(a, b) == (gain, low, high)
    back, under, over = paired_difference(b, a)
    assert back == -gain
    assert (under, over) == pytest.approx((-high, -low), abs=0.02)


def test_accuracy_has_the_form_of_result_json() -> None:
    score = accuracy(np.array([True] * 9 + [False]))
    assert score["accuracy"] == 0.9
    assert score["n"] == 10
    assert score["interval"] == pytest.approx([0.5958, 0.9821], abs=1e-4)
