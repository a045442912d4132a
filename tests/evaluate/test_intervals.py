import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from scipy.stats import binomtest

from fewlabels.errors import UserError
from fewlabels.evaluate.intervals import (
    Estimate,
    Values,
    accuracy,
    bootstrap,
    bounded,
    effective_n,
    gain,
    mean,
    paired_difference,
    proportion,
    resampled,
    share,
    wilson,
)

Right = NDArray[np.bool_]
Groups = NDArray[np.int64]


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


def test_an_estimate_in_json_keeps_the_digits_of_small_numbers() -> None:
    found = Estimate(0.96123456, 0.9, 1.0, 7).to_json("accuracy")
    assert found == {"accuracy": 0.9612, "interval": [0.9, 1.0], "n": 7}
    assert Estimate(1.23456e-6, 0.0, 2e-6, 7).to_json("mae")["mae"] == 1.235e-6
    assert Estimate(1.0, -math.inf, math.inf, 1).to_json("mae")["interval"] == [None, None]


def test_wilsons_coverage_is_exactly_near_95_percent() -> None:
    for n, p in ((20, 0.7), (50, 0.9), (356, 0.965)):
        inside = [low <= p <= high for low, high in (wilson(c, n) for c in range(n + 1))]
        chance = stats.binom.pmf(np.arange(n + 1), n, p)
        assert 0.92 < float(chance[inside].sum()) < 0.98


def alike(groups: int, size: int, p: float, rho: float, seed: int) -> tuple[Right, Groups]:
    """Images of which the share p is right, by groups whose images are correlated by rho."""
    rng = np.random.default_rng(seed)
    of_group = rng.beta(p * (1 / rho - 1), (1 - p) * (1 / rho - 1), groups)
    number = np.repeat(np.arange(groups), size)
    return rng.random(len(number)) < of_group[number], number


def test_effective_n_by_hand() -> None:
    right = np.array([1, 1, 1, 1, 0, 0, 1, 0], bool)
    groups = np.array([0, 0, 0, 0, 1, 1, 1, 1])  # 4 and 1 of 4: residuals 1.5 and -1.5
    v = 0.6 * 0.4
    assert effective_n(right - 5 / 8, np.ones(8), v, groups) == pytest.approx(
        v * 64 / ((2 * 1.5**2 + v * 32 / 2) * 2 / 2)
    )
    assert effective_n(right - 5 / 8, np.ones(8), v, groups, 0.25) == pytest.approx(
        v * 64 / ((2 * 1.5**2 + 0.25 * v * 32 / 2) * 2 / 1.25)
    )
    low, high = wilson(5 / 8 * 64 / 34.75, 64 / 34.75)  # (2 · 2.25 + 0.24 · 16)/0.24 = 34.75
    found = share(right, groups)
    assert (found.value, found.low, found.high, found.n) == pytest.approx((5 / 8, low, high, 8))


def test_groups_of_one_image_are_no_groups_and_one_group_is_one_image() -> None:
    right, _ = alike(40, 1, 0.8, 0.2, 0)
    assert share(right, np.arange(40)[::-1]) == share(right)
    assert gain(right, ~right, np.arange(40)) == gain(right, ~right)
    one = np.zeros(40, np.int64)
    assert effective_n(right - right.mean(), np.ones(40), 0.2, one) == pytest.approx(1)
    assert share(right, one).low == pytest.approx(wilson(right.mean(), 1)[0])


def test_copies_of_an_image_add_nothing() -> None:
    right, _ = alike(50, 1, 0.8, 0.2, 1)
    copies = share(np.repeat(right, 20), np.repeat(np.arange(50), 20))
    alone = share(right)
    assert copies.value == alone.value
    assert 1 <= (copies.high - copies.low) / (alone.high - alone.low) < 1.05


def test_neither_order_nor_names_of_groups_matter() -> None:
    right, groups = alike(12, 9, 0.85, 0.3, 2)
    other = np.roll(right, 1)
    order = np.random.default_rng(3).permutation(len(right))
    renamed = (7 * groups + 3)[order]
    assert share(right[order], renamed) == share(right, groups)
    assert gain(right[order], other[order], renamed) == gain(right, other, groups)


def test_images_that_are_alike_make_intervals_wider_and_leave_values() -> None:
    right, groups = alike(10, 30, 0.8, 0.3, 4)
    plain, grouped = accuracy(right), accuracy(right, groups)
    assert grouped["accuracy"] == plain["accuracy"]
    assert grouped["n"] == plain["n"]
    assert grouped["interval"][0] < plain["interval"][0] - 0.03
    assert grouped["interval"][1] > plain["interval"][1] + 0.03
    other = np.arange(300) % 7 > 0
    plain, grouped = gain(right, other), gain(right, other, groups)
    assert grouped["difference"] == plain["difference"]
    assert grouped["interval"][0] < plain["interval"][0] < plain["interval"][1]
    assert plain["interval"][1] < grouped["interval"][1]


