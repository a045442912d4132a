"""Skipping images that carry no loss gives what one concatenated pass gives.

B = 4 labelled and U = 12 unlabelled images, of which so and so many carry loss: none, one, numbers
that are no multiple of B, all.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

from fewlabels.methods import Batch
from fewlabels.methods.forward import (
    WholeBatch,
    batch_norms,
    normalises_by_batch,
    selected,
    together,
    whole,
    worth_selecting,
)
from fewlabels.methods.targets import Taught, disagreement, mean_over_all
from fewlabels.models import catalog

B, U, CLASSES = 4, 12, 4
KEPT = [0, 1, 5, 8, 11, 12]
Norm = Callable[[int], nn.Module]


class LayerNorm2d(nn.GroupNorm):
    """Over channels and places."""

    def __init__(self, channels: int) -> None:
        super().__init__(1, channels)


NORMS: dict[str, Norm] = {
    "batch norm": nn.BatchNorm2d,
    "batch norm, mean of all batches": lambda c: nn.BatchNorm2d(c, momentum=None),
    "batch norm without weights": lambda c: nn.BatchNorm2d(c, affine=False),
    "batch norm without running statistics": lambda c: nn.BatchNorm2d(c, track_running_stats=False),
}
ALONE: dict[str, Norm] = {
    "group norm": lambda c: nn.GroupNorm(4, c),
    "layer norm": LayerNorm2d,
    "none": lambda _: nn.Identity(),
    "frozen batch norm": lambda c: nn.BatchNorm2d(c).eval(),
}


def conv_net(norm: Norm) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1), norm(8), nn.ReLU()),
        *(nn.Conv2d(8, 8, 3, padding=1, bias=False), norm(8), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 16, 3, padding=1, bias=False), norm(16), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, CLASSES)),
    )
    return varied(model)


def varied(model: nn.Module) -> nn.Module:
    """Norms that do something: weights and biases off 1 and 0, and running statistics too."""
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d | nn.GroupNorm):
            if layer.weight is not None:
                nn.init.uniform_(layer.weight, 0.5, 1.5)
                nn.init.normal_(layer.bias, std=0.3)
            if isinstance(layer, nn.BatchNorm2d) and layer.running_mean is not None:
                layer.running_mean.normal_(0.0, 0.3)
                assert layer.running_var is not None
                layer.running_var.uniform_(0.5, 1.5)
    return model


def timm_net() -> nn.Module:
    """Its batch norms hold their activations: `BatchNormAct2d`."""
    torch.manual_seed(0)
    model = catalog.build("timm:test_efficientnet", CLASSES, "none").model
    assert any(type(layer).__name__ == "BatchNormAct2d" for layer in model.modules())
    return varied(model).train()


def given(seed: int = 0, side: int = 8) -> Batch:
    """Weak and strong views are of other brightness and contrast than the labelled images: with
    statistics of their own each would look alike."""
    draw = torch.Generator().manual_seed(seed)
    x, weak, strong = (torch.randn(n, 3, side, side, generator=draw) for n in (B, U, U))
    y = torch.randint(CLASSES, (B,), generator=draw)
    return Batch(x, y, 1.2 * weak + 0.3, 2 * strong - 0.7, torch.arange(U))


@dataclass
class Result:
    labelled: Tensor
    strong: dict[int, Tensor]  # by image, of those that carry loss
    loss: Tensor
    gradients: dict[str, Tensor]
    buffers: dict[str, Tensor]


def step(forward: Any, model: nn.Module, batch: Batch, kept: int) -> Result:
    """One step in which `kept` images, scattered over the batch, carry loss."""
    order = torch.randperm(U, generator=torch.Generator().manual_seed(kept))
    weight = torch.zeros(U)
    weight[order[:kept]] = torch.linspace(0.2, 1.0, kept) if kept else torch.zeros(0)

    def teach(weak: Tensor) -> Taught:
        assert not weak.requires_grad
        return Taught(weak.argmax(1), weight)

    labelled, strong, rows, taught = forward(model, batch, teach)
    some = taught.only(rows)
    unlabelled = mean_over_all(disagreement(strong, some.target), some.weight, U)
    loss = F.cross_entropy(labelled, batch.y) + unlabelled
    model.zero_grad()
    loss.backward()
    return Result(
        labelled.detach(),
        {int(r): logits for r, logits in zip(rows, strong.detach(), strict=True) if weight[r] > 0},
        loss.detach(),
        {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None},
        {name: value.clone() for name, value in model.named_buffers()},
    )


def both(model: nn.Module, batch: Batch, kept: int) -> tuple[Result, Result]:
    """Of one pass, and of skipping, from the same start."""
    return step(whole, copy.deepcopy(model), batch, kept), step(selected, model, batch, kept)


def same_outputs(one: Result, other: Result, tolerance: float = 1e-5) -> None:
    assert torch.allclose(one.labelled, other.labelled, atol=tolerance, rtol=tolerance)
    assert one.strong.keys() == other.strong.keys()
    for image, logits in one.strong.items():
        assert torch.allclose(logits, other.strong[image], atol=tolerance, rtol=tolerance)
    assert one.loss.item() == pytest.approx(other.loss.item(), abs=tolerance)
    for name, value in one.buffers.items():
        assert torch.allclose(value, other.buffers[name], atol=1e-5, rtol=1e-5), name


@pytest.mark.parametrize("kept", KEPT)
@pytest.mark.parametrize("norm", NORMS)
def test_logits_loss_and_running_statistics_are_those_of_one_pass(norm: str, kept: int) -> None:
    """The buffers hold the number of batches, too: one a step."""
    one, other = both(conv_net(NORMS[norm]), given(), kept)
    assert len(one.strong) == kept
    same_outputs(one, other)


@pytest.mark.parametrize("kept", [0, 5, 12])
def test_norms_that_hold_their_activation_are_no_exception(kept: int) -> None:
    same_outputs(*both(timm_net(), given(side=32), kept), tolerance=5e-5)


@pytest.mark.parametrize("kept", KEPT)
@pytest.mark.parametrize("norm", ALONE)
def test_without_batch_statistics_the_gradient_is_exact(norm: str, kept: int) -> None:
    one, other = both(conv_net(ALONE[norm]), given(), kept)
    same_outputs(one, other)
    assert one.gradients.keys() == other.gradients.keys()
    for name, gradient in one.gradients.items():
        assert torch.allclose(gradient, other.gradients[name], atol=1e-6), name


@pytest.mark.parametrize("norm", NORMS)
def test_running_statistics_are_updated_once_a_step(norm: str) -> None:
    model: Any = conv_net(NORMS[norm])
    first, before = model[1], copy.deepcopy(model[1])
    batch = given()
    assert batch.weak is not None
    assert batch.strong is not None
    maps = model[0](torch.cat([batch.x, batch.weak, batch.strong])).detach()
    step(selected, model, batch, 5)
    if first.running_mean is None:
        assert before.running_mean is None
        return
    new = 1.0 if first.momentum is None else first.momentum
    mean = (1 - new) * before.running_mean + new * maps.mean((0, 2, 3))
    variance = (1 - new) * before.running_var + new * maps.var((0, 2, 3))
    assert torch.allclose(first.running_mean, mean, atol=1e-5)
    assert torch.allclose(first.running_var, variance, atol=1e-5)
    assert first.num_batches_tracked == 1


@pytest.mark.parametrize("norm", NORMS)
def test_a_second_step_begins_with_statistics_of_its_own(norm: str) -> None:
    model = conv_net(NORMS[norm])
    other = copy.deepcopy(model)
    for seed in range(3):
        same_outputs(
            step(whole, other, given(seed), 3 + seed), step(selected, model, given(seed), 3 + seed)
        )


@pytest.mark.parametrize("kept", [0, 5, 12])
def test_frozen_norms_among_others_stay_untouched(kept: int) -> None:
    model: Any = conv_net(nn.BatchNorm2d)
    model[4].eval()
    before = copy.deepcopy(model[4].state_dict())
    one, other = both(model, given(), kept)
    same_outputs(one, other)
    assert all(torch.equal(value, before[name]) for name, value in model[4].state_dict().items())
    assert model[1].num_batches_tracked == 1


@pytest.mark.parametrize("kept", [0, 1, 5, 12])
def test_gradients_are_orthogonal_to_scales_and_shifts_before_a_norm(kept: int) -> None:
    """A filter whose maps are normalised can be scaled, and shifted by its bias, without effect on
    the loss. With statistics taken for constants it would grow."""
    model: Any = conv_net(nn.BatchNorm2d)
    gradients = step(selected, model, given(), kept).gradients
    for conv, norm in pairwise(model):
        if isinstance(conv, nn.Conv2d):
            assert isinstance(norm, nn.BatchNorm2d)
            gradient = conv.weight.grad
            assert gradient is not None
            along = (conv.weight * gradient).flatten(1).sum(1)
            across = conv.weight.flatten(1).norm(dim=1) * gradient.flatten(1).norm(dim=1)
            assert (along.abs() < 2e-3 * across).all()
    assert gradients["0.weight"].abs().max() > 1e-3
    assert gradients["0.bias"].abs().max() < 1e-6


@pytest.mark.parametrize("kept", [0.1, 0.4, 0.7])
def test_with_batch_norm_the_gradient_points_where_the_whole_one_does(kept: float) -> None:
    """Digits, 16 labelled and 64 unlabelled, a net that has learnt from the labels for a while."""
    pixels = torch.from_numpy(load_digits().images).float()[:, None].repeat(1, 3, 1, 1) / 8 - 1
    y = torch.from_numpy(load_digits().target)
    pixels = F.interpolate(pixels, scale_factor=2.0)
    torch.manual_seed(0)
    model = catalog.build("cnn_small", 10, "none").model.train()
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(20):
        optimiser.zero_grad()
        F.cross_entropy(model(pixels[:64]), y[:64]).backward()
        optimiser.step()
    x, images = pixels[64:80], pixels[80:144]
    strong = images * 0.7 + 0.3 * torch.randn_like(images)
    batch = Batch(x, y[64:80], images, strong)

    def teach(weak: Tensor) -> Taught:
        confidence, target = weak.softmax(1).max(1)
        return Taught(target, (confidence >= confidence.quantile(1 - kept)).float())

    gradients = []
    for forward in (whole, selected):
        student = copy.deepcopy(model)
        labelled, logits, rows, taught = forward(student, batch, teach)
        some = taught.only(rows)
        loss = mean_over_all(disagreement(logits, some.target), some.weight, len(images))
        (F.cross_entropy(labelled, batch.y) + loss).backward()
        gradients.append([p.grad.flatten() for p in student.parameters() if p.grad is not None])
    one, other = (torch.cat(parts) for parts in gradients)
    assert F.cosine_similarity(one, other, dim=0) > 0.9
    assert 0.7 < other.norm() / one.norm() < 1.4


def test_as_many_images_are_passed_as_carry_loss_and_make_up_an_even_number() -> None:
    for norm, first in ((nn.BatchNorm2d, B + 2 * U), (LayerNorm2d, U)):
        for kept, strong in ((0, 0), (1, 4), (4, 4), (5, 8), (11, 12), (12, 12)):
            model = conv_net(norm)
            seen: list[tuple[int, bool]] = []
            model.register_forward_pre_hook(
                lambda _, x, seen=seen: seen.append((len(x[0]), torch.is_grad_enabled()))
            )
            step(selected, model, given(), kept)
            assert seen == [(first, False), (B + strong, True)]


def test_images_that_make_up_the_number_carry_no_gradient() -> None:
    batch = given()
    assert batch.strong is not None
    batch.strong.requires_grad_()
    step(selected, conv_net(LayerNorm2d), batch, 5)
    assert batch.strong.grad is not None
    assert int((batch.strong.grad.flatten(1).abs().amax(1) > 0).sum()) == 5


def test_numbers_of_unlabelled_images_that_are_no_multiple_of_the_labelled() -> None:
    full = given()
    assert full.weak is not None
    assert full.strong is not None
    batch = Batch(full.x, full.y, full.weak[:10], full.strong[:10])

    def teach(weak: Tensor) -> Taught:
        return Taught(weak.argmax(1), torch.ones(len(weak)))

    labelled, strong, rows, _ = selected(conv_net(nn.BatchNorm2d), batch, teach)
    assert (len(labelled), len(strong), sorted(rows.tolist())) == (4, 10, list(range(10)))


def test_a_single_labelled_image_is_not_passed_alone() -> None:
    """Batch norm of one value a channel has no variance, and torch refuses it."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Linear(5, 2))
    x, weak, strong = torch.randn(1, 3), torch.randn(6, 3), torch.randn(6, 3)
    batch = Batch(x, torch.tensor([1]), weak, strong)
    outputs = []
    for forward in (whole, selected):
        student = copy.deepcopy(model)
        labelled, *_ = forward(student, batch, lambda w: Taught(w.argmax(1), torch.zeros(len(w))))
        labelled.sum().backward()
        outputs.append(labelled)
    assert torch.allclose(outputs[0], outputs[1], atol=1e-5)


