"""SoftMatch (Chen et al. 2023): FixMatch with a weight instead of a threshold, so that no image is
lost and no unsure one counts much.

    w(q) = exp(-(max q - μ)² / 2σ²) if max q < μ, else 1                            (equation 6)
    μ ← m μ + (1 - m) mean_u max q_u,   σ² ← m σ² + (1 - m) U/(U-1) var_u max q_u   (equations 7, 8)
    L = 1/B Σ_b H(y_b, p(weak(x_b))) + λ 1/U Σ_u w(a_u) H(argmax p_u, p(strong(u)))

μ starts at 1/K and σ² at 1. p_u are the weak view's probabilities and a_u the same after alignment
(section 3.2: it changes the weight, never the pseudo-label), here toward the estimated prior where
the paper takes a uniform one.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from fewlabels.methods.consistency import Consistency, ConsistencySettings
from fewlabels.methods.method import Facts
from fewlabels.methods.prior import Alignment
from fewlabels.methods.targets import Taught
from fewlabels.settings import between


@dataclass(frozen=True)
class Settings(ConsistencySettings):
    align: bool = True  # alignment of the probabilities that the weight comes from
    momentum: float = 0.99  # m of all averages; ours, for a few hundred steps, the paper's is 0.999

    def __post_init__(self) -> None:
        super().__post_init__()
        between("momentum", self.momentum, 0, 1)


class SoftMatch(Consistency):
    settings: Settings
    mean: Tensor
    variance: Tensor

    def __init__(self, facts: Facts, settings: Settings) -> None:
        super().__init__(facts, settings)
        self.alignment = Alignment(self.prior, settings.momentum)
        self.register_buffer("mean", torch.tensor(1.0 / facts.num_classes))
        self.register_buffer("variance", torch.tensor(1.0))

    def teach(self, weak: Tensor, index: Tensor | None) -> Taught:
        p = weak.softmax(1)  # [U, K]
        confidence = (self.alignment(p) if self.settings.align else p).amax(1)  # [U]
        variance = confidence.var() if len(confidence) > 1 else self.variance
        self.mean.lerp_(confidence.mean(), 1 - self.settings.momentum)
        self.variance.lerp_(variance, 1 - self.settings.momentum)
        short = (self.mean - confidence).clamp_min(0)  # of the mean
        return Taught(p.argmax(1), torch.exp(-(short**2) / (2 * self.variance.clamp_min(1e-12))))
