"""How large activations and gradients are from the first layer to the last: do they get through?

One step of cross-entropy is taken without changing anything: activations on the way forward,
gradients with respect to each layer's output on the way back. The model is in training mode, as in
its first step, so that batch normalisation does what it will do there.

An activation's size is its standard deviation; a gradient's is its length over all units of a
layer, root mean square over images. The length, not the size by unit, is what stays the same
through a sound net: where pooling leaves fewer units, each gets more.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from fewlabels.models.structure import in_mode

LIMIT = 1000.0  # a change of signals beyond this factor is told
# ends of the range of bounded activations; within 1 % of them the gradient is nearly gone
BOUNDS = {"Tanh": (-1.0, 1.0), "Sigmoid": (0.0, 1.0), "Hardtanh": (-1.0, 1.0)}


@dataclass(frozen=True)
class Signal:
    """One call of a layer in one step."""

    path: str
    kind: str
    weights: bool  # whether it multiplies by weights: convolutions and linear layers
    mean: float
    std: float
    zeros: float  # share of activations that are exactly zero
    saturated: float  # share at the ends of a bounded activation's range
    gradient: float  # length of the loss's gradient with respect to the output


def signals(model: nn.Module, images: Tensor, labels: Tensor) -> tuple[Signal, ...]:
    """A row for each layer that has no layers within, in the order of execution.

    images [B, C, H, W], labels [B]. The model's modes, weights, buffers and gradients and torch's
    generator are afterwards as they were.
    """
    rows: list[dict[str, Any]] = []

    def hook(path: str) -> Callable[[nn.Module, Any, Any], None]:
        def look(module: nn.Module, inputs: Any, output: Any) -> None:
            out = next((x for x in tree_leaves(output) if isinstance(x, Tensor)), None)
            if out is None or not out.is_floating_point() or isinstance(module, nn.Identity):
                return
            row = _looked_at(path, module, out.detach().float())
            rows.append(row)
            if out.requires_grad:
                out.register_hook(  # type: ignore[no-untyped-call]
                    lambda grad: row.update(gradient=_length(grad))
                )

        return look

    with ExitStack() as stack:
        stack.enter_context(_untouched(model))
        stack.enter_context(torch.enable_grad())
        for path, module in model.named_modules():
            if next(module.children(), None) is None:
                stack.callback(module.register_forward_hook(hook(path)).remove)
        # from the images on everything has a gradient, whatever is frozen
        start = images.detach().clone().requires_grad_()
        output = model(start.clone())  # a first layer may write over its input
        logits = next(x for x in tree_leaves(output) if isinstance(x, Tensor))
        loss = F.cross_entropy(logits.float(), labels, reduction="sum")
        torch.autograd.grad(loss, start, allow_unused=True)
    return tuple(Signal(**row) for row in rows)


def warnings(found: Sequence[Signal]) -> list[str]:
    """What is wrong with the signals, in plain sentences; nothing for a sound net.

    The largest of the first quarter of the layers with weights are compared with the largest of the
    last quarter, so that a branch which starts at zero, as many residual nets have it, does not
    count. Nor does the head: it may start at zero, or say nothing but its biases.
    """
    layers = [signal for signal in found if signal.weights]
    body = layers[:-1]
    for number, signal in enumerate(layers, 1):
        if not (math.isfinite(signal.std) and math.isfinite(signal.gradient)):
            return [f"layer {number} ({signal.path}) gives numbers that are not finite: explodes"]
    lines = []
    cure = "xavier" if any(signal.kind in BOUNDS for signal in found) else "he"
    sizes = [signal.std for signal in body]
    if word := _change(sizes):
        (start, first), (end, last) = _told(sizes, word)
        fate = "vanishes" if word == "shrink" else "explodes"
        lines.append(
            f"the activations {word} from {first:.1g} at layer {start} to {last:.1g} at layer "
            f"{end}: the signal {fate}; try --init {cure}"
        )
    lengths = [signal.gradient for signal in reversed(body)]
    if word := _change(lengths):
        (start, first), (end, last) = _told(lengths, word)
        fate = "hardly learn" if word == "shrink" else "make wild steps"
        advice = f"try --init {cure}" if lines or word == "grow" else _relief(found)
        lines.append(
            f"the gradients {word} from {first:.1g} at layer {len(body) + 1 - start} back to "
            f"{last:.1g} at layer {len(body) + 1 - end}: the first layers {fate}; {advice}"
        )
    saturated = next((signal for signal in found if signal.saturated > 0.5), None)
    if saturated:
        lines.append(
            f"{100 * saturated.saturated:.0f} % of {saturated.path or saturated.kind} is "
            f"saturated, where its gradient is nearly zero; try --init {cure}"
        )
    return lines


def _looked_at(path: str, module: nn.Module, out: Tensor) -> dict[str, Any]:
    weight = getattr(module, "weight", None)
    low, high = BOUNDS.get(type(module).__name__, (-math.inf, math.inf))
    margin = 0.01 * (high - low) if math.isfinite(high - low) else 0.0
    return {
        "path": path,
        "kind": type(module).__name__,
        "weights": isinstance(weight, Tensor) and weight.dim() > 1,
        "mean": out.mean().item(),
        "std": out.std(correction=0).item(),
        "zeros": (out == 0).float().mean().item(),
        "saturated": ((out < low + margin) | (out > high - margin)).float().mean().item(),
        "gradient": 0.0,
    }


def _length(gradient: Tensor) -> float:
    """Root mean square over images. In double precision: squares of small numbers are smaller."""
    squares = gradient.detach().double().square().sum()
    return math.sqrt(squares.item() / len(gradient))


def _change(values: list[float]) -> str:
    """Whether they shrink or grow beyond the limit: the largest of the first and last quarter."""
    quarter = max(1, len(values) // 4)
    start, end = max(values[:quarter], default=1.0), max(values[-quarter:], default=1.0)
    if end < start / LIMIT:
        return "shrink"
    return "grow" if end > start * LIMIT else ""


def _told(values: list[float], word: str) -> list[tuple[int, float]]:
    """The first and the last value with the numbers of their layers; of what grows, the largest."""
    numbered = list(enumerate(values, 1))
    quarter = max(1, len(values) // 4)
    last = numbered[-1] if word == "shrink" else max(numbered[-quarter:], key=lambda pair: pair[1])
    return [max(numbered[:quarter], key=lambda pair: pair[1]), last]


def _relief(found: Sequence[Signal]) -> str:
    if any(signal.kind == "Sigmoid" for signal in found):
        return "a sigmoid passes on a quarter at most: try ReLU with --init he"
    return "try batch normalisation, residual connections or fewer layers"


@contextmanager
def _untouched(model: nn.Module) -> Iterator[None]:
    """Whatever a step in training mode does to the model and to torch's generator is undone."""
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    with torch.random.fork_rng(devices=[]), in_mode(model, True):
        try:
            yield
        finally:
            with torch.no_grad():
                for name, value in model.named_buffers():
                    if name in buffers:
                        value.copy_(buffers[name])
