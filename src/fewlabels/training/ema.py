"""The exponential moving average of a model's parameters."""

import copy

import torch
from torch import nn


class EMA:
    """`model` holds the average. Parameters are averaged; buffers (batch-norm statistics, already
    averages themselves) are copied.

    Early steps use the smaller decay (1 + t) / (10 + t), so that the random start is forgotten.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.model = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """After optimiser step number `step` (0-based)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        averages: list[torch.Tensor] = list(self.model.parameters())
        values: list[torch.Tensor] = list(model.parameters())
        torch._foreach_lerp_(averages, values, 1.0 - decay)
        for average, value in zip(self.model.buffers(), model.buffers(), strict=True):
            average.copy_(value)
