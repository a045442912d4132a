"""UDA: sharpening, mask and divergence by hand; training signal annealing; the gradients."""

import math
from typing import Any

import pytest
import torch
from table import (
    Row,
    Table,
    batch,
    binary,
    cross_entropy,
    facts,
    log_prior,
    method,
    plus,
    pulled,
    sigmoid,
    softmax,
)

from fewlabels.errors import UserError
from fewlabels.methods.method import MULTI, REGRESSION
from fewlabels.methods.uda import annealed

FACTS = facts(2, 2, 2)
ROWS = [
    [2.0, 0.0, 0.0],  # 0 labelled, of class 0
    [3.0, 0.5, 0.0],  # 1 weak, confident: 0.883
    [1.5, 0.0, 0.0],  # 2 weak, 0.691: sharpened to 0.955, and yet not confident
    [0.0, 1.0, 0.0],  # 3 strong view of 1
    [0.0, 3.0, 0.0],  # 4 strong view of 2
]


def divergence(q: Row, logits: Row) -> float:
    """KL(q || softmax(logits))."""
    return sum(a * math.log(a / b) for a, b in zip(q, softmax(logits), strict=True))


def sharpened(logits: Row, temperature: float = 0.4) -> list[float]:
    return softmax([value / temperature for value in logits])


def test_the_loss_is_the_papers_value_by_hand() -> None:
    step = method("uda", FACTS, weight=0.5).step(Table(*ROWS), batch([0], 2), 0.0)
    labelled = cross_entropy(ROWS[0], 0)
    # one of two is kept, the mean is over both; a divergence, not a cross-entropy
    unlabelled = divergence(sharpened(ROWS[1]), ROWS[3]) / 2
    assert step.loss.item() == pytest.approx(labelled + 0.5 * unlabelled, rel=1e-6)
    assert step.logs["unlabelled"].item() == pytest.approx(unlabelled, rel=1e-6)
    assert step.logs["confident"].item() == 0.5


def test_the_temperature_divides_the_logits() -> None:
    """Dividing probabilities, and taking their softmax again, would flatten instead."""
    made = method("uda", FACTS, temperature=0.4)
    target = made.teach(torch.tensor([ROWS[1]]), None).target[0].tolist()
    p = softmax(ROWS[1])
    power = [value ** (1 / 0.4) for value in p]
    assert target == pytest.approx([value / sum(power) for value in power], rel=1e-5)
    assert max(target) > max(p)


def test_the_mask_looks_at_probabilities_before_sharpening() -> None:
    assert max(softmax(ROWS[2])) < 0.8 < max(sharpened(ROWS[2]))
    assert method("uda", FACTS).teach(torch.tensor(ROWS[1:3]), None).weight.tolist() == [1.0, 0.0]


def test_confidence_must_be_above_the_threshold() -> None:
    half = [0.0, 0.0, -100.0]  # exactly 0.5 for each of two classes
    made = method("uda", FACTS, threshold=0.5)
    assert made.teach(torch.tensor([half]), None).weight.tolist() == [0.0]


def test_a_strong_view_that_agrees_costs_nothing() -> None:
    agreeing = [value / 0.4 for value in ROWS[1]]
    rows = [ROWS[0], ROWS[1], ROWS[2], agreeing, ROWS[4]]
    step = method("uda", FACTS).step(Table(*rows), batch([0], 2), 0.0)
    assert step.logs["unlabelled"].item() == pytest.approx(0.0, abs=1e-7)


def test_order_repetition_and_a_constant_in_the_logits_do_not_matter() -> None:
    def loss(rows: Any, order: Any = None) -> float:
        step = method("uda", FACTS).step(Table(*rows), batch([0], 2, order=order), 0.0)
        return float(step.loss.detach())

    assert loss(ROWS, [1, 0]) == pytest.approx(loss(ROWS), rel=1e-6)
    assert loss(ROWS, [0, 1, 0, 1]) == pytest.approx(loss(ROWS), rel=1e-6)
    assert loss([plus(row, [3.0] * 3) for row in ROWS]) == pytest.approx(loss(ROWS), rel=1e-5)


@pytest.mark.parametrize("skip", [False, True])
def test_the_whole_gradient_by_hand(skip: bool) -> None:
    student = Table(*ROWS)
    method("uda", FACTS, weight=0.5, skip=skip).step(student, batch([0], 2), 0.0).loss.backward()
    gradient = student.gradient()
    assert gradient[0] == pytest.approx(pulled(ROWS[0], 0, 1.0), abs=1e-6)
    target = sharpened(ROWS[1])
    assert gradient[3] == pytest.approx(pulled(ROWS[3], target, 0.5 / 2), abs=1e-6)
    # weak views are targets, and the unsure image is masked: exactly zero
    assert [gradient[k] for k in (1, 2, 4)] == [[0.0] * 3] * 3


@pytest.mark.parametrize(
    ("schedule", "progress", "threshold"),
    [
        ("linear", 0.0, 0.25),
        ("linear", 0.5, 0.625),
        ("linear", 1.0, 1.0),
        ("log", 0.0, 0.25),
        ("log", 0.5, 0.25 + 0.75 * (1 - math.exp(-2.5))),
        ("log", 1.0, 0.25 + 0.75 * (1 - math.exp(-5))),
        ("exp", 0.0, 0.25 + 0.75 * math.exp(-5)),
        ("exp", 0.5, 0.25 + 0.75 * math.exp(-2.5)),
        ("exp", 1.0, 1.0),
    ],
)
def test_the_annealed_threshold_of_four_classes(
    schedule: str, progress: float, threshold: float
) -> None:
    assert annealed(schedule, progress, 4) == pytest.approx(threshold)


