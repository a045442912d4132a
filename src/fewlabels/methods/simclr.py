"""SimCLR (Chen et al. 2020): tells which two of many views are of the same image.

    l(i, j) = -log( exp(s_ij / τ) / Σ_{k ≠ i} exp(s_ik / τ) ),   s_ij = cos(z_i, z_j)   (equation 1)
    L_task = 1/2M Σ_m l(2m-1, 2m) + l(2m, 2m-1)                                        (algorithm 1)
    L = v 1/B Σ_b H(y_b, p(x_b)) + w L_task

z are two strong views of M images through a projection of two layers on the pooled features. The
other 2M - 2 views of the batch are what an image must be told from: more images make it harder, and
better.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fewlabels.methods import sharing
from fewlabels.methods.method import Batch
from fewlabels.methods.pretext import Pretext, PretextSettings
from fewlabels.settings import between


@dataclass(frozen=True)
class Settings(PretextSettings):
    temperature: float = 0.5  # τ, low minds the nearest views most; the paper's for CIFAR-10
    dimensions: int = 128  # of z, the projection

    def __post_init__(self) -> None:
        super().__post_init__()
        between("temperature", self.temperature, 1e-3)
        between("dimensions", self.dimensions, 2, 65536)


class SimCLR(Pretext):
    settings: Settings
    unlabelled: ClassVar = ("strong", "other")

    def make_head(self, fed: Tensor, size: int) -> nn.Module:
        features = fed.shape[1]
        return nn.Sequential(
            nn.Linear(features, features),
            nn.ReLU(),
            nn.Linear(features, self.settings.dimensions),
        )

    def inputs(self, batch: Batch) -> Tensor:
        assert batch.strong is not None
        assert batch.other is not None
        return torch.cat([batch.strong, batch.other])  # [2M, C, H, W]

    def task(self, answers: Tensor, batch: Batch) -> Tensor:
        views = [sharing.gathered(view) for view in answers.chunk(2)]  # an image is told from all
        return contrast(torch.cat(views), self.settings.temperature)


def contrast(z: Tensor, temperature: float) -> Tensor:
    """NT-Xent [] of projections [2M, D], of which m and M + m are of one image."""
    z = F.normalize(z)
    similar = z @ z.T / temperature  # [2M, 2M]
    similar.fill_diagonal_(-torch.inf)  # no view is told from itself
    of_one = torch.arange(len(z), device=z.device).roll(len(z) // 2)
    return F.cross_entropy(similar, of_one)
