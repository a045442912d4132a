"""Restoration: each degradation by hand, the loss against the image as it was, who learns."""

import math
from itertools import product

import pytest
import torch
from torch import Tensor, nn

from fewlabels.errors import UserError
from fewlabels.methods import Batch, Facts, Networks, create, resolve
from fewlabels.methods.restoration import Restoration

SIZE = 6
NOISE, LOWER, BLUR, GREY = range(4)


def net() -> nn.Sequential:
    layers = (nn.Conv2d(3, 5, 3, stride=3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(*layers, nn.Linear(5, 2))


def restoration(student: nn.Module, **settings: object) -> Restoration:
    method = create("restoration", Facts(2, (1, 1), 4, 4), resolve("restoration", settings))
    assert isinstance(method, Restoration)
    method.begin(Networks(student, student, SIZE))
    return method


def only(way: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every image meets this degradation."""
    monkeypatch.setattr(torch, "randint", lambda _, shape, generator: torch.full(shape, way))


def test_noise_has_the_deviation_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    only(NOISE, monkeypatch)
    torch.manual_seed(0)
    x = torch.randn(200, 3, SIZE, SIZE)
    added = restoration(net(), noise=0.7).degraded(x) - x
    assert float(added.std()) == pytest.approx(0.7, rel=0.02)
    assert abs(float(added.mean())) < 0.02
    assert torch.equal(restoration(net(), noise=0.0).degraded(x), x)


def test_a_lower_resolution_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Means of blocks, and then lines between their centres, constant beyond the outermost."""
    only(LOWER, monkeypatch)
    torch.manual_seed(0)
    x = torch.randn(2, 3, SIZE, SIZE)
    found = restoration(net(), reduction=3).degraded(x)
    small = x.reshape(2, 3, 2, 3, 2, 3).mean((3, 5))
    share = [min(1.0, max(0.0, ((i + 0.5) / 3 - 0.5))) for i in range(SIZE)]
    for row, column in product(range(SIZE), repeat=2):
        a, b = share[row], share[column]
        above = (1 - b) * small[:, :, 0, 0] + b * small[:, :, 0, 1]
        below = (1 - b) * small[:, :, 1, 0] + b * small[:, :, 1, 1]
        torch.testing.assert_close(found[:, :, row, column], (1 - a) * above + a * below)


@pytest.mark.parametrize(("reduction", "width"), [(2, 3), (3, 3), (4, 5)])
def test_blur_by_hand(reduction: int, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mean over a square of that width, as far as it lies in the image."""
    only(BLUR, monkeypatch)
    torch.manual_seed(0)
    x = torch.randn(2, 3, SIZE, SIZE)
    found = restoration(net(), reduction=reduction).degraded(x)
    reach = width // 2
    for row, column in product(range(SIZE), repeat=2):
        rows = slice(max(0, row - reach), row + reach + 1)
        columns = slice(max(0, column - reach), column + reach + 1)
        expected = x[:, :, rows, columns].mean((2, 3))
        torch.testing.assert_close(found[:, :, row, column], expected)


def test_lost_colours_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    only(GREY, monkeypatch)
    x = torch.randn(2, 3, SIZE, SIZE)
    found = restoration(net()).degraded(x)
    for channel in range(3):
        torch.testing.assert_close(found[:, channel], (x[:, 0] + x[:, 1] + x[:, 2]) / 3)


def test_every_image_meets_one_degradation_drawn_at_random() -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 3, SIZE, SIZE).repeat(2000, 1, 1, 1)
    method = restoration(net(), noise=0.0)
    found, first = method.degraded(x), x[0]
    plain = (found == first).flatten(1).all(1)
    grey = (found[:, 0] == found[:, 1]).flatten(1).all(1)
    kinds = {tuple(image.flatten().tolist()) for image in found}
    assert len(kinds) == 4
    assert float(plain.float().mean()) == pytest.approx(1 / 4, abs=0.04)
    assert float(grey.float().mean()) == pytest.approx(1 / 4, abs=0.04)


def test_the_loss_is_toward_the_image_as_it_was_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    student = net()
    method = restoration(student, weight=0.5, labelled=2.0, alone=0.0)
    weak = torch.randn(2, 3, SIZE, SIZE)
    damaged = torch.randn(2, 3, SIZE, SIZE)
    monkeypatch.setattr(method, "degraded", lambda _: damaged)
    batch = Batch(torch.randn(2, 3, SIZE, SIZE), torch.tensor([0, 1]), weak)
    step = method.step(student, batch, 0.0)
    with torch.no_grad():
        drawn = method.head(student[0](damaged))
        chance = student(batch.x).softmax(1)
    errors = [abs(a - b) for a, b in zip(drawn.flatten(), weak.flatten(), strict=True)]
    task = float(sum(errors)) / len(errors)
    labelled = -(math.log(chance[0, 0]) + math.log(chance[1, 1])) / 2
    assert step.logs["task"].item() == pytest.approx(task, rel=1e-5)
    assert step.loss.item() == pytest.approx(2.0 * labelled + 0.5 * task, rel=1e-5)


def test_order_of_the_images_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    student = net()
    method = restoration(student, labelled=0.0)
    weak, damaged, order = torch.randn(4, 3, 6, 6), torch.randn(4, 3, 6, 6), [3, 1, 0, 2]
    losses = []
    for some, bad in ((weak, damaged), (weak[order], damaged[order])):
        monkeypatch.setattr(method, "degraded", lambda _, bad=bad: bad)
        batch = Batch(weak, torch.zeros(4).long(), some)
        losses.append(method.step(student, batch, 0.0).loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_a_brighter_image_is_degraded_to_a_brighter_one() -> None:
    """None of the degradations moves the level: it commutes with adding a constant."""
    x = torch.randn(8, 3, SIZE, SIZE)
    method = restoration(net())
    found = []
    for offset in (0.0, 2.0):
        torch.manual_seed(3)
        found.append(method.degraded(x + offset) - offset)
    torch.testing.assert_close(found[0], found[1], atol=1e-5, rtol=0)


def test_an_image_smaller_than_the_reduction_is_an_error() -> None:
    with pytest.raises(UserError, match="reduction 7: more than the image has pixels"):
        restoration(net(), reduction=7).degraded(torch.randn(1, 3, SIZE, SIZE))


def test_the_image_is_not_changed_and_gradients_reach_maps_and_head() -> None:
    torch.manual_seed(0)
    student = net()
    method = restoration(student, labelled=0.0)
    weak: Tensor = torch.randn(8, 3, SIZE, SIZE)
    kept = weak.clone()
    garbage = Batch(torch.randn(1, 3, SIZE, SIZE), torch.tensor([-5]), weak)  # no label is needed
    method.step(student, garbage, 0.0).loss.backward()
    assert torch.equal(weak, kept)
    assert student[0].weight.grad is not None
    assert student[0].weight.grad.abs().sum() > 0
    assert student[3].weight.grad is None  # the classes' head is not asked
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in method.parameters())