def test_a_precision_of_nothing_is_none_and_a_share_of_nothing_an_error() -> None:
    assert proportion(np.zeros(3), np.zeros(3)) is None
    with pytest.raises(UserError, match="no images"):
        share(np.zeros(0, bool))


def coverage(groups: int, size: int, p: float, rho: float, times: int, method: str) -> float:
    """How often an interval for the accuracy holds p."""
    held = 0
    for seed in range(times):
        right, number = alike(groups, size, p, rho, seed)
        if method == "cluster bootstrap":
            means = right.reshape(groups, size).mean(1)
            drawn = np.random.default_rng(seed).choice(means, (400, groups)).mean(1)
            low, high = np.quantile(drawn, [0.025, 0.975])
        else:
            found = share(right, number if method == "effective n" else None)
            low, high = found.low, found.high
        held += low <= p <= high
    return held / times


def test_the_interval_by_group_covers_and_the_one_by_image_does_not() -> None:
    assert coverage(10, 20, 0.9, 0.2, 300, "effective n") > 0.93
    assert coverage(10, 20, 0.9, 0.2, 300, "images") < 0.75


@pytest.mark.slow
@pytest.mark.parametrize("groups", [3, 5, 10, 30, 100])
@pytest.mark.parametrize(("p", "rho"), [(0.8, 0.1), (0.8, 0.3), (0.95, 0.1), (0.95, 0.3)])
def test_the_effective_n_covers_where_the_cluster_bootstrap_does_not(
    groups: int, p: float, rho: float
) -> None:
    ours = coverage(groups, 20, p, rho, 1000, "effective n")
    theirs = coverage(groups, 20, p, rho, 1000, "cluster bootstrap")
    assert ours > 0.88
    assert ours > theirs or theirs > 0.93
    if groups <= 10:
        assert theirs < 0.9


def paired_coverage(groups: int, size: int, times: int, by_group: bool) -> float:
    """As `coverage`, of the difference between models that err in the same groups."""
    held = 0
    for seed in range(times):
        rng = np.random.default_rng(seed)
        hard = rng.normal(size=groups)
        number = np.repeat(np.arange(groups), size)
        image = rng.normal(size=len(number))
        a, b = (
            stats.norm.ppf(p) * math.sqrt(3)
            + hard[number]
            + image
            + rng.normal(size=groups)[number] * 0.7
            + rng.normal(size=len(number)) * math.sqrt(0.51)
            > 0
            for p in (0.9, 0.8)
        )
        _, low, high = paired_difference(a, b, groups=number if by_group else None)
        held += low <= 0.1 <= high
    return held / times


def test_the_paired_interval_by_group_covers() -> None:
    assert paired_coverage(10, 20, 300, by_group=True) > 0.93
    assert paired_coverage(10, 20, 300, by_group=False) < 0.87


@pytest.mark.slow
@pytest.mark.parametrize("groups", [3, 5, 30, 100])
def test_the_paired_interval_covers_for_few_groups_and_for_many(groups: int) -> None:
    assert paired_coverage(groups, 20, 1000, by_group=True) > 0.93


def mean_of(x: NDArray[np.float64]) -> Values:
    def statistic(counts: Values) -> Values:
        return ((counts @ x) / counts.sum(1))[:, None]

    return statistic  # type: ignore[return-value]


def test_bootstrap_agrees_with_scipys_and_with_students_t() -> None:
    x = np.random.default_rng(0).exponential(size=60)
    (ours,) = bootstrap(mean_of(x), 60, draws=20_000)
    wider = 2 * stats.norm.cdf(math.sqrt(60 / 59) * stats.t.ppf(0.975, 59)) - 1
    theirs = stats.bootstrap(
        (x,), np.mean, n_resamples=20_000, confidence_level=wider, method="BCa", rng=1
    ).confidence_interval
    assert (ours.value, ours.n) == (pytest.approx(x.mean()), 60)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.012)
    y = stats.norm.ppf((np.arange(25) + 0.5) / 25)  # not skewed
    (small,) = bootstrap(mean_of(y), 25, draws=8000)
    half = stats.t.ppf(0.975, 24) * y.std(ddof=1) / 5
    assert (small.low, small.high) == pytest.approx((y.mean() - half, y.mean() + half), abs=0.06)


def test_of_a_few_groups_the_interval_holds_that_of_students_t() -> None:
    x, groups = np.array([1.0, 1, 2, 2, 5, 5]), np.array([0, 0, 1, 1, 2, 2])
    (found,) = bootstrap(mean_of(x), 6, groups)
    half = stats.t.ppf(0.975, 2) * np.std([1, 2, 5], ddof=1) / math.sqrt(3)
    assert found.low == pytest.approx(8 / 3 - half)
    assert found.high == pytest.approx(8 / 3 + half)


