"""Mean Teacher (Tarvainen and Valpola 2017): agrees with the average of one's own past selves.

    L = 1/B Σ_b H(y_b, f(x_b; θ)) + w(t) 1/N Σ_n || f(x_n; θ) - f(x'_n; θ') ||²     (section 2)
    θ' ← α θ' + (1 - α) θ                                                           (equation 1)
    w(t) = w exp(-5 (1 - t/R)²) for t < R, w after                                  (appendix B)

f are probabilities, x and x' two views of an image, and N all unlabelled images of the batch (the
labelled ones appear among them). θ' is the moving average that training keeps anyway (--ema-decay
is α), in eval mode: its buffers are the student's, and no gradient reaches it, so only the student
learns. The teacher sees the weak view and the student the strong one; with --augment set to the
weak policy the two are alike, as in the paper. Regression compares the outputs themselves, several
labels an image their probabilities.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

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
from fewlabels.settings import between


@dataclass(frozen=True)
class Settings:
    weight: float = 10.0  # w, of agreement; the paper's 100: of a mean over 10 classes, not a sum
    ramp: float = 0.3  # R as a part of training; the paper's 40,000 of 150,000 steps
    ratio: int = 4  # unlabelled images for each labelled one

    def __post_init__(self) -> None:
        between("weight", self.weight, 0)
        between("ramp", self.ramp, 0, 1)
        between("ratio", self.ratio, 1, 1000)


class MeanTeacher(Method):
    tasks: ClassVar = (SINGLE, MULTI, REGRESSION)

    def __init__(self, facts: Facts, settings: Settings) -> None:
        super().__init__(facts)
        self.settings = settings
        self.views = Views("weak", ("weak", "strong"), settings.ratio)

    def begin(self, networks: Networks) -> None:
        # in a tuple: the average is the loop's, not state of ours
        self._teacher = (networks.average,)

    def step(self, student: Student, batch: Batch, progress: float) -> Step:
        assert batch.weak is not None
        assert batch.strong is not None
        labelled, strong = together(student, batch.x, batch.strong)  # [B, K], [U, K]
        with torch.no_grad():
            (teacher,) = together(self._teacher[0], batch.weak)  # [U, K]
        supervised = self.supervise(labelled, batch.y).mean()
        difference = self._said(strong) - self._said(teacher)
        consistency = difference.square().sum(1).mean()
        loss = supervised + self.weight(progress) * consistency
        return Step(loss, labelled, logged(labelled=supervised, unlabelled=consistency))

    def weight(self, progress: float) -> float:
        """w(t)."""
        ramp = self.settings.ramp
        left = 1 - progress / ramp if progress < ramp else 0.0
        return self.settings.weight * math.exp(-5 * left**2)

    def _said(self, outputs: Tensor) -> Tensor:
        if self.facts.task == REGRESSION:
            return outputs
        if self.facts.task == MULTI:
            return outputs.sigmoid()
        return (outputs + self.log_prior).softmax(1)
