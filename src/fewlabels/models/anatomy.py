"""What a model is made of: its layers in the order of execution, what they cost and what they see.

Shapes are without the batch. FLOPs are multiply-adds of convolutions and matrix products, as the
papers count them; normalisation, activations, pooling and biases are left out. Models run on
torch's meta device, which has shapes and no numbers: the largest one costs no memory.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from fewlabels.errors import UserError, one_line
from fewlabels.models.field import Follow
from fewlabels.models.structure import blank_pass


@dataclass(frozen=True)
class Layer:
    """One call of a layer. One that is called again has its parameters in the first row."""

    path: str  # its name in the model
    kind: str
    shape: tuple[int, ...]  # of its output
    parameters: int
    flops: int
    field: int | None  # side in pixels of what a unit sees, the longer one; None: the whole image
    jump: int | None  # pixels between neighbouring units; None: they have no place in the image


@dataclass(frozen=True)
class Totals:
    """Of a whole model, and of one image."""

    parameters: int
    flops: int


def totals(model: nn.Module, size: int, channels: int = 3) -> Totals:
    """Parameters and multiply-adds. UserError when the model cannot take images of this size."""
    parameters = sum(p.numel() for p in model.parameters())
    counters: list[FlopCounterMode] = []

    def around(x: Tensor) -> AbstractContextManager[object]:
        counters.append(FlopCounterMode(display=False))
        return counters[-1]

    _run(model, size, channels, around)
    return Totals(parameters, counters[-1].get_total_flops() // 2)


def layers(model: nn.Module, size: int, channels: int = 3) -> tuple[Layer, ...]:
    """A row for each call of a layer that has no layers within, in the order of execution.

    A module that computes beside its layers, as attention does, has a row after theirs. So the rows
    add up to `totals`, but for parameters that evaluation does not use. UserError as there.
    """
    tables: list[_Table] = []

    def around(x: Tensor) -> AbstractContextManager[object]:
        tables.append(_Table(x))
        return tables[-1].hooked(model)

    _run(model, size, channels, around)
    return tuple(tables[-1].rows)


class _Table:
    """Rows, made by hooks on every module of a model."""

    def __init__(self, image: Tensor) -> None:
        self.rows: list[Layer] = []
        self.counter: Any = FlopCounterMode(display=False)
        self.follow = Follow(image)
        self.counted: set[Tensor] = set()  # parameters that have had their row
        # for each module that is at work: FLOPs when it began, and those of the modules within it
        self.open: list[list[int]] = []

    @contextmanager
    def hooked(self, model: nn.Module) -> Iterator[None]:
        with ExitStack() as stack:
            stack.enter_context(self.counter)
            stack.enter_context(self.follow)
            for path, module in model.named_modules():
                for handle in (
                    module.register_forward_pre_hook(self.enter),
                    module.register_forward_hook(self.leave(path)),
                ):
                    stack.callback(handle.remove)
            yield

    def enter(self, module: nn.Module, inputs: Any) -> None:
        self.open.append([self.counter.get_total_flops(), 0])

    def leave(self, path: str) -> Callable[[nn.Module, Any, Any], None]:
        def leave(module: nn.Module, inputs: Any, output: Any) -> None:
            begun, inner = self.open.pop()
            spent = self.counter.get_total_flops() - begun
            if self.open:
                self.open[-1][1] += spent
            own = spent - inner
            leaf = next(module.children(), None) is None
            # what computes by itself may use the weights of layers within that it never calls
            parameters = set(module.parameters(recurse=own > 0)) - self.counted
            if leaf or own or parameters:
                self.counted |= parameters
                self.add(path, module, output, sum(p.numel() for p in parameters), own // 2)

        return leave

    def add(self, path: str, module: nn.Module, output: Any, parameters: int, flops: int) -> None:
        out = next((x for x in tree_leaves(output) if isinstance(x, Tensor)), None)
        if isinstance(module, nn.Identity) or out is None:
            return
        reach = self.follow.reach(out)
        field, jump = (reach.field, reach.jump) if reach else (None, None)
        shape = tuple(out.shape[1:])
        self.rows.append(Layer(path, type(module).__name__, shape, parameters, flops, field, jump))


def _run(
    model: nn.Module,
    size: int,
    channels: int,
    around: Callable[[Tensor], AbstractContextManager[object]],
) -> None:
    """One image through the model, without numbers; with them where a model must look at them."""
    x = torch.zeros(1, channels, size, size, device="meta")
    state = dict(model.named_parameters()) | dict(model.named_buffers())
    shapes = {name: torch.empty_like(value, device="meta") for name, value in state.items()}
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # it would be one operation of unknown cost
    try:
        with blank_pass(model):
            try:
                with around(x):
                    functional_call(model, shapes, (x,))
            except Exception:
                if any(value.is_meta for value in state.values()):
                    raise
                real = torch.zeros(1, channels, size, size)
                with around(real):
                    model(real)
    except Exception as error:  # each model fails in its own way
        raise UserError(
            f"{type(model).__name__} cannot take images of {size} px; name another --img-size "
            f"({one_line(error)})"
        ) from error
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
