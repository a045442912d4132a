"""Supervised training on the labelled images: mean cross-entropy, with label smoothing.

    L = 1/B Σ_b H(q_b, p(y | x_b)),   q_b = (1 - ε) onehot(y_b) + ε / K

Szegedy et al., "Rethinking the Inception Architecture" (2016), section 7.
"""

from dataclasses import dataclass

import torch.nn.functional as F

from fewlabels.methods.method import Batch, Facts, Method, Step, Student, Views
from fewlabels.settings import between, one_of


@dataclass(frozen=True)
class Settings:
    label_smoothing: float = 0.0  # ε
    view: str = "strong"  # the augmentation of the labelled images: weak or strong

    def __post_init__(self) -> None:
        between("label_smoothing", self.label_smoothing, 0, 1)
        one_of("view", self.view, ("weak", "strong"))


class Supervised(Method):
    def __init__(self, facts: Facts, settings: Settings) -> None:
        super().__init__()
        self.settings = settings
        self.views = Views(labelled=settings.view)

    def step(self, student: Student, batch: Batch, progress: float) -> Step:
        logits = student(batch.x)  # [B, K]
        loss = F.cross_entropy(logits, batch.y, label_smoothing=self.settings.label_smoothing)
        return Step(loss, logits)
