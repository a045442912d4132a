"""What FixMatch and its family share: a weak view teaches the strong view of the same image.

    L = 1/B Σ_b H(y_b, p(weak(x_b)))  +  λ 1/U Σ_u w_u H(q̂_u, p(strong(u)))

A method of the family says in `teach` what the weak view of an image teaches, q̂_u, and how much
that weighs, w_u; the sum is divided by all U, not by the images kept.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from fewlabels.methods.forward import selected, whole, worth_selecting
from fewlabels.methods.method import (
    MULTI,
    SINGLE,
    Batch,
    Facts,
    Method,
    Step,
    Student,
    Views,
    logged,
)
from fewlabels.methods.targets import Taught, disagreement, mean_over_all
from fewlabels.settings import between


@dataclass(frozen=True)
class ConsistencySettings:
    """What every method of the family takes."""

    weight: float = 1.0  # λ, of the unlabelled loss
    ratio: int = 4  # μ, unlabelled images for each labelled one; ours, the papers' is 7
    skip: bool = True  # no backward pass for images that carry no loss; ours, the loss is the same

    def __post_init__(self) -> None:
        between("weight", self.weight, 0)
        between("ratio", self.ratio, 1, 1000)


class Consistency(Method):
    """A subclass implements `teach`, and may add to the labelled and unlabelled losses."""

    kept: Tensor

    def __init__(self, facts: Facts, settings: Any) -> None:
        super().__init__(facts)
        self.settings = settings
        self.views = Views("weak", ("weak", "strong"), settings.ratio)
        # the part of the images that carries loss, lately
        self.register_buffer("kept", torch.tensor(1.0))

    def teach(self, weak: Tensor, index: Tensor | None) -> Taught:
        """What the weak views teach, from their logits [U, K] (classes as frequent as they are);
        `index` [U] says which images they are of."""
        raise NotImplementedError

    def labelled_loss(self, logits: Tensor, y: Tensor, progress: float) -> Tensor:
        """[] from the labelled images' logits [B, K]."""
        return self.supervise(logits, y).mean()

    def unlabelled_loss(self, strong: Tensor, taught: Taught, count: int) -> Tensor:
        """[] from the strong views' logits [S, K] and what they were taught; of `count` images."""
        return mean_over_all(disagreement(strong, taught.target), taught.weight, count)

    def beside(self, strong: Tensor, taught: Taught) -> Tensor | float:
        """A further term [] of the loss, from the same."""
        return 0.0

    def step(self, student: Student, batch: Batch, progress: float) -> Step:
        assert batch.weak is not None

        def teach(weak: Tensor) -> Taught:
            return self.teach(weak + self.log_prior, batch.index)

        skip = self.settings.skip and worth_selecting(student, float(self.kept))
        forward = selected if skip else whole
        labelled, strong, rows, taught = forward(student, batch, teach)
        carrying = (taught.of_image > 0).to(self.kept.dtype).mean()
        self.kept.lerp_(carrying, 0.1)
        count = len(taught.weight)
        supervised = self.labelled_loss(labelled, batch.y, progress)
        some = taught.only(rows)
        strong = strong + self.log_prior
        unsupervised = self.unlabelled_loss(strong, some, count)
        loss = supervised + self.settings.weight * unsupervised + self.beside(strong, some)
        logs = logged(labelled=supervised, unlabelled=unsupervised, confident=carrying)
        return Step(loss, labelled, logs)


class OfEntries(Consistency):
    """For methods that have a meaning where an image has several classes: each class is then a
    decision of its own, taught where the weak view is sure of it either way."""

    tasks: ClassVar = (SINGLE, MULTI)

    def unlabelled_loss(self, strong: Tensor, taught: Taught, count: int) -> Tensor:
        if self.facts.task != MULTI:
            return super().unlabelled_loss(strong, taught, count)
        each = F.binary_cross_entropy_with_logits(strong, taught.target, reduction="none")
        return mean_over_all(each, taught.weight, count)
