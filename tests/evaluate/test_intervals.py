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
    assert (low, high) == pytest.approx(tuple(np.quantile(direct, [0.025, 0.975])), abs=0.012)


@pytest.mark.parametrize(("won", "lost", "n"), [(4, 0, 360), (5, 0, 360), (7, 1, 360), (4, 0, 10)])
def test_few_images_that_differ_are_no_evidence(won: int, lost: int, n: int) -> None:
    """McNemar's exact test leaves p > 0.05 for all of these; the bootstrap was sure of them."""
    assert binomtest(won, won + lost).pvalue > 0.05
    a = np.arange(n) < won
    b = (np.arange(n) >= won) & (np.arange(n) < won + lost)
    _, low, high = paired_difference(a, b)
    assert low < 0 < high


def test_no_difference_on_few_images_is_no_certainty() -> None:
    gain, low, high = paired_difference(np.ones(9, bool), np.ones(9, bool))
    assert gain == 0
    assert low == pytest.approx(-high)
    assert high > 0.2


def test_many_images_that_differ_are_evidence() -> None:
    a, b = np.arange(360) < 330, (np.arange(360) >= 20) & (np.arange(360) < 320)
    assert paired_difference(a, b)[1] > 0


def test_paired_difference_by_hand() -> None:
    a, b = np.array([1, 1, 1, 1, 0, 1], bool), np.array([1, 1, 0, 0, 1, 1], bool)
    p, q = 3 / 8, 2 / 8
    half = 1.959964 * np.sqrt((p + q - (p - q) ** 2) / 8)
    assert paired_difference(a, b) == pytest.approx((1 / 6, p - q - half, p - q + half), abs=1e-6)


def test_paired_difference_is_antisymmetric_and_repeatable() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.random(100) < 0.9, rng.random(100) < 0.7
    gain, low, high = paired_difference(a, b)
    assert paired_difference(a, b) == (gain, low, high)
    back, under, over = paired_difference(b, a)
    assert back == -gain
    assert (under, over) == pytest.approx((-high, -low))


def test_accuracy_has_the_form_of_result_json() -> None:
    score = accuracy(np.array([True] * 9 + [False]))
    assert score["accuracy"] == 0.9
    assert score["n"] == 10
    assert score["interval"] == pytest.approx([0.5958, 0.9821], abs=1e-4)
