"""Auxiliary classifiers: what GoogLeNet says half-way, in the loss while training.

Szegedy et al., "Going deeper with convolutions" (2015), section 5: their losses are added with a
weight of 0.3 and they are not used afterwards. A method sees the logits of the last layer only; the
loop adds the rest, for the labelled images, where a step's batch begins with them.
"""

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

WEIGHT = 0.3


def keep_auxiliary(model: nn.Module, _: Any, output: Any) -> Tensor | None:
    """A forward hook: hands on the main logits and keeps the others for `auxiliary_loss`."""
    if isinstance(output, Tensor):
        return None
    model.auxiliary = [logits for logits in output[1:] if logits is not None]  # type: ignore[assignment]
    main: Tensor = output[0]
    return main


def auxiliary_loss(
    model: nn.Module,
    y: Tensor,
    supervise: Callable[[Tensor, Tensor], Tensor] | None = F.cross_entropy,
) -> Tensor | None:
    """The weighted loss [] of the auxiliary logits of the last forward pass, whose first rows are
    the labelled images, by `supervise`: logits, y -> losses [B]. None for a model that has none, or
    without `supervise`. They are let go of."""
    kept: Any = model.__dict__.pop("auxiliary", None)
    if not kept or supervise is None:
        return None
    losses = [supervise(logits[: len(y)], y).mean() for logits in kept]
    total: Tensor = WEIGHT * sum(losses[1:], losses[0])
    return total
