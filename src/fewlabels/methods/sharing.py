"""How one batch is shared out: its images over processes, and a process's images over parts that
pass the network one after another.

A method does not notice. It hands images to `together` and gets the outputs of the whole batch, in
the order in which one process would have them: its thresholds, moving averages and per-image state
are then the same in every process, and so is its loss. Each process has gradients of its own images
only; their sum over the processes is the gradient of one process (`sum_gradients`).

Parts save memory: no part's activations are kept, they are computed anew when its backward pass
comes (Chen et al. 2016, "Training deep nets with sublinear memory cost"; Gao et al. 2021,
GradCache, for losses that join the parts). The loss and its gradient stay what they are, but for
batch norm in training mode, which takes its statistics from each part. Over processes it takes
those of all.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fewlabels.methods.batch_norm import (
    InPlaceOfBatchNorm,
    Norm,
    own_statistics,
    renormalised,
)


@dataclass(frozen=True)
class Sharing:
    """This process's number, how many there are, and how many parts each makes of its images."""

    rank: int = 0
    world: int = 1
    parts: int = 1

    @property
    def alone(self) -> bool:
        """Whether a batch passes the network whole."""
        return self.world == self.parts == 1


_now = Sharing()


@contextmanager
def shared(sharing: Sharing) -> Iterator[None]:
    """Inside, batches are shared out so."""
    global _now
    before, _now = _now, sharing
    try:
        yield
    finally:
        _now = before


def current() -> Sharing:
    """How batches are shared out now."""
    return _now


def passed(student: Any, *groups: Tensor) -> list[Tensor]:
    """The outputs [n, …] of this process's images, group by group; all groups pass together, or
    equal parts of each."""
    sharing = _now
    if sharing.alone:
        if len(groups) == 1:
            return [outputs_of(student, groups[0])]
        outputs = outputs_of(student, torch.cat(groups))
        return list(torch.split(outputs, [len(group) for group in groups]))
    # two images or more in each: batch norm has no statistics of one
    parts = max(1, min(sharing.parts, max(map(len, groups)) // 2))
    sharing = replace(sharing, parts=parts)
    pieces = zip(*(group.tensor_split(parts) for group in groups), strict=True)
    parts_of_all = [_one_pass(student, torch.cat(piece), sharing) for piece in pieces]
    return regrouped(parts_of_all, [len(group) for group in groups])


def outputs_of(student: Any, images: Tensor) -> Tensor:
    """[N, …], in floats at least: under autocast a network may end in numbers of 16 bits, which are
    too coarse for a loss."""
    outputs: Tensor = student(images)
    return outputs.float() if outputs.dtype in (torch.float16, torch.bfloat16) else outputs


def regrouped(parts: Sequence[Tensor], lengths: Sequence[int]) -> list[Tensor]:
    """What was seen of each part of groups of these lengths -> of each group. For outputs, and for
    what hooks have gathered on the way."""
    count = len(parts)
    pieces = [
        torch.split(part, [n // count + (i < n % count) for n in lengths])
        for i, part in enumerate(parts)
    ]
    return [torch.cat(group) for group in zip(*pieces, strict=True)]


def gathered(rows: Tensor) -> Tensor:
    """These rows [n, …] of all processes, [n · world, …]; gradients go to this process's own."""
    if _now.world == 1:
        return rows
    everyone = [torch.empty_like(rows) for _ in range(_now.world)]
    dist.all_gather(everyone, rows.detach().contiguous())
    everyone[_now.rank] = rows
    return torch.cat(everyone)


def own(rows: Tensor) -> Tensor:
    """This process's part of rows [n · world, …] that all processes have."""
    return rows.chunk(_now.world)[_now.rank] if _now.world > 1 and len(rows) else rows


def mean_of_processes(value: Tensor) -> Tensor:
    """The mean [] of a value [] that each process has of as many images of its own."""
    return gathered(value[None]).mean() if _now.world > 1 else value


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Adds up the gradients of all processes, in place."""
    if _now.world == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    for kind in {g.dtype for g in gradients}:
        some = [g for g in gradients if g.dtype == kind]
        flat = torch.cat([g.reshape(-1) for g in some])
        dist.all_reduce(flat)
        for gradient, total in zip(some, torch.split(flat, [g.numel() for g in some]), strict=True):
            gradient.copy_(total.view_as(gradient))


def _one_pass(student: Any, images: Tensor, sharing: Sharing) -> Tensor:
    if sharing.parts == 1:
        with BatchStatistics(sharing):
            return outputs_of(student, images)

    def run() -> tuple[Any, Any]:
        return BatchStatistics(sharing), _again(student, sharing)

    if not torch.is_grad_enabled():  # nothing is kept anyway
        with BatchStatistics(sharing):
            return outputs_of(student, images)
    found: Tensor = checkpoint(outputs_of, student, images, use_reentrant=False, context_fn=run)
    return found


@contextmanager
def _again(student: Any, sharing: Sharing) -> Iterator[None]:
    """The same pass a second time: it leaves no trace in the norms."""
    modules = student.modules() if isinstance(student, nn.Module) else ()
    counts = [n for m in modules if (n := getattr(m, "num_batches_tracked", None)) is not None]
    before = [count.clone() for count in counts]
    try:
        with BatchStatistics(sharing, update=False):
            yield
    finally:  # torch ends the pass with an exception, as soon as it has what it needs
        for count, earlier in zip(counts, before, strict=True):
            count.copy_(earlier)


class BatchStatistics(InPlaceOfBatchNorm):
    """Inside, batch norm in training mode takes the statistics of all processes' images (Ioffe and
    Szegedy 2015, algorithm 1), and all parts of a batch together move the running ones as far as
    one batch does. `update`: whether these are moved at all."""

    def __init__(self, sharing: Sharing, update: bool = True) -> None:
        super().__init__()
        self.sharing, self.update = sharing, update

    def normalised(self, norm: Norm) -> Tensor:
        x, running_mean, running_var = norm[:3]
        alone = self.sharing.world == 1
        with torch.no_grad() if alone else nullcontext():
            own = own_statistics(x)
        (mean, var), count = own, x.numel() // x.shape[1]
        if not alone:
            each = _of_all_processes(torch.stack(own), self.sharing)  # [W, 2, C]
            mean = each[:, 0].mean(0)
            var = (each[:, 1] + (each[:, 0] - mean).square()).mean(0)
            count *= self.sharing.world
        if self.update and running_mean is not None and running_var is not None:
            with torch.no_grad():
                part = 1 - (1 - norm.momentum) ** (1 / self.sharing.parts)
                running_mean.lerp_(mean.to(running_mean.dtype), part)
                unbiased = var * (count / max(1, count - 1))
                running_var.lerp_(unbiased.to(running_var.dtype), part)
        if alone:
            return F.batch_norm(x, None, None, norm.weight, norm.bias, True, 0.0, norm.eps)
        return renormalised(norm, own, mean, (var + norm.eps).rsqrt())


def _of_all_processes(value: Tensor, sharing: Sharing) -> Tensor:
    """[…] of each process, with gradients -> [world, …] of all."""
    places = [torch.zeros_like(value)] * sharing.world
    places[sharing.rank] = value
    total: Tensor = _Sum.apply(torch.stack(places))  # type: ignore[no-untyped-call]
    return total


class _Sum(torch.autograd.Function):
    """The sum over processes. Each has a loss's gradient of its own images: these too are added."""

    @staticmethod
    def forward(context: Any, value: Tensor) -> Tensor:
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total
