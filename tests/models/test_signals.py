"""Signals: their sizes by hand, and warnings where they vanish or explode, and only there."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from fewlabels.models import catalog
from fewlabels.models.signals import Signal, signals, warnings


def batch(size: int = 32, count: int = 16) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 3, size, size, generator=generator), torch.arange(count) % 10


def mlp(activation: Callable[[], nn.Module], init: Callable[[Tensor], object]) -> nn.Module:
    """Ten layers of 128 units, on 3x8x8."""
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs in [192] + [128] * 9:
        linear = nn.Linear(inputs, 128)
        init(linear.weight)
        nn.init.zeros_(linear.bias)
        layers += [linear, activation()]
    return nn.Sequential(*layers, nn.Linear(128, 10))


def gaussian(weight: Tensor) -> None:
    nn.init.normal_(weight, 0.0, 0.01)


def large(weight: Tensor) -> None:
    nn.init.normal_(weight, 0.0, 1.0)


def he(weight: Tensor) -> None:
    nn.init.kaiming_normal_(weight)


def test_statistics_by_hand() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(3, 2, bias=False), nn.ReLU(), nn.Linear(2, 2))
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[1.0, 0, 0], [0, 1.0, 0]]))
        model[3].weight.copy_(torch.eye(2))
        model[3].bias.zero_()
    x = torch.tensor([[1.0, -1, 0], [3, 0, 0]]).reshape(2, 3, 1, 1)
    _, linear, relu, head = signals(model, x, torch.tensor([0, 0]))
    assert (linear.mean, linear.std) == (0.75, pytest.approx(math.sqrt(2.1875)))
    assert (linear.zeros, relu.zeros, relu.saturated) == (0.25, 0.5, 0.0)
    assert (linear.weights, relu.weights) == (True, False)
    # softmax less the label: p - 1 and p, with p = e/(1 + e) and e³/(1 + e³)
    wrong = [1 - 1 / (1 + math.exp(-1)), 1 - 1 / (1 + math.exp(-3))]
    assert head.gradient == pytest.approx(math.sqrt((2 * wrong[0] ** 2 + 2 * wrong[1] ** 2) / 2))
    # ReLU lets the first unit's through; the second is at or below zero
    assert linear.gradient == pytest.approx(math.sqrt((wrong[0] ** 2 + wrong[1] ** 2) / 2))


def test_saturation() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Tanh(), nn.Linear(3, 2))
    x = torch.tensor([[0.0, 5, -5]]).reshape(1, 3, 1, 1)
    assert signals(model, x, torch.tensor([0]))[1].saturated == pytest.approx(2 / 3)
    model = nn.Sequential(nn.Flatten(), nn.Sigmoid(), nn.Linear(3, 2))
    assert signals(model, 2 * x, torch.tensor([0]))[1].saturated == pytest.approx(2 / 3)


def test_small_gaussian_weights_make_a_deep_tanh_net_vanish() -> None:
    found = signals(mlp(nn.Tanh, gaussian), *batch(8))
    lines = warnings(found)
    assert len(lines) == 2
    assert lines[0].startswith("the activations shrink from 0.1 at layer 1 to ")
    assert " at layer 10: " in lines[0]
    assert lines[0].endswith("the signal vanishes; try --init xavier")
    assert lines[1].startswith("the gradients shrink from")
    assert " at layer 1: " in lines[1]
    assert "the first layers hardly learn" in lines[1]


@pytest.mark.parametrize(
    ("activation", "init"),
    [(nn.Tanh, nn.init.xavier_uniform_), (nn.ReLU, he)],
    ids=["tanh", "relu"],
)
def test_suitable_weights_let_signals_through(
    activation: Callable[[], nn.Module], init: Callable[[Tensor], object]
) -> None:
    assert warnings(signals(mlp(activation, init), *batch(8))) == []


def test_gradients_vanish_in_sigmoids() -> None:
    """A quarter at most a layer, whatever the weights: activations stay, gradients go."""
    found = signals(mlp(nn.Sigmoid, nn.init.xavier_uniform_), *batch(8))
    (line,) = warnings(found)
    assert line.startswith("the gradients shrink")
    assert "try ReLU" in line


def test_large_weights_explode() -> None:
    lines = warnings(signals(mlp(nn.ReLU, large), *batch(8)))
    assert "the activations grow" in lines[0]
    assert lines[0].endswith("the signal explodes; try --init he")
    assert "the first layers make wild steps" in lines[1]


def test_large_weights_saturate() -> None:
    (line,) = warnings(signals(mlp(nn.Tanh, large), *batch(8)))
    assert "is saturated" in line


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("cnn_small", 32),
        ("lenet5", 32),
        ("resnet18", 64),
        ("vgg16_bn", 32),
        ("squeezenet1_1", 64),
        ("timm:mobilenetv2_035", 64),
        ("timm:efficientnet_b0", 64),  # gates
        ("timm:resnet26", 64),  # branches that start at zero
        ("timm:convnext_atto", 64),  # branches that start at 1e-6
        ("timm:test_vit", 160),
        ("timm:mixer_s32_224", 224),  # a head that starts at zero
    ],
)
def test_ordinary_nets_get_no_warning(name: str, size: int) -> None:
    torch.manual_seed(0)
    assert warnings(signals(catalog.build(name, 10, "none").model, *batch(size, 8))) == []


def test_nothing_is_changed() -> None:
    torch.manual_seed(3)
    model = catalog.build("timm:mobilenetv2_035", 10, "none").model.train()
    frozen = model.get_submodule("bn1").eval()
    model.get_parameter("conv_stem.weight").requires_grad_(False)
    model.get_parameter("classifier.bias").grad = torch.ones(10)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    generator = torch.get_rng_state()
    images, labels = batch()
    copy = images.clone()
    rows = signals(model, images, labels)
    assert rows[0].gradient > 0  # frozen or not
    assert model.training
    assert not frozen.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), generator)
    assert torch.equal(images, copy)
    assert images.grad is None
    gradients = [name for name, p in model.named_parameters() if p.grad is not None]
    assert gradients == ["classifier.bias"]
    assert not any(module._forward_hooks for module in model.modules())


def test_nothing_is_changed_by_a_failure() -> None:
    model = catalog.build("lenet5", 10, "none").model.eval()
    with pytest.raises(RuntimeError):
        signals(model, *batch(4))
    assert not model.training
    assert not any(module._forward_hooks for module in model.modules())


def row(std: float, gradient: float = 1.0, kind: str = "Linear", zeros: float = 0.0) -> Signal:
    return Signal("layer", kind, kind == "Linear", 0.0, std, zeros, 0.0, gradient)


def test_odd_signals() -> None:
    assert warnings([]) == []
    assert warnings([row(1.0)]) == []
    assert "not finite" in warnings([row(1.0), row(math.inf), row(1.0)])[0]
    assert "not finite" in warnings([row(1.0, math.nan), row(1.0)])[0]
    assert "to 0 at layer 2" in warnings([row(1.0), row(0.0), row(0.0)])[0]  # a dead layer
    # the gradient is gone below what a float holds
    assert (
        "shrink from 1 at layer 2 back to 0 at layer 1"
        in (warnings([row(1.0, 0.0), row(1.0), row(1.0)])[0])
    )
