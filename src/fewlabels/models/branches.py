"""Where the residual branches of a net end, found by watching one forward pass.

A residual block adds its branch to its shortcut: y = x + branch(x). The one with more layers of its
own is the branch; a shortcut has none, or a projection's one or two. So neither the side of the +
nor the names of modules matter, and the rule holds for every library.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from fewlabels.errors import UserError, one_line
from fewlabels.models.structure import blank_pass

BATCH = 2  # more than one, or a position embedding [1, N, C] has the shape of the tokens
OTHER = 224
_ADD = ("add", "add_", "__add__", "__radd__", "__iadd__")
_MULTIPLY = ("mul", "mul_", "multiply", "multiply_", "__mul__", "__rmul__", "__imul__")
_TRAIL = "_fewlabels_trail"


def branches(model: nn.Module, size: int, channels: int = 3) -> tuple[str, ...]:
    """The paths of the layers that end the residual branches, one a block, in order of execution.

    That is the last layer with parameters: norms, layer scales and squeeze-and-excitation blocks
    count, what hands values on (activation, pooling, drop path) does not. () for other nets.

    Not found are sums of two equals (RepVGG's convolutions), which no shortcut passes by, sums
    within a branch (Res2Net), and branches whose last layer does not see an image a row (attention
    in timm's Swin) or makes only a part of them. UserError when the model cannot take images of
    `size`, nor of 224 pixels.
    """
    watch = _Watch()
    handles = [model.register_forward_pre_hook(watch.begin)]
    for path, layer in model.named_modules():
        if any(True for _ in layer.parameters()):
            handles.append(layer.register_forward_pre_hook(watch.enter))
            handles.append(layer.register_forward_hook(partial(watch.leave, path)))
    try:
        with watch:
            blank(model, size, channels)
    finally:
        for handle in handles:
            handle.remove()
    return tuple(dict.fromkeys(path for path, _ in watch.found))


def observe(
    model: nn.Module,
    size: int,
    channels: int,
    see: Callable[[str, nn.Module, Tensor, Tensor], None],
) -> None:
    """Calls see(path, module, input, output) for each call of a module in a forward pass on blank
    images; modules that take or return something else than a tensor are left out."""

    def hook(path: str, layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if inputs and isinstance(inputs[0], Tensor) and isinstance(output, Tensor):
            see(path, layer, inputs[0], output)

    handles = [
        layer.register_forward_hook(partial(hook, path)) for path, layer in model.named_modules()
    ]
    try:
        blank(model, size, channels)
    finally:
        for handle in handles:
            handle.remove()


def blank(model: nn.Module, size: int, channels: int) -> None:
    """One forward pass on blank images in eval mode; modes and random state are left as they were.

    A model that cannot take images of `size` is asked with 224 pixels, as those that are made for
    one size take. UserError when it cannot take them either.
    """
    some = next(model.parameters(), torch.empty(0))
    devices = [some.device] if some.is_cuda else []
    errors: list[Exception] = []
    for side in dict.fromkeys((size, OTHER)):
        x = torch.zeros(BATCH, channels, side, side, device=some.device, dtype=some.dtype)
        try:
            with blank_pass(model), torch.random.fork_rng(devices):
                model(x)
        except Exception as error:  # each model fails in its own way
            errors.append(error)
        else:
            return
    raise UserError(
        f"{type(model).__name__} cannot take images of {size} px; name another size "
        f"({one_line(errors[0])})"
    ) from errors[0]


@dataclass(frozen=True)
class _Trail:
    """How a tensor came about; it is kept as an attribute of the tensor and lives as long."""

    calls: int = 0  # one bit for each call of a layer that went into it
    last: str | None = None  # the layer whose output it is, but for what hands values on
    gate: int = 0  # number of the gate that it went through since


class _Watch(TorchFunctionMode):
    """Leaves a trail on every tensor, and sees the sums."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, int]] = []  # the last layer, and the calls in its branch
        self.calls = 0
        self.sums = 0
        self.gates = 0
        self.entered: list[tuple[int, int]] = []  # sums and gates before each module at work

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(function, "__name__", "")
        # looked at before the call, which may work in place
        inputs = [
            (t.shape, trail)
            for t in _tensors([*args, *kwargs.values()])
            if (trail := _trail(t)) is not None
        ]
        result = function(*args, **kwargs)
        if not inputs:
            return result
        if name in _ADD and len(inputs) == 2 and inputs[0][0] == inputs[1][0]:
            self._sum(inputs[0][0], inputs[0][1], inputs[1][1])
        calls = _union(trail for _, trail in inputs)
        self.gates += len(inputs) > 1 and name in _MULTIPLY
        for output in _tensors([result]):
            old = _handed_on(name, inputs, output.shape)
            gate = self.gates if len(inputs) > 1 else old.gate
            setattr(output, _TRAIL, _Trail(calls, old.last, gate))
        return result

    def _sum(self, shape: torch.Size, a: _Trail, b: _Trail) -> None:
        of_a, of_b = a.calls & ~b.calls, b.calls & ~a.calls
        deep, flat, own = (a, b, of_a) if of_a.bit_count() > of_b.bit_count() else (b, a, of_b)
        equals = of_a.bit_count() == of_b.bit_count()
        if equals or len(shape) < 3 or deep.last is None or deep.last == flat.last:
            return
        self.sums += 1
        outside = [(path, calls) for path, calls in self.found if calls & ~own]
        self.found = [*outside, (deep.last, own)]

    def begin(self, _: nn.Module, __: Any) -> None:
        """An attempt with another size may have failed half-way."""
        self.found, self.entered = [], []

    def enter(self, _: nn.Module, __: Any) -> None:
        self.entered.append((self.sums, self.gates))

    def leave(self, path: str, layer: nn.Module, inputs: Any, output: Any) -> None:
        """`output` is that layer's, unless its own layers made it, or it added a branch.

        A module without parameters beside its layers is a layer if its output is their gated one.
        """
        sums, gates = self.entered.pop()
        made = next(_tensors([output]), None)
        if made is None or sums < self.sums:
            return
        trail = _trail(made) or _Trail()
        last = path if len(made) == BATCH else None
        if trail.gate > gates:
            setattr(made, _TRAIL, _Trail(trail.calls, last))
        elif layer._parameters and not (trail.last or "").startswith(f"{path}."):
            self.calls += 1
            before = [trail, *(_trail(t) or _Trail() for t in _tensors(inputs))]
            setattr(made, _TRAIL, _Trail(_union(before) | 1 << self.calls, last))


def _handed_on(name: str, inputs: list[tuple[torch.Size, _Trail]], shape: torch.Size) -> _Trail:
    """Whose output it still is: that of one input, whole in number or in channels, or gated."""
    if len(inputs) == 1 or name in _MULTIPLY:
        for old, trail in inputs:
            whole = old.numel() == shape.numel() or old[:2] == shape[:2]
            if old == shape or (whole and len(inputs) == 1):
                return trail
    return _Trail()


def _union(trails: Iterable[_Trail]) -> int:
    calls = 0
    for trail in trails:
        calls |= trail.calls
    return calls


def _trail(tensor: Tensor) -> _Trail | None:
    return getattr(tensor, _TRAIL, None)


def _tensors(values: Any) -> Iterator[Tensor]:
    """The tensors among arguments or results, also those in lists."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)
