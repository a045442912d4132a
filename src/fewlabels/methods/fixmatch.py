"""FixMatch (Sohn et al. 2020): a confident weak view teaches the strong view of the same image.

    L = 1/B Σ_b H(y_b, p(weak(x_b)))                                              (equation 3)
      + λ 1/U Σ_u 1[max q_u >= τ] H(argmax q_u, p(strong(u)))                      (equation 4)

with q_u = p(weak(u)), aligned to the estimated prior (section 2.4 with ReMixMatch's alignment) and
carrying no gradient. The masked sum is divided by all U, not by the images kept: the weight of the
unlabelled term grows with the model's confidence.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from fewlabels.methods.alignment import Alignment, estimated_prior
from fewlabels.methods.method import Batch, Facts, Method, Step, Student, Views
from fewlabels.settings import between


@dataclass(frozen=True)
class Settings:
    threshold: float = 0.95  # τ
    weight: float = 1.0  # λ
    ratio: int = 4  # μ, unlabelled images for each labelled one; ours, the paper's is 7
    align: bool = True  # distribution alignment
    momentum: float = 0.99  # of the alignment's moving average; ours, for a few hundred steps

    def __post_init__(self) -> None:
        between("threshold", self.threshold, 0)
        between("weight", self.weight, 0)
        between("ratio", self.ratio, 1, 1000)
        between("momentum", self.momentum, 0, 1)


class FixMatch(Method):
    def __init__(self, facts: Facts, settings: Settings) -> None:
        super().__init__()
        self.settings = settings
        self.views = Views("weak", ("weak", "strong"), settings.ratio)
        self.alignment = Alignment(estimated_prior(facts.label_counts), settings.momentum)

    def step(self, student: Student, batch: Batch, progress: float) -> Step:
        assert batch.weak is not None
        assert batch.strong is not None
        b, u = len(batch.x), len(batch.weak)
        # one forward, so that batch norm sees one distribution
        logits = student(torch.cat([batch.x, batch.weak, batch.strong]))  # [B + 2U, K]
        labelled, weak, strong = torch.split(logits, [b, u, u])

        q = weak.detach().softmax(1)  # [U, K]
        if self.settings.align:
            q = self.alignment(q)
        confidence, pseudo_label = q.max(1)  # [U], [U]
        mask = (confidence >= self.settings.threshold).to(strong.dtype)

        supervised = F.cross_entropy(labelled, batch.y)
        unsupervised = (F.cross_entropy(strong, pseudo_label, reduction="none") * mask).mean()
        loss = supervised + self.settings.weight * unsupervised
        logs = {"labelled": supervised, "unlabelled": unsupervised, "confident": mask.mean()}
        return Step(loss, labelled, {name: value.detach() for name, value in logs.items()})
