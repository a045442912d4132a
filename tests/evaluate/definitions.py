"""The corruptions a second time, slowly and from the published definitions, for the tests.

Sums of shifted copies, loops over pixels and SciPy's interpolation take the place of our kernels.
Each takes colours x [S, S, 3] in 0..1 at the published side S = 224 or 32, the strength, and the
generator, from which it draws the same things in the same order as ours.
"""

import io
import math
from collections.abc import Callable

import numpy as np
from matplotlib.colors import hsv_to_rgb, rgb_to_hsv
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from scipy.spatial import cKDTree
from scipy.stats import norm, poisson

from fewlabels.evaluate.corruptions.frost import ice

Array = NDArray[np.float64]
Strength = tuple[float, ...]


def shifted(x: Array, down: int, right: int) -> Array:
    """x [H, W, ...] read so many pixels further on; beyond the edge its colour goes on."""
    height, width = x.shape[:2]
    rows = np.clip(np.arange(height) + down, 0, height - 1)
    return x[rows][:, np.clip(np.arange(width) + right, 0, width - 1)]


# ---- noise: what mean and deviation become, of the levels of an image ----


def gaussian_noise(v: Array, c: Strength) -> tuple[Array, Array]:
    """First and second moment of clip(v + N(0, c²)), by quantiles."""
    drawn = norm.ppf((np.arange(4000) + 0.5) / 4000)
    seen = np.clip(v[:, None] + c[0] * drawn, 0, 1)
    return seen.mean(1), (seen**2).mean(1)


def speckle_noise(v: Array, c: Strength) -> tuple[Array, Array]:
    drawn = norm.ppf((np.arange(4000) + 0.5) / 4000)
    seen = np.clip(v[:, None] * (1 + c[0] * drawn), 0, 1)
    return seen.mean(1), (seen**2).mean(1)


def shot_noise(v: Array, c: Strength) -> tuple[Array, Array]:
    k = np.arange(int(c[0] + 12 * math.sqrt(c[0]) + 12))
    share = poisson.pmf(k, c[0] * v[:, None])
    seen = np.minimum(k / c[0], 1)
    return share @ seen, share @ seen**2


def impulse_noise(v: Array, c: Strength) -> tuple[Array, Array]:
    return (1 - c[0]) * v + c[0] / 2, (1 - c[0]) * v**2 + c[0] / 2


MOMENTS = {f.__name__: f for f in (gaussian_noise, shot_noise, impulse_noise, speckle_noise)}


def expected(image: NDArray[np.uint8], name: str, c: Strength) -> tuple[float, float]:
    """Mean and deviation, in levels, of an image under a kind of noise."""
    weight = np.bincount(image.ravel(), minlength=256) / image.size
    first, second = (weight @ moment for moment in MOMENTS[name](np.arange(256) / 255, c))
    return 255 * float(first), 255 * math.sqrt(second - first**2)


# ---- blur ----


def gaussian(x: Array, sigma: float) -> Array:
    reach = int(4 * sigma + 0.5)
    weight = [math.exp(-(t**2) / (2 * sigma**2)) for t in range(-reach, reach + 1)]
    for down, right in ((1, 0), (0, 1)):
        taps = zip(range(-reach, reach + 1), weight, strict=True)
        x = sum(w * shifted(x, t * down, t * right) for t, w in taps) / sum(weight)
    return x


def gaussian_blur(x: Array, c: Strength, rng: Generator) -> Array:
    return gaussian(x, c[0])


def defocus_blur(x: Array, c: Strength, rng: Generator) -> Array:
    at = np.arange(-13, 14)
    disc = (at[:, None] ** 2 + at**2 <= c[0] ** 2).astype(float)
    taps = np.arange(-1, 2) if c[0] <= 8 else np.arange(-2, 3)
    soft = np.exp(-(taps**2) / (2 * c[1] ** 2))
    kernel = ndimage.convolve(disc / disc.sum(), np.outer(soft, soft) / soft.sum() ** 2)
    padded, out = np.pad(x, ((13, 13), (13, 13), (0, 0)), "reflect"), np.zeros_like(x)
    for i, j in np.argwhere(kernel > 0):
        out += kernel[i, j] * padded[i : i + len(x), j : j + len(x)]
    return out


def motion(x: Array, radius: float, sigma: float, angle: float) -> Array:
    total, weights = np.zeros_like(x), 0.0
    for i in range(2 * math.ceil(radius) + 1):
        weight = math.exp(-(i**2) / (2 * sigma**2))
        right = math.ceil(i * math.cos(math.radians(angle)) - 0.5)
        down = math.ceil(i * math.sin(math.radians(angle)) - 0.5)
        total, weights = total + weight * shifted(x, down, right), weights + weight
    return total / weights


