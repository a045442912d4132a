"""Blur: defocus, glass, motion, zoom and Gaussian.

All take colours x [H, W, 3] in 0..1, the strength, the scale of lengths and the random numbers.
Radii and sigmas are multiplied by the scale: an image and its enlargement are blurred alike.
"""

# mypy: disallow-untyped-decorators=False

import math
from functools import lru_cache

import numpy as np
from numba import njit
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.optimize import brentq
from scipy.signal import convolve2d, fftconvolve

from fewlabels.evaluate.corruptions.canvas import Reals, drawn_shape
from fewlabels.evaluate.corruptions.parameters import Strength

Kernel = NDArray[np.float64]
Places = NDArray[np.int16]


def filtered(x: Reals, kernel: Kernel, beyond: str) -> Reals:
    """The correlation of x [H, W] or [H, W, C] with a kernel of odd sides.

    `beyond`: how np.pad goes on beyond the edge.
    """
    y, x_reach = kernel.shape[0] // 2, kernel.shape[1] // 2
    channels = [(0, 0)] * (x.ndim - 2)
    padded = np.pad(x, [(y, y), (x_reach, x_reach), *channels], mode=beyond)  # type: ignore[call-overload]
    turned = kernel[::-1, ::-1].astype(np.float32)
    turned = turned.reshape(*turned.shape, *(1 for _ in channels))
    result: Reals = fftconvolve(padded, turned, mode="valid", axes=(0, 1))
    return result


# ---- defocus ----


@lru_cache
def disc_kernel(radius: float, softness: float, scale: float = 1.0) -> Kernel:
    """The pixels within `radius` of the middle one, softened by a Gaussian; sums to 1.

    The Gaussian has three taps, and five for radii over 8. At another scale the kernel is taken for
    a picture and enlarged, until its second moment is scale² times what it was.
    """
    reach = math.floor(radius)
    steps = np.arange(-reach, reach + 1)
    disc = (np.add.outer(steps**2, steps**2) <= radius**2).astype(float)
    taps = np.arange(-1, 2) if radius <= 8 else np.arange(-2, 3)
    soft = np.exp(-(taps**2) / (2 * softness**2))
    kernel: Kernel = convolve2d(disc, np.outer(soft, soft))
    kernel /= kernel.sum()
    if scale == 1:
        return kernel
    wanted = scale**2 * _second_moment(kernel)
    by = brentq(lambda by: _second_moment(_enlarged(kernel, by)) - wanted, 0.01, 2 * scale + 1)
    return _enlarged(kernel, by)


def _second_moment(kernel: Kernel) -> float:
    steps = np.arange(len(kernel)) - len(kernel) // 2
    return float(kernel.sum(0) @ steps**2)


def _enlarged(kernel: Kernel, by: float) -> Kernel:
    """The kernel as a picture of squares, `by` times as large, counted on the pixels again."""
    before = len(kernel) // 2
    after = math.ceil((before + 0.5) * by - 0.5)
    left = (np.arange(-before, before + 1) - 0.5) * by
    pixel = np.arange(-after, after + 1)[:, None] - 0.5
    overlap = np.minimum(left + by, pixel + 1) - np.maximum(left, pixel)
    share = np.clip(overlap, 0, None) / by  # [after, before]: of a square, how much lies where
    result: Kernel = share @ kernel @ share.T
    return result


def defocus_blur(x: Reals, strength: Strength, scale: float, rng: Generator) -> Reals:
    """A point becomes a disc; the image is mirrored at its edge."""
    return filtered(x, disc_kernel(strength[0], strength[1], scale), "reflect")


# ---- motion ----


def motion_kernel(radius: float, sigma: float, angle: float) -> Kernel:
    """Half a Gaussian along a line from the middle: 2 radius + 1 taps, a pixel apart; sums to 1.

    `angle` in degrees, clockwise from the right. As ImageMagick's -motion-blur defines it.
    """
    steps = np.arange(2 * math.ceil(radius) + 1)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    turn = math.radians(angle)
    right = np.ceil(steps * math.cos(turn) - 0.5).astype(int)
    down = np.ceil(steps * math.sin(turn) - 0.5).astype(int)
    y, x = abs(down).max(), abs(right).max()
    kernel = np.zeros((2 * y + 1, 2 * x + 1))
    np.add.at(kernel, (y + down, x + right), weights / weights.sum())
    return kernel


def moved(x: Reals, radius: float, sigma: float, angle: float) -> Reals:
    """The motion blur of x [H, W] or [H, W, C]; beyond the edge its colour goes on."""
    return filtered(x, motion_kernel(radius, sigma, angle), "edge")


def motion_blur(x: Reals, strength: Strength, scale: float, rng: Generator) -> Reals:
    """Along a line within 45 degrees of the horizontal."""
    radius, sigma = strength
    return moved(x, radius * scale, sigma * scale, rng.uniform(-45, 45))


# ---- zoom ----


Line = tuple[
    float, float
]  # where the first pixel of a row or column reads, and the step from there


