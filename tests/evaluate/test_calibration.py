"""Calibration by hand, on simulated logits whose truth is known, and under invariances."""

import numpy as np
import pytest
from numpy.typing import NDArray

from fewlabels.errors import UserError
from fewlabels.evaluate.calibration import (
    aurc,
    coverage_curve,
    ece,
    ece_by_chance,
    fit_temperature,
    least_confidence,
    reliability,
)
from fewlabels.evaluate.intervals import share, wilson
from fewlabels.evaluate.predictions import softmax

Right = NDArray[np.bool_]
Numbers = NDArray[np.float64]


def drawn(n: int, sharper: float = 1.0, seed: int = 0) -> tuple[Numbers, NDArray[np.int64]]:
    """Logits [n, 5], and labels drawn from them before they are multiplied by `sharper`."""
    rng = np.random.default_rng(seed)
    logits = 3 * rng.normal(size=(n, 5))
    label = (softmax(logits).cumsum(1) < rng.random((n, 1))).sum(1)  # type: ignore[arg-type]
    return sharper * logits, label


def confident(n: int, sharper: float = 1.0, seed: int = 0) -> tuple[Numbers, Right]:
    logits, label = drawn(n, sharper, seed)
    p = softmax(logits)  # type: ignore[arg-type]
    return p.max(1), p.argmax(1) == label


def test_ece_by_hand() -> None:
    confidence = np.array([0.95, 0.95, 0.99, 0.7, 0.68])
    right = np.array([True, True, False, True, False])
    # (14/15, 1]: mean 0.963, accuracy 2/3; (10/15, 11/15]: 0.69 and 1/2
    expected = 3 / 5 * abs(2.89 / 3 - 2 / 3) + 2 / 5 * abs(0.69 - 0.5)
    assert ece(confidence, right).value == pytest.approx(expected)


def test_a_confidence_on_a_border_belongs_to_the_bin_below() -> None:
    for k in range(1, 16):
        border = np.array([k / 15])
        for confidence, number in (
            (border, k - 1),
            (np.nextafter(border, 0), k - 1),
            (np.nextafter(border, 2), min(k, 14)),
        ):
            counts = [each.count for each in reliability(confidence, np.array([True]))]
            assert counts.index(1) == number, k


def test_saturated_outputs_do_not_fall_out() -> None:
    confidence = np.array([0.0, 1.0, 1.0, 1.0, 1.0 + 1e-9])
    right = np.array([False, True, True, False, True])
    bins = reliability(confidence, right)
    assert [bins[0].count, bins[14].count] == [1, 4]
    assert sum(each.count for each in bins) == 5
    assert ece(confidence, right).value == pytest.approx(1 / 5)
    wrong = ece(np.ones(30), np.zeros(30, bool))
    assert wrong.value == wrong.low == wrong.high == 1


def test_reliability_tells_each_bin() -> None:
    confidence, right = confident(500, 2)
    bins = reliability(confidence, right)
    assert len(bins) == 15
    assert [each.low for each in bins[1:]] == [each.high for each in bins[:-1]]
    assert (bins[0].low, bins[-1].high) == (0, 1)
    for each in bins:
        inside = (confidence > each.low) & (confidence <= each.high)
        assert each.count == inside.sum()
        if each.count:
            assert each.confidence == pytest.approx(confidence[inside].mean())
            assert each.accuracy == share(right[inside])
        else:
            assert each.confidence is each.accuracy is None
    total = sum(
        each.count / 500 * abs(each.confidence - each.accuracy.value)
        for each in bins
        if each.accuracy is not None and each.confidence is not None
    )
    assert total == pytest.approx(ece(confidence, right).value)


def test_ece_and_aurc_do_not_depend_on_order() -> None:
    confidence, right = confident(300, 2)
    confidence = np.round(confidence, 1)
    order = np.random.default_rng(1).permutation(300)
    for of in (ece, aurc):
        one, other = of(confidence, right), of(confidence[order], right[order])
        assert one.value == pytest.approx(other.value)
        assert (one.low, one.high) == pytest.approx((other.low, other.high), abs=0.015)


def test_ece_of_few_images_is_held_against_chance() -> None:
    """A perfectly calibrated model's ECE is above the bound one time in twenty."""
    above = [
        ece(*confident(100, seed=seed)).value
        > ece_by_chance(confident(100, seed=seed)[0], draws=200)
        for seed in range(200)
    ]
    assert 0.01 < np.mean(above) < 0.12
    sharper = confident(400, 3)
    assert ece(*sharper).value > 2 * ece_by_chance(sharper[0])


