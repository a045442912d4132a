"""Pictures of ice for the corruption `frost`, drawn: ferns of needles that branch at 60 degrees.

ImageNet-C adds pieces of five photographs of frozen windows, which are others'. Ours have the mean
colour and the spread of those, channel by channel, so that an image loses as much contrast, and
about their difference between neighbouring pixels.
"""

import math
from functools import lru_cache

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter

from fewlabels.evaluate.corruptions.canvas import Reals

SIDE = 448  # of a picture of which a piece of 224 x 224 is taken
SMALL = 0.2  # for images of 32 x 32 the pictures are made smaller, as in CIFAR-10-C
BRANCH = math.radians(60)

# mean and standard deviation of red, green and blue in the photographs, in levels; two are the same
COLOURS = (
    ((78, 149, 166), (27, 17, 15)),
    ((201, 205, 215), (21, 22, 23)),
    ((201, 205, 215), (21, 22, 23)),
    ((138, 153, 165), (28, 28, 30)),
    ((112, 123, 135), (44, 43, 42)),
)


@lru_cache(maxsize=10)
def ice(which: int, small: bool) -> Reals:
    """Picture 0..4 of ice [side, side, 3], colours 0..1, the same at every call."""
    side = round(SIDE * SMALL) if small else SIDE
    needles = np.asarray(_needles(which).resize((side, side), Image.Resampling.BOX), np.float32)
    needles = gaussian_filter(needles, 0.8 * side / SIDE)
    rng = np.random.default_rng([6, which])
    grain = rng.standard_normal((side, side))
    haze = gaussian_filter(rng.standard_normal((side, side)), side / 24, mode="wrap")
    shade = needles / needles.std() + 0.6 * haze / haze.std() + 0.15 * grain
    shade = (shade - shade.mean()) / shade.std()
    mean, spread = (np.array(row, np.float32) / 255 for row in COLOURS[which])
    colours: Reals = np.clip(mean + spread * shade[..., None], 0, 1).astype(np.float32)
    return colours


@lru_cache(maxsize=5)
def _needles(which: int) -> Image.Image:
    """Sixty stars of six ferns each, twice as large as the picture."""
    rng = np.random.default_rng([5, which])
    picture = Image.new("L", (2 * SIDE, 2 * SIDE))
    pen = ImageDraw.Draw(picture)
    for _ in range(60):
        start, angle = rng.uniform(0, 2 * SIDE, 2), rng.uniform(0, 2 * math.pi)
        for arm in range(6):
            length = SIDE * rng.uniform(0.1, 0.4)
            _grow(pen, (start[0], start[1]), angle + arm * BRANCH, length, 2, rng)
    return picture


def _grow(
    pen: ImageDraw.ImageDraw,
    start: tuple[float, float],
    angle: float,
    length: float,
    depth: int,
    rng: Generator,
) -> None:
    """A needle, and needles on both of its sides that are the shorter, the nearer to its tip."""
    along = math.cos(angle), math.sin(angle)
    end = start[0] + length * along[0], start[1] + length * along[1]
    pen.line((*start, *end), fill=int(rng.integers(90, 256)), width=1 + depth)
    if depth == 0:
        return
    count = max(2, round(length / (6 * (depth + 1))))
    for k in range(1, count):
        at = start[0] + length * k / count * along[0], start[1] + length * k / count * along[1]
        for turn in (-BRANCH, BRANCH):
            short = 0.45 * length * (1 - k / count) * rng.uniform(0.5, 1)
            _grow(pen, at, angle + turn, short, depth - 1, rng)
