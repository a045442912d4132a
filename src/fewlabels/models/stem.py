"""Small images in nets that were drawn for 224 px: the first strides are taken out.

A ResNet halves its maps five times; of 32 px one is left, and the later layers see no shape. From
random weights the strides are therefore undone, from the input on, until the last maps are at least
`LEAST` pixels a side: of a ResNet at 32 px the first convolution keeps its resolution and the max
pooling goes, as is usual for CIFAR; at 64 px only the former. Kernels keep their shape, and a file
of weights still fits. Pretrained weights keep their strides, which their filters were learnt with:
enlarge the images instead.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fewlabels.models.structure import blank_pass

LEAST = 3  # pixels a side of the last maps


@dataclass(frozen=True)
class _Strided:
    path: str
    layer: nn.Module
    side: int  # of the map that comes in


def suit(model: nn.Module, size: int, channels: int = 3) -> str:
    """Undoes strides, in place, until images of `size` leave maps of LEAST px; returns which, or
    nothing."""
    undone: list[str] = []
    back: list[Callable[[], None]] = []  # what makes it as it was
    while True:
        last, strided = _look(model, size, channels)
        if last >= LEAST:
            return f"at {size} px without the stride of {', '.join(undone)}" if undone else ""
        if not strided:  # a net whose parts no longer fit together, or that has no strides
            for step in reversed(back):
                step()
            return ""
        first = strided[0].side
        for item in strided:
            if item.side == first:  # a block's shortcut goes with its branch
                back.append(_halve(model, item))
                undone += [item.path] if item.path not in undone else []


def _look(model: nn.Module, size: int, channels: int) -> tuple[int, list[_Strided]]:
    """The side of the last convolution's map, 0 where the images are too small for the model, and
    the layers with a stride, in the order in which they run."""
    last = 0
    strided: list[_Strided] = []
    hooks = []

    def note(path: str) -> Callable[..., None]:
        def hook(layer: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            nonlocal last
            if isinstance(layer, nn.Conv2d) and max(layer.kernel_size) > 1:
                last = output.shape[2]
            if _stride(layer) > 1:
                strided.append(_Strided(path, layer, inputs[0].shape[2]))

        return hook

    for path, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
            hooks.append(module.register_forward_hook(note(path)))
    try:
        with blank_pass(model):
            model(torch.zeros(2, channels, size, size))
    except (RuntimeError, AssertionError, ValueError):  # a map became smaller than a kernel
        last = 0
    finally:
        for hook in hooks:
            hook.remove()
    return last, strided


def _stride(layer: Any) -> int:
    return max(layer.stride) if isinstance(layer.stride, tuple) else int(layer.stride)


def _halve(model: nn.Module, item: _Strided) -> Callable[[], None]:
    """Halves a stride, or takes a pooling out; returns what undoes that."""
    layer = item.layer
    if isinstance(layer, nn.Conv2d):
        before, half = layer.stride, max(1, layer.stride[0] // 2)
        layer.stride = (half, half)
        return lambda: setattr(layer, "stride", before)
    path, _, child = item.path.rpartition(".")
    parent = model.get_submodule(path)
    setattr(parent, child, nn.Identity())
    return lambda: setattr(parent, child, layer)
