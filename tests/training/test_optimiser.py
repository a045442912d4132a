import pytest
import torch
from torch import nn

from fewlabels.errors import UserError
from fewlabels.models import catalog
from fewlabels.models.built import head
from fewlabels.models.structure import units
from fewlabels.training.optimiser import (
    OptimiserSettings,
    build,
    parameter_groups,
    rate_scales,
    restore,
)


def model() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 2))


def test_norms_and_biases_do_not_decay() -> None:
    net = model()
    decayed, free = parameter_groups(net, OptimiserSettings(weight_decay=0.1))
    assert {id(p) for p in decayed["params"]} == {id(net[0].weight), id(net[3].weight)}
    assert len(free["params"]) == 4
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.1, 0.0)


def test_frozen_parameters_are_left_out() -> None:
    net = model()
    net[0].requires_grad_(False)
    groups = parameter_groups(net, OptimiserSettings(weight_decay=0.1))
    assert sum(len(group["params"]) for group in groups) == 4


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("sgd", torch.optim.SGD),
        ("nesterov", torch.optim.SGD),
        ("adamw", torch.optim.AdamW),
    ],
)
def test_the_named_optimiser_is_built(name: str, kind: type[torch.optim.Optimizer]) -> None:
    optim = build(model(), OptimiserSettings(name, lr=0.3))
    assert type(optim) is kind
    assert {group["lr"] for group in optim.param_groups} == {0.3}
    if kind is torch.optim.SGD:
        assert all(group["nesterov"] == (name == "nesterov") for group in optim.param_groups)


def test_an_unknown_optimiser_is_named() -> None:
    with pytest.raises(UserError, match="adam2"):
        build(model(), OptimiserSettings("adam2"))


@pytest.mark.parametrize("name", ["sgd", "nesterov", "adamw"])
def test_decay_by_hand(name: str) -> None:
    """Without a gradient a matrix shrinks by rate and decay, and nothing else moves."""
    net = model()
    before = {key: p.detach().clone() for key, p in net.named_parameters()}
    optim = build(net, OptimiserSettings(name, lr=0.5, weight_decay=0.1))
    for parameter in net.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optim.step()
    for key, parameter in net.named_parameters():
        factor = 1 - 0.5 * 0.1 if parameter.ndim > 1 else 1.0
        # Nesterov's step: the gradient of the decay, and momentum's 0.9 of it again
        factor = 1 - 0.5 * 0.1 * 1.9 if name == "nesterov" and parameter.ndim > 1 else factor
        torch.testing.assert_close(parameter.detach(), before[key] * factor)


# rates by depth


def scales_of(settings: OptimiserSettings) -> dict[str, float]:
    return rate_scales(catalog.build("resnet18", 3, "none").model, settings)


def test_layer_decay_by_hand() -> None:
    scales = scales_of(OptimiserSettings(lr=0.1, layer_decay=0.5))
    assert scales["fc.weight"] == scales["fc.bias"] == 1
    assert scales["layer4.1.conv2.weight"] == scales["layer4.1.bn1.bias"] == 0.5
    assert scales["layer4.0.conv1.weight"] == scales["layer4.0.downsample.0.weight"] == 0.5**2
    assert scales["layer1.0.conv1.weight"] == 0.5**8
    assert scales["conv1.weight"] == scales["bn1.weight"] == 0.5**9  # of ten units the first
    names = dict(catalog.build("resnet18", 3, "none").model.named_parameters())
    assert scales.keys() == names.keys()


@pytest.mark.parametrize("name", ["cnn_small", "mlp", "perceptron", "timm:test_vit"])
def test_layer_decay_of_others(name: str) -> None:
    net = catalog.build(name, 3, "none").model
    scales = rate_scales(net, OptimiserSettings(lr=0.1, layer_decay=0.9))
    count = len(units(net))
    assert scales.keys() == dict(net.named_parameters()).keys()
    assert sorted(set(scales.values())) == pytest.approx([0.9**n for n in range(count)][::-1])
    assert {scales[name] for name in units(net)[-1].parameters} == {1.0}


def test_the_head_has_a_rate_of_its_own() -> None:
    scales = scales_of(OptimiserSettings(lr=0.1, head_lr=0.4))
    assert scales["fc.weight"] == scales["fc.bias"] == pytest.approx(4)
    assert {scale for name, scale in scales.items() if not name.startswith("fc.")} == {1.0}
    both = scales_of(OptimiserSettings(lr=0.1, head_lr=0.05, layer_decay=0.5))
    assert both["fc.weight"] == pytest.approx(0.5)
    assert both["layer4.1.conv1.weight"] == 0.5  # relative to the rate, not to the head's
    assert scales_of(OptimiserSettings(lr=0.1)) == {}


