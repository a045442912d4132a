"""Several models as one: their probabilities, averaged.

Each member has its own input. The ensemble takes images of one side with one normalisation and
makes of them what a member wants; a member of the same side and normalisation sees what it saw in
its own run.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Triple = Sequence[float]
LEAST = 1e-12  # of a probability, so that its logarithm is finite


class Member(nn.Module):
    """A model that sees images [B, 3, S, S] as they were normalised for another: at its own side,
    with its own mean and standard deviation, its classes in the other's order."""

    scale: Tensor
    shift: Tensor
    order: Tensor

    def __init__(
        self,
        model: nn.Module,
        size: int,
        mean: Triple,
        std: Triple,
        given_mean: Triple,
        given_std: Triple,
        order: Sequence[int],
    ) -> None:
        """`given_mean` and `given_std` are of what comes in; order[c] is the number that the model
        gives to class c."""
        super().__init__()
        self.model, self.size = model, size
        own, its, given, given_its = (torch.tensor(v) for v in (mean, std, given_mean, given_std))
        self.register_buffer("scale", (given_its / its).view(3, 1, 1))
        self.register_buffer("shift", ((given - own) / its).view(3, 1, 1))
        self.register_buffer("order", torch.tensor(order))

    def forward(self, x: Tensor) -> Tensor:
        x = x * self.scale + self.shift
        if x.shape[-1] != self.size:
            side = (self.size, self.size)
            x = F.interpolate(x, side, mode="bilinear", antialias=True, align_corners=False)
        logits: Tensor = self.model(x)[:, self.order]
        return logits


class Ensemble(nn.Module):
    """Images [B, 3, S, S] -> the logarithm of the members' mean probability [B, classes]."""

    def __init__(self, members: Sequence[Member]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, x: Tensor) -> Tensor:
        p = torch.stack([member(x).softmax(1) for member in self.members]).mean(0)
        return p.clamp_min(LEAST).log()
