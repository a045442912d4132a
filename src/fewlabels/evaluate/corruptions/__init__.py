"""The corruptions of ImageNet-C (Hendrycks and Dietterich 2019, arXiv 1903.12261), from their
definitions: what camera, weather and compression do to images, in five severities.

Images with a shorter side of up to 64 pixels get the parameters of CIFAR-10-C, larger ones those of
ImageNet-C; lengths grow with the shorter side. docs/robustness.md says where we depart from the
published programs.
"""

import zlib
from collections.abc import Callable

import numpy as np
from numpy.random import Generator

from fewlabels.errors import UserError
from fewlabels.evaluate.corruptions import blur, digital, noise, spatter, weather
from fewlabels.evaluate.corruptions.canvas import Bytes, Reals, levels, unit
from fewlabels.evaluate.corruptions.parameters import (
    CIFAR,
    IMAGENET,
    Strength,
    is_small,
    scale_of,
)

Corruption = Callable[[Reals, Strength, float, Generator], Reals]

CORRUPTIONS: dict[str, dict[str, Corruption]] = {
    "noise": {
        "gaussian_noise": noise.gaussian_noise,
        "shot_noise": noise.shot_noise,
        "impulse_noise": noise.impulse_noise,
    },
    "blur": {
        "defocus_blur": blur.defocus_blur,
        "glass_blur": blur.glass_blur,
        "motion_blur": blur.motion_blur,
        "zoom_blur": blur.zoom_blur,
    },
    "weather": {
        "snow": weather.snow,
        "frost": weather.frost,
        "fog": weather.fog,
        "brightness": weather.brightness,
    },
    "digital": {
        "contrast": digital.contrast,
        "elastic_transform": digital.elastic_transform,
        "pixelate": digital.pixelate,
        "jpeg_compression": digital.jpeg_compression,
    },
}
# the authors' for validation: settings may be chosen on these, and on none of the 15
EXTRA: dict[str, Corruption] = {
    "speckle_noise": noise.speckle_noise,
    "gaussian_blur": blur.gaussian_blur,
    "spatter": spatter.spatter,
    "saturate": digital.saturate,
}
SEVERITIES = (1, 2, 3, 4, 5)
NAMES: tuple[str, ...] = tuple(name for group in CORRUPTIONS.values() for name in group)
_ALL = {name: made for group in CORRUPTIONS.values() for name, made in group.items()} | EXTRA


def corrupt(image: Bytes, name: str, severity: int, seed: int = 0, number: int = 0) -> Bytes:
    """A uint8 image [H, W, 3], at least 8 pixels a side, corrupted: one of the same shape.

    A function of its arguments: the draws are those of (seed, name, severity, number), where
    `number` is the image's in its pool. UserError for an unknown name or severity, a negative seed,
    or an image of another form.
    """
    if name not in _ALL:
        raise UserError(f"unknown corruption {name!r}; there are {', '.join(_ALL)}")
    if severity not in SEVERITIES:
        raise UserError(f"a corruption's severity is 1 to 5, not {severity}")
    height, width = checked(image)
    table = CIFAR if is_small(height, width) else IMAGENET
    strength, rng = table[name][severity - 1], draws(seed, name, severity, number)
    return levels(_ALL[name](unit(image), strength, scale_of(height, width), rng))


def corrupted(images: Bytes, name: str, severity: int, seed: int = 0, first: int = 0) -> Bytes:
    """uint8 images [N, H, W, 3], each corrupted as `corrupt` does alone; they are numbered from
    `first` on."""
    result = np.empty_like(images)
    for i, image in enumerate(images):
        result[i] = corrupt(image, name, severity, seed, first + i)
    return result


def draws(seed: int, name: str, *of: int) -> Generator:
    """The random numbers for one image. UserError for a negative seed."""
    if seed < 0:
        raise UserError(f"seed {seed}: must be 0 or more")
    return np.random.default_rng([seed, zlib.crc32(name.encode()), *of])


def checked(image: Bytes) -> tuple[int, int]:
    """Height and width of an image that can be disturbed; UserError for any other."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise UserError(f"an image is uint8 [H, W, 3], not {image.dtype} {list(image.shape)}")
    height, width = image.shape[:2]
    if min(height, width) < 8:
        raise UserError(f"an image of {height} x {width} pixels is too small; 8 a side are needed")
    return height, width
