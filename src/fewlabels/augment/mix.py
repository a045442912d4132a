"""MixUp (Zhang et al. 2018) and CutMix (Yun et al. 2019): two images in one, their labels by share.

    MixUp    x = s a + (1 - s) b        y = s y_a + (1 - s) y_b
    CutMix   x = a outside a rectangle of b        s = the part of the pixels that are a's

`s` comes from Beta(alpha, alpha). CutMix's rectangle covers 1 - s of the image before it is clipped
at the edge; what the labels get is the area that is left, counted in pixels.
Shapes: images [B, C, H, W]; labels [B], or [B, K] with any weights: soft, or several at once.
"""

import re
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.stats import beta
from torch import Tensor

from fewlabels.augment.draws import uniforms
from fewlabels.errors import UserError

ALPHA = {"mixup": 0.2, "cutmix": 1.0}  # the papers'
_DRAWS = 4  # an image: its share, its partner, the rectangle's centre
Reals = NDArray[np.float64]


@dataclass(frozen=True)
class Mix:
    """Which of the two, and its alpha."""

    name: str
    alpha: float

    @classmethod
    def parse(cls, text: str) -> "Mix | None":
        """`none`, `mixup`, `cutmix`, or one of them with its alpha, as in `cutmix(0.5)`."""
        if text == "none":
            return None
        match = re.fullmatch(r"(\w+)(?:\(([\d.]+)\))?", text.replace(" ", ""))
        name, alpha = (match[1], match[2]) if match else ("", "")
        if name not in ALPHA:
            raise UserError(f"--mix {text}: there are none, mixup and cutmix, as in cutmix(0.5)")
        try:
            value = float(alpha) if alpha else ALPHA[name]
        except ValueError:
            value = 0.0
        if not 0 < value <= 100:
            raise UserError(f"--mix {text}: alpha must be more than 0, at most 100")
        return cls(name, value)

    def __str__(self) -> str:
        return f"{self.name}({self.alpha:g})"

    def __call__(
        self, x: Tensor, y: Tensor, classes: int, seed: int, step: int
    ) -> tuple[Tensor, Tensor]:
        """A batch mixed with itself, and its labels [B, K]; a function of `seed` and `step`."""
        n = len(x)
        rows = np.arange(n)
        u = uniforms(seed, np.full(n, step), rows, 0, _DRAWS)
        share = beta.ppf(u[:, 0], self.alpha, self.alpha)
        # any other image of the batch; in a batch of one itself
        partner = (rows + 1 + np.floor(u[:, 1] * (n - 1)).astype(np.int64)) % n
        weights = one_hot(y, classes)
        if self.name == "mixup":
            return mixup(x, weights, partner, share)
        return cutmix(x, weights, partner, rectangles(share, u[:, 2:], *x.shape[2:]))


def one_hot(y: Tensor, classes: int) -> Tensor:
    """Labels [B] as weights [B, K]; labels that are weights already stay as they are."""
    return F.one_hot(y, classes).float() if y.ndim == 1 else y.float()


def mixup(x: Tensor, y: Tensor, partner: NDArray[np.int64], share: Reals) -> tuple[Tensor, Tensor]:
    """share [B] of each image and 1 - share of its partner."""
    s, other = torch.from_numpy(share).to(x.dtype), torch.from_numpy(partner)
    sx, sy = s.view(-1, 1, 1, 1), s.view(-1, 1)
    return sx * x + (1 - sx) * x[other], sy * y + (1 - sy) * y[other]


def rectangles(share: Reals, centre: Reals, height: int, width: int) -> NDArray[np.int64]:
    """[B, 4]: top, bottom, left, right of rectangles around `centre` [B, 2], clipped; bottom and
    right are not in them. Before clipping one covers 1 - share [B] and has the image's shape."""
    side = np.sqrt(1 - share)
    found = []
    for length, place in ((height, centre[:, 0]), (width, centre[:, 1])):
        cut = np.floor(length * side + 0.5)
        start = np.floor(length * place) - np.floor(cut / 2)
        found += [np.clip(start, 0, length), np.clip(start + cut, 0, length)]
    return np.stack(found, 1).astype(np.int64)


def cutmix(
    x: Tensor, y: Tensor, partner: NDArray[np.int64], rectangle: NDArray[np.int64]
) -> tuple[Tensor, Tensor]:
    """The partner's pixels in a rectangle [B, 4] of each image; labels by the area."""
    mixed, height, width = x.clone(), *x.shape[2:]
    for b, (top, bottom, left, right) in enumerate(rectangle.tolist()):
        mixed[b, :, top:bottom, left:right] = x[partner[b], :, top:bottom, left:right]
    top, bottom, left, right = rectangle.T
    area = (bottom - top) * (right - left) / (height * width)
    s = torch.from_numpy(1 - area).to(y.dtype).view(-1, 1)
    return mixed, s * y + (1 - s) * y[torch.from_numpy(partner)]