LABELLED = [
    [3.0, 0.0, 0.0],  # its class 0 has 0.909: learnt already
    [3.0, 0.0, 0.0],  # its class 1 has 0.045, though class 0 has 0.909
    [0.0, 0.0, 0.5],  # its class 2 has 0.452
    [0.0, 0.0, 0.0],  # unlabelled, unsure
    [0.0, 0.0, 0.0],
]


def annealing(progress: float, labels: list[int]) -> tuple[float, list[list[float]]]:
    """The labelled loss, and the gradient of the labelled rows."""
    student = Table(*LABELLED[: len(labels)], *LABELLED[3:])
    step = method("uda", FACTS, tsa="linear").step(student, batch(labels, 1), progress)
    step.loss.backward()
    return step.logs["labelled"].item(), student.gradient()[: len(labels)]


def test_annealing_leaves_out_images_whose_true_class_is_probable() -> None:
    """At half time the threshold is 2/3. The mean is over the images kept."""
    loss, gradient = annealing(0.5, [0, 1, 2])
    kept = [cross_entropy(LABELLED[1], 1), cross_entropy(LABELLED[2], 2)]
    assert loss == pytest.approx(sum(kept) / 2, rel=1e-6)
    assert gradient[0] == [0.0] * 3
    assert gradient[1] == pytest.approx(pulled(LABELLED[1], 1, 0.5), abs=1e-6)
    assert gradient[2] == pytest.approx(pulled(LABELLED[2], 2, 0.5), abs=1e-6)


def test_annealing_that_keeps_nothing_gives_zero() -> None:
    loss, gradient = annealing(0.5, [0])
    assert loss == 0.0
    assert gradient == [[0.0] * 3]


def test_at_the_end_annealing_leaves_nothing_out() -> None:
    loss, _ = annealing(1.0, [0, 1, 2])
    each = [cross_entropy(LABELLED[b], b) for b in range(3)]
    assert loss == pytest.approx(sum(each) / 3, rel=1e-6)


def test_annealing_is_off_unless_asked_for() -> None:
    step = method("uda", FACTS).step(Table(*LABELLED), batch([0, 1, 2], 1), 0.0)
    each = [cross_entropy(LABELLED[b], b) for b in range(3)]
    assert step.logs["labelled"].item() == pytest.approx(sum(each) / 3, rel=1e-6)


def test_annealing_goes_by_the_probability_with_the_prior() -> None:
    """Class 0 has 0.42 by the network, 0.84 where it is as frequent as it is: learnt already."""
    about = facts(6, 0, 0, adjust=True)  # priors 7/9, 1/9, 1/9
    row = [0.0, 0.5, -1.5]
    assert softmax(plus(row, log_prior(6, 0, 0)))[0] > 2 / 3 > softmax(row)[0]
    student = Table(row, *LABELLED[3:])
    step = method("uda", about, tsa="linear").step(student, batch([0], 1), 0.5)
    assert step.logs["labelled"].item() == 0.0


def test_logit_adjustment_by_hand() -> None:
    about, prior = facts(6, 1, 0, adjust=True), log_prior(6, 1, 0)
    step = method("uda", about).step(Table(*ROWS), batch([0], 2), 0.0)
    weak = [plus(ROWS[u], prior) for u in (1, 2)]
    assert [max(softmax(row)) > 0.8 for row in weak] == [True, True]
    each = [divergence(sharpened(weak[u]), plus(ROWS[3 + u], prior)) for u in (0, 1)]
    expected = cross_entropy(plus(ROWS[0], prior), 0) + sum(each) / 2
    assert step.loss.item() == pytest.approx(expected, rel=1e-6)


def test_several_labels_an_image_by_hand() -> None:
    rows = [[2.0, 0.0], [2.0, -0.5], [0.3, 0.4]]
    student = Table(*rows)
    made = method("uda", facts(1, 1, task=MULTI))
    step = made.step(student, batch([[1.0, 0.0]], 1), 0.0)
    # the first class is sure (0.881), the second is not (0.378): a mean over both
    q = sigmoid(2.0 / 0.4)
    kept = q * math.log(q / sigmoid(0.3)) + (1 - q) * math.log((1 - q) / (1 - sigmoid(0.3)))
    labelled = (binary(2.0, 1.0) + binary(0.0, 0.0)) / 2
    assert step.loss.item() == pytest.approx(labelled + kept / 2, rel=1e-5)
    step.loss.backward()
    assert student.gradient()[1] == [0.0, 0.0]
    assert student.gradient()[2] == pytest.approx([(sigmoid(0.3) - q) / 2, 0.0], abs=1e-6)


def test_annealing_with_several_labels_is_an_error() -> None:
    with pytest.raises(UserError, match="uda: tsa has no effect where an image has several labels"):
        method("uda", facts(1, 1, task=MULTI), tsa="log")


def test_numbers_cannot_be_sharpened() -> None:
    with pytest.raises(UserError, match="uda: has no meaning for the task regression"):
        method("uda", facts(1, task=REGRESSION))


def test_wrong_settings_are_errors() -> None:
    with pytest.raises(UserError, match="tsa cosine: must be one of none, linear, log, exp"):
        method("uda", FACTS, tsa="cosine")
    with pytest.raises(UserError, match=r"temperature 0\.0: must be at least 0\.001"):
        method("uda", FACTS, temperature=0.0)
