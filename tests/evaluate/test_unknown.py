"""Thresholds and measures for unknown images: by hand, against scikit-learn, by simulation."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score, roc_curve

from fewlabels.errors import UserError
from fewlabels.evaluate.intervals import wilson
from fewlabels.evaluate.unknown import (
    auroc,
    conformal_threshold,
    detection,
    familiar,
    fpr_at_95,
    strangeness,
)


def seen(n: int, seed: int, classes: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Embeddings [n, 8] about a direction for each class, means of a first map [n, 4], labels."""
    rng = np.random.default_rng(seed)
    label = np.arange(n) % classes
    embeddings = np.eye(8)[label] * 5 + rng.normal(size=(n, 8))
    mix = np.random.default_rng(0).normal(size=(4, 4))
    return embeddings, rng.normal(size=(n, 4)) @ mix + 2, label


def test_strangeness_by_hand() -> None:
    embeddings = np.array([[2.0, 0], [4, 0], [0, 3], [0, 1]])
    first = np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1]])  # covariance I/2, so no shrinkage
    of = familiar(embeddings, np.array([0, 0, 1, 1]), first)
    found = strangeness(
        of, np.array([[1.0, 0], [1, 1], [-1, -1], [0, 0]]), np.array([[0.0, 0]] * 4)
    )
    assert found == pytest.approx([0, 10 * (1 - 0.5**0.5), 10 * (1 + 0.5**0.5), 10])
    far = strangeness(of, embeddings[:1], np.array([[3.0, 4]]))
    assert far == pytest.approx(np.sqrt(2 * 25 / 2))
    without = familiar(embeddings, np.array([0, 0, 1, 1]))
    assert strangeness(without, np.array([[1.0, 1]])) == pytest.approx(10 * (1 - 0.5**0.5))


def test_the_first_map_is_measured_by_the_inverse_covariance() -> None:
    embeddings, first, label = seen(4000, 1)
    x = seen(50, 2)[1]
    of = familiar(embeddings, label, first)
    alone = strangeness(familiar(embeddings, label), np.zeros((50, 8)))
    centred = x - first.mean(0)
    expected = np.sqrt((centred * np.linalg.solve(np.cov(first.T), centred.T).T).sum(1) / 4)
    found = strangeness(of, np.zeros((50, 8)), x) - alone
    assert found == pytest.approx(expected, rel=0.02)


def test_strangeness_does_not_depend_on_order_scale_or_names() -> None:
    embeddings, first, label = seen(30, 1)
    fresh, x, _ = seen(20, 2)
    expected = strangeness(familiar(embeddings, label, first), fresh, x)
    order = np.random.default_rng(0).permutation(30)
    moved = familiar(embeddings[order], np.array([7, 2, 4])[label[order]], first[order])
    assert strangeness(moved, fresh, x) == pytest.approx(expected)
    lengths = np.linspace(0.1, 9, 30)[:, None]
    scaled = familiar(lengths * embeddings, label, 5 * first)
    assert strangeness(scaled, 0.1 * fresh, 5 * x) == pytest.approx(expected)


def test_strangers_of_both_kinds_are_flagged_and_known_images_are_not() -> None:
    embeddings, first, label = seen(30, 1)
    of = familiar(embeddings, label, first)
    val, val_first, _ = seen(60, 2)
    threshold = conformal_threshold(strangeness(of, val, val_first)).value
    assert threshold is not None
    known, known_first, _ = seen(400, 3)
    scores = strangeness(of, known, known_first)
    assert (scores > threshold).mean() < 0.12
    other_class = np.roll(known, 4, axis=1)
    for strangers in (
        strangeness(of, other_class, known_first),
        strangeness(of, known, known_first + 25),
    ):
        assert (strangers > threshold).mean() > 0.9
        assert auroc(scores, strangers).value > 0.97


def test_one_label_a_class_is_enough_and_none_is_not() -> None:
    embeddings, first, label = seen(3, 1)
    assert np.isfinite(strangeness(familiar(embeddings, label, first), embeddings, first)).all()
    same = familiar(embeddings, label, np.ones((3, 4)))
    assert np.isfinite(strangeness(same, embeddings, first)).all()
    with pytest.raises(UserError, match="familiar"):
        familiar(embeddings, np.array([0, -1, 1]), first)
    with pytest.raises(UserError, match="familiar"):
        familiar(embeddings[:1], label[:1])
    with pytest.raises(UserError, match="first map"):
        strangeness(familiar(embeddings, label, first), embeddings)


def test_the_threshold_by_hand() -> None:
    assert conformal_threshold(np.arange(19.0)).value == 18  # the 19th of 19
    assert conformal_threshold(np.arange(39.0)).value == 37  # ⌈40 · 0.95⌉ = 38
    assert conformal_threshold(np.arange(100.0)[::-1]).value == 95  # ⌈101 · 0.95⌉ = 96
    assert conformal_threshold(np.arange(10.0), flagged=0.2).value == 8


def test_too_few_images_set_no_threshold() -> None:
    found = conformal_threshold(np.arange(18.0))
    assert found.value is None
    assert found.why == "18 validation images are too few for a threshold; it takes 19"
    assert conformal_threshold(np.zeros(0)).value is None
    with pytest.raises(UserError, match="finite"):
        conformal_threshold(np.array([np.inf] * 30))


