"""Optimisers: SGD with Nesterov momentum and AdamW, without decay on norms and biases."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from fewlabels.errors import UserError


@dataclass(frozen=True)
class OptimiserSettings:
    name: str = "sgd"  # sgd or adamw
    lr: float = 0.05
    weight_decay: float = 5e-4
    momentum: float = 0.9  # of sgd


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups: matrices and kernels decay; norms, biases and other vectors do not."""
    trained = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]


def build(model: nn.Module, settings: OptimiserSettings) -> torch.optim.Optimizer:
    """The optimiser over the model's trainable parameters."""
    groups = parameter_groups(model, settings.weight_decay)
    if settings.name == "sgd":
        return torch.optim.SGD(groups, settings.lr, settings.momentum, nesterov=True, fused=True)
    if settings.name == "adamw":
        return torch.optim.AdamW(groups, settings.lr, fused=True)
    raise UserError(f"no optimiser is named '{settings.name}'; there are sgd and adamw")
