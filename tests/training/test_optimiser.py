import pytest
import torch
from torch import nn

from fewlabels.errors import UserError
from fewlabels.training.optimiser import OptimiserSettings, build, parameter_groups


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


@pytest.mark.parametrize(("name", "kind"), [("sgd", torch.optim.SGD), ("adamw", torch.optim.AdamW)])
def test_the_named_optimiser_is_built(name: str, kind: type[torch.optim.Optimizer]) -> None:
    optim = build(model(), OptimiserSettings(name, lr=0.3))
    assert type(optim) is kind
    assert {group["lr"] for group in optim.param_groups} == {0.3}
    assert name != "sgd" or all(group["nesterov"] for group in optim.param_groups)


def test_an_unknown_optimiser_is_named() -> None:
    with pytest.raises(UserError, match="adam2"):
        build(model(), OptimiserSettings("adam2"))