def motion_blur(x: Array, c: Strength, rng: Generator) -> Array:
    return motion(x, c[0], c[1], rng.uniform(-45, 45))


def enlarged(x: Array, zoom: float) -> Array:
    """The middle of x, by SciPy's zoom, trimmed to the size of x."""
    side = len(x)
    part = math.ceil(side / zoom)
    top = (side - part) // 2
    large = ndimage.zoom(x[top : top + part, top : top + part], (zoom, zoom, 1), order=1)
    trim = (len(large) - side) // 2
    return large[trim : trim + side, trim : trim + side]


def zoom_blur(x: Array, c: Strength, rng: Generator) -> Array:
    zooms = [enlarged(x, 1 + k * c[1]) for k in range(int(c[0]))]
    return (x + sum(zooms)) / (len(zooms) + 1)


def glass_blur(x: Array, c: Strength, rng: Generator) -> Array:
    sigma, reach, rounds = c[0], int(c[1]), int(c[2])
    x, side = gaussian(x, sigma), len(x)
    at = list(range(side * side))
    for _ in range(rounds):
        down, right = rng.integers(-reach, reach, (side, side, 2), np.int16).T.tolist()
        for h in range(side - reach, reach, -1):
            for w in range(side - reach, reach, -1):
                at[h * side + w] = at[(h + down[w][h]) * side + w + right[w][h]]
    return gaussian(x.reshape(-1, 3)[at].reshape(x.shape), sigma)


# ---- weather ----


def flakes(side: int, c: Strength, rng: Generator) -> Array:
    mean, sigma, zoom, least = c
    part = math.ceil(side / zoom)
    layer = ndimage.zoom(rng.normal(mean, sigma, (part, part)), zoom, order=1)
    trim = (len(layer) - side) // 2
    layer = layer[trim : trim + side, trim : trim + side]
    return np.clip(np.where(layer < least, 0, layer), 0, 1)


def snowed(x: Array, falling: Array, left: float) -> Array:
    grey = (0.299 * x[..., 0] + 0.587 * x[..., 1] + 0.114 * x[..., 2])[..., None]
    x = left * x + (1 - left) * np.maximum(x, grey * 1.5 + 0.5)
    return x + falling[..., None] + np.rot90(falling, 2)[..., None]


def snow(x: Array, c: Strength, rng: Generator) -> Array:
    layer = flakes(len(x), c[:4], rng)
    return snowed(x, motion(layer, c[4], c[5], rng.uniform(-135, -45)), c[6])


def frost(x: Array, c: Strength, rng: Generator) -> Array:
    picture = ice(int(rng.integers(5)), small=len(x) == 32)
    top, left = (int(rng.integers(side - len(x))) for side in picture.shape[:2])
    return c[0] * x + c[1] * picture[top : top + len(x), left : left + len(x)]


