"""The order of a model: its units from the input to the head, and the stages that they form.

A *unit* is what is frozen, thawed and given a rate of its own as a whole: a block, or a layer that
stands alone. A *stage* is a run of units whose maps have one size; what comes after the last map
(the linear layers of a VGG) belongs to none. A transformer, whose maps all have one size, is cut
into four.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from fewlabels.errors import UserError
from fewlabels.models.built import head

_OPEN = ("Stage", "Encoder")  # modules of others that only hold blocks in a row
_NORMS = ("Norm", "BatchNormAct")
QUARTERS = 4


@dataclass(frozen=True)
class Unit:
    """A block or layer, with the norms that follow it; `parameters` are names in the model."""

    path: str
    parameters: tuple[str, ...]
    norms: tuple[str, ...] = ()  # paths


def units(model: nn.Module) -> tuple[Unit, ...]:
    """All units that hold parameters, in the order of the model's definition; the head is last.

    A norm that stands alone joins the layer before it, and parameters that lie beside the units
    (a transformer's class token and positions) join the first.
    """
    top = head(model)[0]
    found: list[tuple[str, list[str], list[str]]] = []
    for path, module in _opened(model):
        names = [f"{path}.{name}" for name, _ in module.named_parameters()]
        if not names or path == top:
            continue
        if _is_norm(module) and found:
            found[-1][1].extend(names)
            found[-1][2].append(path)
        else:
            found.append((path, names, []))
    last = [name for name, _ in model.named_parameters() if name.startswith(f"{top}.")]
    taken = {name for _, names, _ in found for name in names} | set(last)
    beside = [name for name, _ in model.named_parameters() if name not in taken]
    if found:
        found[0][1].extend(beside)
    below = [Unit(path, tuple(names), tuple(norms)) for path, names, norms in found]
    return (*below, Unit(top, tuple(last)))


def stages(model: nn.Module, size: int) -> tuple[tuple[Unit, ...], ...]:
    """The units by stage, first the one nearest to the input; asked with a blank image of `size`.

    The head and what comes after the last map are in none of them.
    """
    sides = _sides(model, size)
    groups: list[list[Unit]] = []
    before: int | None = None
    for unit in units(model)[:-1]:
        side = sides.get(unit.path)
        if side is None:
            continue
        if side != before:
            groups.append([])
        groups[-1].append(unit)
        before = side
    if len(groups) >= QUARTERS - 1:
        return tuple(tuple(group) for group in groups)
    row = [unit for group in groups for unit in group]
    cuts = [round(len(row) * i / QUARTERS) for i in range(QUARTERS + 1)]
    return tuple(tuple(row[a:b]) for a, b in pairwise(cuts) if b > a)


def embed(model: nn.Module, x: Tensor) -> Tensor:
    """What the head sees of images [N, C, H, W], pooled: [N, features]."""
    with seen_by_head(model) as seen:
        model(x)
    return seen[0]


@contextmanager
def seen_by_head(model: nn.Module) -> Iterator[list[Tensor]]:
    """Gathers what the head sees, pooled [N, features], in each forward pass inside."""
    seen: list[Tensor] = []

    def look(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0].mean((2, 3)) if inputs[0].ndim == 4 else inputs[0]
        seen.append(x.flatten(1))

    hook = head(model)[1].register_forward_pre_hook(look)
    try:
        yield seen
    finally:
        hook.remove()


def last_map(model: nn.Module, size: int) -> str:
    """The path of the unit that makes the last map below the head: the smallest of `features`, or
    a transformer's last tokens, where these come later.

    UserError for a model that has neither, such as a perceptron.
    """
    blank = torch.zeros(2, 3, size, size, device=next(model.parameters()).device)
    with blank_pass(model):
        made = {path for path, _ in maps(model, blank)[-1:]} | set(_tokens(model, blank)[-1:])
    if not made:
        raise UserError(f"{type(model).__name__} makes no map of an image that could be decoded")
    return [path for path, _ in _opened(model) if path in made][-1]


@contextmanager
def seen_at(model: nn.Module, path: str, pooled: bool = False) -> Iterator[list[Tensor]]:
    """Gathers the map [N, C, H, W] that the unit at `path` makes in each forward pass inside;
    tokens are laid out as they lie in the image. pooled: the means of its channels [N, C]."""
    seen: list[Tensor] = []

    def look(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> None:
        if output.ndim == 3:
            count = output.shape[1] - getattr(model, "num_prefix_tokens", 0)  # as timm says
            side = math.isqrt(count if math.isqrt(count) ** 2 == count else output.shape[1])
            tokens = output[:, output.shape[1] - side * side :]  # class tokens come first
            output = tokens.transpose(1, 2).reshape(len(tokens), -1, side, side)
        elif output.shape[2] != output.shape[3]:
            output = output.permute(0, 3, 1, 2)
        seen.append(output.mean((2, 3)) if pooled else output)

    hook = model.get_submodule(path).register_forward_hook(look)
    try:
        yield seen
    finally:
        hook.remove()


class _Reached(Exception):
    """Ends a forward pass half-way."""


def until(model: nn.Module, path: str, x: Tensor) -> Tensor:
    """What the unit at `path` makes of images [N, C, H, W]; nothing behind it is computed."""
    with seen_at(model, path) as seen:
        hook = model.get_submodule(path).register_forward_hook(_stop)
        try:
            model(x)
        except _Reached:
            pass
        finally:
            hook.remove()
    return seen[0]


def _stop(*_: object) -> None:
    raise _Reached


def _tokens(model: nn.Module, blank: Tensor) -> list[str]:
    """The paths of the units below the head that make tokens [N, T, D], in the order in which they
    do."""
    top, hooks = head(model)[0], []
    made: list[str] = []

    def note(path: str) -> Callable[..., None]:
        def hook(_: nn.Module, __: tuple[Tensor, ...], output: object) -> None:
            if isinstance(output, Tensor) and output.ndim == 3 and output.shape[1] > 3:
                made.append(path)

        return hook

    for path, module in _opened(model):
        if path == top:
            break
        hooks.append(module.register_forward_hook(note(path)))
    try:
        model(blank)
    finally:
        for hook in hooks:
            hook.remove()
    return made


def features(model: nn.Module, x: Tensor) -> tuple[Tensor, ...]:
    """The last map [N, C, H, W] of each size, the largest first, as detection and segmentation
    want them. Maps whose channels come last, as in Swin, are turned; a plain ViT has none.
    """
    return tuple(image for _, image in maps(model, x))


def maps(model: nn.Module, x: Tensor) -> tuple[tuple[str, Tensor], ...]:
    """The `features`, each with the path of the unit that makes it."""
    top = head(model)[0]
    found: dict[int, tuple[str, Tensor]] = {}
    hooks = []

    def keep(path: str) -> Callable[..., None]:
        def hook(_: nn.Module, __: tuple[Tensor, ...], output: object) -> None:
            if isinstance(output, Tensor) and output.ndim == 4:
                image = output if output.shape[2] == output.shape[3] else output.permute(0, 3, 1, 2)
                # VGG enlarges small maps before its linear layers: no new stage
                if 1 < image.shape[2] <= min(found, default=image.shape[2]):
                    found[image.shape[2]] = path, image

        return hook

    for path, module in _opened(model):
        if path == top:  # what follows it are scores, not features
            break
        if not isinstance(module, nn.AdaptiveAvgPool2d):  # whose map has one size for all images
            hooks.append(module.register_forward_hook(keep(path)))
    try:
        model(x)
    finally:
        for hook in hooks:
            hook.remove()
    return tuple(found[side] for side in sorted(found, reverse=True))


@contextmanager
def in_mode(model: nn.Module, training: bool) -> Iterator[None]:
    """All of the model trains or none of it; afterwards each module is as it was: a frozen norm
    stays in eval mode."""
    before = {module: module.training for module in model.modules()}
    model.train(training)
    try:
        yield
    finally:
        for module, mode in before.items():
            module.training = mode


@contextmanager
def blank_pass(model: nn.Module) -> Iterator[None]:
    """For a look at what a model makes of images: eval mode, no gradients."""
    with in_mode(model, False), torch.no_grad():
        yield


def _opened(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The units: containers are opened, and so is what only holds blocks in a row, or the head."""
    top = head(model)[0]

    def walk(module: nn.Module, path: str) -> Iterator[tuple[str, nn.Module]]:
        for name, child in module.named_children():
            here = f"{path}{name}"
            container = isinstance(child, nn.Sequential | nn.ModuleList | nn.ModuleDict)
            if container or type(child).__name__.endswith(_OPEN) or top.startswith(f"{here}."):
                yield from walk(child, f"{here}.")
            else:
                yield here, child

    return walk(model, "")


def _is_norm(module: nn.Module) -> bool:
    holds = any(True for child in module.children() for _ in child.parameters())
    return any(word in type(module).__name__ for word in _NORMS) and not holds


def _sides(model: nn.Module, size: int) -> dict[str, int]:
    """By unit: the side of the map that it makes, or the number of tokens."""
    found: dict[str, int] = {}
    hooks = []

    def note(path: str) -> object:
        def hook(_: nn.Module, __: tuple[Tensor, ...], output: object) -> None:
            if isinstance(output, Tensor) and output.ndim in (3, 4):
                square = output.ndim == 4 and output.shape[2] == output.shape[3]
                found[path] = output.shape[2 if square else 1]

        return hook

    for path, module in _opened(model):
        hooks.append(module.register_forward_hook(note(path)))  # type: ignore[arg-type]
    device = next(model.parameters()).device
    try:
        with blank_pass(model):
            model(torch.zeros(2, 3, size, size, device=device))
    finally:
        for hook in hooks:
            hook.remove()
    return found
