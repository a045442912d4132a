"""Optimisers: SGD with momentum, Nesterov's or plain, and AdamW; no decay on norms and biases.

Rates by depth: with `layer_decay` d a unit n places below the head learns at d^n times the rate
(Clark et al. 2020, ELECTRA, appendix; Bao et al. 2022, BEiT); the head may have a rate of its own.
"""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from fewlabels.errors import UserError
from fewlabels.models.structure import units


@dataclass(frozen=True)
class OptimiserSettings:
    name: str = "nesterov"  # sgd, nesterov or adamw
    lr: float = 0.05
    weight_decay: float = 5e-4
    momentum: float = 0.9  # of the first two
    layer_decay: float = 1.0
    head_lr: float | None = None


def parameter_groups(
    model: nn.Module, settings: OptimiserSettings, scales: dict[str, float] | None = None
) -> list[dict[str, Any]]:
    """What learns, grouped by rate and decay: matrices and kernels decay; norms, biases and other
    vectors do not. `scale` is the group's rate relative to the settings' own, from `scales` by
    name, or from its depth in the model."""
    scales = rate_scales(model, settings) if scales is None else scales
    groups: dict[tuple[float, float], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decay = settings.weight_decay if parameter.ndim > 1 else 0.0
            groups[scales.get(name, 1.0), decay].append(parameter)
    return [
        {"params": some, "weight_decay": decay, "scale": scale, "lr": settings.lr * scale}
        for (scale, decay), some in groups.items()
    ]


def rate_scales(model: nn.Module, settings: OptimiserSettings) -> dict[str, float]:
    """By parameter's name: its rate relative to `settings.lr`; empty where all have the same."""
    if settings.layer_decay == 1.0 and settings.head_lr is None:
        return {}
    *below, top = units(model)
    scales = {
        name: settings.layer_decay ** (len(below) - place)
        for place, unit in enumerate(below)
        for name in unit.parameters
    }
    head = 1.0 if settings.head_lr is None else settings.head_lr / settings.lr
    return scales | dict.fromkeys(top.parameters, head)


def restore(optimiser: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Loads what `state_dict` gave. Fused kernels pair a weight with its moments by their places in
    memory, so moments that come from a file are laid out as the weight is: channels last."""
    optimiser.load_state_dict(state)
    for parameter, moments in optimiser.state.items():
        for name, value in moments.items():
            if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
                moments[name] = torch.empty_like(parameter).copy_(value)


def build(
    model: nn.Module, settings: OptimiserSettings, beside: nn.Module | None = None
) -> torch.optim.Optimizer:
    """The optimiser over the model's trainable parameters, and those of what learns `beside` it: a
    method's head, at the settings' own rate, or its teacher, which is a copy of the model under one
    name, at the model's rates."""
    scales = rate_scales(model, settings)
    groups = parameter_groups(model, settings, scales)
    if beside is not None:
        below = {name: name.partition(".")[2] for name, _ in beside.named_parameters()}
        its = {name: scales.get(inner, 1.0) for name, inner in below.items()}
        groups += parameter_groups(beside, settings, its)
    if settings.name in ("sgd", "nesterov"):
        nesterov = settings.name == "nesterov"
        # not fused: that fails where weights join later than others, as thawed ones do
        return torch.optim.SGD(
            groups, settings.lr, settings.momentum, nesterov=nesterov, foreach=True
        )
    if settings.name == "adamw":
        return torch.optim.AdamW(groups, settings.lr, fused=True)
    raise UserError(f"no optimiser is named '{settings.name}'; there are sgd, nesterov and adamw")
