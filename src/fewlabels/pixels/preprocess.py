"""The one evaluation pipeline: what happens between an encoded image and the model's input.

The cache holds the image after `to_square`; training views start there; evaluation, prediction and
export normalise it and add nothing.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fewlabels.pixels.decoded import Pixels

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preprocess:
    """Side of the square input in pixels; mean and standard deviation in units of 0..1."""

    size: int
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def __call__(self, images: NDArray[np.uint8]) -> torch.Tensor:
        """uint8 [B, S, S, 3] -> float32 [B, 3, S, S], normalised."""
        mean, std = (np.array(v, np.float32) * 255 for v in (self.mean, self.std))
        x = (images.astype(np.float32) - mean) / std
        return torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Preprocess":
        return cls(int(data["size"]), tuple(data["mean"]), tuple(data["std"]))


def border_colour(images: Pixels, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """The median colour [3], in 0..255, of the outermost pixels of images[rows].

    What an image is surrounded by is the natural fill where a warp looks beyond its edge; around
    pictures that are not square that is the padding, which the model sees in evaluation too.
    """
    some = images[np.sort(rows)[:: max(1, len(rows) // 512)]]
    edges = [some[:, 0], some[:, -1], some[:, :, 0], some[:, :, -1]]
    median: NDArray[np.float64] = np.median(np.concatenate(edges, 1).reshape(-1, 3), axis=0)
    return median