def ece_coverage(n: int, sharper: float, times: int) -> float:
    truth = sum(
        each.count / 200_000 * abs(each.confidence - each.accuracy.value)
        for each in reliability(*confident(200_000, sharper, 10**6))
        if each.accuracy is not None and each.confidence is not None
    )
    held = 0
    for seed in range(times):
        found = ece(*confident(n, sharper, seed))
        held += found.low <= truth <= found.high
    return held / times


def test_the_interval_of_the_ece_covers() -> None:
    assert ece_coverage(150, 1.3, 60) > 0.9
    assert ece_coverage(150, 2.5, 60) > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("n", [50, 400, 1000])
@pytest.mark.parametrize("sharper", [0.6, 1, 1.3, 2.5])
def test_the_interval_of_the_ece_covers_for_few_images_and_for_many(n: int, sharper: float) -> None:
    assert ece_coverage(n, sharper, 150) > 0.87


@pytest.mark.parametrize("t", [0.4, 1.0, 2.5, 6.0])
def test_a_known_temperature_is_found(t: float) -> None:
    logits, label = drawn(4000, t)
    found = fit_temperature(logits, label)
    assert found.why == ""
    assert found.value == pytest.approx(t, rel=0.08)
    cooled = softmax(logits / found.value)  # type: ignore[arg-type]
    assert np.array_equal(cooled.argmax(1), logits.argmax(1))
    confidence = cooled.max(1)
    assert ece(confidence, cooled.argmax(1) == label).value < 0.03


def test_the_temperature_is_the_best_of_a_grid() -> None:
    logits, label = drawn(200, 1.7)

    def loss(t: float) -> float:
        return -float(np.log(softmax(logits / t)[np.arange(200), label]).mean())  # type: ignore[arg-type]

    found = fit_temperature(logits, label)
    assert loss(found.value) <= min(loss(t) for t in np.geomspace(0.05, 20, 400)) + 1e-9


def test_the_temperature_of_log_probabilities_is_that_of_logits() -> None:
    logits, label = drawn(200, 1.7)
    found = fit_temperature(logits, label).value
    log_p = np.log(softmax(logits))  # type: ignore[arg-type]
    assert fit_temperature(log_p, label).value == pytest.approx(found, rel=1e-4)
    assert fit_temperature(3 * logits, label).value == pytest.approx(3 * found, rel=1e-4)


def test_a_temperature_is_refused_on_what_cannot_tell() -> None:
    logits, label = drawn(200)
    few = fit_temperature(logits[:29], label[:29])
    assert (few.value, few.n) == (1, 29)
    assert "too few" in few.why
    perfect = fit_temperature(logits, logits.argmax(1))
    assert perfect.value == 1
    assert perfect.why == "0 of 200 validation images were wrong; it takes 2 to fit"
    assert fit_temperature(np.zeros((0, 5)), np.zeros(0, np.int64)).value == 1
    with pytest.raises(UserError, match="shape"):
        fit_temperature(logits, label[:5])


def test_a_temperature_stays_within_bounds() -> None:
    logits, label = drawn(60)
    assert fit_temperature(1e6 * logits, label).value == pytest.approx(20, rel=1e-3)
    assert fit_temperature(1e-6 * logits, label).value == pytest.approx(0.05, rel=1e-3)
    assert 15 < fit_temperature(logits, (logits.argmax(1) + 1) % 5).value <= 20  # always wrong


def test_accuracy_against_coverage_by_hand() -> None:
    confidence = np.array([0.9, 0.8, 0.8, 0.5, 0.4])
    right = np.array([True, True, False, True, False])
    points = coverage_curve(confidence, right)
    assert [point.confidence for point in points] == [0.9, 0.8, 0.5, 0.0]
    assert [point.coverage.value for point in points] == pytest.approx([0.2, 0.6, 0.8, 1])
    assert [point.accuracy.value for point in points] == pytest.approx([1, 2 / 3, 3 / 4, 3 / 5])
    assert [point.accuracy.n for point in points] == [1, 3, 4, 5]
    assert (points[1].accuracy.low, points[1].accuracy.high) == wilson(2, 3)


