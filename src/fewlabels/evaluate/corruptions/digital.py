"""Digital: contrast, elastic transform, pixelate, JPEG compression and saturation.

All take colours x [H, W, 3] in 0..1, the strength, the scale of lengths and the random numbers.
"""

# mypy: disallow-untyped-decorators=False

import io
from functools import lru_cache

import numpy as np
from numba import njit
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dctn, idctn

from fewlabels.evaluate.corruptions.canvas import Reals, drawn_shape, fitted, levels, unit
from fewlabels.evaluate.corruptions.parameters import Strength

# ---- colours ----


def contrast(x: Reals, strength: Strength, scale: float, rng: Generator) -> Reals:
    """Towards the mean of each channel."""
    mean: Reals = x.mean((0, 1), keepdims=True, dtype=np.float64).astype(np.float32)
    return (x - mean) * np.float32(strength[0]) + mean


def saturate(x: Reals, strength: Strength, scale: float, rng: Generator) -> Reals:
    """The saturation S of HSV becomes a S + b, in 0..1. What is grey has no hue, and that counts as
    red."""
    value: Reals = x.max(-1, keepdims=True)
    chroma = value - x.min(-1, keepdims=True)
    saturation = chroma / np.maximum(value, np.float32(1e-6))
    target: Reals = np.clip(saturation * np.float32(strength[0]) + np.float32(strength[1]), 0, 1)
    # a colour is value (1 - saturation part), where the parts of its channels make the hue
    part: Reals = np.where(
        chroma > 0,
        (value - x) / np.maximum(chroma, np.float32(1e-6)),
        np.array([0, 1, 1], np.float32),
    )
    return value * (1 - target * part)


# ---- compression ----


def pixelate(x: Reals, strength: Strength, scale: float, rng: Generator) -> Reals:
    """Both sides made smaller and larger again, by areas.

    On images larger than the parameters were chosen for, the squares grow with the image; on
    smaller ones they keep their size, or they would be smaller than a pixel.
    """
    height, width = x.shape[:2]
    share = strength[0] / max(scale, 1.0)
    small = max(1, int(width * share)), max(1, int(height * share))
    picture = Image.fromarray(levels(x)).resize(small, Image.Resampling.BOX)
    return unit(np.asarray(picture.resize((width, height), Image.Resampling.BOX)))


def jpeg_compression(x: Reals, strength: Strength, scale: float, rng: Generator) -> Reals:
    """Through a JPEG file of that quality, as Pillow writes and reads it."""
    file = io.BytesIO()
    Image.fromarray(levels(x)).save(file, "JPEG", quality=int(strength[0]))
    return unit(np.asarray(Image.open(file)))


# ---- elastic ----


@lru_cache(maxsize=64)
def _response(sigma: float, n: int) -> NDArray[np.float64]:
    """What a Gaussian of 3 sigma to each side leaves of the n cosines of a line of n points."""
    reach = int(3 * sigma + 0.5)
    taps = np.arange(-reach, reach + 1)
    weights = np.exp(-(taps**2) / (2 * sigma**2))
    waves = np.cos(np.pi / n * np.outer(np.arange(n), taps))
    result: NDArray[np.float64] = waves @ (weights / weights.sum())
    return result


def smoothed_noise(shape: tuple[int, int], sigma: float, rng: Generator) -> Reals:
    """Uniform noise from -1 to 1 behind a Gaussian filter, mirrored at the edge.

    In the frequency domain, for the widest Gaussian is wider than the image: the cosine transform
    mirrors just so.
    """
    noise = rng.uniform(-1, 1, shape)
    if sigma > 0:
        left = np.outer(_response(sigma, shape[0]), _response(sigma, shape[1]))
        noise = idctn(dctn(noise) * left)
    return noise.astype(np.float32)


@njit(nogil=True, cache=True)
def _folded(at: float, side: int, beyond: float) -> float:
    """A coordinate back in the image, which is mirrored `beyond` the middle of its last pixels."""
    period = 2 * (side - 1 + 2 * beyond)
    at = abs(at + beyond) % period
    return min(max(min(at, period - at) - beyond, 0.0), side - 1.0)


@njit(nogil=True, cache=True)
def _read(x: Reals, right: Reals, down: Reals, beyond: float, out: Reals) -> None:
    """out [i, j] is x at (right [i, j], down [i, j]), between pixels linearly."""
    height, width = x.shape[:2]
    for i in range(height):
        for j in range(width):
            u = _folded(right[i, j], width, beyond)
            v = _folded(down[i, j], height, beyond)
            k, n = min(int(u), width - 2), min(int(v), height - 2)
            p, q = np.float32(u - k), np.float32(v - n)
            for c in range(3):
                top = x[n, k, c] + p * (x[n, k + 1, c] - x[n, k, c])
                bottom = x[n + 1, k, c] + p * (x[n + 1, k + 1, c] - x[n + 1, k, c])
                out[i, j, c] = top + q * (bottom - top)


def read(x: Reals, right: Reals, down: Reals, beyond: float) -> Reals:
    """x [H, W, 3] at the coordinates `right` and `down` [H, W], between pixels linearly.

    Outside the image is mirrored: at the middle of its last pixels, or 0.5 `beyond`, at their edge.
    """
    out = np.empty_like(x)
    _read(x, right, down, beyond, out)
    return out


def elastic_transform(x: Reals, strength: Strength, scale: float, rng: Generator) -> Reals:
    """An affine map that moves three points about the middle, and then a smooth displacement."""
    amount, sigma, jitter = strength
    height, width = x.shape[:2]
    middle, third = np.array([width // 2, height // 2], float), min(height, width) // 3
    points = middle + third * np.array([[1, 1], [1, -1], [-1, -1]])
    targets = points + rng.uniform(-jitter, jitter, (3, 2)) * scale
    back = np.linalg.solve(np.column_stack([targets, np.ones(3)]), points).T  # [2, 3]
    i, j = np.arange(height)[:, None], np.arange(width)
    right, down = (row[0] * j + row[1] * i + row[2] for row in back)
    turned = read(x, right, down, 0.0)
    shape = drawn_shape(x, scale)
    right, down = (
        fitted(smoothed_noise(shape, sigma, rng), height, width) * np.float64(amount * scale)
        for _ in range(2)
    )
    return read(turned, j + right, i + down, 0.5)
