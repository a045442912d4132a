"""What the tests of the kernel share: programs written by hand, images, and Pillow's operations.

With mean 0 and standard deviation 1 the kernel writes levels of 0..255, which are compared with
Pillow's.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps

from fewlabels.augment import operations as op
from fewlabels.augment.policy import _SENSIBLE, LIMITS, STAGES
from fewlabels.augment.sampler import Program
from fewlabels.augment.views import execute

Bytes = NDArray[np.uint8]
Levels = NDArray[np.float64]
Colour = tuple[float, float, float]
Instruction = tuple[float, ...]  # code and up to eight operands
Enhance = Callable[[Image.Image], Image.Image]

BLACK = (0.0, 0.0, 0.0)
SIDE = 32
# height and width: a single pixel, single lines, an inner part for sharpness of none, of one and
# of some, and neither square nor even
SIZES = [(1, 1), (1, 6), (5, 1), (2, 2), (2, 9), (3, 3), (3, 7), (33, 57), (40, 24)]


def programs(*lines: list[Instruction]) -> Program:
    """Programs of one length, the shorter ones filled up with `identity`."""
    longest = max(map(len, lines))
    code = np.full((len(lines), longest), op.IDENTITY, np.int16)
    operand = np.zeros((len(lines), longest, op.OPERANDS), np.float32)
    for b, line in enumerate(lines):
        for k, (what, *values) in enumerate(line):
            code[b, k] = what
            operand[b, k, : len(values)] = values
    return Program(code, operand)


def rendered_batch(
    images: Bytes,
    lines: list[list[Instruction]],
    fill: Colour = BLACK,
    mean: Colour = BLACK,
    std: Colour = (1.0, 1.0, 1.0),
    nearest: bool = False,
    size: tuple[int, int] | None = None,
) -> NDArray[np.float32]:
    """lines[b] on images[b]: [B, 3, h, w], begun as NaN so that an unwritten pixel shows."""
    out = np.full((len(lines), 3, *(size or images.shape[1:3])), np.nan, np.float32)
    rows, colour = np.arange(len(lines)), np.array(fill)
    execute(
        images, rows, programs(*lines), nearest, colour, np.array(mean), np.array(std),
        out, planar=True,
    )  # fmt: skip
    return out


def rendered(
    image: Bytes,
    *line: Instruction,
    fill: Colour = BLACK,
    nearest: bool = False,
    size: tuple[int, int] | None = None,
) -> Levels:
    """The levels [h, w, 3], channels last, of one program on one image."""
    out = rendered_batch(image[None], [list(line)], fill, nearest=nearest, size=size)[0]
    levels: Levels = np.moveaxis(out, 0, -1).astype(np.float64)
    return levels


def noise(
    seed: int = 0, low: int = 0, high: int = 256, size: tuple[int, int] | int = SIDE
) -> Bytes:
    """Every level in every place."""
    shape = (size, size) if isinstance(size, int) else size
    return np.random.default_rng(seed).integers(low, high, (*shape, 3), np.uint8)


def waves(height: int = SIDE, width: int = SIDE) -> Bytes:
    """Smooth in both directions, another in each channel, and without symmetry."""
    y, x = np.mgrid[:height, :width] * (2 * np.pi / np.array([height, width])).reshape(2, 1, 1)
    phases = [100 * np.sin(y + p) * np.cos(x + 2 * p + 0.5) for p in range(3)]
    image: Bytes = (127 + np.stack(phases, -1)).astype(np.uint8)
    return image


def natural(seed: int, height: int, width: int) -> Bytes:
    """Noise of every scale, the coarser the stronger, as in photographs; another colour cast each.

    The amplitude falls as 1 / frequency (Field 1987).
    """
    rng = np.random.default_rng(seed)
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None]
    falling = 1 / np.maximum(np.hypot(fy, fx), 1 / max(height, width))
    planes = []
    for mean, spread in zip(rng.uniform(80, 170, 3), rng.uniform(35, 60, 3), strict=True):
        plane = np.fft.ifft2(np.fft.fft2(rng.normal(size=(height, width))) * falling).real
        planes.append(mean + spread * (plane - plane.mean()) / max(plane.std(), 1e-9))
    image: Bytes = np.clip(np.stack(planes, -1), 0, 255).astype(np.uint8)
    return image


IMAGES = {
    "noise": noise(),
    "dull": noise(1, 60, 150),
    "waves": waves(),
    "cast": noise(2) // np.array([1, 3, 9], np.uint8) + np.array([0, 40, 200], np.uint8),
    "two levels": np.where(noise(3) < 90, 50, 201).astype(np.uint8),
    "flat": np.full((SIDE, SIDE, 3), (10, 128, 250), np.uint8),
} | {f"{height} x {width}": noise(height, size=(height, width)) for height, width in SIZES}


def by(image: Bytes, *steps: Enhance) -> Levels:
    """The steps one after another, each rounding to bytes, as Pillow does them."""
    picture = Image.fromarray(image)
    for step in steps:
        picture = step(picture)
    return np.asarray(picture).astype(np.float64)


def brightness(factor: float) -> Enhance:
    return lambda picture: ImageEnhance.Brightness(picture).enhance(factor)


def contrast(factor: float) -> Enhance:
    return lambda picture: ImageEnhance.Contrast(picture).enhance(factor)


def saturation(factor: float) -> Enhance:
    return lambda picture: ImageEnhance.Color(picture).enhance(factor)


def sharpness(factor: float) -> Enhance:
    return lambda picture: ImageEnhance.Sharpness(picture).enhance(factor)


def posterize(bits: int) -> Enhance:
    return lambda picture: ImageOps.posterize(picture, bits)


def solarize(threshold: int) -> Enhance:
    return lambda picture: ImageOps.solarize(picture, threshold)


def random_policy(rng: np.random.Generator) -> str:
    """The text of a policy of one to five stages of any kind, with arguments anywhere in limits."""
    names = [name for name in STAGES if name not in ("cutout", "elastic")]
    chosen = rng.choice(names, rng.integers(1, 5)).tolist()
    if rng.random() < 0.3:
        chosen.insert(int(rng.integers(len(chosen) + 1)), "elastic")
    if rng.random() < 0.3:
        chosen.append("cutout")
    parts = [_random_stage(rng, name) for name in chosen]
    if rng.random() < 0.5:
        parts.insert(int(rng.integers(len(parts) + 1)), "nearest")
    return "+".join(parts)


def _random_stage(rng: np.random.Generator, name: str) -> str:
    kind, items = STAGES[name], []
    main = _SENSIBLE.get(name, kind.limits)
    if rng.random() < 0.8 and not (name in op.OPERATIONS and not op.OPERATIONS[name].has_strength):
        ranged = name in op.OPERATIONS or name == "resized_crop"
        items.append(_random_span(rng, main, ranged, whole=name == "rand"))
    items += [
        f"{key}=" + _random_span(rng, LIMITS[key], key == "m", whole=key == "cells")
        for key in kind.more
        if rng.random() < 0.5
    ]
    if name == "rand" and rng.random() < 0.5:
        items.append("among=" + "|".join(rng.choice(list(op.OPERATIONS), 4)))
    return f"{name}({','.join(items)})" if items else name


def _random_span(
    rng: np.random.Generator, limits: tuple[float, float], ranged: bool, whole: bool
) -> str:
    """A number of few or all digits, or two with `..` between; the limits themselves too."""
    low, high = limits

    def number() -> float:
        value = float(rng.choice([low, high, rng.uniform(low, high), rng.uniform(low, high)]))
        return min(high, max(low, round(value, 0 if whole else int(rng.choice([2, 17])))))

    first, second = sorted([number(), number()])
    return f"{first!r}..{second!r}" if ranged and rng.random() < 0.5 else repr(first)