@njit(nogil=True, cache=True)
def _add_zoom(x: Reals, down: Line, right: Line, total: Reals) -> None:
    """Adds x, read along these lines, between pixels linearly."""
    height, width = x.shape[:2]
    left, part = np.empty(width, np.int64), np.empty(width, np.float32)
    for j in range(width):
        u = min(max(right[0] + j * right[1], 0.0), width - 1.0)
        left[j] = min(int(u), width - 2)
        part[j] = u - left[j]
    row = np.empty((width, 3), np.float32)
    for i in range(height):
        v = min(max(down[0] + i * down[1], 0.0), height - 1.0)
        top = min(int(v), height - 2)
        share = np.float32(v - top)
        for j in range(width):
            for c in range(3):
                row[j, c] = x[top, j, c] + share * (x[top + 1, j, c] - x[top, j, c])
        for j in range(width):
            k, p = left[j], part[j]
            for c in range(3):
                total[i, j, c] += row[k, c] + p * (row[k + 1, c] - row[k, c])


def zoomed(x: Reals, zoom: float) -> Reals:
    """The middle of x [H, W, 3], enlarged by `zoom` >= 1 to the size of x."""
    down, right = (((side - 1) / 2 * (1 - 1 / zoom), 1 / zoom) for side in x.shape[:2])
    result = np.zeros_like(x)
    _add_zoom(x, down, right, result)
    return result


def trimmed_zoom(n: int, zoom: float) -> Line:
    """A line of n points as the authors zoom it: from its middle a whole number of points, spread
    linearly over `zoom` times as many, ends on ends, and of these the middle n. It may lie up to a
    point off the middle, which shows at 32 pixels."""
    taken = math.ceil(n / zoom)
    spread = round(taken * zoom)
    step = (taken - 1) / (spread - 1)
    return (n - taken) // 2 + (spread - n) // 2 * step, step


def zoom_blur(x: Reals, strength: Strength, scale: float, rng: Generator) -> Reals:
    """The mean of the image and of its zooms 1, 1 + step, 1 + 2 step ..."""
    count, step = int(strength[0]), strength[1]
    shape, drawn = x.shape[:2], drawn_shape(x, scale)
    total = x.copy()
    for k in range(count):
        down, right = (
            _at_size(trimmed_zoom(n, 1 + step * k), side / n)
            for n, side in zip(drawn, shape, strict=True)
        )
        _add_zoom(x, down, right, total)
    return total / np.float32(count + 1)


def _at_size(line: Line, scale: float) -> Line:
    """The same line over `scale` times as many pixels: their edges stay where they were."""
    first, step = line
    return (first + 0.5 - step / 2) * scale + step / 2 - 0.5, step


# ---- glass and Gaussian ----


def smooth(x: Reals, sigma: float) -> Reals:
    """A Gaussian blur along both sides; beyond the edge its colour goes on."""
    result: Reals = gaussian_filter(x, (sigma, sigma) + (0,) * (x.ndim - 2), mode="nearest")
    return result


@njit(nogil=True, cache=True)
def _disturb(source: Places, step: Places, reach: int) -> None:
    """Each pixel, from the last to the first, takes what is then at its `step`; all [h, w, 2]."""
    height, width = source.shape[:2]
    for i in range(height - reach, reach, -1):
        for j in range(width - reach, reach, -1):
            k, m = i + step[i, j, 0], j + step[i, j, 1]
            source[i, j, 0], source[i, j, 1] = source[k, m, 0], source[k, m, 1]


def scattered(x: Reals, reach: int, rounds: int, scale: float, rng: Generator) -> Reals:
    """x, where each pixel takes the colour of one nearby, a few rounds.

    Who takes from where is drawn at the size that the parameters were chosen for; in a larger image
    a square of pixels moves together.
    """
    height, width = drawn_shape(x, scale)
    home: Places = np.indices((height, width), np.int16).transpose(1, 2, 0).copy()
    source = home.copy()
    for _ in range(rounds):
        _disturb(source, rng.integers(-reach, reach, home.shape, np.int16), reach)
    y, right = (np.arange(side) for side in x.shape[:2])
    drawn = np.ix_(y * height // len(y), right * width // len(right))
    off = np.rint((source - home)[drawn] * scale).astype(np.int64)
    from_y = np.clip(y[:, None] + off[..., 0], 0, len(y) - 1)
    from_x = np.clip(right + off[..., 1], 0, len(right) - 1)
    result: Reals = x[from_y, from_x]
    return result


def glass_blur(x: Reals, strength: Strength, scale: float, rng: Generator) -> Reals:
    """Blurred, scattered, and blurred again."""
    sigma, reach, rounds = strength
    there = scattered(smooth(x, sigma * scale), int(reach), int(rounds), scale, rng)
    return smooth(there, sigma * scale)


def gaussian_blur(x: Reals, strength: Strength, scale: float, rng: Generator) -> Reals:
    return smooth(x, strength[0] * scale)
