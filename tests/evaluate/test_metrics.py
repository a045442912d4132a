"""The metrics against scikit-learn and hand values; their intervals against simulation."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics as sk

from fewlabels.errors import UserError
from fewlabels.evaluate.intervals import Estimate, share, wilson
from fewlabels.evaluate.metrics import (
    ClassScore,
    average_precisions,
    balanced_accuracy,
    by_class,
    by_label,
    confusion,
    errors,
    multi,
    regression,
    single,
)

Numbers = NDArray[np.float64]
Labels = NDArray[np.int64]


def some(n: int = 90, k: int = 7, seed: int = 0) -> tuple[Labels, Numbers]:
    """Labels, and probabilities that know something of them; the last class has no images."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, k - 1, n)
    logits = rng.normal(size=(n, k)) + 2 * np.eye(k)[label]
    p = np.exp(logits)
    return label, p / p.sum(1, keepdims=True)


def several(n: int = 80, k: int = 4, seed: int = 0) -> tuple[Labels, Numbers]:
    """Several labels an image, and scores in steps of 0.1, so that there are ties."""
    rng = np.random.default_rng(seed)
    label = (rng.random((n, k)) < np.linspace(0.1, 0.5, k)).astype(np.int64)
    return label, np.clip(np.round(0.6 * rng.random((n, k)) + 0.35 * label, 1), 0, 1)


def test_single_equals_scikit_learn() -> None:
    label, p = some()
    found = single(label, p)
    assert list(found) == ["accuracy", "balanced_accuracy", "top5_accuracy"]
    assert found["accuracy"].value == sk.accuracy_score(label, p.argmax(1))
    balanced = sk.recall_score(label, p.argmax(1), labels=np.unique(label), average="macro")
    assert found["balanced_accuracy"].value == pytest.approx(balanced)
    top = sk.top_k_accuracy_score(label, p, k=5, labels=np.arange(7))
    assert found["top5_accuracy"].value == pytest.approx(top)
    assert found["accuracy"] == share(p.argmax(1) == label)
    assert all(one.low < one.value <= one.high and one.n == 90 for one in found.values())
    assert "top5_accuracy" not in single(*some(k=5))


def test_of_equal_probabilities_the_first_class_is_meant() -> None:
    label, p = np.arange(8), np.full((8, 8), 1 / 8)
    assert single(label, p)["accuracy"].value == 1 / 8 == (p.argmax(1) == label).mean()
    assert single(label, p)["top5_accuracy"].value == 5 / 8
    assert single(label[:1], p[:1])["accuracy"].value == 1
    assert single(label[5:], p[5:])["top5_accuracy"].value == 0


def test_confusion_and_classes_equal_scikit_learn() -> None:
    label, p = some()
    said = p.argmax(1)
    assert np.array_equal(
        confusion(label, said, 7), sk.confusion_matrix(label, said, labels=range(7))
    )
    precision, recall, f1, n = sk.precision_recall_fscore_support(
        label, said, labels=range(7), zero_division=np.nan
    )
    for c, score in enumerate(by_class(label, said, 7)):
        assert score.n == n[c]
        for mine, theirs in ((score.recall, recall), (score.precision, precision), (score.f1, f1)):
            value = np.nan if mine is None else mine.value
            assert value == pytest.approx(theirs[c], nan_ok=True)


def test_a_class_by_hand() -> None:
    label, said = np.array([0, 0, 0, 0, 1, 1]), np.array([0, 0, 0, 1, 0, 1])
    zero, one, two = by_class(label, said, 3)
    assert zero.recall == Estimate(3 / 4, *wilson(3, 4), 4)
    assert zero.precision == Estimate(3 / 4, *wilson(3, 4), 4)
    low, high = wilson(3, 5)  # 3 of the 5 images that are zeros or are taken for one
    assert zero.f1 is not None
    assert zero.f1.value == pytest.approx(0.75)
    assert (zero.f1.low, zero.f1.high) == (2 * low / (1 + low), 2 * high / (1 + high))
    assert one.recall == Estimate(1 / 2, *wilson(1, 2), 2)
    assert two == ClassScore(0, None, None, None)