def test_bootstrap_repeats_by_seed_and_hardly_depends_on_order() -> None:
    x = np.random.default_rng(2).normal(size=120)
    assert bootstrap(mean_of(x), 120) == bootstrap(mean_of(x), 120)
    assert bootstrap(mean_of(x), 120) != bootstrap(mean_of(x), 120, seed=1)
    (a,), (b,) = bootstrap(mean_of(x), 120), bootstrap(mean_of(x[::-1]), 120)
    assert (a.low, a.high) == pytest.approx((b.low, b.high), abs=0.03)


def test_whole_groups_are_drawn_and_every_image_counts() -> None:
    groups = np.array([5, 5, 5, 2, 2, 9])
    seen: list[Values] = []

    def statistic(counts: Values) -> Values:
        seen.append(counts)
        return counts.sum(1, keepdims=True)

    resampled(statistic, 6, groups, draws=50)
    counts = np.concatenate(seen)
    assert np.array_equal(counts[:, 0], counts[:, 2])
    assert np.array_equal(counts[:, 3], counts[:, 4])
    assert (counts[:, [0, 3, 5]].sum(1) == 3).all()
    seen.clear()
    resampled(statistic, 6, draws=2000)
    counts = np.concatenate(seen)
    assert (counts.sum(1) == 6).all()
    assert counts.mean(0) == pytest.approx(1, abs=0.1)
    assert counts.var(0) == pytest.approx(5 / 6, abs=0.12)


def test_drawing_groups_of_copies_is_drawing_images() -> None:
    x = np.random.default_rng(3).normal(size=60)
    (alone,) = bootstrap(mean_of(x), 60)
    (copies,) = bootstrap(mean_of(np.repeat(x, 7)), 420, groups=np.repeat(np.arange(60), 7))
    assert (copies.low, copies.high) == pytest.approx((alone.low, alone.high))


def test_one_image_bounds_nothing_and_a_share_is_never_certain() -> None:
    (one,) = bootstrap(mean_of(np.ones(4)), 4, groups=np.zeros(4, np.int64))
    assert (one.value, one.low, one.high) == (1, -math.inf, math.inf)
    (found,) = bounded(mean_of(np.ones(30)), np.array([30]), 30)
    assert (found.low, found.high) == wilson(30, 30)
    (found,) = bounded(mean_of(np.ones(30)), np.array([30]), 30, groups=np.zeros(30, np.int64))
    assert (found.low, found.high) == wilson(1, 1)


def test_draws_without_a_value_are_left_out() -> None:
    x = np.random.default_rng(4).normal(size=40)

    def statistic(counts: Values) -> Values:
        found = mean_of(x)(counts)
        return np.where(counts[:, :1] > 0, found, np.nan)

    (found,) = bootstrap(statistic, 40)
    assert found.low < x.mean() < found.high


def bootstrap_coverage(n: int, times: int, groups: int = 0) -> float:
    """Of the mean of exponential numbers, whole groups of which may share a factor."""
    held = 0
    for seed in range(times):
        rng = np.random.default_rng(seed)
        number = rng.permutation(n) % groups if groups else None
        x = rng.exponential(size=n)
        if number is not None:
            x = x + rng.exponential(size=groups)[number] - 1
        (found,) = bootstrap(mean_of(x), n, number, seed, draws=300)
        held += found.low <= 1 <= found.high
    return held / times


def test_the_bootstrap_covers() -> None:
    assert bootstrap_coverage(40, 300) > 0.9
    assert bootstrap_coverage(100, 300, groups=5) > 0.85


@pytest.mark.slow
@pytest.mark.parametrize(("n", "groups"), [(12, 0), (40, 0), (400, 0), (200, 10), (300, 40)])
def test_the_bootstrap_covers_for_few_images_and_for_many(n: int, groups: int) -> None:
    assert bootstrap_coverage(n, 2000, groups) > (0.88 if groups == 10 or n < 20 else 0.91)


def test_the_mean_of_shares_has_a_bootstrap_interval() -> None:
    values = np.random.default_rng(0).beta(2, 6, 400)
    found = mean(values)
    assert found.value == pytest.approx(values.mean())
    half = 1.96 * values.std() / 20
    assert found.high - found.value == pytest.approx(half, rel=0.15)
    assert found.value - found.low == pytest.approx(half, rel=0.15)
    assert mean(np.repeat(values[:50], 8), np.repeat(np.arange(50), 8)).n == 400
    grouped = mean(np.repeat(values[:50], 8), np.repeat(np.arange(50), 8))
    assert grouped.high - grouped.low == pytest.approx(
        mean(values[:50]).high - mean(values[:50]).low, rel=0.15
    )
    certain = mean(np.zeros(30))
    assert (certain.value, certain.low) == (0.0, 0.0)
    assert certain.high == pytest.approx(wilson(0, 30)[1])
