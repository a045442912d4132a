"""The perturbation sequences of ImageNet-P (Hendrycks and Dietterich 2019, arXiv 1903.12261), from
their definitions, and how often a prediction flips along them.

A sequence is the image under a disturbance that is weak and changes slowly, or under weak noise
drawn anew for each frame. Images with a shorter side of up to 64 pixels get the parameters of
CIFAR-10-P, larger ones those of ImageNet-P (the first where two stand side by side); lengths grow
with the shorter side.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from itertools import count, islice

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

from fewlabels.errors import UserError
from fewlabels.evaluate.corruptions import Corruption, blur, checked, draws, noise, weather
from fewlabels.evaluate.corruptions.canvas import (
    Bytes,
    Reals,
    drawn_shape,
    fitted,
    levels,
    unit,
)
from fewlabels.evaluate.corruptions.parameters import is_small, scale_of

Matrix = NDArray[np.float64]
Sequence = Callable[[Reals, bool, float, Generator], Iterator[Reals]]  # small, scale; endless

FRAMES = 31
OTHER_FRAMES = {("translate", False): 41, ("translate", True): 16, ("motion_blur", True): 21}


# ---- noise: the first frame has none ----


def _noisy(made: Corruption, strengths: tuple[float, float]) -> Sequence:
    """With the least of the three difficulties, as is usual."""

    def sequence(x: Reals, small: bool, scale: float, rng: Generator) -> Iterator[Reals]:
        yield x
        while True:
            yield made(x, (strengths[small],), scale, rng)

    return sequence


# ---- blur, light and snow ----


def _motion_blur(x: Reals, small: bool, scale: float, rng: Generator) -> Iterator[Reals]:
    """The direction turns from that of the left upward."""
    radius, sigma = ((10, 3), (6, 1.8))[small]
    for i in count():
        angle = ((i - 30) * 4, (i - 20) * 9)[small]
        yield blur.moved(x, radius * scale, sigma * scale, angle)


def _zoom_blur(x: Reals, small: bool, scale: float, rng: Generator) -> Iterator[Reals]:
    """The mean of more and more zooms."""
    total = np.zeros_like(x)
    for i in count():
        total += blur.zoomed(x, 1 + 0.004 * i)
        yield total / np.float32(i + 1)


def _gaussian_blur(x: Reals, small: bool, scale: float, rng: Generator) -> Iterator[Reals]:
    first, more = ((0.25, 0.035), (0.3, 0.015))[small]
    return (blur.smooth(x, (first + more * i) * scale) for i in count())


def _brightness(x: Reals, small: bool, scale: float, rng: Generator) -> Iterator[Reals]:
    """From darker to brighter; the original is frame 15."""
    return (weather.brightened(x, (0.02, 0.015)[small] * (i - 15)) for i in count())


def _snow(x: Reals, small: bool, scale: float, rng: Generator) -> Iterator[Reals]:
    """The same flakes in all frames, and the direction of their fall turns."""
    zoom, radius, sigma = ((3, 14, 4), (2, 10, 2))[small]
    layer = weather.flakes(drawn_shape(x, scale), 0.05, 0.3, zoom, 0.5, rng)
    for i in count():
        falling = blur.moved(layer, radius, sigma, 4 * i - 150)
        yield weather.snowed(x, fitted(falling, *x.shape[:2]), 0.85)


# ---- geometry: black where nothing was ----


def _viewed(view: Callable[[int, bool, float, float], Matrix]) -> Sequence:
    """`view`: frame, small, scale, diagonal -> the map [3, 3] of coordinates from the middle."""

    def sequence(x: Reals, small: bool, scale: float, rng: Generator) -> Iterator[Reals]:
        height, width = x.shape[:2]
        middle = np.array([[1, 0, width / 2], [0, 1, height / 2], [0, 0, 1]])
        picture = Image.fromarray(levels(x))
        for i in count():
            there = view(i, small, scale, math.hypot(width, height))
            back = middle @ np.linalg.inv(there) @ np.linalg.inv(middle)
            seen = picture.transform(
                (width, height),
                Image.Transform.PERSPECTIVE,
                (back / back[2, 2]).ravel()[:8].tolist(),
                Image.Resampling.BILINEAR,
            )
            yield unit(np.asarray(seen))

    return sequence


def _translate(i: int, small: bool, scale: float, diagonal: float) -> Matrix:
    """A pixel to the right a frame."""
    return np.array([[1, 0, (i - (20, 7)[small]) * scale], [0, 1, 0], [0, 0, 1]])


def _rotate(i: int, small: bool, scale: float, diagonal: float) -> Matrix:
    """A degree a frame; the original is frame 15."""
    cos, sin = math.cos(math.radians(i - 15)), math.sin(math.radians(i - 15))
    return np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])


def _tilt(i: int, small: bool, scale: float, diagonal: float) -> Matrix:
    """Turned about the vertical and then the horizontal axis, and seen from a diagonal away."""
    angle = math.radians((i - 15) * (1, 0.75)[small])
    cos, sin = math.cos(angle), math.sin(angle)
    about_x = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    about_y = np.array([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]])
    turned = about_x @ about_y
    turned[:, 2] = 0, 0, diagonal  # the image is flat, and then moved away
    result: Matrix = np.diag([diagonal, diagonal, 1.0]) @ turned
    return result


def _scale(i: int, small: bool, scale: float, diagonal: float) -> Matrix:
    """From smaller to larger."""
    size = (0.4 + 0.025 * i, 0.7 + 0.02 * i)[small]
    return np.diag([size, size, 1.0])


def _shear(i: int, small: bool, scale: float, diagonal: float) -> Matrix:
    return np.array([[1, math.tan(math.radians(15 - i)), 0], [0, 1, 0], [0, 0, 1]])


PERTURBATIONS: dict[str, Sequence] = {
    "gaussian_noise": _noisy(noise.gaussian_noise, (0.03, 0.02)),
    "shot_noise": _noisy(noise.shot_noise, (300, 700)),
    "motion_blur": _motion_blur,
    "zoom_blur": _zoom_blur,
    "snow": _snow,
    "brightness": _brightness,
    "translate": _viewed(_translate),
    "rotate": _viewed(_rotate),
    "tilt": _viewed(_tilt),
    "scale": _viewed(_scale),
}
# the authors' for validation: settings may be chosen on these, and on none of the ten
EXTRA: dict[str, Sequence] = {
    "speckle_noise": _noisy(noise.speckle_noise, (0.05, 0.05)),
    "gaussian_blur": _gaussian_blur,
    "shear": _viewed(_shear),
}


def frames(
    image: Bytes, name: str, seed: int = 0, number: int = 0, limit: int | None = None
) -> Bytes:
    """The sequence uint8 [T, H, W, 3] of an image uint8 [H, W, 3], at least 8 pixels a side.

    T is as published, 31 for most; or its first `limit` frames. The draws are those of (seed, name,
    number), where `number` is the image's in its pool. UserError for an unknown name or an image of
    another form.
    """
    known = PERTURBATIONS | EXTRA
    if name not in known:
        raise UserError(f"unknown perturbation {name!r}; there are {', '.join(known)}")
    height, width = checked(image)
    small, scale = is_small(height, width), scale_of(height, width)
    length = OTHER_FRAMES.get((name, small), FRAMES)
    made = known[name](unit(image), small, scale, draws(seed, name, number))
    return np.stack([levels(x) for x in islice(made, min(length, limit or length))])


def is_noise(name: str) -> bool:
    """Whether the frames of a sequence follow upon each other in no order."""
    return "noise" in name


def flip_rate(predicted: NDArray[np.int64], noise: bool) -> float:
    """The flip probability of N sequences, from predicted classes [N, T]: how often a frame's class
    is not that of the frame before, or under `noise` not that of the first (section 4.2)."""
    if predicted.ndim != 2 or predicted.shape[1] < 2 or not len(predicted):
        raise UserError(f"predictions are [N, T >= 2], not {list(predicted.shape)}")
    reference = predicted[:, :1] if noise else predicted[:, :-1]
    return float((predicted[:, 1:] != reference).mean())


def mean_flip_rate(rates: Mapping[str, float]) -> float:
    """The plain mean over perturbations of their flip rates."""
    if not rates:
        raise UserError("a mean flip rate needs at least one perturbation")
    return float(np.mean(list(rates.values())))


def mfr(rates: Mapping[str, float], alexnet: Mapping[str, float]) -> float:
    """The paper's mFR: the mean over its ten perturbations of rate / AlexNet's rate. 1 flips as
    often as AlexNet.

    For ImageNet-P's own files and nothing else. UserError unless both have just these ten.
    """
    for given in (rates, alexnet):
        wrong = sorted(set(given) ^ set(PERTURBATIONS))
        if wrong:
            raise UserError(f"mFR needs the ten perturbations and no other; {', '.join(wrong)}")
    return float(np.mean([rates[name] / alexnet[name] for name in PERTURBATIONS]))
