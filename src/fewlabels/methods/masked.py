"""Masked image modelling (SimMIM, Xie et al. 2022): fills in patches that are hidden.

    L_task = 1/|H| Σ_{i in H} | decode(f(x with H hidden))_i - x_i |                  (equation 1)
    L = L_task in the first part of training, then 1/B Σ_b H(y_b, p(x_b))

H are the pixels of randomly drawn patches; only they count. A hidden patch has the images' mean
colour, 0 after normalisation, where SimMIM learns a token: a convolutional net has no tokens. The
task comes first and the labels after it, as in the paper: both at once, in one batch norm with
pictures that are full of holes, were worse than labels only.
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
    hidden: float = 0.6  # the part of the patches that is hidden
    weight: float = 0.0  # w, of the task's loss beside the labels'
    alone: float = 0.5  # the first part of training, of the task alone; ours
    patches: int = 8  # along each side; ours, for small images: the paper's is 6 (192 px of 32)

    def __post_init__(self) -> None:
        super().__post_init__()
        between("hidden", self.hidden, 0.01, 0.99)
        between("patches", self.patches, 2, 1024)


class Masked(Decoded):
    settings: Settings
    unlabelled: ClassVar = ("weak",)

    def inputs(self, batch: Batch) -> Tensor:
        assert batch.weak is not None
        if self.settings.patches > batch.weak.shape[2]:
            raise UserError(f"patches {self.settings.patches}: more than the image has pixels")
        self._hidden = self.draw(batch.weak)
        return batch.weak * ~self._hidden

    def task(self, answers: Tensor, batch: Batch) -> Tensor:
        assert batch.weak is not None
        hidden = self._hidden.expand_as(answers)
        return sharing.mean_of_processes((answers - batch.weak)[hidden].abs().mean())

    def draw(self, images: Tensor) -> Tensor:
        """Which pixels are hidden, [M, 1, H, W]: as many patches of every image."""
        side = self.settings.patches
        count = len(images) * sharing.current().world
        drawn = torch.rand(count, side * side, generator=self.draws)
        order = sharing.own(drawn).argsort(1)
        patches = order < max(1, round(self.settings.hidden * side * side))
        grid = patches.view(-1, 1, side, side).float()
        return (F.interpolate(grid, images.shape[2:]) > 0.5).to(images.device)