def test_groups_have_the_rates() -> None:
    net = catalog.build("resnet18", 3, "none").model
    settings = OptimiserSettings("adamw", lr=0.1, weight_decay=0.2, layer_decay=0.5, head_lr=0.3)
    optim = build(net, settings)
    scales = rate_scales(net, settings)
    by_parameter = {id(p): group for group in optim.param_groups for p in group["params"]}
    assert len(by_parameter) == len(list(net.parameters()))
    for name, parameter in net.named_parameters():
        group = by_parameter[id(parameter)]
        assert group["scale"] == scales[name]
        assert group["lr"] == pytest.approx(0.1 * scales[name])
        assert group["weight_decay"] == (0.2 if parameter.ndim > 1 else 0.0)
    top = by_parameter[id(head(net)[1].weight)]
    assert top["lr"] == pytest.approx(0.3)
    assert len(optim.param_groups) == 2 * 10  # units, with and without decay


# what learns beside the model: a method's own parameters


def beside() -> nn.Module:
    """A method that has a head, a norm and a frozen layer, and remembers a number."""
    holder = nn.Module()
    holder.head = nn.Linear(2, 4)
    holder.norm = nn.BatchNorm2d(3)
    holder.frozen = nn.Linear(2, 2).requires_grad_(False)
    holder.register_buffer("seen", torch.zeros(5, 5))
    return holder


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_what_learns_beside_is_trained_and_its_norms_and_biases_do_not_decay(name: str) -> None:
    net, method = model(), beside()
    optim = build(net, OptimiserSettings(name, lr=0.5, weight_decay=0.1), method)
    groups = {id(p): group for group in optim.param_groups for p in group["params"]}
    assert len(groups) == sum(len(group["params"]) for group in optim.param_groups)  # none twice
    learning = {"head.weight", "head.bias", "norm.weight", "norm.bias"}
    for key, parameter in method.named_parameters():
        assert (id(parameter) in groups) == (key in learning)
    assert groups[id(method.head.weight)]["weight_decay"] == 0.1
    for parameter in (method.head.bias, method.norm.weight, method.norm.bias):
        assert groups[id(parameter)]["weight_decay"] == 0.0
    assert {id(p) for p in net.parameters()} < groups.keys()
    assert method.seen.abs().sum() == 0
    before = {key: p.detach().clone() for key, p in method.named_parameters()}
    for parameter in method.parameters():
        parameter.grad = torch.ones_like(parameter)
    optim.step()
    for key, parameter in method.named_parameters():
        assert torch.equal(parameter.detach(), before[key]) == (key not in learning)


def test_what_learns_beside_has_the_settings_own_rate() -> None:
    """Rates by depth and the head's own are the model's: the method's head is no head of it."""
    net, method = catalog.build("resnet18", 3, "none").model, beside()
    settings = OptimiserSettings("adamw", lr=0.1, layer_decay=0.5, head_lr=0.3)
    optim = build(net, settings, method)
    groups = {id(p): group for group in optim.param_groups for p in group["params"]}
    for parameter in (method.head.weight, method.head.bias, method.norm.weight):
        assert groups[id(parameter)]["scale"] == 1.0
        assert groups[id(parameter)]["lr"] == 0.1
    scales = rate_scales(net, settings)
    for key, parameter in net.named_parameters():
        assert groups[id(parameter)]["scale"] == scales[key]


def test_nothing_beside_adds_nothing() -> None:
    settings = OptimiserSettings(lr=0.1)
    assert len(build(model(), settings, nn.Module()).param_groups) == 2
    assert len(build(model(), settings).param_groups) == 2


# resuming


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_moments_lie_in_memory_as_their_weights_do(name: str) -> None:
    """Fused kernels pair them by place; a file holds them in another order than channels last."""
    torch.manual_seed(0)
    one, two = (nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last) for _ in range(2))
    two.load_state_dict(one.state_dict())
    first, second = (build(net, OptimiserSettings(name, lr=0.1)) for net in (one, two))
    x = torch.randn(2, 3, 8, 8)

    def step(net: nn.Module, optim: torch.optim.Optimizer) -> None:
        optim.zero_grad()
        net(x).square().sum().backward()
        optim.step()

    step(one, first)
    two.load_state_dict(one.state_dict())
    saved = first.state_dict()
    saved["state"] = {
        number: {k: v.clone(memory_format=torch.contiguous_format) for k, v in moments.items()}
        for number, moments in saved["state"].items()
    }
    restore(second, saved)
    step(one, first)
    step(two, second)
    assert torch.equal(one.weight, two.weight)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_weights_may_join_later_than_others(name: str) -> None:
    """As thawed ones do, and a head that is first needed half-way."""
    first, later = nn.Linear(2, 2), nn.Linear(2, 2)
    optim = build(nn.Sequential(first, later), OptimiserSettings(name, 0.1))
    before = later.weight.clone()
    for layers in ([first], [first, later], [first, later]):
        optim.zero_grad(set_to_none=True)
        out = torch.ones(3, 2)
        for layer in layers:
            out = layer(out)
        out.sum().backward()
        optim.step()
    assert not torch.equal(later.weight, before)
