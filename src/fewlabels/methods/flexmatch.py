"""FlexMatch (Zhang et al. 2021): FixMatch whose threshold is lower for classes learnt less well.

    σ(c) = Σ_n 1[max q_n > τ] 1[argmax q_n = c]                                     (equation 5)
    β(c) = σ(c) / max( max_c σ(c), N - Σ_c σ(c) )                                   (equation 11)
    T(c) = M(β(c)) τ,   M(x) = x / (2 - x)                                          (equation 12)
    L = 1/B Σ_b H(y_b, p(weak(x_b)))
      + λ 1/U Σ_u 1[max q_u > T(argmax q_u)] H(argmax q_u, p(strong(u)))

σ counts all N unlabelled images, each by what the model was last sure of: the state is a class for
every image of the pool, under its global number. N - Σσ, the images not yet learnt, keeps the
thresholds low at the start. A class that is learnt by few images has a low threshold whatever the
reason, so also where it is rare.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from fewlabels.errors import UserError
from fewlabels.methods.consistency import Consistency, ConsistencySettings
from fewlabels.methods.method import Facts
from fewlabels.methods.prior import Alignment
from fewlabels.methods.targets import Taught
from fewlabels.settings import between


@dataclass(frozen=True)
class Settings(ConsistencySettings):
    threshold: float = 0.95  # τ, of the class that is learnt best
    align: bool = False  # distribution alignment; not in the paper
    momentum: float = 0.99  # of the alignment's moving average; ours

    def __post_init__(self) -> None:
        super().__post_init__()
        between("threshold", self.threshold, 0, 1)
        between("momentum", self.momentum, 0, 1)


class FlexMatch(Consistency):
    settings: Settings
    learnt: Tensor

    def __init__(self, facts: Facts, settings: Settings) -> None:
        super().__init__(facts, settings)
        if facts.num_unlabelled < 1:
            raise UserError("flexmatch counts the unlabelled images, and there are none")
        self.alignment = Alignment(self.prior, settings.momentum)
        # the class that an image was last confidently given, -1 for none yet: [all images]
        self.register_buffer("learnt", torch.full((facts.num_images,), -1))

    def thresholds(self) -> Tensor:
        """T [K] from what has been learnt so far."""
        counts = torch.bincount(self.learnt + 1, minlength=self.facts.num_classes + 1)[1:]
        unused = self.facts.num_unlabelled - counts.sum()
        beta = counts / torch.maximum(counts.max(), unused).clamp_min(1)
        return beta / (2 - beta) * self.settings.threshold

    def teach(self, weak: Tensor, index: Tensor | None) -> Taught:
        assert index is not None
        q = weak.softmax(1)  # [U, K]
        if self.settings.align:
            q = self.alignment(q)
        confidence, pseudo_label = q.max(1)  # [U], [U]
        weight = (confidence > self.thresholds()[pseudo_label]).to(q.dtype)
        sure = confidence > self.settings.threshold
        self.learnt[index[sure]] = pseudo_label[sure]
        return Taught(pseudo_label, weight)
