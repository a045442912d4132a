"""Pseudo-label: the value by hand, the ramp, what carries gradient, several labels an image."""

import math
from typing import Any

import pytest
import torch
from table import (
    Table,
    batch,
    binary,
    cross_entropy,
    facts,
    images,
    log_prior,
    method,
    plus,
    pulled,
    sigmoid,
)
from torch import Tensor

from fewlabels.errors import UserError
from fewlabels.methods import Batch
from fewlabels.methods.method import MULTI, REGRESSION

FACTS = facts(2, 2, 2)
ROWS = [
    [2.0, 0.0, 0.0],  # 0 labelled, of class 1
    [1.0, 0.2, 0.0],  # 1 unlabelled, class 0
    [0.0, 0.1, 3.0],  # 2 unlabelled, class 2
    [0.0, 9.0, 0.0],  # 3, 4 the other views of both: not looked at
    [0.0, 9.0, 0.0],
]


@pytest.mark.parametrize(
    ("progress", "alpha"),
    [(0.0, 0.0), (0.1999, 0.0), (0.2, 0.0), (0.3, 0.75), (0.4, 1.5), (0.6, 3.0), (1.0, 3.0)],
)
def test_alpha_is_zero_then_rises_linearly_then_stays(progress: float, alpha: float) -> None:
    made = method("pseudo_label", FACTS, weight=3.0, begin=0.2, full=0.6)
    assert made.alpha(progress) == pytest.approx(alpha)


def test_without_a_ramp_alpha_jumps() -> None:
    made = method("pseudo_label", FACTS, weight=2.0, begin=0.5, full=0.5)
    assert [made.alpha(t) for t in (0.49, 0.5, 0.51)] == [0.0, 2.0, 2.0]
    assert method("pseudo_label", FACTS, weight=2.0, begin=0.0, full=0.0).alpha(0.0) == 2.0


def test_the_loss_is_the_papers_value_by_hand() -> None:
    made = method("pseudo_label", FACTS, weight=3.0, begin=0.2, full=0.6)
    step = made.step(Table(*ROWS), batch([1], 2), 0.4)
    labelled = cross_entropy(ROWS[0], 1)
    unlabelled = (cross_entropy(ROWS[1], 0) + cross_entropy(ROWS[2], 2)) / 2
    assert step.loss.item() == pytest.approx(labelled + 1.5 * unlabelled, rel=1e-6)
    assert step.logs["unlabelled"].item() == pytest.approx(unlabelled, rel=1e-6)


def test_the_view_that_is_asked_for_is_the_one_that_is_seen() -> None:
    made = method("pseudo_label", FACTS, view="strong")
    assert made.views.labelled == "strong"
    assert made.views.unlabelled == ("strong",)
    student = Table(*ROWS)
    made.step(student, batch([1], 2), 1.0).loss.backward()
    assert [any(row) for row in student.gradient()] == [True, False, False, True, True]


def test_order_and_repetition_of_the_unlabelled_images_do_not_matter() -> None:
    made = method("pseudo_label", FACTS)
    one = made.step(Table(*ROWS), batch([1], 2), 1.0).loss.item()
    turned = made.step(Table(*ROWS), batch([1], 2, order=[1, 0]), 1.0).loss.item()
    twice = made.step(Table(*ROWS), batch([1], 2, order=[0, 1, 1, 0]), 1.0).loss.item()
    assert turned == pytest.approx(one, rel=1e-6)
    assert twice == pytest.approx(one, rel=1e-6)


def test_the_whole_gradient_by_hand() -> None:
    """alpha (p - onehot) / U on the unlabelled images: the target is a constant."""
    student = Table(*ROWS)
    made = method("pseudo_label", FACTS, weight=3.0, begin=0.2, full=0.6)
    made.step(student, batch([1], 2), 0.4).loss.backward()
    gradient = student.gradient()
    assert gradient[0] == pytest.approx(pulled(ROWS[0], 1, 1.0), abs=1e-6)
    assert gradient[1] == pytest.approx(pulled(ROWS[1], 0, 1.5 / 2), abs=1e-6)
    assert gradient[2] == pytest.approx(pulled(ROWS[2], 2, 1.5 / 2), abs=1e-6)
    assert gradient[3:] == [[0.0] * 3] * 2


def test_before_the_ramp_unlabelled_images_have_no_gradient() -> None:
    student = Table(*ROWS)
    method("pseudo_label", FACTS, begin=0.2).step(student, batch([1], 2), 0.1).loss.backward()
    assert [any(row) for row in student.gradient()] == [True, False, False, False, False]


def test_one_forward_holds_all_images() -> None:
    seen: list[int] = []

    def student(x: Tensor) -> Tensor:
        seen.append(len(x))
        return torch.zeros(len(x), 3)

    method("pseudo_label", FACTS).step(student, batch([1], 2), 1.0)
    assert seen == [3]


def test_several_labels_an_image_by_hand() -> None:
    rows = [[2.0, 0.0], [1.0, -0.5], [-2.0, 0.3]]
    made = method("pseudo_label", facts(1, 1, task=MULTI), weight=1.0, begin=0.0, full=0.0)
    student = Table(*rows)
    loss = made.step(student, Batch(images(0), torch.tensor([[0.0, 1.0]]), images(1, 2)), 0.5).loss
    labelled = (binary(2.0, 0.0) + binary(0.0, 1.0)) / 2
    said = [binary(1.0, 1.0), binary(-0.5, 0.0), binary(-2.0, 0.0), binary(0.3, 1.0)]
    assert loss.item() == pytest.approx(labelled + sum(said) / 4, rel=1e-6)
    loss.backward()
    assert student.gradient()[1] == pytest.approx(
        [(sigmoid(1.0) - 1) / 4, sigmoid(-0.5) / 4], abs=1e-6
    )


def test_logit_adjustment_moves_pseudo_labels_to_frequent_classes() -> None:
    """Of nearly equal logits the frequent class is the likely one; the network's own say counts
    classes alike."""
    rows = [[2.0, 0.0], [0.5, 0.4]]
    made = method("pseudo_label", facts(0, 8, adjust=True), weight=1.0, begin=0.0, full=0.0)
    given: Any = Batch(images(0), torch.tensor([0]), images(1))
    step = made.step(Table(*rows), given, 1.0)
    prior = log_prior(0, 8)
    assert prior == pytest.approx([math.log(0.1), math.log(0.9)])
    expected = cross_entropy(plus(rows[0], prior), 0) + cross_entropy(plus(rows[1], prior), 1)
    assert step.loss.item() == pytest.approx(expected, rel=1e-6)


def test_a_ramp_that_ends_before_it_begins_is_an_error() -> None:
    with pytest.raises(UserError, match=r"full 0.1: must not come before begin \(0.2\)"):
        method("pseudo_label", FACTS, begin=0.2, full=0.1)


def test_numbers_have_no_pseudo_labels() -> None:
    with pytest.raises(UserError, match="pseudo_label: has no meaning for the task regression"):
        method("pseudo_label", facts(1, task=REGRESSION))
