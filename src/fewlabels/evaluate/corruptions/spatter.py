"""Spatter: drops of water, or mud, on the lens. One of the four extra corruptions."""

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.ndimage import (
    binary_erosion,
    correlate,
    distance_transform_edt,
    uniform_filter,
)

from fewlabels.evaluate.corruptions.blur import smooth
from fewlabels.evaluate.corruptions.canvas import Reals, drawn_shape, fitted
from fewlabels.evaluate.corruptions.parameters import Strength

WATER = np.array([175, 238, 238], np.float32) / 255  # pale turquoise
MUD = np.array([63, 42, 20], np.float32) / 255
RELIEF = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])  # lit from the upper left
FAR = 20  # distances from an outline are cut off there


def spatter(x: Reals, strength: Strength, scale: float, rng: Generator) -> Reals:
    """Where smoothed noise exceeds a threshold there is liquid: x + m water, or mud in place of x.

    Takes colours x [H, W, 3] in 0..1; the opacity m [H, W] is drawn at the size that the parameters
    were chosen for.
    """
    mean, sigma, width, least, opacity, muddy = strength
    noise = rng.normal(mean, sigma, drawn_shape(x, scale))
    liquid = smooth(noise.astype(np.float32), width)
    if muddy:
        drops = smooth((liquid > least).astype(np.float32), opacity)
        m = fitted(np.where(drops < 0.8, 0, drops), *x.shape[:2])[..., None]
        return x * (1 - m) + MUD * m
    drops = np.where(liquid < least, 0, np.clip(liquid, 0, 1)).astype(np.float32)
    m = fitted(opacity * thickness(drops), *x.shape[:2])[..., None]
    return x + m * WATER


def thickness(drops: Reals) -> Reals:
    """Drops [h, w], 0 where there is none, as seen in relief: 0..1, and 1 somewhere.

    The distance from the nearest outline of a drop, spread over all levels and lit from one side,
    times the drops.
    """
    inside = drops > 0
    if not inside.any():
        return np.zeros_like(drops)
    outline = inside & ~binary_erosion(inside, border_value=1)
    far = np.minimum(distance_transform_edt(~outline), FAR) if outline.any() else 0 * drops
    relief = correlate(_equalised(_box(far)), RELIEF, mode="mirror")
    seen = drops * np.rint(_box(np.clip(relief, 0, 255)))
    relative: Reals = (seen / max(seen.max(), 1e-6)).astype(np.float32)
    return relative


def _box(x: Reals) -> NDArray[np.float64]:
    result: NDArray[np.float64] = uniform_filter(x.astype(float), 3, mode="mirror")
    return result


def _equalised(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The whole part of x [h, w], which is in 0..255, by its share of the pixels, 0..255."""
    level = (x + 1e-6).astype(np.uint8)  # a mean of whole numbers must not fall short of one
    below = np.cumsum(np.bincount(level.ravel(), minlength=256)).astype(float)
    first = below[below > 0][0]
    table = np.rint(255 * np.clip(below - first, 0, None) / max(level.size - first, 1))
    result: NDArray[np.float64] = table[level]
    return result
