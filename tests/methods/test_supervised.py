"""Supervised: values by hand for the three tasks, invariances, the gradients."""

import math
from typing import Any

import pytest
import torch
from table import Table, binary, cross_entropy, facts, images, log_prior, method, plus, pulled
from torch import nn

from fewlabels.errors import UserError
from fewlabels.methods import Batch
from fewlabels.methods.method import MULTI, REGRESSION

FACTS = facts(1, 1)
ROWS = [[2.0, 0.5, -1.0], [0.0, 1.0, 0.3]]


def loss(rows: list[list[float]], y: Any, about: Any = None, **settings: Any) -> float:
    made = method("supervised", about or facts(1, 1, 1), **settings)
    batch = Batch(images(*range(len(rows))), torch.tensor(y))
    value: float = made.step(Table(*rows), batch, 0.0).loss.item()
    return value


def test_cross_entropy_with_smoothing_by_hand() -> None:
    made = method("supervised", FACTS, label_smoothing=0.2)
    step = made.step(lambda x: x, Batch(torch.tensor([[1.0, 0.0]]), torch.tensor([0])), 0.0)
    p = 1 / (1 + math.exp(-1.0))
    # the target is (0.9, 0.1): 0.2 spread evenly over two classes
    assert step.loss.item() == pytest.approx(-0.9 * math.log(p) - 0.1 * math.log(1 - p), rel=1e-6)


def test_the_loss_is_the_mean_cross_entropy() -> None:
    expected = (cross_entropy(ROWS[0], 1) + cross_entropy(ROWS[1], 2)) / 2
    assert loss(ROWS, [1, 2]) == pytest.approx(expected, rel=1e-6)


def test_mixed_images_have_probabilities_for_labels() -> None:
    y = [[0.7, 0.3, 0.0], [0.0, 0.5, 0.5]]
    expected = (cross_entropy(ROWS[0], y[0]) + cross_entropy(ROWS[1], y[1])) / 2
    assert loss(ROWS, y) == pytest.approx(expected, rel=1e-6)


def test_several_labels_an_image_by_hand() -> None:
    y = [[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]]
    about = facts(1, 1, 1, task=MULTI)
    each = [binary(ROWS[b][k], y[b][k]) for b in range(2) for k in range(3)]
    assert loss(ROWS, y, about) == pytest.approx(sum(each) / 6, rel=1e-6)


def test_numbers_instead_of_classes_by_hand() -> None:
    about = facts(1, task=REGRESSION)
    # one number an image, given as [B] or as [B, 1]
    expected = ((2.0 - 1.5) ** 2 + (0.0 + 1.0) ** 2) / 2
    assert loss([[2.0], [0.0]], [1.5, -1.0], about) == pytest.approx(expected, rel=1e-6)
    assert loss([[2.0], [0.0]], [[1.5], [-1.0]], about) == pytest.approx(expected, rel=1e-6)


def test_logit_adjustment_adds_the_log_prior_to_the_loss_and_not_to_the_logits() -> None:
    about = facts(6, 1, 0, adjust=True)  # priors 0.7, 0.2, 0.1
    batch = Batch(images(0), torch.tensor([2]))
    step = method("supervised", about).step(Table(ROWS[0]), batch, 0.0)
    adjusted = plus(ROWS[0], [math.log(0.7), math.log(0.2), math.log(0.1)])
    assert step.loss.item() == pytest.approx(cross_entropy(adjusted, 2), rel=1e-6)
    assert step.logits[0].tolist() == pytest.approx(ROWS[0])


def test_equally_frequent_classes_are_not_adjusted() -> None:
    about = facts(3, 3, 3, adjust=True)
    assert loss(ROWS, [1, 2], about) == pytest.approx(loss(ROWS, [1, 2]), rel=1e-6)


@pytest.mark.parametrize("task", [MULTI, REGRESSION])
def test_without_one_class_an_image_nothing_is_adjusted(task: str) -> None:
    made = method("supervised", facts(6, 1, 0, task=task, adjust=True))
    assert made.log_prior.tolist() == [0.0, 0.0, 0.0]


def test_repeating_the_batch_changes_nothing() -> None:
    assert loss(ROWS * 2, [1, 2, 1, 2]) == pytest.approx(loss(ROWS, [1, 2]), rel=1e-6)


def test_a_constant_added_to_all_logits_changes_nothing() -> None:
    shifted = [plus(row, [7.0] * 3) for row in ROWS]
    assert loss(shifted, [1, 2]) == pytest.approx(loss(ROWS, [1, 2]), rel=1e-5)


def test_other_numbers_for_the_classes_change_nothing() -> None:
    turned = [[row[2], row[0], row[1]] for row in ROWS]  # class k becomes k + 1
    about, turned_about = facts(4, 2, 0, adjust=True), facts(0, 4, 2, adjust=True)
    one = loss(ROWS, [1, 2], about, label_smoothing=0.1)
    assert loss(turned, [2, 0], turned_about, label_smoothing=0.1) == pytest.approx(one, rel=1e-6)


@pytest.mark.parametrize("adjust", [False, True])
def test_the_whole_gradient_by_hand(adjust: bool) -> None:
    student = Table(*ROWS, [1.0, 1.0, 1.0])
    made = method("supervised", facts(4, 2, 0, adjust=adjust))
    made.step(student, Batch(images(0, 1), torch.tensor([1, 2])), 0.0).loss.backward()
    prior = log_prior(4, 2, 0) if adjust else [0.0] * 3
    assert student.gradient()[0] == pytest.approx(pulled(plus(ROWS[0], prior), 1, 0.5), abs=1e-6)
    assert student.gradient()[1] == pytest.approx(pulled(plus(ROWS[1], prior), 2, 0.5), abs=1e-6)
    assert student.gradient()[2] == [0.0, 0.0, 0.0]  # not in the batch


def test_every_parameter_gets_a_gradient_and_the_loss_falls() -> None:
    torch.manual_seed(0)
    made = method("supervised", FACTS)
    student = nn.Linear(3, 2)
    batch = Batch(torch.randn(8, 3), torch.tensor([0, 1] * 4))
    before = made.step(student, batch, 0.0).loss
    before.backward()
    with torch.no_grad():
        for parameter in student.parameters():
            assert parameter.grad is not None
            assert parameter.grad.abs().sum() > 0
            parameter -= 0.1 * parameter.grad
    assert made.step(student, batch, 0.0).loss < before


@pytest.mark.parametrize("task", [MULTI, REGRESSION])
def test_smoothing_without_classes_is_an_error(task: str) -> None:
    with pytest.raises(UserError, match=r"label_smoothing has no effect with the task \w+$"):
        method("supervised", facts(1, 1, task=task), label_smoothing=0.1)


def test_wrong_settings_are_errors() -> None:
    with pytest.raises(UserError, match=r"label_smoothing 1\.5: must be between 0 and 1"):
        method("supervised", FACTS, label_smoothing=1.5)
    with pytest.raises(UserError, match="view other: must be one of weak, strong"):
        method("supervised", FACTS, view="other")
