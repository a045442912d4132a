"""Pseudo-label (Lee 2013): the class that the network finds most likely is taken for the true one.

    L = 1/B Σ_b H(y_b, p(x_b)) + α(t) 1/U Σ_u H(argmax p(u), p(u))                  (equation 15)
    α(t) = 0 for t < T1,  α_f (t - T1) / (T2 - T1) for T1 <= t < T2,  α_f after     (equation 16)

The same view of an image is the target's and the prediction's; the target carries no gradient.
There is no threshold: α keeps the first, wrong, pseudo-labels out. Where an image has several
labels, each class is a decision of its own.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F

from fewlabels.errors import UserError
from fewlabels.methods.forward import together
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
from fewlabels.methods.targets import disagreement
from fewlabels.settings import between, one_of


@dataclass(frozen=True)
class Settings:
    weight: float = 3.0  # α_f, of the unlabelled loss in the end
    begin: float = 0.2  # T1 as a part of training; ours, the paper's are counts of updates
    full: float = 0.6  # T2 likewise: from there on α is α_f
    ratio: int = 4  # unlabelled images for each labelled one; ours, the paper's is 8
    view: str = "weak"  # of all images: weak or strong

    def __post_init__(self) -> None:
        between("weight", self.weight, 0)
        between("begin", self.begin, 0, 1)
        between("full", self.full, 0, 1)
        between("ratio", self.ratio, 1, 1000)
        one_of("view", self.view, ("weak", "strong"))
        if self.full < self.begin:
            raise UserError(f"full {self.full}: must not come before begin ({self.begin})")


class PseudoLabel(Method):
    tasks: ClassVar = (SINGLE, MULTI)

    def __init__(self, facts: Facts, settings: Settings) -> None:
        super().__init__(facts)
        self.settings = settings
        self.views = Views(settings.view, (settings.view,), settings.ratio)

    def step(self, student: Student, batch: Batch, progress: float) -> Step:
        images = batch.weak if self.settings.view == "weak" else batch.strong
        assert images is not None
        labelled, unlabelled = together(student, batch.x, images)  # [B, K], [U, K]
        unlabelled = unlabelled + self.log_prior
        supervised = self.supervise(labelled, batch.y).mean()
        if self.facts.task == MULTI:
            target = (unlabelled.detach() > 0).to(unlabelled.dtype)
            pseudo = F.binary_cross_entropy_with_logits(unlabelled, target)
        else:
            pseudo = disagreement(unlabelled, unlabelled.detach().argmax(1)).mean()
        alpha = self.alpha(progress)
        logs = logged(labelled=supervised, unlabelled=pseudo)
        return Step(supervised + alpha * pseudo, labelled, logs)

    def alpha(self, progress: float) -> float:
        """α(t), equation 16."""
        begin, full = self.settings.begin, self.settings.full
        if progress < begin:
            return 0.0
        ramp = 1.0 if progress >= full else (progress - begin) / (full - begin)
        return self.settings.weight * ramp
