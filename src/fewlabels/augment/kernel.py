"""The kernel: executes a batch of programs on cached images, without the interpreter's lock.

Geometric operations compose to one warp, point-wise colours to one table of 256 entries a channel;
saturation and sharpness, which mix channels or neighbours, flush the table in their turn.
Statistics that an operation needs (the mean for contrast, the ends for autocontrast, the cumulated
histogram for equalise) are taken from the source image carried through the table, before the warp.

Definitions follow Pillow's ImageOps and ImageEnhance to within rounding.
Shapes: images [N, S, S, 3] uint8 (channels last); out [B, 3, S, S] float32, normalised.
"""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from fewlabels.augment.operations import (
    AUTOCONTRAST,
    BRIGHTNESS,
    CONTRAST,
    CUTOUT,
    EQUALIZE,
    FLIP,
    GAIN,
    INVERT,
    POSTERIZE,
    ROTATE,
    SATURATION,
    SHARPNESS,
    SHEAR_X,
    SHEAR_Y,
    SOLARIZE,
    TRANSLATE_X,
    TRANSLATE_Y,
    ZOOM,
)

Bytes = NDArray[np.uint8]
Counts = NDArray[np.int64]
Reals = NDArray[np.float64]


@njit(nogil=True, cache=True)
def _byte(value: float) -> np.uint8:
    return np.uint8(min(255.0, max(0.0, value + 0.5)))


@njit(nogil=True, cache=True)
def _histogram(image: Bytes, histogram: Counts) -> None:
    histogram[:] = 0
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            for c in range(3):
                histogram[c, image[y, x, c]] += 1


@njit(nogil=True, cache=True)
def _through(table: Bytes, histogram: Counts, carried: Counts) -> None:
    """The histogram of the image after its table."""
    carried[:] = 0
    for c in range(3):
        for v in range(256):
            carried[c, table[c, v]] += histogram[c, v]


@njit(nogil=True, cache=True)
def _flush(image: Bytes, table: Bytes) -> None:
    """Applies the table to the image and makes it the identity."""
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            for c in range(3):
                image[y, x, c] = table[c, image[y, x, c]]
    for c in range(3):
        for v in range(256):
            table[c, v] = v


@njit(nogil=True, cache=True)
def _contrast(table: Bytes, carried: Counts, factor: float) -> None:
    """Blends with the mean of the luma (ITU-R 601), rounded, as ImageEnhance does."""
    total, n = 0.0, 0
    for v in range(256):
        total += v * (0.299 * carried[0, v] + 0.587 * carried[1, v] + 0.114 * carried[2, v])
        n += carried[0, v]
    mean = math.floor(total / n + 0.5)
    for c in range(3):
        for v in range(256):
            table[c, v] = _byte(mean + factor * (table[c, v] - mean))


@njit(nogil=True, cache=True)
def _autocontrast(table: Bytes, carried: Counts) -> None:
    for c in range(3):
        low, high = 0, 255
        while low < 255 and carried[c, low] == 0:
            low += 1
        while high > 0 and carried[c, high] == 0:
            high -= 1
        if high > low:
            scale = 255.0 / (high - low)
            for v in range(256):
                table[c, v] = _byte((table[c, v] - low) * scale - 0.5)  # truncates, as ImageOps