def test_balanced_accuracy_by_hand() -> None:
    label = np.array([0] * 100 + [1] * 4)
    right = np.array([1] * 100 + [1, 1, 0, 0], bool)
    mean = (0.75 * 104 + 1) / 106
    a, b = (100 + mean) / 101, (2 + mean) / 5
    trials = mean * (1 - mean) / ((a * (1 - a) / 100 + b * (1 - b) / 4) / 4)
    most = 4 / (1 / 100 + 1 / 4)
    assert trials < most
    low, high = wilson(0.75 * trials, trials)
    found = balanced_accuracy(label, right)
    assert (found.value, found.low, found.high) == pytest.approx((0.75, low, high))
    assert balanced_accuracy(label, right | True).low == pytest.approx(wilson(most, most)[0])


def test_balanced_accuracy_of_equal_classes_has_about_the_interval_of_accuracy() -> None:
    label = np.repeat(np.arange(10), 40)
    right = np.arange(400) % 10 > 0
    plain, found = share(right), balanced_accuracy(label, right)
    assert found.value == pytest.approx(plain.value)
    assert (found.low, found.high) == pytest.approx((plain.low, plain.high), abs=0.002)


def test_multi_equals_scikit_learn() -> None:
    label, scores = several()
    found = multi(label, scores)
    said = scores >= 0.5
    assert list(found) == ["mean_average_precision", "micro_f1", "macro_f1"]
    expected = (
        sk.average_precision_score(label, scores, average="macro"),
        sk.f1_score(label, said, average="micro"),
        sk.f1_score(label, said, average="macro"),
    )
    assert [one.value for one in found.values()] == pytest.approx(expected)
    assert all(one.low < one.value < one.high and one.n == 80 for one in found.values())
    for k, score in enumerate(by_label(label, scores)):
        assert score.average_precision is not None
        assert score.f1 is not None
        average = sk.average_precision_score(label[:, k], scores[:, k])
        assert score.average_precision.value == pytest.approx(average)
        assert score.f1.value == pytest.approx(sk.f1_score(label[:, k], said[:, k]))
        assert score.n == label[:, k].sum()


def test_average_precision_of_counted_images_equals_scikit_learns_of_weighted_ones() -> None:
    label, scores = several()
    counts = np.random.default_rng(1).integers(0, 4, (3, 80)).astype(np.float64)
    found = average_precisions(label, scores)(counts)
    expected = [
        [sk.average_precision_score(label[:, k], scores[:, k], sample_weight=c) for k in range(4)]
        for c in counts
    ]
    assert found == pytest.approx(np.array(expected))


def test_labels_that_do_not_occur_are_left_out() -> None:
    label, scores = several()
    label[:, 1], scores[:, 1] = 0, 0.1
    found = multi(label, scores)
    rest = multi(label[:, [0, 2, 3]], scores[:, [0, 2, 3]])
    assert {name: one.value for name, one in found.items()} == pytest.approx(
        {name: one.value for name, one in rest.items()}
    )
    assert by_label(label, scores)[1] == ClassScore(0, None, None, None)
    assert multi(np.zeros((5, 2), int), np.zeros((5, 2))) == {}
    said = multi(np.zeros((5, 2), int), np.ones((5, 2)))
    assert said["macro_f1"].value == 0


def test_regression_equals_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    label = 1000 + 3 * rng.normal(size=60)
    said = label + rng.normal(size=60)
    found = regression(label, said)
    expected = (
        sk.mean_absolute_error(label, said),
        sk.root_mean_squared_error(label, said),
        sk.r2_score(label, said),
    )
    assert [one.value for one in found.values()] == pytest.approx(expected)
    assert all(one.low < one.value < one.high and one.n == 60 for one in found.values())
    assert list(regression(np.ones(5), np.arange(5.0))) == ["mae", "rmse"]


def test_several_numbers_equal_scikit_learns_means() -> None:
    rng = np.random.default_rng(4)
    label = rng.normal(size=(50, 3)) * (1, 10, 100)
    said = label + rng.normal(size=(50, 3)) * (0.5, 1, 50)
    found = regression(label, said)
    expected = (
        sk.mean_absolute_error(label, said),
        sk.root_mean_squared_error(label, said),
        sk.r2_score(label, said),
    )
    assert [one.value for one in found.values()] == pytest.approx(expected)
    assert all(one.low < one.value < one.high and one.n == 50 for one in found.values())
    label[:, 1] = 7
    assert list(regression(label, said)) == ["mae", "rmse"]
    alone = regression(label[:, :1], said[:, :1]), regression(label[:, 0], said[:, 0])
    assert alone[0] == alone[1]


