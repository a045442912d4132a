"""Supervised: a value by hand, an invariance, the gradients."""

import math

import pytest
import torch
from torch import nn

from fewlabels.methods import Batch, Facts, create, resolve

FACTS = Facts(num_classes=2, label_counts=(1, 1), num_images=2)


def test_cross_entropy_with_smoothing_by_hand() -> None:
    method = create("supervised", FACTS, resolve("supervised", {"label_smoothing": 0.2}))
    logits = torch.tensor([[1.0, 0.0]])
    step = method.step(lambda x: x, Batch(logits, torch.tensor([0])), 0.0)
    p = 1 / (1 + math.exp(-1.0))
    # the target is (0.9, 0.1): 0.2 spread evenly over two classes
    assert step.loss.item() == pytest.approx(-0.9 * math.log(p) - 0.1 * math.log(1 - p), rel=1e-6)


def test_repeating_the_batch_changes_nothing() -> None:
    method = create("supervised", FACTS, resolve("supervised", {}))
    logits, y = torch.randn(4, 2), torch.tensor([0, 1, 1, 0])
    once = method.step(lambda x: x, Batch(logits, y), 0.0).loss
    twice = method.step(lambda x: x, Batch(logits.repeat(2, 1), y.repeat(2)), 0.0).loss
    assert once.item() == pytest.approx(twice.item(), rel=1e-6)


def test_every_parameter_gets_a_gradient_and_the_loss_falls() -> None:
    torch.manual_seed(0)
    method = create("supervised", FACTS, resolve("supervised", {}))
    student = nn.Linear(3, 2)
    batch = Batch(torch.randn(8, 3), torch.tensor([0, 1] * 4))
    before = method.step(student, batch, 0.0).loss
    before.backward()
    with torch.no_grad():
        for parameter in student.parameters():
            assert parameter.grad is not None
            assert parameter.grad.abs().sum() > 0
            parameter -= 0.1 * parameter.grad
    assert method.step(student, batch, 0.0).loss < before
