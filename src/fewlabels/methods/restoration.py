"""Restoration (after the image processing transformer, Chen et al. 2021): undoes a degradation.

    L_task = 1/M Σ_m | decode(f(degraded(x_m))) - x_m |                               (equation 4)
    L = L_task in the first part of training, then 1/B Σ_b H(y_b, p(x_b))

Each image meets one of several degradations: noise, a lower resolution, blur, lost colours. One
network undoes them all, without being told which it is. The task comes first and the labels after
it, as in the paper.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from fewlabels.errors import UserError
from fewlabels.methods import sharing
from fewlabels.methods.method import Batch
from fewlabels.methods.pretext import Decoded, PretextSettings
from fewlabels.settings import between


@dataclass(frozen=True)
class Settings(PretextSettings):
    weight: float = 0.0  # w, of the task's loss beside the labels'
    alone: float = 0.5  # the first part of training, of the task alone; ours
    noise: float = 0.5  # standard deviation, in those of the images' pixels; the paper's 30/255
    reduction: int = 3  # by how much the resolution is lowered, and the width of the blur

    def __post_init__(self) -> None:
        super().__post_init__()
        between("noise", self.noise, 0)
        between("reduction", self.reduction, 2, 16)


class Restoration(Decoded):
    settings: Settings
    unlabelled: ClassVar = ("weak",)

    def inputs(self, batch: Batch) -> Tensor:
        assert batch.weak is not None
        return self.degraded(batch.weak)

    def task(self, answers: Tensor, batch: Batch) -> Tensor:
        assert batch.weak is not None
        return sharing.mean_of_processes((answers - batch.weak).abs().mean())

    def degraded(self, x: Tensor) -> Tensor:
        """Each of the images [M, C, H, W] in one of four ways, drawn at random."""
        by, size = self.settings.reduction, x.shape[2:]
        if by > min(size):
            raise UserError(f"reduction {by}: more than the image has pixels")
        count = len(x) * sharing.current().world
        # drawn on the CPU, so that any device draws the same
        noise = sharing.own(torch.randn(count, *x.shape[1:], generator=self.draws)).to(x)
        small = F.interpolate(x, scale_factor=1 / by, mode="area")
        ways = torch.stack(
            [
                x + self.settings.noise * noise,
                F.interpolate(small, size, mode="bilinear"),
                F.avg_pool2d(x, 2 * (by // 2) + 1, 1, by // 2, count_include_pad=False),
                x.mean(1, keepdim=True).expand_as(x),
            ]
        )
        drawn = torch.randint(len(ways), (count,), generator=self.draws)
        way = sharing.own(drawn).to(x.device)
        return ways[way, torch.arange(len(x), device=x.device)]
