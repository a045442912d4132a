"""SoftMatch: mean, variance and weights by hand over several steps; alignment; the gradients."""

import math
from typing import Any

import pytest
import torch
from table import Table, batch, cross_entropy, facts, log_prior, method, plus, pulled, softmax

from fewlabels.errors import UserError
from fewlabels.methods.method import MULTI, REGRESSION

FACTS = facts(2, 2, 2)
LABELLED = [2.0, 0.0, 0.0]
WEAK = [[3.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.5, 0.0, 0.0]]  # 0.909, 0.576, 0.452
STRONG = [[1.0, 0.5, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 0.3]]


def softmatch(**settings: Any) -> Any:
    return method("softmatch", FACTS, **settings)


def gauss(confidence: float, mean: float, variance: float) -> float:
    short = max(0.0, mean - confidence)
    return math.exp(-(short**2) / (2 * variance))


def test_mean_variance_and_loss_by_hand_over_three_steps() -> None:
    made = softmatch(align=False, momentum=0.6, weight=0.5)
    mean, variance = 1 / 3, 1.0
    other = [[0.0, 6.0, 0.0], [0.0, 2.0, 0.0], [0.1, 0.0, 0.0]]
    for weak in (WEAK, other, WEAK):
        step = made.step(Table(LABELLED, *weak, *STRONG), batch([0], 3), 0.0)
        confidence = [max(softmax(row)) for row in weak]
        centre = sum(confidence) / 3
        biased = sum((c - centre) ** 2 for c in confidence) / 3
        mean = 0.6 * mean + 0.4 * centre
        variance = 0.6 * variance + 0.4 * biased * 3 / 2  # U / (U - 1)
        assert made.mean.item() == pytest.approx(mean, rel=1e-5)
        assert made.variance.item() == pytest.approx(variance, rel=1e-5)
        each = [
            gauss(confidence[u], mean, variance) * cross_entropy(STRONG[u], row.index(max(row)))
            for u, row in enumerate(weak)
        ]
        expected = cross_entropy(LABELLED, 0) + 0.5 * sum(each) / 3
        assert step.loss.item() == pytest.approx(expected, rel=1e-5)


def test_images_above_the_mean_count_fully_and_below_it_less_and_less() -> None:
    made = softmatch(align=False, momentum=1.0)
    made.mean.fill_(0.7)
    made.variance.fill_(0.01)
    p = [0.9, 0.71, 0.6, 0.5]
    weak = torch.tensor([[c, (1 - c) * 0.6, (1 - c) * 0.4] for c in p]).log()
    weight = made.teach(weak, None).weight.tolist()
    assert weight == pytest.approx([1.0, 1.0, math.exp(-0.5), math.exp(-2.0)], rel=1e-4)


def test_a_rare_class_whose_confidence_is_lower_is_not_starved() -> None:
    made = softmatch()
    weak = torch.tensor([[0.0, 1.4, 0.0], [3.0, 0.0, 0.0]])
    assert min(made.teach(weak, None).weight.tolist()) > 0.9
    fixmatch = method("fixmatch", FACTS, align=False)
    assert fixmatch.teach(weak, None).weight.tolist() == [0.0, 0.0]


def test_alignment_changes_the_weight_and_never_the_pseudo_label() -> None:
    """Class 0 is said too often: aligned, the third image would be of class 1."""
    made = softmatch(momentum=0.5)
    rows = [[4.0, 0.0, 0.0], [4.0, 0.0, 0.0], [3.0, 2.9, 0.0], [0.0, 0.0, 3.0]]
    p = [softmax(row) for row in rows]
    running = [0.5 / 3 + 0.5 * sum(column) / 4 for column in zip(*p, strict=True)]
    aligned = [[a / 3 / r for a, r in zip(row, running, strict=True)] for row in p]
    aligned = [[a / sum(row) for a in row] for row in aligned]
    assert aligned[2].index(max(aligned[2])) == 1
    confidence = [max(row) for row in aligned]
    centre = sum(confidence) / 4
    mean = 0.5 / 3 + 0.5 * centre
    variance = 0.5 + 0.5 * sum((c - centre) ** 2 for c in confidence) / 3
    taught = made.teach(torch.tensor(rows), None)
    assert taught.target.tolist() == [0, 0, 0, 2]
    expected = [gauss(c, mean, variance) for c in confidence]
    assert taught.weight.tolist() == pytest.approx(expected, rel=1e-5)