def test_the_curve_has_twenty_points_and_ends_at_the_accuracy() -> None:
    confidence, right = confident(1000)
    points = coverage_curve(confidence, right)
    assert [point.coverage.value for point in points] == pytest.approx(np.arange(1, 21) / 20)
    assert points[-1].accuracy == share(right)
    assert points[0].accuracy.value > points[-1].accuracy.value + 0.05
    order = np.random.default_rng(0).permutation(1000)
    assert coverage_curve(confidence[order], right[order]) == points


def test_the_area_under_the_risk_coverage_curve_by_hand() -> None:
    confidence = np.array([0.9, 0.8, 0.7, 0.6])
    right = np.array([True, False, True, False])
    assert aurc(confidence, right).value == pytest.approx((0 + 1 / 2 + 1 / 3 + 2 / 4) / 4)
    tied = np.array([0.9, 0.8, 0.8, 0.6])  # the error in the middle comes first or second
    expected = (0 + (1 / 2 + 0) / 2 + 1 / 3 + 2 / 4) / 4
    assert aurc(tied, right).value == pytest.approx(expected)
    assert aurc(np.full(4, 0.5), right).value == pytest.approx(1 / 2)


def test_the_area_tells_good_confidences_from_bad() -> None:
    confidence, right = confident(600)
    good, bad = aurc(confidence, right), aurc(1 - confidence, right)
    none = aurc(np.full(600, 0.5), right)
    assert good.high < none.low < none.value < bad.low
    assert none.value == pytest.approx(1 - right.mean())
    perfect = aurc(confidence, np.ones(600, bool))
    assert (perfect.value, perfect.low) == (0, 0)
    assert perfect.high == pytest.approx(1 - wilson(600, 600)[0])


@pytest.mark.slow
@pytest.mark.parametrize("n", [40, 300])
def test_the_interval_of_the_area_covers(n: int) -> None:
    truth = aurc(*confident(20_000, seed=10**6)).value
    held = 0
    for seed in range(300):
        found = aurc(*confident(n, seed=seed))
        held += found.low <= truth <= found.high
    assert held > 0.9 * 300


def test_the_least_confidence_keeps_what_it_promises() -> None:
    truth, true_right = confident(400_000, 2, 10**6)
    broken, found_some, times = 0, 0, 200
    for seed in range(times):
        point = least_confidence(*confident(600, 2, seed), wanted=0.9)
        if point is not None:
            found_some += 1
            broken += true_right[truth >= point.confidence].mean() < 0.9
    assert found_some > 0.6 * times
    assert broken <= 0.05 * times


def test_the_least_confidence_may_be_none_or_nothing() -> None:
    confidence, right = confident(400)
    assert least_confidence(confidence, right, 0.2) == coverage_curve(confidence, right)[-1]
    assert least_confidence(confidence[:30], right[:30], 0.99) is None


def test_groups_make_everything_less_sure() -> None:
    confidence, right = confident(60, 2)
    groups = np.repeat(np.arange(60), 5)
    confidence, right = np.repeat(confidence, 5), np.repeat(right, 5)
    for of in (ece, aurc):
        alone, grouped = of(confidence, right), of(confidence, right, groups)
        assert grouped.value == alone.value
        assert grouped.high - grouped.low > 1.5 * (alone.high - alone.low)
    for alone, grouped in (
        (reliability(confidence, right)[14], reliability(confidence, right, groups)[14]),
        (coverage_curve(confidence, right)[5], coverage_curve(confidence, right, groups)[5]),
    ):
        assert alone.accuracy is not None
        assert grouped.accuracy is not None
        assert grouped.accuracy.value == alone.accuracy.value
        assert grouped.accuracy.low < alone.accuracy.low - 0.03


@pytest.mark.parametrize("confidence", [[1.2], [-0.1], [np.nan], [], [0.5, 0.5]])
def test_what_are_no_confidences_gets_one_line(confidence: list[float]) -> None:
    with pytest.raises(UserError, match="calibration"):
        ece(np.array(confidence), np.array([True]))


def test_one_image_or_one_group_bounds_no_calibration_error() -> None:
    one = ece(np.array([0.9]), np.array([True]))
    assert (one.low, one.high) == (0.0, 1.0)
    confidence, right = np.linspace(0.5, 1, 30), np.arange(30) % 2 == 0
    together = ece(confidence, right, np.zeros(30, np.int64))
    assert (together.low, together.high) == (0.0, 1.0)
    assert ece(confidence, right).high < 1.0
