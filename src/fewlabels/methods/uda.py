"""Unsupervised data augmentation (Xie et al. 2020): the sharpened prediction on a weak view is the
target of the strong view, where the weak one is confident.

    L = L_TSA + λ 1/U Σ_u 1[max p_u > β] KL( softmax(z_u / T) || p(strong(u)) )   (section 2)
    L_TSA = Σ_b 1[p(y_b | x_b) <= η] H(y_b, p(x_b)) / Σ_b 1[p(y_b | x_b) <= η]   (appendix)
    η = α (1 - 1/K) + 1/K,   α = 1 - exp(-5t), t, exp(5 (t - 1))  for log, linear, exp

with z_u the logits and p_u the unsharpened probabilities of the weak view, t the progress. T
divides the logits. Training signal annealing (TSA) leaves out labelled images whose *true* class is
already more probable than η, so that few labels are not overfitted early. Where an image has
several labels, both apply to each class by itself (ours), without TSA.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fewlabels.errors import UserError
from fewlabels.methods.consistency import ConsistencySettings, OfEntries
from fewlabels.methods.method import MULTI, Facts
from fewlabels.methods.targets import (
    Taught,
    confident_entries,
    disagreement,
    entropy_of_entries,
    mean_over_all,
    sharpened,
)
from fewlabels.settings import between, one_of

SCHEDULES = ("none", "linear", "log", "exp")


@dataclass(frozen=True)
class Settings(ConsistencySettings):
    temperature: float = 0.4  # T, below 1 sharpens the target
    threshold: float = 0.8  # β, of the weak view's confidence
    tsa: str = "none"  # training signal annealing: none, linear, log, exp

    def __post_init__(self) -> None:
        super().__post_init__()
        between("temperature", self.temperature, 1e-3)
        between("threshold", self.threshold, 0, 1)
        one_of("tsa", self.tsa, SCHEDULES)


class UDA(OfEntries):
    settings: Settings

    def __init__(self, facts: Facts, settings: Settings) -> None:
        super().__init__(facts, settings)
        if settings.tsa != "none" and facts.task == MULTI:
            raise UserError("uda: tsa has no effect where an image has several labels")

    def teach(self, weak: Tensor, index: Tensor | None) -> Taught:
        t = self.settings.temperature
        if self.facts.task == MULTI:
            sure = confident_entries(weak.sigmoid(), self.settings.threshold)
            return Taught((weak / t).sigmoid(), sure.weight)
        confidence = weak.softmax(1).amax(1)  # [U]
        weight = (confidence > self.settings.threshold).to(weak.dtype)
        return Taught(sharpened(weak, t), weight)

    def unlabelled_loss(self, strong: Tensor, taught: Taught, count: int) -> Tensor:
        q = taught.target
        cross = super().unlabelled_loss(strong, taught, count)
        entropy = entropy_of_entries(q) if self.facts.task == MULTI else -torch.xlogy(q, q).sum(1)
        return cross - mean_over_all(entropy, taught.weight, count)  # KL = cross - own entropy

    def labelled_loss(self, logits: Tensor, y: Tensor, progress: float) -> Tensor:
        each = self.supervise(logits, y)  # [B]
        if self.settings.tsa == "none":
            return each.mean()
        # exp(-H(y, p)) is the true class's probability, mixed labels or not
        true = torch.exp(-disagreement(logits.detach() + self.log_prior, y))
        kept = (true <= annealed(self.settings.tsa, progress, logits.shape[1])).to(each.dtype)
        return (each * kept).sum() / kept.sum().clamp_min(1)


def annealed(schedule: str, progress: float, classes: int) -> float:
    """η of training signal annealing, from 1/K at the start (log, linear) to 1 at the end."""
    alpha = {
        "linear": progress,
        "log": 1 - math.exp(-5 * progress),
        "exp": math.exp(5 * (progress - 1)),
    }[schedule]
    return alpha * (1 - 1 / classes) + 1 / classes
