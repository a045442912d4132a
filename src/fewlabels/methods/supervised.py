"""Supervised training (Szegedy et al. 2016): learns from the labelled images alone.

    L = 1/B Σ_b H(q_b, p(y | x_b)),   q_b = (1 - ε) onehot(y_b) + ε / K          (section 7)

One class an image. Where an image has several labels: the soft margin loss, 1/K Σ_k of the binary
cross-entropies; for numbers instead of classes the squared error.
"""

from dataclasses import dataclass
from typing import ClassVar

from fewlabels.errors import UserError
from fewlabels.methods.forward import together
from fewlabels.methods.method import (
    MULTI,
    REGRESSION,
    SINGLE,
    Batch,
    Facts,
    Method,
    Step,
    Student,
    Views,
)
from fewlabels.settings import between, one_of


@dataclass(frozen=True)
class Settings:
    label_smoothing: float = 0.0  # ε, the part of a label that is spread over all classes
    view: str = "strong"  # the augmentation of the labelled images: weak or strong

    def __post_init__(self) -> None:
        between("label_smoothing", self.label_smoothing, 0, 1)
        one_of("view", self.view, ("weak", "strong"))


class Supervised(Method):
    tasks: ClassVar = (SINGLE, MULTI, REGRESSION)

    def __init__(self, facts: Facts, settings: Settings) -> None:
        super().__init__(facts)
        if settings.label_smoothing and facts.task != SINGLE:
            raise UserError(f"label_smoothing has no effect with the task {facts.task}")
        self.settings = settings
        self.views = Views(labelled=settings.view)

    def step(self, student: Student, batch: Batch, progress: float) -> Step:
        (logits,) = together(student, batch.x)  # [B, K]
        return Step(self.supervise(logits, batch.y, self.settings.label_smoothing).mean(), logits)
