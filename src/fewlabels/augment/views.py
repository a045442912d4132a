"""Views: what a policy makes of images in the cache, as a batch for the model."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fewlabels.augment.kernel import render
from fewlabels.augment.policy import Policy
from fewlabels.augment.sampler import sample
from fewlabels.pixels.preprocess import Preprocess


@dataclass(frozen=True)
class Augmenter:
    """Renders views of images [N, S, S, 3] (uint8), normalised as `preprocess` does.

    `fill` is the colour [3] beyond the edge of an image and in a cutout, in 0..255.
    """

    images: NDArray[np.uint8]
    preprocess: Preprocess
    fill: NDArray[np.float64]
    seed: int

    def __call__(
        self, policy: Policy, rows: NDArray[np.int64], epoch: NDArray[np.int64], view: int
    ) -> torch.Tensor:
        """View number `view` of images[rows] in their `epoch`: float32 [B, 3, S, S]."""
        size = self.preprocess.size
        program = sample(policy, self.seed, epoch, rows, view, size)
        out = np.empty((len(rows), 3, size, size), np.float32)
        mean, std = (np.array(v) * 255 for v in (self.preprocess.mean, self.preprocess.std))
        # numba knows arrays, not memory maps, and compiles once for those that are read-only
        images = np.asarray(self.images).view()
        images.flags.writeable = False
        render(images, rows, program.code, program.operand, self.fill, mean, std, out)
        return torch.from_numpy(out)


def compiled() -> bool:
    """Whether an earlier process has compiled the kernel and kept the result."""
    return any(Path(render.stats.cache_path).glob("kernel.render-*.nbi"))


def compile_kernel() -> None:
    """Compiles the kernel, or loads what an earlier process compiled."""
    nothing = Augmenter(np.zeros((1, 8, 8, 3), np.uint8), Preprocess(8), np.zeros(3), 0)
    nothing(Policy(), np.zeros(1, np.int64), np.zeros(1, np.int64), 0)
