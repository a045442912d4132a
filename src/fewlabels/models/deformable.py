"""Deformable convolution (Dai et al. 2017), put into the last stages of any convolutional net.

A convolution sums w_k · x(p + p_k) over the positions p_k of its window. A deformable one sums
w_k · x(p + p_k + Δp_k), where the offsets Δp_k, (dy, dx) in pixels of the map, come from a second
convolution with the same window over the same map. Between pixels x is interpolated bilinearly;
outside of the map it is zero.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fewlabels.errors import UserError
from fewlabels.models.branches import observe
from fewlabels.settings import between
from fewlabels.torchvision_repair import repair

Pair = tuple[int, ...]


class DeformableConv2d(nn.Conv2d):
    """Maps [B, C, H, W] -> [B, C', H', W'], as `conv` does it but for the rounding of positions.

    Weight and bias are those of `conv` and keep their names. `offset`, the layer that is new,
    starts at zero.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        same: dict[str, Any] = {
            name: getattr(conv, name) for name in ("kernel_size", "stride", "padding", "dilation")
        }
        inputs, outputs, weight = conv.in_channels, conv.out_channels, conv.weight
        super().__init__(inputs, outputs, groups=conv.groups, device="meta", **same)
        self.weight, self.bias = weight, conv.bias
        window = weight[0, 0].numel()
        self.offset = nn.Conv2d(
            inputs, 2 * window, device=weight.device, dtype=weight.dtype, **same
        )
        for parameter in self.offset.parameters():
            nn.init.zeros_(parameter)
        self.train(conv.training)

    def forward(self, x: Tensor) -> Tensor:
        # the operator's multiply-adds are not known to counters, which use the meta device
        operator = None if x.is_meta else compiled()
        convolve = operator or deform_conv2d
        where = (self.stride, self.padding, self.dilation)
        return convolve(x, self.offset(x), self.weight, self.bias, *where)


def add_deformable(
    model: nn.Module, stages: int = 1, size: int = 64, channels: int = 3
) -> nn.Module:
    """Makes the convolutions of the last `stages` stages deformable, in place.

    A stage is the convolutions that make maps of one size; the last has the smallest. Those
    whose windows do not overlap (1x1, patch embeddings), depthwise ones, and those that do not pad
    with zeros by a fixed width stay as they are; grouped ones do not. `size` and `channels` are
    those of the images in the pass that finds them. UserError when there are none.
    """
    between("deformable convolution: stages", stages, 1)
    sides: dict[str, tuple[int, ...]] = {}

    def see(path: str, layer: nn.Module, _: Tensor, made: Tensor) -> None:
        if isinstance(layer, nn.Conv2d) and layer.kernel_size > layer.stride:
            sides[path] = tuple(made.shape[2:])

    if any(isinstance(layer, nn.Conv2d) for layer in model.modules()):
        observe(model, size, channels, see)
    last = sorted(set(sides.values()))[:stages]
    chosen = [p for p in sides if sides[p] in last and _can_deform(model.get_submodule(p))]
    if not chosen:
        raise UserError(
            f"deformable convolution: {type(model).__name__} has none that could become one (3x3 "
            f"or larger, not depthwise) in the last stages asked for, {stages}; ask for more, or "
            "name another --model"
        )
    for path in chosen:
        conv = model.get_submodule(path)
        assert isinstance(conv, nn.Conv2d)
        parent, _, name = path.rpartition(".")
        setattr(model.get_submodule(parent), name, DeformableConv2d(conv))
    return model


def deform_conv2d(
    x: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Pair = (1, 1),
    padding: Pair | str = (0, 0),
    dilation: Pair = (1, 1),
) -> Tensor:
    """torchvision's operator in plain torch: x [B, C, H, W], weight [C', C / groups, h, w].

    offset [B, 2 h w, H', W']: dy and dx for each position of the window, row by row.
    """
    assert not isinstance(padding, str)
    high, wide = weight.shape[2:]
    rows, columns = offset.shape[2:]
    kind = torch.promote_types(x.dtype, torch.float32)  # half precision is too coarse for positions

    def steps(count: int, step: int, start: int = 0) -> Tensor:
        return torch.arange(count, device=x.device, dtype=kind) * step + start

    # where the window's positions lie, [h w, H', 1] and [h w, 1, W'], and where they are moved to
    above = steps(high, dilation[0]).repeat_interleave(wide)[:, None, None]
    left = steps(wide, dilation[1]).repeat(high)[:, None, None]
    moved = offset.to(kind).reshape(len(x), high * wide, 2, rows, columns)
    y = moved[:, :, 0] + above + steps(rows, stride[0], -padding[0])[:, None]
    z = moved[:, :, 1] + left + steps(columns, stride[1], -padding[1])
    # grid_sample's units: -1 and 1 are the outer edges of the first and the last pixel
    grid = torch.stack(((2 * z + 1) / x.shape[3] - 1, (2 * y + 1) / x.shape[2] - 1), -1)
    # [B, C, h w H', W'], then for each group its channels and positions beside each other
    sampled = F.grid_sample(x.to(kind), grid.flatten(1, 2), align_corners=False).to(x.dtype)
    groups = x.shape[1] // weight.shape[1]
    sampled = sampled.reshape(len(x), groups, -1, rows * columns)
    made = weight.reshape(groups, -1, sampled.shape[2]) @ sampled  # [B, groups, C' / groups, H' W']
    made = made.reshape(len(x), -1, rows, columns)
    return made if bias is None else made + bias.to(made.dtype)[:, None, None]


@cache
def compiled() -> Callable[..., Tensor] | None:
    """torchvision's operator, or None where it was not compiled for this torch."""
    repair()
    from torchvision.ops import deform_conv2d as operator

    x = torch.zeros(1, 1, 1, 1)
    try:
        operator(x, torch.zeros(1, 2, 1, 1), x)
    except (AttributeError, NotImplementedError, RuntimeError):
        return None
    found: Callable[..., Tensor] = operator
    return found


def _can_deform(layer: nn.Module) -> bool:
    """Subclasses have a forward of their own: another padding, weights that are standardised."""
    return (
        type(layer) is nn.Conv2d
        and (layer.groups < layer.in_channels or layer.in_channels == 1)
        and not isinstance(layer.padding, str)
        and layer.padding_mode == "zeros"
    )