@pytest.mark.parametrize("n", [19, 50, 99, 356])
def test_five_percent_of_fresh_known_images_are_flagged(n: int) -> None:
    rng = np.random.default_rng(n)
    told = conformal_threshold(rng.normal(size=n)).flagged
    thresholds = [conformal_threshold(rng.normal(size=n)).value for _ in range(1500)]
    shares = stats.norm.sf(np.array(thresholds, float))
    assert told.value <= 0.05 + 1e-12
    assert np.mean(shares) == pytest.approx(told.value, abs=0.004)
    inside = np.mean((told.low <= shares) & (shares <= told.high))
    assert 0.93 < inside < 0.97


def test_of_equal_scores_fewer_are_flagged_never_more() -> None:
    scores = np.repeat([0.0, 1.0], [50, 50])
    threshold = conformal_threshold(scores).value
    assert threshold == 1
    assert not (scores > threshold).any()


def test_any_rising_function_of_the_scores_flags_the_same_images() -> None:
    rng = np.random.default_rng(0)
    known, fresh = rng.normal(size=80), rng.normal(size=200)
    one, other = conformal_threshold(known), conformal_threshold(np.exp(known))
    assert one.value is not None
    assert other.value is not None
    assert np.array_equal(fresh > one.value, np.exp(fresh) > other.value)
    shuffled = conformal_threshold(rng.permutation(known))
    assert shuffled == one


def told_apart(m: int, n: int, apart: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=m), apart + 1.5 * rng.normal(size=n)


def test_auroc_and_fpr_equal_scikit_learn() -> None:
    for digits in (1, 8):  # with ties and without
        known, strangers = (np.round(x, digits) for x in told_apart(70, 40, 1.5))
        is_stranger = np.repeat([0, 1], [70, 40])
        scores = np.concatenate([known, strangers])
        assert auroc(known, strangers).value == pytest.approx(roc_auc_score(is_stranger, scores))
        rejected, found, _ = roc_curve(1 - is_stranger, -scores, drop_intermediate=False)
        expected = rejected[np.argmax(found >= 0.95)]  # known images are the positives
        assert fpr_at_95(known, strangers).value == pytest.approx(expected)


def test_auroc_by_hand_with_delongs_variance() -> None:
    known, strangers = np.array([1.0, 2.0, 4.0]), np.array([3.0, 5.0])
    found = auroc(known, strangers)
    assert found.value == pytest.approx(5 / 6)
    # shares of strangers above each known image: 1, 1, 1/2; of known below each stranger: 2/3, 1
    variance = (1 / 12) / 3 + (1 / 18) / 2
    trials = min(5 / 6 / 6 / variance, 24 / 5)
    z = 1.959964
    centre = (5 / 6 + z**2 / (2 * trials)) / (1 + z**2 / trials)
    assert (found.low + found.high) / 2 == pytest.approx(centre, abs=1e-6)
    assert found.n == 5


def test_the_rate_at_95_percent_varies_as_in_a_bootstrap() -> None:
    known, strangers = told_apart(100, 100, 2)
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(2000):
        border = np.sort(rng.choice(known, 100))[94]
        drawn.append((rng.choice(strangers, 100) <= border).mean())
    found = fpr_at_95(known, strangers)
    trials = found.value * (1 - found.value) / np.var(drawn)
    low, high = wilson(found.value * trials, trials)
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.01)


def test_swapping_the_sides_turns_the_curve() -> None:
    known, strangers = told_apart(50, 30, 1)
    one, other = auroc(known, strangers), auroc(strangers, known)
    assert (one.value, one.low) == (pytest.approx(1 - other.value), pytest.approx(1 - other.high))
    order = np.random.default_rng(0).permutation(50)
    assert auroc(known[order], strangers) == one
    assert fpr_at_95(known[order], strangers) == fpr_at_95(known, strangers)
    assert auroc(np.exp(known), np.exp(strangers)) == one


def test_strangers_that_are_all_found_are_no_certainty() -> None:
    known, strangers = np.arange(40.0), 100 + np.arange(20.0)
    found = detection(known, strangers, 38.0)
    assert found["auroc"].value == found["auroc"].high == 1
    assert 0.85 < found["auroc"].low < 0.96
    assert found["fpr_at_95_tpr"].value == 0
    assert 0.1 < found["fpr_at_95_tpr"].high < 0.25
    assert found["known_flagged"].value == 1 / 40
    assert found["strangers_flagged"].value == 1
    assert list(detection(known, strangers)) == ["auroc", "fpr_at_95_tpr"]
    with pytest.raises(UserError, match="some of both"):
        detection(known, np.zeros(0))


def coverage(m: int, n: int, apart: float, times: int) -> tuple[float, float]:
    truth = stats.norm.cdf(apart / np.sqrt(1 + 1.5**2))
    passed = stats.norm.cdf((stats.norm.ppf(0.95) - apart) / 1.5)
    held = np.zeros(2)
    for seed in range(times):
        found = detection(*told_apart(m, n, apart, seed))
        for i, (name, value) in enumerate((("auroc", truth), ("fpr_at_95_tpr", passed))):
            held[i] += found[name].low <= value <= found[name].high
    area, rate = held / times
    return float(area), float(rate)


def test_the_intervals_cover() -> None:
    assert min(coverage(100, 40, 2, 200)) > 0.92
    assert min(coverage(300, 30, 5, 200)) > 0.92


@pytest.mark.slow
@pytest.mark.parametrize(("m", "n"), [(60, 20), (100, 100), (300, 30), (356, 500)])
@pytest.mark.parametrize("apart", [0.5, 2, 5])
def test_the_intervals_cover_for_few_images_and_for_many(m: int, n: int, apart: float) -> None:
    assert min(coverage(m, n, apart, 1000)) > 0.91
