"""FixMatch (Sohn et al. 2020): a confident weak view teaches the strong view of the same image.

    L = 1/B Σ_b H(y_b, p(weak(x_b)))                                              (equation 3)
      + λ 1/U Σ_u 1[max q_u >= τ] H(argmax q_u, p(strong(u)))                      (equation 4)

with q_u = p(weak(u)), aligned to the estimated prior (section 2.5, with ReMixMatch's alignment) and
carrying no gradient. The masked sum is divided by all U, not by the images kept: the weight of the
unlabelled term grows with the model's confidence. Where an image has several labels, each class is
a decision of its own, kept where p >= τ or p <= 1 - τ, without alignment (ours).
"""

from dataclasses import dataclass

from torch import Tensor

from fewlabels.methods.consistency import ConsistencySettings, OfEntries
from fewlabels.methods.method import MULTI, Facts
from fewlabels.methods.prior import Alignment
from fewlabels.methods.targets import Taught, confident_entries
from fewlabels.settings import between


@dataclass(frozen=True)
class Settings(ConsistencySettings):
    threshold: float = 0.95  # τ, of the weak view's confidence
    align: bool = True  # distribution alignment; the paper's own variant, not its default
    momentum: float = 0.99  # of the alignment's moving average; ours, for a few hundred steps

    def __post_init__(self) -> None:
        super().__post_init__()
        between("threshold", self.threshold, 0, 1)
        between("momentum", self.momentum, 0, 1)


class FixMatch(OfEntries):
    settings: Settings

    def __init__(self, facts: Facts, settings: Settings) -> None:
        super().__init__(facts, settings)
        self.alignment = Alignment(self.prior, settings.momentum)

    def teach(self, weak: Tensor, index: Tensor | None) -> Taught:
        if self.facts.task == MULTI:
            return confident_entries(weak.sigmoid(), self.settings.threshold)
        q = weak.softmax(1)  # [U, K]
        if self.settings.align:
            q = self.alignment(q)
        confidence, pseudo_label = q.max(1)  # [U], [U]
        return Taught(pseudo_label, (confidence >= self.settings.threshold).to(q.dtype))
