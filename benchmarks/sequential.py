"""The reference for the fused kernel: a program executed one operation after another, by Pillow.

The kernel composes all geometric operations of a program to one warp and takes the statistics that
colours need from the source image. Here each operation makes a new image of bytes, warps look at
the result of the last one, and statistics are those of the image so far, the fill with it. An A/B
of training accuracy under both ways of making views uses this module; tests/augment/test_sequential
states how far they agree.

    from sequential import execute  # with benchmarks/ on the path
    view = execute(image, program.code[0], program.operand[0], policy.nearest, (128, 128, 128))
"""

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps

from fewlabels.augment import operations as op

Colour = tuple[int, int, int]
# [3, 3]: a pixel of the result to one of the source, counted from the centre
Map = NDArray[np.float64]

_ENHANCE = {
    op.BRIGHTNESS: ImageEnhance.Brightness,
    op.CONTRAST: ImageEnhance.Contrast,
    op.SATURATION: ImageEnhance.Color,
    op.SHARPNESS: ImageEnhance.Sharpness,
}
_ORDER = {
    op.FLIP: ImageOps.mirror,
    op.FLIP_Y: ImageOps.flip,
    op.AUTOCONTRAST: ImageOps.autocontrast,
    op.EQUALIZE: ImageOps.equalize,
    op.INVERT: ImageOps.invert,
}


def execute(
    image: NDArray[np.uint8],
    code: NDArray[np.int16],
    operand: NDArray[np.float32],
    nearest: bool,
    fill: tuple[int, int, int],
) -> NDArray[np.uint8]:
    """The view of `image` [H, W, 3] that a program, `code` [M] and `operand` [M, 8], describes.

    ValueError for an elastic field, which Pillow does not have.
    """
    picture = Image.fromarray(image)
    for what, values in zip(code.tolist(), operand.tolist(), strict=True):
        picture = _one(picture, what, values, nearest, fill)
    return np.asarray(picture)


def _one(
    picture: Image.Image, what: int, values: list[float], nearest: bool, fill: Colour
) -> Image.Image:
    value = values[0]
    if what == op.IDENTITY:
        return picture
    if what in _ENHANCE:
        return _ENHANCE[what](picture).enhance(value)
    if what in _ORDER:
        return _ORDER[what](picture)
    if what == op.POSTERIZE:
        return ImageOps.posterize(picture, int(value))
    if what == op.SOLARIZE:
        return ImageOps.solarize(picture, math.ceil(value))
    if what == op.ADD:
        shift = math.floor(value * 255 + 0.5)
        return picture.point([min(255, max(0, level + shift)) for level in range(256)] * 3)
    if what == op.GAIN:
        levels = [min(255, int(level * gain + 0.5)) for gain in values[:3] for level in range(256)]
        return picture.point(levels)
    if what == op.CUTOUT:
        return _cutout(picture, values, fill)
    method = Image.Resampling.NEAREST if nearest else Image.Resampling.BILINEAR
    if what == op.ROTATE:
        return picture.rotate(value, method, fillcolor=fill)
    a, b, c, d, e, f, p, q = _from_corner(_map(what, values, picture.size), picture.size)
    if p == 0 and q == 0:
        data, kind = (a, b, c, d, e, f), Image.Transform.AFFINE
        return picture.transform(picture.size, kind, data, method, fillcolor=fill)
    kind = Image.Transform.PERSPECTIVE
    return picture.transform(picture.size, kind, (a, b, c, d, e, f, p, q), method, fillcolor=fill)


def _map(what: int, values: list[float], size: tuple[int, int]) -> Map:
    (width, height), m, value = size, np.eye(3), values[0]
    if what == op.SHEAR_X:
        m[0, 1] = value
    elif what == op.SHEAR_Y:
        m[1, 0] = value
    elif what == op.TRANSLATE_X:
        m[0, 2] = value * width
    elif what == op.TRANSLATE_Y:
        m[1, 2] = value * height
    elif what == op.SCALE:
        m[0, 0] = m[1, 1] = 1 / value
    elif what == op.WARP:  # in parts of the sides
        sides = np.diag([width, height, 1.0])
        m = sides @ np.array([*values, 1.0]).reshape(3, 3) @ np.linalg.inv(sides)
    else:
        raise ValueError(f"Pillow has no operation for code {what}")
    return m


def _from_corner(m: Map, size: tuple[int, int]) -> list[float]:
    """The eight numbers that Pillow takes; it counts from the outer corner of the first pixel."""
    there, back = np.eye(3), np.eye(3)
    there[:2, 2] = np.array(size) / 2
    back[:2, 2] = -there[:2, 2]
    moved = there @ m @ back
    numbers: list[float] = (moved / moved[2, 2]).ravel()[:8].tolist()
    return numbers


def _cutout(picture: Image.Image, values: list[float], fill: Colour) -> Image.Image:
    (part, x, y), box = values[:3], []
    side = part * min(picture.size)
    for at, length in zip((x, y), picture.size, strict=True):
        first = math.floor(at * length - side / 2 + 0.5)
        box.append((first, first + math.floor(side + 0.5)))
    (left, right), (top, bottom) = box
    picture.paste(fill, (left, top, right, bottom))
    return picture