@njit(nogil=True, cache=True)
def _equalize(table: Bytes, carried: Counts) -> None:
    """ImageOps.equalize: the step is the pixels below the last filled value, by 255."""
    lut = np.empty(256, np.uint8)
    for c in range(3):
        total, last, filled = 0, 0, 0
        for v in range(256):
            total += carried[c, v]
            if carried[c, v]:
                last = carried[c, v]
                filled += 1
        step = (total - last) // 255
        if filled <= 1 or step == 0:
            continue
        n = step // 2
        for v in range(256):
            lut[v] = min(255, n // step)
            n += carried[c, v]
        for v in range(256):
            table[c, v] = lut[table[c, v]]


@njit(nogil=True, cache=True)
def _saturate(image: Bytes, factor: float) -> None:
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            r, g, b = image[y, x, 0], image[y, x, 1], image[y, x, 2]
            grey = math.floor(0.299 * r + 0.587 * g + 0.114 * b + 0.5)
            for c in range(3):
                image[y, x, c] = _byte(grey + factor * (image[y, x, c] - grey))


@njit(nogil=True, cache=True)
def _sharpen(image: Bytes, scratch: Bytes, factor: float) -> None:
    """Blends with the image smoothed by (1 1 1, 1 5 1, 1 1 1) / 13; the border stays."""
    height, width = image.shape[0], image.shape[1]
    scratch[:] = image
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            for c in range(3):
                total = 4 * np.int32(scratch[y, x, c])
                for dy in range(-1, 2):
                    for dx in range(-1, 2):
                        total += scratch[y + dy, x + dx, c]
                smooth = math.floor(total / 13.0 + 0.5)
                image[y, x, c] = _byte(smooth + factor * (scratch[y, x, c] - smooth))


@njit(nogil=True, cache=True)
def _compose(m: Reals, a: float, b: float, tx: float, c: float, d: float, ty: float) -> None:
    """m <- m after (a b tx; c d ty): both map a pixel of the result to one of the source."""
    m00, m01, m10, m11 = m[0, 0], m[0, 1], m[1, 0], m[1, 1]
    m[0, 2] += m00 * tx + m01 * ty
    m[1, 2] += m10 * tx + m11 * ty
    m[0, 0] = m00 * a + m01 * c
    m[0, 1] = m00 * b + m01 * d
    m[1, 0] = m10 * a + m11 * c
    m[1, 1] = m10 * b + m11 * d


@njit(nogil=True, cache=True)
def _warp(
    image: Bytes,
    m: Reals,
    fill: Reals,
    mean: Reals,
    scale: Reals,
    cut: Reals,
    out: NDArray[np.float32],
) -> None:
    """Samples bilinearly where m points (from the centre), fills outside, normalises, writes."""
    height, width = image.shape[0], image.shape[1]
    cx, cy = (width - 1) / 2.0, (height - 1) / 2.0
    for y in range(height):
        for x in range(width):
            if cut[0] <= x < cut[2] and cut[1] <= y < cut[3]:
                for c in range(3):
                    out[c, y, x] = (fill[c] - mean[c]) * scale[c]
                continue
            sx = m[0, 0] * (x - cx) + m[0, 1] * (y - cy) + m[0, 2] + cx
            sy = m[1, 0] * (x - cx) + m[1, 1] * (y - cy) + m[1, 2] + cy
            # rounding noise must not turn an exact pixel into a blend with the fill
            sx = math.floor(sx * 1024.0 + 0.5) / 1024.0
            sy = math.floor(sy * 1024.0 + 0.5) / 1024.0
            x0, y0 = math.floor(sx), math.floor(sy)
            fx, fy = sx - x0, sy - y0
            for c in range(3):
                value = 0.0
                for j in range(2):
                    wy = fy if j else 1.0 - fy
                    if wy == 0.0:
                        continue
                    for i in range(2):
                        w = wy * (fx if i else 1.0 - fx)
                        if w == 0.0:
                            continue
                        xx, yy = x0 + i, y0 + j
                        if 0 <= xx < width and 0 <= yy < height:
                            value += w * image[yy, xx, c]
                        else:
                            value += w * fill[c]
                out[c, y, x] = (value - mean[c]) * scale[c]


@njit(nogil=True, cache=True)
def render(
    images: Bytes,
    rows: Counts,
    code: NDArray[np.int16],
    operand: NDArray[np.float32],
    fill: Reals,
    mean: Reals,
    std: Reals,
    out: NDArray[np.float32],
) -> None:
    """Executes program `code` [B, M], `operand` [B, M, 3] on images[rows] into out [B, 3, S, S].

    fill, mean and std [3] are in units of 0..255.
    """
    height, width = images.shape[1], images.shape[2]
    image = np.empty((height, width, 3), np.uint8)
    scratch = np.empty((height, width, 3), np.uint8)
    table = np.empty((3, 256), np.uint8)
    histogram = np.empty((3, 256), np.int64)
    carried = np.empty((3, 256), np.int64)
    m = np.empty((2, 3), np.float64)
    cut = np.zeros(4, np.float64)
    scale = 1.0 / std
    for b in range(len(rows)):
        image[:] = images[rows[b]]
        for c in range(3):
            for v in range(256):
                table[c, v] = v
        m[:] = 0.0
        m[0, 0] = m[1, 1] = 1.0
        cut[:] = 0.0
        counted, coloured = False, False
        for k in range(code.shape[1]):
            what, value = code[b, k], float(operand[b, k, 0])
            if what in (CONTRAST, AUTOCONTRAST, EQUALIZE):
                if not counted:
                    _histogram(image, histogram)
                    counted = True
                _through(table, histogram, carried)
            if what == FLIP:
                _compose(m, -1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
            elif what == ZOOM:
                _compose(m, 1.0 / value, 0.0, 0.0, 0.0, 1.0 / value, 0.0)
            elif what == GAIN:
                for c in range(3):
                    for v in range(256):
                        table[c, v] = _byte(table[c, v] * float(operand[b, k, c]))
            elif what == ROTATE:
                angle = math.radians(value)
                cos, sin = math.cos(angle), math.sin(angle)
                _compose(m, cos, -sin, 0.0, sin, cos, 0.0)
            elif what == SHEAR_X:
                _compose(m, 1.0, value, 0.0, 0.0, 1.0, 0.0)
            elif what == SHEAR_Y:
                _compose(m, 1.0, 0.0, 0.0, value, 1.0, 0.0)
            elif what == TRANSLATE_X:
                _compose(m, 1.0, 0.0, value * width, 0.0, 1.0, 0.0)
            elif what == TRANSLATE_Y:
                _compose(m, 1.0, 0.0, 0.0, 0.0, 1.0, value * height)
            elif what == BRIGHTNESS:
                for c in range(3):
                    for v in range(256):
                        table[c, v] = _byte(table[c, v] * value)
            elif what == CONTRAST:
                _contrast(table, carried, value)
            elif what == POSTERIZE:
                mask = np.uint8(256 - (1 << (8 - int(value)))) if value < 8 else np.uint8(255)
                for c in range(3):
                    for v in range(256):
                        table[c, v] &= mask
            elif what == SOLARIZE:
                for c in range(3):
                    for v in range(256):
                        if table[c, v] >= value:
                            table[c, v] = 255 - table[c, v]
            elif what == AUTOCONTRAST:
                _autocontrast(table, carried)
            elif what == EQUALIZE:
                _equalize(table, carried)
            elif what == INVERT:
                for c in range(3):
                    for v in range(256):
                        table[c, v] = 255 - table[c, v]
            elif what in (SATURATION, SHARPNESS):
                _flush(image, table)
                counted = coloured = False
                if what == SATURATION:
                    _saturate(image, value)
                else:
                    _sharpen(image, scratch, value)
            elif what == CUTOUT:
                cut[0] = math.floor((operand[b, k, 1] - value / 2) * width + 0.5)
                cut[1] = math.floor((operand[b, k, 2] - value / 2) * height + 0.5)
                cut[2] = cut[0] + math.floor(value * width + 0.5)
                cut[3] = cut[1] + math.floor(value * height + 0.5)
            coloured = coloured or BRIGHTNESS <= what <= INVERT or what == GAIN
        if coloured:
            _flush(image, table)
        _warp(image, m, fill, mean, scale, cut, out[b])