def test_in_half_precision_every_parameter_learns() -> None:
    model = conv_net(nn.BatchNorm2d)
    with torch.autocast("cpu", torch.bfloat16):
        one, other = both(model, given(), 5)
    assert torch.allclose(one.labelled.float(), other.labelled.float(), atol=0.05)
    assert other.gradients.keys() == one.gradients.keys()
    for name, gradient in other.gradients.items():
        if name != "0.bias":  # before a norm: no effect
            assert gradient.abs().sum() > 0.01 * one.gradients[name].abs().sum(), name


def test_what_the_weak_views_teach_is_asked_once() -> None:
    for norm in (nn.BatchNorm2d, LayerNorm2d):
        asked: list[int] = []

        def teach(weak: Tensor, asked: list[int] = asked) -> Taught:
            asked.append(len(weak))
            return Taught(weak.argmax(1), torch.ones(len(weak)))

        selected(conv_net(norm), given(), teach)
        assert asked == [U]


def test_outside_of_it_batch_norm_is_as_ever() -> None:
    norm, x = nn.BatchNorm2d(3), torch.randn(4, 3, 5, 5)
    statistics = WholeBatch()
    with statistics:
        inside = norm(x)
    assert torch.allclose(inside, norm(x), atol=1e-6)


def test_one_distribution_is_seen_of_parts_that_pass_together() -> None:
    model = conv_net(nn.BatchNorm2d)
    batch = given()
    assert batch.weak is not None
    one, other = together(copy.deepcopy(model), batch.x, batch.weak)
    every = model(torch.cat([batch.x, batch.weak]))
    assert torch.equal(torch.cat([one, other]), every)


def test_who_normalises_by_batch_and_where_skipping_is_worth_it() -> None:
    model: Any = conv_net(nn.BatchNorm2d)
    assert normalises_by_batch(model)
    assert len(batch_norms(model)) == 3
    assert [worth_selecting(model, kept) for kept in (0.0, 0.6, 0.8, 1.0)] == [True] * 2 + [
        False
    ] * 2
    model[1].eval()
    assert batch_norms(model) == [model[4], model[8]]
    model.eval()
    assert not normalises_by_batch(model)
    assert worth_selecting(model, 1.0)
    # in eval mode too, without running statistics
    assert normalises_by_batch(conv_net(NORMS["batch norm without running statistics"]).eval())
    assert not normalises_by_batch(conv_net(LayerNorm2d))
    assert not normalises_by_batch(lambda x: x)  # a student need not be a module