def test_errors_of_counted_images_equal_scikit_learns_of_weighted_ones() -> None:
    rng = np.random.default_rng(2)
    label, said = rng.normal(size=(2, 9))
    counts = rng.integers(0, 4, (3, 9)).astype(np.float64)
    expected = [
        (
            sk.mean_absolute_error(label, said, sample_weight=c),
            sk.root_mean_squared_error(label, said, sample_weight=c),
            sk.r2_score(label, said, sample_weight=c),
        )
        for c in counts
    ]
    assert errors(label, said)(counts) == pytest.approx(np.array(expected))


def test_regression_has_units() -> None:
    rng = np.random.default_rng(1)
    label = rng.normal(size=40)
    said = label + 0.5 * rng.normal(size=40)
    one, other = regression(label, said), regression(7 - 100 * label, 7 - 100 * said)
    for name, factor in (("mae", 100), ("rmse", 100), ("r2", 1)):
        ends = (one[name].value, one[name].low, one[name].high)
        scaled = (other[name].value, other[name].low, other[name].high)
        assert scaled == pytest.approx(tuple(factor * x for x in ends))


def test_nothing_wrong_is_not_certainty() -> None:
    label = np.tile(np.eye(3, dtype=np.int64), (10, 1))
    for found in multi(label, label.astype(float)).values():
        assert found.value == found.high == 1
        assert 0.8 < found.low < 0.95
    right = single(label.argmax(1), label.astype(float))
    assert right["balanced_accuracy"].low == pytest.approx(wilson(30, 30)[0], abs=0.01)


@pytest.mark.parametrize("grouped", [False, True])
def test_order_does_not_matter(grouped: bool) -> None:
    label, p = some()
    order = np.random.default_rng(5).permutation(90)
    groups = np.arange(90) // 6 if grouped else None
    moved = None if groups is None else groups[order]
    assert_same(single(label, p, groups), single(label[order], p[order], moved))
    y, s = several(90)
    assert_same(multi(y, s, groups), multi(y[order], s[order], moved), 0.1)
    a, b = p[:, 0], p[:, 1]
    assert_same(regression(a, b, groups), regression(a[order], b[order], moved), 0.1)


def test_names_of_classes_do_not_matter() -> None:
    label, p = some()
    name = np.array([3, 5, 0, 6, 1, 2, 4])
    renamed = np.empty_like(p)
    renamed[:, name] = p
    assert_same(single(label, p), single(name[label], renamed))
    before = by_class(label, p.argmax(1), 7)
    after = by_class(name[label], renamed.argmax(1), 7)
    assert before == [after[c] for c in name]


def assert_same(
    one: dict[str, Estimate], other: dict[str, Estimate], tolerance: float = 1e-9
) -> None:
    """Same values; the same intervals up to the draws, relative to their width."""
    assert one.keys() == other.keys()
    for name in one:
        a, b = one[name], other[name]
        assert (a.value, a.n) == (pytest.approx(b.value), b.n)
        near = tolerance * (a.high - a.low)
        assert (a.low, a.high) == pytest.approx((b.low, b.high), abs=near)


def test_copies_in_a_group_add_nothing() -> None:
    """Everything by group: ten copies of each image, one group each, are as sure as one."""
    label, p = some()
    y, s = several(90)
    groups = np.repeat(np.arange(90), 10)
    label10, p10, y10, s10 = (np.repeat(x, 10, axis=0) for x in (label, p, y, s))
    pairs = [
        (single(label, p), single(label10, p10, groups), single(label10, p10)),
        (multi(y, s), multi(y10, s10, groups), multi(y10, s10)),
        (
            regression(p[:, 0], p[:, 1]),
            regression(p10[:, 0], p10[:, 1], groups),
            regression(p10[:, 0], p10[:, 1]),
        ),
    ]
    for once, grouped, taken_alone in pairs:
        for name in once:
            width, by_group, by_image = (
                one[name].high - one[name].low for one in (once, grouped, taken_alone)
            )
            assert by_group == pytest.approx(width, rel=0.15), name
            assert by_image < 0.5 * width, name


