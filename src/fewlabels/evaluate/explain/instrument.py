"""A copy of a model that captum can work on.

Grad-CAM wants a layer whose output is a map [N, C, H, W]; where the last map lies and how it is
laid out differs from net to net. Guided backpropagation changes the gradient of `nn.ReLU` modules;
nets also call the function, in place, cap it at 6, or use one module for several calls. Both are
settled here, on a copy, so that nothing of it can stay behind in the user's model.
"""

import copy
import math
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from fewlabels.errors import UserError
from fewlabels.models import structure
from fewlabels.models.ensemble import Ensemble

_IN_PLACE = (torch.relu_, Tensor.relu_)
_RELUS = (F.relu, torch.relu, Tensor.relu, *_IN_PLACE)
_FEWEST_TOKENS = 4


@dataclass(frozen=True, eq=False)
class Instrumented:
    """`seam` hands on what the unit at `path` makes, laid out as a map [N, C, H, W]; both are empty
    where the model has no map, and `why` says it."""

    source: nn.Module  # the user's, as it was
    model: nn.Module  # a copy, in eval mode; its parameters want no gradient
    guided: nn.Module  # the same weights; every call of a ReLU is a module of its own
    relus: int  # how many calls there are
    size: int  # side of the images in pixels
    path: str = ""
    seam: nn.Module | None = None
    why: str = ""

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device


def instrument(model: nn.Module, size: int, path: str | None = None) -> Instrumented:
    """A copy of `model` for images of side `size`. The map is the last one on which the logits
    depend, or that of the unit at `path` ("": none)."""
    own = copy.deepcopy(model).eval().requires_grad_(False)
    why = ""
    if path is None:
        path, why = _last_map(own, size)
    seam = nn.Identity() if path else None
    if seam is not None:
        own.get_submodule(path).register_forward_hook(_passed_through(seam, _prefix(own)))
    guided = _Guided(own, _noise(own, size))
    return Instrumented(model, own, guided, len(guided.calls), size, path, seam, why)


def _last_map(model: nn.Module, size: int) -> tuple[str, str]:
    """The path of the unit that makes the last map; or "" and why there is none.

    What a transformer's last block makes of the patches is lost where the head reads the class
    token alone: then the map is that of the last block whose patches the logits depend on.
    """
    if isinstance(model, Ensemble):
        return "", "an ensemble of several nets has no last map"
    try:
        last = structure.last_map(model, size)
    except UserError:
        return "", f"{type(model).__name__} makes no maps of an image"
    made: dict[str, Tensor] = {}

    def keep(path: str) -> Callable[..., None]:
        def hook(_: nn.Module, __: tuple[Tensor, ...], output: object) -> None:
            tokens = isinstance(output, Tensor) and output.ndim == 3
            if isinstance(output, Tensor) and (path == last or tokens):
                made[path] = output

        return hook

    with ExitStack() as hooks:
        for path in {unit.path for unit in structure.units(model)} | {last}:
            handle = model.get_submodule(path).register_forward_hook(keep(path))
            hooks.callback(handle.remove)
        score = model(_noise(model, size)).amax(1).sum()
    gradients = torch.autograd.grad(score, list(made.values()), allow_unused=True)
    for path, gradient in reversed(list(zip(made, gradients, strict=True))):
        if gradient is None or (gradient.ndim == 3 and gradient.shape[1] < _FEWEST_TOKENS):
            continue
        if gradient.ndim == 3:
            gradient = gradient[:, -(_side(gradient.shape[1], _prefix(model)) ** 2) :]
        if gradient.any():
            return path, ""
    return last, ""  # a head of zeros: the logits depend on nothing


def _passed_through(seam: nn.Module, prefix: int) -> Callable[..., Tensor]:
    """A forward hook: the unit's output goes through `seam` as a map and is laid out as it was."""

    def hook(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> Tensor:
        if output.ndim == 3:  # tokens; class tokens come first
            side = _side(output.shape[1], prefix)
            first, patches = torch.split(output, [output.shape[1] - side * side, side * side], 1)
            image = seam(patches.transpose(1, 2).reshape(len(output), -1, side, side))
            return torch.cat([first, image.flatten(2).transpose(1, 2)], 1)
        if output.shape[2] != output.shape[3]:  # channels last
            turned: Tensor = seam(output.permute(0, 3, 1, 2))
            return turned.permute(0, 2, 3, 1)
        same: Tensor = seam(output)
        return same

    return hook


def _prefix(model: nn.Module) -> int:
    return int(getattr(model, "num_prefix_tokens", 0))  # as timm says


def _side(count: int, prefix: int) -> int:
    """The side of the square that the patches among `count` tokens lie in."""
    patches = count - prefix
    return math.isqrt(patches if math.isqrt(patches) ** 2 == patches else count)


def _noise(model: nn.Module, size: int) -> Tensor:
    """An image [1, 3, size, size] that wants a gradient."""
    x = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    return x.to(next(model.parameters()).device).requires_grad_()


class _Guided(nn.Module):
    """The model, with a module for each call of a ReLU that depends on the image."""

    def __init__(self, model: nn.Module, x: Tensor) -> None:
        super().__init__()
        self.inside = (model,)  # in a tuple: captum is to see the calls and nothing else
        caps: list[float] = []

        def count(x: Tensor, cap: float) -> Tensor:
            caps.append(cap)
            return x.clamp(0.0, cap)

        with _Relus(count):
            model(x)
        self.calls = nn.ModuleList(_Call(cap) for cap in caps)

    def forward(self, x: Tensor) -> Tensor:
        calls = iter(self.calls)

        def act(x: Tensor, _: float) -> Tensor:
            result: Tensor = next(calls)(x)
            return result

        with _Relus(act):
            logits: Tensor = self.inside[0](x)
        return logits


class _Call(nn.ReLU):
    def __init__(self, cap: float) -> None:
        super().__init__()
        self.cap = cap

    def forward(self, x: Tensor) -> Tensor:
        return F.hardtanh(x, 0.0, self.cap)


class _Relus(TorchFunctionMode):
    """Inside, `act(x, cap)` takes the place of every ReLU of an x that wants a gradient."""

    def __init__(self, act: Callable[[Tensor, float], Tensor]) -> None:
        super().__init__()
        self.act = act

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        cap = None
        if func in _RELUS:
            cap = math.inf
        elif func is F.relu6:
            cap = 6.0
        elif func is F.hardtanh and kwargs.get("min_val") == 0:
            cap = float(kwargs["max_val"])
        if cap is None or not args or not args[0].requires_grad:
            return func(*args, **kwargs)
        # captum cuts the gradient of what goes in: a copy, which has no other use, so that a skip
        # connection from the same place keeps its own
        cut = self.act(args[0].clone(), cap)
        if func in _IN_PLACE or kwargs.get("inplace"):
            return args[0].copy_(cut)  # nets rely on it: what is skipped is then cut as well
        return cut
