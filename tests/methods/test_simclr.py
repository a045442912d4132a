"""SimCLR: its loss term by term, what makes no difference, who learns."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from fewlabels.methods import Batch, Facts, Networks, create, resolve
from fewlabels.methods.simclr import SimCLR, contrast


def simclr(student: nn.Module, **settings: object) -> SimCLR:
    method = create("simclr", Facts(2, (1, 1), 4, 4), resolve("simclr", settings))
    assert isinstance(method, SimCLR)
    method.begin(Networks(student, student, 2))
    return method


def by_hand(z: NDArray[np.float64], tau: float) -> float:
    """Equation 1 for every ordered pair of views of one image, m and M + m."""
    half, terms = len(z) // 2, []
    cosine = [[a @ b / np.linalg.norm(a) / np.linalg.norm(b) for b in z] for a in z]
    for i in range(len(z)):
        j = (i + half) % len(z)
        others = sum(math.exp(cosine[i][k] / tau) for k in range(len(z)) if k != i)
        terms.append(-math.log(math.exp(cosine[i][j] / tau) / others))
    return sum(terms) / len(terms)


@pytest.mark.parametrize("tau", [0.1, 0.5, 2.0])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_contrast_is_equation_1(count: int, tau: float) -> None:
    z = np.random.default_rng(count).normal(size=(2 * count, 4))
    assert contrast(torch.from_numpy(z), tau).item() == pytest.approx(by_hand(z, tau), abs=1e-9)


def test_values_known_in_closed_form() -> None:
    axes = torch.eye(3)
    # views of one image agree, those of others are at right angles: e^2 among e^2 + 4
    known = -math.log(math.exp(2) / (math.exp(2) + 4))
    assert contrast(torch.cat([axes, axes]), 0.5).item() == pytest.approx(known, rel=1e-6)
    # all views agree: one among five
    assert contrast(torch.ones(6, 2), 0.5).item() == pytest.approx(math.log(5), rel=1e-6)
    assert contrast(torch.randn(2, 3), 0.5).item() == 0.0  # nothing to be told from


def test_lengths_turns_and_order_make_no_difference() -> None:
    torch.manual_seed(0)
    z = torch.randn(8, 5).double()
    expected = contrast(z, 0.5)
    longer = z * torch.rand(8, 1).double().add(0.1)
    turned = z @ torch.linalg.qr(torch.randn(5, 5).double())[0]
    order = torch.tensor([2, 0, 3, 1])
    shuffled = torch.cat([z[:4][order], z[4:][order]])
    swapped = torch.cat([z[4:], z[:4]])
    for other in (longer, turned, shuffled, swapped):
        torch.testing.assert_close(contrast(other, 0.5), expected)


def test_a_step_is_both_losses_of_both_views() -> None:
    torch.manual_seed(0)
    student = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    method = simclr(student, weight=0.3, labelled=2.0, temperature=0.7, dimensions=5)
    x, one, two = (torch.randn(count, 3, 2, 2) for count in (2, 3, 3))
    step = method.step(student, Batch(x, torch.tensor([0, 1]), strong=one, other=two), 0.0)
    first, second = method.head[0], method.head[2]
    assert (first.in_features, first.out_features, second.out_features) == (12, 12, 5)
    with torch.no_grad():
        pixels = torch.cat([one, two]).flatten(1)
        z = second((pixels @ first.weight.T + first.bias).clamp_min(0)).double().numpy()
        chance = student(x).softmax(1)
    task = by_hand(z, 0.7)
    labelled = -(math.log(chance[0, 0]) + math.log(chance[1, 1])) / 2
    assert step.logs["task"].item() == pytest.approx(task, rel=1e-5)
    assert step.loss.item() == pytest.approx(2.0 * labelled + 0.3 * task, rel=1e-5)


def test_the_gradient_draws_views_of_one_image_together_and_others_apart() -> None:
    z = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.8, -0.6], [0.0, 1.0]], requires_grad=True)
    contrast(z, 0.5).backward()
    assert z.grad is not None
    moved = z.detach() - 0.1 * z.grad

    def cosine(i: int, j: int) -> float:
        of = [torch.cosine_similarity(some[i], some[j], 0) for some in (z.detach(), moved)]
        return float(of[1] - of[0])

    assert cosine(0, 2) > 0  # of one image
    assert cosine(1, 3) > 0
    assert cosine(0, 1) < 0


def test_the_task_reaches_features_and_projection_through_both_views() -> None:
    torch.manual_seed(0)
    student = nn.Sequential(nn.Conv2d(3, 4, 2), nn.Flatten(), nn.Linear(4, 2))
    method = simclr(student, labelled=0.0)
    one, two = (torch.randn(3, 3, 2, 2, requires_grad=True) for _ in range(2))
    losses = []
    for y in (torch.tensor([0]), torch.tensor([-3])):  # no label is looked at
        step = method.step(student, Batch(torch.randn(1, 3, 2, 2), y, strong=one, other=two), 0.0)
        losses.append(step.loss.item())
    assert losses[0] == losses[1]
    step.loss.backward()
    for view in (one, two):
        assert view.grad is not None
        assert (view.grad.flatten(1).abs().sum(1) > 0).all()
    assert student[0].weight.grad is not None
    assert student[0].weight.grad.abs().sum() > 0
    assert student[2].weight.grad is None  # the classes' head is not asked
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in method.parameters())