def test_copies_add_nothing_to_a_class_of_few_images_either() -> None:
    label = np.repeat([0, 1], [100, 10])
    right = np.arange(110) % 10 > 0
    right[100:105] = False
    once = balanced_accuracy(label, right)
    groups = np.repeat(np.arange(110), 10)
    found = balanced_accuracy(np.repeat(label, 10), np.repeat(right, 10), groups)
    assert found.high - found.low == pytest.approx(once.high - once.low, rel=0.1)


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (lambda: single(np.zeros(0, int), np.zeros((0, 2))), "no labelled images"),
        (lambda: single(np.array([0, 2]), np.ones((2, 2))), "between 0 and 1"),
        (lambda: single(np.array([-1, 0]), np.ones((2, 2))), "between 0 and 1"),
        (lambda: single(np.array([0]), np.ones((2, 2))), "2 predictions for 1 labels"),
        (lambda: single(np.array([0, 1]), np.ones((2, 2)), np.zeros(3)), "3 groups for 2"),
        (lambda: single(np.array([0]), np.array([[np.nan, 1]])), "not a finite number"),
        (lambda: multi(np.array([[2, 0]]), np.ones((1, 2))), "0 or 1"),
        (lambda: multi(np.array([[1, 0]]), np.ones((1, 3))), "differ in shape"),
        (lambda: regression(np.array([np.inf]), np.ones(1)), "not a finite number"),
    ],
)
def test_bad_input_gets_one_line(call: Callable[[], object], line: str) -> None:
    with pytest.raises(UserError, match=line):
        call()


def covers(make: Callable[[np.random.Generator], Estimate], truth: float, times: int) -> float:
    held = 0
    for seed in range(times):
        found = make(np.random.default_rng(seed))
        held += found.low <= truth <= found.high
    return held / times


def balanced(sizes: list[int], recalls: list[float]) -> Callable[[np.random.Generator], Estimate]:
    label = np.repeat(np.arange(len(sizes)), sizes)

    def make(rng: np.random.Generator) -> Estimate:
        return balanced_accuracy(label, rng.random(len(label)) < np.array(recalls)[label])

    return make


@pytest.mark.parametrize(
    ("sizes", "recalls"),
    [([10] * 10, [0.95] * 10), ([3] * 50, [0.9] * 50), ([100, 10], [0.98, 0.6])],
)
def test_balanced_accuracy_is_covered(sizes: list[int], recalls: list[float]) -> None:
    """A stratified bootstrap covers 0.88, 0.90 and 0.91."""
    assert covers(balanced(sizes, recalls), float(np.mean(recalls)), 1000) > 0.91


def sampled(n: int, k: int, metric: str) -> Callable[[np.random.Generator], Estimate]:
    """Images of k labels, each on a fifth of them, whose scores are 2 standard deviations apart."""

    def make(rng: np.random.Generator) -> Estimate:
        label = (rng.random((n, k)) < 0.2).astype(np.int64)
        label[0] = 1
        scores = rng.normal(size=(n, k)) + 2 * label
        return multi(label, 1 / (1 + np.exp(1 - scores)), seed=int(rng.integers(1000)))[metric]

    return make


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["mean_average_precision", "micro_f1", "macro_f1"])
@pytest.mark.parametrize(("n", "k"), [(40, 3), (150, 1), (150, 5)])
def test_multi_is_covered(metric: str, n: int, k: int) -> None:
    rng = np.random.default_rng(0)
    label = (rng.random(1_000_000) < 0.2).astype(np.int64)
    scores = rng.normal(size=1_000_000) + 2 * label
    truth = (
        sk.average_precision_score(label, scores)
        if metric == "mean_average_precision"
        else sk.f1_score(label, scores >= 1)
    )
    assert covers(sampled(n, k, metric), truth, 400) > 0.9


@pytest.mark.slow
@pytest.mark.parametrize(("name", "truth"), [("mae", 0.3989), ("rmse", 0.5), ("r2", 0.75)])
@pytest.mark.parametrize("n", [15, 150])
def test_regression_is_covered(name: str, truth: float, n: int) -> None:
    def make(rng: np.random.Generator) -> Estimate:
        said = rng.normal(size=n) * 3**0.5 / 2
        return regression(said + 0.5 * rng.normal(size=n), said)[name]

    assert covers(make, truth, 500) > 0.9
