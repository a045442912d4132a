"""FreeMatch (Wang et al. 2023): FixMatch whose thresholds follow the model's own confidence.

    τ ← m τ + (1 - m) mean_u max q_u                                                (equation 5)
    p̃ ← m p̃ + (1 - m) mean_u q_u                                                    (equation 6)
    τ(c) = τ p̃(c) / max_c p̃(c)                                                      (equation 7)
    L_u = 1/U Σ_u 1[max q_u > τ(argmax q_u)] H(argmax q_u, Q_u)                     (equation 8)
    h̃ ← m h̃ + (1 - m) hist_u argmax q_u                                             (equation 10)
    L_f = -H( norm(p̃ / h̃), norm(p̄ / h̄) )                                            (equation 11)
    L = 1/B Σ_b H(y_b, p(weak(x_b))) + λ L_u + λ_f L_f                              (equation 12)

with q the weak, Q the strong view's probabilities; p̄ the mean and h̄ the histogram of Q over the
images kept; τ, p̃ and h̃ start at 1/K. The minus is the paper's and its code's, and is right: a
class that is said too often has h̄ above p̄, so a small p̄ / h̄, and raising the cross-entropy takes
more from it. With a plus, which would bring the two distributions together, that class takes all;
tests/methods/test_freematch.py shows where each of them leads.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from fewlabels.methods.consistency import Consistency, ConsistencySettings
from fewlabels.methods.method import Facts
from fewlabels.methods.targets import Taught
from fewlabels.settings import between


@dataclass(frozen=True)
class Settings(ConsistencySettings):
    fairness: float = 0.01  # λ_f, of the fairness loss; the paper's is 0.001 to 0.05
    momentum: float = 0.99  # m of all averages; ours, for a few hundred steps, the paper's is 0.999

    def __post_init__(self) -> None:
        super().__post_init__()
        between("fairness", self.fairness, 0)
        between("momentum", self.momentum, 0, 1)


class FreeMatch(Consistency):
    settings: Settings
    level: Tensor
    mean: Tensor
    histogram: Tensor

    def __init__(self, facts: Facts, settings: Settings) -> None:
        super().__init__(facts, settings)
        k = facts.num_classes
        self.register_buffer("level", torch.tensor(1.0 / k))  # τ
        self.register_buffer("mean", torch.full((k,), 1.0 / k))  # p̃
        self.register_buffer("histogram", torch.full((k,), 1.0 / k))  # h̃

    def teach(self, weak: Tensor, index: Tensor | None) -> Taught:
        q = weak.softmax(1)  # [U, K]
        confidence, pseudo_label = q.max(1)  # [U], [U]
        new = 1 - self.settings.momentum
        self.level.lerp_(confidence.mean(), new)
        self.mean.lerp_(q.mean(0), new)
        self.histogram.lerp_(_histogram(pseudo_label, q), new)
        thresholds = self.level * self.mean / self.mean.max()  # [K]
        return Taught(pseudo_label, (confidence > thresholds[pseudo_label]).to(q.dtype))

    def beside(self, strong: Tensor, taught: Taught) -> Tensor | float:
        kept = strong[taught.weight > 0].softmax(1)
        return self.settings.fairness * self.unfairness(kept) if len(kept) else 0.0

    def unfairness(self, kept: Tensor) -> Tensor:
        """L_f [] of the strong views' probabilities [S, K]."""
        histogram = _histogram(kept.argmax(1), kept)
        aim = _normalised(_over(self.mean, self.histogram))
        is_now = _normalised(_over(kept.mean(0), histogram))
        return (aim * (is_now + 1e-12).log()).sum()  # minus the cross-entropy


def _histogram(classes: Tensor, like: Tensor) -> Tensor:
    """How often each class occurs, [K], summing to 1."""
    counts = torch.bincount(classes, minlength=like.shape[1])
    return counts.to(like.dtype) / len(classes)


def _over(values: Tensor, histogram: Tensor) -> Tensor:
    """values / histogram, and 0 for classes that do not occur."""
    return torch.where(histogram > 0, values / histogram.clamp_min(1e-12), 0.0)


def _normalised(values: Tensor) -> Tensor:
    return values / values.sum()
