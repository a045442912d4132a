"""Batch norm in training mode with statistics that are not those of the images it is given."""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


class Norm(NamedTuple):
    """What a layer calls `F.batch_norm` with: images [N, C, …] and what is kept by channel [C]."""

    x: Tensor
    running_mean: Tensor | None
    running_var: Tensor | None
    weight: Tensor | None = None
    bias: Tensor | None = None
    training: bool = False
    momentum: float = 0.1
    eps: float = 1e-5


class InPlaceOfBatchNorm(TorchFunctionMode):
    """Inside, every batch norm that is in training mode is `normalised`."""

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if function is not F.batch_norm:
            return function(*args, **kwargs)
        norm = Norm(*args, **kwargs)
        return self.normalised(norm) if norm.training else F.batch_norm(*norm)

    def normalised(self, norm: Norm) -> Tensor:
        """The layer's outputs [N, C, …]."""
        raise NotImplementedError


def own_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance [C] of images [N, C, …], in floats at least; divided by N, not N - 1."""
    precise = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    var, mean = torch.var_mean(precise, [0, *range(2, x.ndim)], correction=0)
    return mean, var


def renormalised(norm: Norm, own: tuple[Tensor, Tensor], mean: Tensor, scale: Tensor) -> Tensor:
    """Normalised by `mean` and `scale`, 1 / deviation [C]; `own` are mean and variance of its
    images.

    (x - mean) · scale = (x - m) / s · r + d with r = s · scale and d = (m - mean) · scale (batch
    renormalisation, Ioffe 2017, equations 1 and 2): the fused kernel does the first.
    """
    own_mean, own_var = own
    r, d = (own_var + norm.eps).sqrt() * scale, (own_mean - mean) * scale
    gain, offset = (r, d) if norm.weight is None else (r * norm.weight, d * norm.weight)
    offset = offset if norm.bias is None else offset + norm.bias
    return F.batch_norm(norm.x, None, None, gain, offset, True, 0.0, norm.eps)
