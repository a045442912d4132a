"""Rotation (Gidaris et al. 2018): tells by how much an image has been turned.

    L_task = 1/4M Σ_m Σ_r H( r, p_rot( turned(x_m, r · 90°) ) ),   r = 0 … 3       (equations 2, 3)
    L = v 1/B Σ_b H(y_b, p(x_b)) + w L_task                     (S4L, Zhai et al. 2019, equation 1)

Every image is shown in all four ways. A head of its own, linear on the pooled features, answers; to
answer, the features must know what the image shows. Where a turned image shows the same, as seen
from above, there is nothing to learn.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fewlabels.methods import sharing
from fewlabels.methods.method import Batch
from fewlabels.methods.pretext import Pretext, PretextSettings

TURNS = 4


@dataclass(frozen=True)
class Settings(PretextSettings):
    ratio: int = 2  # images, each shown four times, for each labelled one; ours


class Rotation(Pretext):
    def make_head(self, fed: Tensor, size: int) -> nn.Module:
        return nn.Linear(fed.shape[1], TURNS)

    def inputs(self, batch: Batch) -> Tensor:
        assert batch.strong is not None
        return torch.cat([batch.strong.rot90(r, (2, 3)) for r in range(TURNS)])  # [4M, C, H, W]

    def task(self, answers: Tensor, batch: Batch) -> Tensor:
        turn = torch.arange(TURNS, device=answers.device)
        turns = turn.repeat_interleave(len(answers) // TURNS)
        return sharing.mean_of_processes(F.cross_entropy(answers, turns))
