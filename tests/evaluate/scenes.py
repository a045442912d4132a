"""Pictures for the tests of corruptions, and what they have in common."""

import math
from functools import lru_cache

import numpy as np
import pytest
from numpy.typing import NDArray

from fewlabels.evaluate.corruptions import EXTRA, NAMES
from fewlabels.evaluate.corruptions.parameters import CIFAR, IMAGENET

Bytes = NDArray[np.uint8]
ALL = (*NAMES, *EXTRA)
TABLES = {224: IMAGENET, 32: CIFAR}
severities = pytest.mark.parametrize("severity", range(1, 6))
sides = pytest.mark.parametrize("side", [224, 32])
NO_DRAWS = np.random.default_rng(0)  # for what draws nothing


@lru_cache
def scene(height: int, width: int, seed: int = 0) -> Bytes:
    """Coloured clouds and a disc with a sharp edge, the same picture at any size of one shape."""
    rng = np.random.default_rng(seed)
    waves = rng.normal(size=(3, 6, 6))
    y, x = np.mgrid[:height, :width]
    v, u = (y + 0.5) / height, (x + 0.5) / width
    basis_y = np.cos(np.pi * np.arange(6)[:, None, None] * v)
    basis_x = np.cos(np.pi * np.arange(6)[:, None, None] * u)
    picture = np.einsum("cij,ihw,jhw->hwc", waves, basis_y, basis_x)
    picture[(v - 0.5) ** 2 + (u - 0.45) ** 2 < 0.04] += (3, -2, 1)
    result = np.clip(120 + 22 * picture, 0, 255).astype(np.uint8)
    result.flags.writeable = False
    return result


def grey(side: int, level: int = 128) -> Bytes:
    return np.full((side, side, 3), level, np.uint8)


def many(image: Bytes) -> Bytes:
    """Enough copies for a share to be known well."""
    return np.stack([image] * math.ceil(120_000 / image.size))


def distance(a: NDArray[np.generic], b: NDArray[np.generic]) -> float:
    return float(np.abs(a.astype(float) - b.astype(float)).mean())
