"""Layer by layer: what each stage makes of an image, the first layer's filters, the last stage's
channels.

Legend: N images, S side, C channels, x [N, 3, S, S] normalised.
"""

import math
import warnings
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from fewlabels.evaluate.explain.attribution import at_once
from fewlabels.evaluate.explain.instrument import Instrumented
from fewlabels.models import structure
from fewlabels.models.ensemble import Ensemble

SHOWN = 16  # channels of a stage
FILTERS = 64


@dataclass(frozen=True, eq=False)
class Stage:
    """The map that a stage ends with, [C, H, W] of `shape`, and of it each image's strongest
    channels, by their mean size."""

    path: str  # of the unit that makes it
    shape: tuple[int, int, int]
    channels: NDArray[np.int64]  # [N, SHOWN], the strongest first
    maps: NDArray[np.float32]  # [N, SHOWN, H, W]


@dataclass(frozen=True, eq=False)
class Filters:
    """The first layer's weights as pictures: grey is 0, and the largest weight is black or full."""

    path: str
    count: int
    pictures: NDArray[np.uint8]  # [at most FILTERS, h, w, 3], those of the largest weights


@torch.no_grad()
def stages(net: Instrumented, x: Tensor) -> tuple[Stage, ...]:
    """One for each size of maps, the largest first; a transformer's tokens are cut into four
    stages. None where the model has no maps."""
    paths = _stage_paths(net)
    parts: list[list[tuple[NDArray[np.int64], NDArray[np.float32]]]] = [[] for _ in paths]
    shapes: dict[str, tuple[int, int, int]] = {}
    for some in torch.split(
        x, max(1, at_once(net.size) // 4)
    ):  # all maps are there at the same time
        with ExitStack() as stack:
            seen = [stack.enter_context(structure.seen_at(net.model, path)) for path in paths]
            if paths:
                net.model(some)
        for path, part, (maps,) in zip(paths, parts, seen, strict=True):
            strongest = maps.abs().mean((2, 3)).topk(min(SHOWN, maps.shape[1]), 1).indices
            shown = maps.gather(1, strongest[..., None, None].expand(-1, -1, *maps.shape[2:]))
            part.append((strongest.cpu().numpy(), shown.float().cpu().numpy()))
            shapes[path] = (maps.shape[1], maps.shape[2], maps.shape[3])
    return tuple(
        Stage(path, shapes[path], *(np.concatenate(each) for each in zip(*part, strict=True)))
        for path, part in zip(paths, parts, strict=True)
    )


def _stage_paths(net: Instrumented) -> list[str]:
    if net.seam is None:
        return []
    blank = torch.zeros(1, 3, net.size, net.size, device=net.device)
    found = [path for path, _ in structure.maps(net.model, blank)]
    if net.path in found:
        return found
    return [stage[-1].path for stage in structure.stages(net.model, net.size)]


def filters(model: nn.Module, size: int) -> Filters | None:
    """None where they are no pictures: in an ensemble, or where the first layer is another."""
    layers = ((n, m) for n, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear))
    path, first = next(layers, ("", None))
    if first is None or isinstance(model, Ensemble):
        return None
    weight = first.weight.detach().float().cpu()
    if weight.ndim == 2 and weight.shape[1] == 3 * size * size:  # a weight for each pixel
        weight = weight.reshape(-1, 3, size, size)
    if weight.ndim != 4:
        return None
    block = math.isqrt(weight.shape[1] // 3)  # 2 where the pixels of 2x2 squares are in channels
    if weight.shape[1] != 3 * block * block:
        return None
    weight = F.pixel_shuffle(weight, block)
    largest = weight.flatten(1).norm(dim=1).topk(min(FILTERS, len(weight))).indices.sort().values
    shown = weight[largest]
    scale = shown.abs().amax((1, 2, 3), keepdim=True).clamp_min(1e-12)
    pictures = (127.5 * (1 + shown / scale)).round().to(torch.uint8)
    return Filters(path, len(weight), pictures.permute(0, 2, 3, 1).numpy())


def speaking_channels(net: Instrumented, x: Tensor, target: Tensor, count: int) -> list[int]:
    """The last map's channels that spoke most for the targets [N] of x: those of the largest share
    in Grad-CAM's sum, a mean over the images. Needs a map."""
    from captum.attr import LayerGradCam

    total = torch.zeros(())
    together = at_once(net.size)
    with warnings.catch_warnings(action="ignore"):
        for some, to in zip(torch.split(x, together), torch.split(target, together), strict=True):
            found = LayerGradCam(net.model, net.seam).attribute(
                some.detach().requires_grad_(), to, attr_dim_summation=False
            )
            total = total + found.detach().sum((0, 2, 3)).cpu()
    order: list[int] = total.argsort(descending=True, stable=True)[:count].tolist()
    return order
