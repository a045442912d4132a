"""What pretext tasks share: a task without labels trains the features that the labels use.

    L = L_task(all images) in the first part of training, if there is one, then
    L = v 1/B Σ_b H(y_b, p(x_b)) + w L_task(all images)

Both losses at once (S4L, Zhai et al. 2019, equation 1), from one forward pass, or the task first
and then the labels (w = 0), or the task alone (v = 0), as for pre-training.
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from fewlabels.methods import sharing
from fewlabels.methods.forward import together
from fewlabels.methods.method import (
    MULTI,
    REGRESSION,
    SINGLE,
    Batch,
    Facts,
    Method,
    Networks,
    Step,
    Student,
    Views,
    logged,
)
from fewlabels.models.structure import blank_pass, last_map, seen_at, seen_by_head
from fewlabels.settings import between


@dataclass(frozen=True)
class PretextSettings:
    """What every pretext task takes."""

    weight: float = 1.0  # w, of the task's loss beside the labels'
    labelled: float = 1.0  # v, of the labels' loss; 0 for the task alone
    alone: float = 0.0  # the first part of training, of the task alone
    ratio: int = 4  # images of the task for each labelled one

    def __post_init__(self) -> None:
        between("weight", self.weight, 0)
        between("labelled", self.labelled, 0)
        between("alone", self.alone, 0, 1)
        between("ratio", self.ratio, 1, 1000)


class Pretext(Method):
    """A subclass says what the network is shown (`inputs`) and how it does (`task`)."""

    tasks: ClassVar = (SINGLE, MULTI, REGRESSION)
    unlabelled: ClassVar[tuple[str, ...]] = ("strong",)

    def __init__(self, facts: Facts, settings: Any) -> None:
        super().__init__(facts)
        self.settings = settings
        self.views = Views("strong", self.unlabelled, settings.ratio)

    def begin(self, networks: Networks) -> None:
        self._student = (networks.student,)  # in a tuple: it is the loop's, not ours
        size = networks.size
        blank = torch.zeros(2, 3, size, size, device=next(networks.student.parameters()).device)
        self.find(networks.student, size)
        with blank_pass(networks.student), self.watched() as seen:
            networks.student(blank)
        self.head = self.make_head(seen[0], size)

    def find(self, student: nn.Module, size: int) -> None:
        """Looks where in the network the task's head is to sit; by default below the classes'."""

    def watched(self) -> AbstractContextManager[list[Tensor]]:
        """A context that gathers what the task's head is fed: pooled features [N, F]."""
        return seen_by_head(self._student[0])

    def make_head(self, fed: Tensor, size: int) -> nn.Module:
        """The task's own layers, for what `watched` gathers; images have `size` pixels a side."""
        raise NotImplementedError

    def inputs(self, batch: Batch) -> Tensor:
        """What the network is shown: images [M, C, H, W]."""
        raise NotImplementedError

    def task(self, answers: Tensor, batch: Batch) -> Tensor:
        """The task's loss [] from its head's outputs [M, …], over the images of all processes."""
        raise NotImplementedError

    def step(self, student: Student, batch: Batch, progress: float) -> Step:
        v, w = self.settings.labelled, self.settings.weight
        if not v or progress < self.settings.alone:
            v, w = 0.0, 1.0
        x = batch.x if v else batch.x[:0]  # [B or 0, C, H, W]
        images = self.inputs(batch) if w else batch.x[:0]  # [M or 0, C, H, W]
        with self.watched() as seen:
            labelled, _ = together(student, x, images)
        loss, logs = labelled.new_zeros(()), logged()
        if w:
            _, fed = sharing.regrouped(seen, (len(x), len(images)))
            task = self.task(self.head(fed), batch)
            loss, logs = loss + w * task, logs | logged(task=task)
        if v:
            supervised = self.supervise(labelled, batch.y).mean()
            loss, logs = loss + v * supervised, logs | logged(labelled=supervised)
        return Step(loss, labelled, logs, labels_first=v > 0)


class Decoded(Pretext):
    """For tasks whose answer is the image itself: one 1x1 convolution on the last map and a pixel
    shuffle back to the image's size. A head of one layer is enough, and leaves the work to the
    network (SimMIM, Xie et al. 2022, section 3.3)."""

    def find(self, student: nn.Module, size: int) -> None:
        self._path = last_map(student, size)

    def watched(self) -> AbstractContextManager[list[Tensor]]:
        return seen_at(self._student[0], self._path)

    def make_head(self, fed: Tensor, size: int) -> nn.Module:
        factor = -(-size // fed.shape[2])
        layers: list[nn.Module] = [
            nn.Conv2d(fed.shape[1], 3 * factor**2, 1),
            nn.PixelShuffle(factor),
        ]
        if factor * fed.shape[2] != size:  # maps whose side does not divide the image's
            layers.append(nn.Upsample((size, size), mode="bilinear"))
        return nn.Sequential(*layers)
