"""Labelled, weak and strong views through the student, as one batch; and no backward pass for
images that carry no loss.

A weak view is a target: no gradient reaches it. A strong view whose weak view taught nothing adds
nothing to the loss. Yet in one concatenated pass both are carried backward. Instead we look first,
without gradients, at what the weak views teach, and then pass forward and backward only the
labelled images and the strong views that something was taught.

Batch norm must not notice. In the first pass it sees the whole batch and updates its running
statistics; in the second each layer normalises with the statistics of that whole batch. So the
logits, the loss and the running statistics are those of one concatenated pass, to rounding (with
dropout: of another draw). The gradient is not quite the same: it goes through the statistics of the
images that are passed (batch renormalisation, Ioffe 2017, toward the whole batch and not a moving
average). It stays orthogonal to shifts and scales of the weights, which it would not if the
statistics were constants. Networks without batch norm in training mode look at the weak views only,
and their gradient is exact.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from fewlabels.methods import sharing
from fewlabels.methods.batch_norm import (
    InPlaceOfBatchNorm,
    Norm,
    own_statistics,
    renormalised,
)
from fewlabels.methods.method import Batch, Student
from fewlabels.methods.targets import Taught

Teach = Callable[[Tensor], Taught]  # weak logits [U, K] -> what they teach


def together(student: Student, *parts: Tensor) -> tuple[Tensor, ...]:
    """The outputs of each part, from one forward pass of all: batch norm sees one distribution.
    Where several processes have a part each of the batch: the outputs of all of them."""
    return tuple(sharing.gathered(outputs) for outputs in sharing.passed(student, *parts))


def whole(student: Student, batch: Batch, teach: Teach) -> tuple[Tensor, Tensor, Tensor, Taught]:
    """One concatenated pass: the labelled logits [B, K], the strong ones [U, K], the images that
    these are of (all), and what their weak views taught."""
    assert batch.weak is not None
    assert batch.strong is not None
    labelled, weak, strong = together(student, batch.x, batch.weak, batch.strong)
    return labelled, strong, torch.arange(len(strong)), teach(weak.detach())


def selected(student: Student, batch: Batch, teach: Teach) -> tuple[Tensor, Tensor, Tensor, Taught]:
    """The same, but strong only of the images [S] that carry loss, and a few to make up an even
    number: each new shape of a batch costs a set-up."""
    assert batch.weak is not None
    assert batch.strong is not None
    statistics, norms = WholeBatch(), batch_norms(student)
    with torch.no_grad(), statistics:
        if norms:
            _, weak, _ = together(student, batch.x, batch.weak, batch.strong)
        else:
            (weak,) = together(student, batch.weak)
    # autocast must not hand the second pass the weights that the first cast without gradients
    # (pytorch issue 112583)
    torch.clear_autocast_cache()
    taught = teach(weak)
    order = torch.argsort(taught.of_image, descending=True, stable=True)
    some = max(int((taught.of_image > 0).sum()), 2 - len(batch.x))  # batch norm needs two images
    rows = order[: -(-some // len(batch.x)) * len(batch.x)]  # whole multiples of B
    # with momentum None the running statistics are means over so many batches: one a step
    counts = [n.num_batches_tracked for n in norms if n.num_batches_tracked is not None]
    before = [count.clone() for count in counts]
    with statistics:
        labelled, strong = together(student, batch.x, batch.strong[rows])
    for count, earlier in zip(counts, before, strict=True):
        count.copy_(earlier)
    return labelled, strong, rows, taught


def worth_selecting(student: Student, kept: float) -> bool:
    """Whether `selected` is right for this student, and quicker than `whole` where this part of the
    images carries loss.

    With batch norm the first pass must see every image. Measured on one core, cnn_small at 32 px,
    16 labelled and 64 unlabelled images: 0.51 of the time where none is kept, 0.61 at a quarter,
    0.70 at half, 0.79 at three quarters and 0.90 where all are; an earlier form of it had 0.84 at
    half and 0.98 at three quarters, so that it ends at 0.7.
    """
    if not isinstance(student, nn.Module):  # whose norms cannot be seen
        return False
    if not sharing.current().alone:
        return False
    if any(isinstance(module, nn.SyncBatchNorm) for module in student.modules()):
        return False
    return kept < (0.7 if normalises_by_batch(student) else 1.1)


def normalises_by_batch(student: Student) -> bool:
    """Whether an image's output depends on the others of its batch."""
    return bool(batch_norms(student))


def batch_norms(student: Student) -> list[_BatchNorm]:
    """The layers that take their statistics from the batch."""
    modules = student.modules() if isinstance(student, nn.Module) else ()
    norms = [m for m in modules if isinstance(m, _BatchNorm)]
    return [m for m in norms if m.training or m.running_mean is None]


class WholeBatch(InPlaceOfBatchNorm):
    """Inside, batch norm in training mode takes the statistics of the first pass in every later
    one, layer by layer in the order of the calls."""

    def __init__(self) -> None:
        super().__init__()
        self._statistics: list[tuple[Tensor, Tensor]] = []  # mean and 1 / deviation [C], by layer
        self._known = 0  # layers that the first pass had
        self._layer = 0

    def __enter__(self) -> Any:
        self._known, self._layer = len(self._statistics), 0
        return super().__enter__()  # type: ignore[no-untyped-call]

    def normalised(self, norm: Norm) -> Tensor:
        if not self._known:
            x, running_mean, running_var, weight, bias, _, momentum, eps = norm
            out, mean, scale = torch.native_batch_norm(
                x, weight, bias, running_mean, running_var, True, momentum, eps
            )
            self._statistics.append((mean, scale))
            return out
        mean, scale = self._statistics[self._layer]
        self._layer += 1
        with torch.no_grad():
            own = own_statistics(norm.x)
        return renormalised(norm, own, mean, scale)