def test_alignment_is_toward_the_estimated_prior() -> None:
    made = method("softmatch", facts(5, 2, 0))
    assert made.alignment.prior.tolist() == pytest.approx([0.6, 0.3, 0.1])


def test_order_and_a_constant_in_the_logits_do_not_matter() -> None:
    rows = [LABELLED, *WEAK, *STRONG]
    shifted = [plus(row, [3.0] * 3) for row in rows]
    one, turned, moved = (softmatch(momentum=0.5) for _ in range(3))
    for _ in range(3):
        expected = one.step(Table(*rows), batch([0], 3), 0.0).loss.item()
        around = batch([0], 3, order=[2, 0, 1])
        assert turned.step(Table(*rows), around, 0.0).loss.item() == pytest.approx(expected)
        value = moved.step(Table(*shifted), batch([0], 3), 0.0).loss.item()
        assert value == pytest.approx(expected, rel=1e-5)


def test_other_numbers_for_the_classes_change_nothing() -> None:
    rows = [LABELLED, *WEAK, *STRONG]
    turned = [[row[2], row[0], row[1]] for row in rows]
    one = method("softmatch", facts(5, 2, 0), momentum=0.5)
    other = method("softmatch", facts(0, 5, 2), momentum=0.5)
    for _ in range(3):
        expected = one.step(Table(*rows), batch([0], 3), 0.0).loss.item()
        assert other.step(Table(*turned), batch([1], 3), 0.0).loss.item() == pytest.approx(expected)


@pytest.mark.parametrize("skip", [False, True])
def test_the_whole_gradient_by_hand(skip: bool) -> None:
    """Of the strong views the weight's share; the weight itself is a constant."""
    made = softmatch(align=False, momentum=1.0, weight=0.5, skip=skip)
    made.mean.fill_(0.8)
    made.variance.fill_(0.02)
    student = Table(LABELLED, *WEAK, *STRONG)
    made.step(student, batch([0], 3), 0.0).loss.backward()
    gradient = student.gradient()
    assert gradient[0] == pytest.approx(pulled(LABELLED, 0, 1.0), abs=1e-6)
    assert gradient[1:4] == [[0.0] * 3] * 3
    for u, target in enumerate([0, 1, 0]):
        weight = gauss(max(softmax(WEAK[u])), 0.8, 0.02)
        by_hand = pulled(STRONG[u], target, 0.5 * weight / 3)
        assert gradient[4 + u] == pytest.approx(by_hand, abs=1e-6)


def test_a_single_image_leaves_the_variance() -> None:
    made = softmatch(align=False, momentum=0.5)
    made.teach(torch.tensor([WEAK[0]]), None)
    assert made.variance.item() == 1.0
    assert made.mean.item() == pytest.approx((1 / 3 + max(softmax(WEAK[0]))) / 2, rel=1e-5)


def test_images_that_are_all_as_sure_count_fully() -> None:
    """Their variance is zero: no division by it."""
    made = softmatch(align=False, momentum=0.0)
    taught = made.teach(torch.tensor([WEAK[0]] * 4), None)
    assert made.variance.item() == 0.0
    assert taught.weight.tolist() == [1.0] * 4


def test_logit_adjustment_by_hand() -> None:
    about, prior = facts(0, 7, 0, adjust=True), log_prior(0, 7, 0)
    made = method("softmatch", about, align=False)
    step = made.step(Table(LABELLED, [0.5, 0.4, -3.0], STRONG[0]), batch([0], 1), 0.0)
    # 0.87 is above the mean: the weight is 1
    expected = cross_entropy(plus(LABELLED, prior), 0) + cross_entropy(plus(STRONG[0], prior), 1)
    assert step.loss.item() == pytest.approx(expected, rel=1e-6)


def test_state_survives_a_round_trip() -> None:
    made = softmatch(momentum=0.5)
    student = Table(LABELLED, *WEAK, *STRONG)
    made.step(student, batch([0], 3), 0.0)
    assert {"mean", "variance", "alignment.running", "kept"} <= set(made.state_dict())
    fresh = softmatch(momentum=0.5)
    fresh.load_state_dict(made.state_dict())
    one = made.step(student, batch([0], 3), 0.0).loss.item()
    assert fresh.step(student, batch([0], 3), 0.0).loss.item() == one


@pytest.mark.parametrize("task", [MULTI, REGRESSION])
def test_one_class_an_image_is_needed(task: str) -> None:
    with pytest.raises(UserError, match=f"softmatch: has no meaning for the task {task}"):
        method("softmatch", facts(2, 2, task=task))
