"""The exponential moving average of a model's parameters."""

import copy

import torch
from torch import nn


class EMA:
    """`model` holds the average of another one. Parameters are averaged; buffers (batch-norm
    statistics, already averages themselves) are copied.

    Early steps use the smaller decay (1 + t) / (10 + t), so that the random start is forgotten.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        # once: in a deep model to find them takes longer than to average them
        self._averages: list[torch.Tensor] = list(self.model.parameters())
        self._values: list[torch.Tensor] = list(model.parameters())
        self._copies, self._buffers = list(self.model.buffers()), list(model.buffers())

    @torch.no_grad()
    def update(self, step: int) -> None:
        """After optimiser step number `step` (0-based)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self._averages, self._values, 1.0 - decay)
        if self._copies:
            torch._foreach_copy_(self._copies, self._buffers)
