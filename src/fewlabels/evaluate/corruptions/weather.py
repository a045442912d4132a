"""Weather: snow, frost, fog and brightness.

All take colours x [H, W, 3] in 0..1, the strength, the scale of lengths and the random numbers.
What lies over the image is drawn at the size that the parameters were chosen for, and enlarged with
the image.
"""

import math

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from fewlabels.evaluate.corruptions.blur import moved
from fewlabels.evaluate.corruptions.canvas import Reals, drawn_shape, fitted
from fewlabels.evaluate.corruptions.frost import ice
from fewlabels.evaluate.corruptions.parameters import Strength

LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R 601


# ---- snow ----


def flakes(
    shape: tuple[int, int], mean: float, sigma: float, zoom: float, least: float, rng: Generator
) -> Reals:
    """Noise [h, w], enlarged by `zoom`, of which what is below `least` is no flake."""
    coarse = [math.ceil(side / zoom) for side in shape]
    noise = rng.normal(mean, sigma, coarse)
    down, right = (_between(n, zoom, side) for n, side in zip(coarse, shape, strict=True))
    layer = down @ noise @ right.T
    return np.where(layer < least, 0, np.clip(layer, 0, 1)).astype(np.float32)


def _between(n: int, zoom: float, side: int) -> NDArray[np.float64]:
    """The weights [side, n] that enlarge n points linearly, the ends on the ends; of the result,
    the middle `side` pixels."""
    size = round(n * zoom)
    at = (np.arange(side) + (size - side) // 2) * (n - 1) / (size - 1)
    return np.clip(1 - abs(at[:, None] - np.arange(n)), 0, None)


def snowed(x: Reals, falling: Reals, left: float) -> Reals:
    """Whitened, but for a share `left`, and under flakes [H, W] and the same turned by 180°."""
    grey = (x @ LUMA)[..., None]
    whitened = left * x + (1 - left) * np.maximum(x, 1.5 * grey + 0.5)
    return whitened + (falling + falling[::-1, ::-1])[..., None]


def snow(x: Reals, strength: Strength, scale: float, rng: Generator) -> Reals:
    """Flakes that fall within 45 degrees of the vertical, on a whitened image."""
    mean, sigma, zoom, least, radius, blur, left = strength
    layer = flakes(drawn_shape(x, scale), mean, sigma, zoom, least, rng)
    falling = moved(layer, radius, blur, rng.uniform(-135, -45))
    return snowed(x, fitted(falling, *x.shape[:2]), left)


# ---- frost, fog, brightness ----


def frost(x: Reals, strength: Strength, scale: float, rng: Generator) -> Reals:
    """The image and a piece of a picture of ice, added."""
    height, width = drawn_shape(x, scale)
    picture = ice(int(rng.integers(5)), small=min(height, width) == 32)
    rows, columns = (
        (rng.integers(max(1, side - n)) + np.arange(n)) % side
        for n, side in zip((height, width), picture.shape, strict=False)
    )
    piece = picture[np.ix_(rows, columns)]
    layer = np.stack([fitted(piece[..., c], *x.shape[:2]) for c in range(3)], -1)
    return np.float32(strength[0]) * x + np.float32(strength[1]) * layer


def plasma(side: int, decay: float, rng: Generator) -> Reals:
    """A cloud [side, side] from 0 to 1, by midpoint displacement on a torus (diamond-square;
    Fournier, Fussell and Carpenter 1982); `side` is a power of two.

    Each level of detail has noise weaker by decay² than the level above.
    """
    cloud, step, amount = np.zeros((side, side)), side, 1.0
    while step > 1:
        half = step // 2
        corner = cloud[::step, ::step]
        below, right = np.roll(corner, -1, 0), np.roll(corner, -1, 1)
        middle = _displaced(corner, below, right, np.roll(below, -1, 1), amount, rng)
        cloud[half::step, half::step] = middle
        above, left = np.roll(middle, 1, 0), np.roll(middle, 1, 1)
        cloud[::step, half::step] = _displaced(corner, right, middle, above, amount, rng)
        cloud[half::step, ::step] = _displaced(corner, below, middle, left, amount, rng)
        step, amount = half, amount / decay**2
    cloud -= cloud.min()
    result: Reals = (cloud / cloud.max()).astype(np.float32)
    return result


def _displaced(a: Reals, b: Reals, c: Reals, d: Reals, by: float, rng: Generator) -> Reals:
    """The mean of four points, and noise."""
    result: Reals = (a + b + c + d) / 4 + rng.uniform(-by, by, a.shape)
    return result


def fog(x: Reals, strength: Strength, scale: float, rng: Generator) -> Reals:
    """A cloud added, and the sum dimmed to the range of the image."""
    thickness, decay = strength
    height, width = drawn_shape(x, scale)
    cloud = plasma(1 << (max(height, width) - 1).bit_length(), decay, rng)
    layer = fitted(cloud[:height, :width], *x.shape[:2])[..., None]
    brightest = x.max()
    dimmed: Reals = (x + thickness * layer) * (brightest / (brightest + thickness))
    return dimmed


def brightened(x: Reals, by: float) -> Reals:
    """`by` added to the value of HSV, which stays in 0..1; hue and saturation are kept."""
    value: Reals = x.max(-1, keepdims=True)
    target: Reals = np.clip(value + np.float32(by), 0, 1)
    return np.where(value > 0, x * (target / np.maximum(value, np.float32(1e-6))), target)


def brightness(x: Reals, strength: Strength, scale: float, rng: Generator) -> Reals:
    return brightened(x, strength[0])