def plasma(side: int, decay: float, rng: Generator) -> Array:
    cloud = np.zeros((side, side))
    step, amount = side, 1.0

    def fill(dy: int, dx: int, arms: list[tuple[int, int]]) -> None:
        at = range(0, side, step)
        by = rng.uniform(-amount, amount, (len(at), len(at))).tolist()
        for i in at:
            for j in at:
                y, x = i + dy, j + dx
                around = sum(cloud[(y + a) % side, (x + b) % side] for a, b in arms)
                cloud[y, x] = around / 4 + by[i // step][j // step]

    while step > 1:
        h = step // 2
        fill(h, h, [(-h, -h), (-h, h), (h, -h), (h, h)])
        fill(0, h, [(0, -h), (0, h), (-h, 0), (h, 0)])
        fill(h, 0, [(0, -h), (0, h), (-h, 0), (h, 0)])
        step, amount = h, amount / decay**2
    return (cloud - cloud.min()) / (cloud.max() - cloud.min())


def fog(x: Array, c: Strength, rng: Generator) -> Array:
    cloud = plasma({32: 32, 224: 256}[len(x)], c[1], rng)[: len(x), : len(x)]
    return (x + c[0] * cloud[..., None]) * x.max() / (x.max() + c[0])


def brightness(x: Array, c: Strength, rng: Generator) -> Array:
    h, s, v = np.moveaxis(rgb_to_hsv(x), -1, 0)
    return hsv_to_rgb(np.stack([h, s, np.clip(v + c[0], 0, 1)], -1))


def saturate(x: Array, c: Strength, rng: Generator) -> Array:
    h, s, v = np.moveaxis(rgb_to_hsv(x), -1, 0)
    return hsv_to_rgb(np.stack([h, np.clip(s * c[0] + c[1], 0, 1), v], -1))


# ---- digital ----


def contrast(x: Array, c: Strength, rng: Generator) -> Array:
    mean = x.mean((0, 1))
    return (x - mean) * c[0] + mean


def elastic_transform(x: Array, c: Strength, rng: Generator) -> Array:
    """An affine map, mirrored at the last pixels; then a displacement, mirrored at their edge."""
    amount, sigma, jitter = c
    side = len(x)
    middle, third = side // 2, side // 3
    points = middle + third * np.array([[1, 1], [1, -1], [-1, -1]], float)
    targets = points + rng.uniform(-jitter, jitter, (3, 2))
    down, right = np.mgrid[:side, :side].astype(float)
    back = np.linalg.solve(np.column_stack([targets, np.ones(3)]), points)
    of_right, of_down = np.moveaxis(np.stack([right, down, 1 + 0 * down], -1) @ back, -1, 0)
    dx, dy = (
        amount * ndimage.gaussian_filter(rng.uniform(-1, 1, (side, side)), sigma, truncate=3)
        for _ in range(2)
    )
    out = np.empty_like(x)
    for i in range(3):
        there = ndimage.map_coordinates(x[..., i], [of_down, of_right], order=1, mode="mirror")
        moved = [down + dy, right + dx]
        out[..., i] = ndimage.map_coordinates(there, moved, order=1, mode="reflect")
    return out


def boxes(n: int, size: int) -> Array:
    """[size, n]: each of `size` pixels is the mean of those whose middles lie in it, at least the
    one that its own middle lies in."""
    at = (np.arange(size)[:, None] + 0.5) * n / size
    near = (np.arange(n) + 0.5 - at) / max(n / size, 1)
    inside = ((near > -0.5) & (near <= 0.5)).astype(float)
    return inside / inside.sum(1, keepdims=True)


def pixelate(x: Array, c: Strength, rng: Generator) -> Array:
    small = int(len(x) * c[0])
    there, back = boxes(len(x), small), boxes(small, len(x))
    both = back @ there
    return np.stack([both @ x[..., i] @ both.T for i in range(3)], -1)


def jpeg_compression(x: Array, c: Strength, rng: Generator) -> Array:
    file = io.BytesIO()
    Image.fromarray(np.rint(255 * x).astype(np.uint8)).save(file, "JPEG", quality=int(c[0]))
    return np.asarray(Image.open(file)) / 255


def spatter(x: Array, c: Strength, rng: Generator) -> Array:
    mean, sigma, width, least, opacity, muddy = c
    side = len(x)
    liquid = gaussian(rng.normal(mean, sigma, (side, side)), width)
    if muddy:
        m = gaussian((liquid > least).astype(float), opacity)
        m = np.where(m < 0.8, 0, m)[..., None]
        return x * (1 - m) + np.array([63, 42, 20]) / 255 * m
    wet = liquid >= least
    # outlines are ours, where the published program has OpenCV's edges: the wet that touch the dry
    dry = np.pad(~wet, 1)
    beside = dry[:-2, 1:-1] | dry[2:, 1:-1] | dry[1:-1, :-2] | dry[1:-1, 2:]
    everywhere = np.argwhere(np.ones_like(wet))
    far = cKDTree(np.argwhere(wet & beside)).query(everywhere)[0].reshape(wet.shape)
    level = np.floor(box(np.minimum(far, 20)) + 1e-9)
    counts = {v: (level <= v).sum() for v in np.unique(level)}
    least_count = min(counts.values())
    spread = np.vectorize(
        lambda v: round(255 * (counts[v] - least_count) / (level.size - least_count))
    )(level).astype(float)
    relief = [(-1, -1, -2), (-1, 0, -1), (0, -1, -1), (0, 0, 1), (0, 1, 1), (1, 0, 1), (1, 1, 2)]
    padded = np.pad(spread, 1, "reflect")
    lit = sum(w * padded[1 + i : side + 1 + i, 1 + j : side + 1 + j] for i, j, w in relief)
    m = np.where(wet, liquid, 0) * np.rint(box(np.clip(lit, 0, 255)))
    return x + opacity * (m / m.max())[..., None] * np.array([175, 238, 238]) / 255


def box(x: Array) -> Array:
    """The mean of 3 x 3 pixels; the image is mirrored at its last ones."""
    padded, side = np.pad(x, 1, "reflect"), len(x)
    return sum(padded[i : i + side, j : j + side] for i in range(3) for j in range(3)) / 9


DEFINITIONS: dict[str, Callable[[Array, Strength, Generator], Array]] = {
    f.__name__: f
    for f in (
        *(gaussian_blur, defocus_blur, motion_blur, zoom_blur, glass_blur),
        *(snow, frost, fog, brightness, saturate),
        *(contrast, elastic_transform, pixelate, jpeg_compression, spatter),
    )
}
