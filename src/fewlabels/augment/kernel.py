"""The kernel: executes a batch of programs on cached images, without the interpreter's lock.

Each image goes one way:

    bytes -> colours, into a table of 256 entries a channel -> one warp -> cutout -> normalised

Point-wise colours only change the table; saturation and sharpness, which mix channels or
neighbours, apply what the table holds and pass over the image. Statistics that an operation needs
(the mean for contrast, the ends for autocontrast, the cumulated histogram for equalise) are those
of the source carried through the table, before the warp. Geometric operations compose to one
projective map, with at most one elastic field in it.

Colours follow Pillow's ImageOps and ImageEnhance to the bit, but for contrast (see there).
Shapes: H, W of the source, h, w of the result; images [N, H * W * 3] uint8, channels last. Loops
run over flat slices, one simple pass after another: so they become vector instructions, and a row
of 224 pixels stays in the nearest cache between passes (measured: less than half the time of one
loop that does everything).
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from fewlabels.augment.operations import (
    ADD,
    AUTOCONTRAST,
    BRIGHTNESS,
    CONTRAST,
    CUTOUT,
    ELASTIC,
    EQUALIZE,
    FLIP,
    FLIP_Y,
    GAIN,
    IDENTITY,
    INVERT,
    POSTERIZE,
    ROTATE,
    SATURATION,
    SCALE,
    SHARPNESS,
    SHEAR_X,
    SHEAR_Y,
    SOLARIZE,
    TRANSLATE_X,
    TRANSLATE_Y,
    WARP,
)

Bytes = NDArray[np.uint8]
Words = NDArray[np.uint64]
Counts = NDArray[np.int64]
Reals = NDArray[np.float64]

CELLS = 16  # an elastic field has at most so many along a side
FAR = -1e6  # a coordinate that is outside every image

# Three channels lie in one word, 21 bits apart, and are blended by one multiplication: 8 bits of
# colour and 12 of weight, 1/64 pixel along each axis.
LANE, SUB = 21, 64
MASK = (1 << LANE) - 1


class Workspace(NamedTuple):
    """What one thread needs to render images of one size; made once, used for every batch."""

    one: Bytes  # [H * W * 3]
    two: Bytes
    one_read: Bytes  # the same memory as `one`, of the type of the read-only images
    two_read: Bytes
    packed: Words  # [(H + 3) * (W + 3)]: the image with a border of the fill
    table: Bytes  # [768]
    counts: Counts  # [1536], two banks of a histogram
    carried: Counts  # [768]
    sums: NDArray[np.uint16]  # [W * 3], three rows added
    planes: Bytes  # [3, W], a row by channels
    u: Reals  # [w], where a row looks
    v: Reals
    at: Words  # [w], the word that it finds there
    weight: Words  # [4, w], of that one and its neighbours
    value: Words  # [w], the blend
    field: Reals  # [2 * (CELLS + 3)^2]


def workspace(height: int, width: int, columns: int) -> Workspace:
    """For sources of height x width and results of so many columns."""
    one, two = np.empty(height * width * 3, np.uint8), np.empty(height * width * 3, np.uint8)
    one_read, two_read = one.view(), two.view()
    one_read.flags.writeable = two_read.flags.writeable = False
    return Workspace(
        one,
        two,
        one_read,
        two_read,
        packed=np.empty((height + 3) * (width + 3), np.uint64),
        table=np.empty(768, np.uint8),
        counts=np.empty(1536, np.int64),
        carried=np.empty(768, np.int64),
        sums=np.empty(width * 3, np.uint16),
        planes=np.empty((3, width), np.uint8),
        u=np.empty(columns, np.float64),
        v=np.empty(columns, np.float64),
        at=np.empty(columns, np.uint64),
        weight=np.empty((4, columns), np.uint64),
        value=np.empty(columns, np.uint64),
        field=np.empty(2 * (CELLS + 3) ** 2, np.float64),
    )


# ---- colours ----


@njit(nogil=True, cache=True, inline="always")
def _blend(a: Any, b: Any, factor: Any) -> np.uint8:
    """Image.blend: single precision, the fraction cut off, clipped."""
    value = np.float32(a) + factor * (np.float32(b) - np.float32(a))
    return np.uint8(np.int32(min(max(value, np.float32(0.0)), np.float32(255.0))))


@njit(nogil=True, cache=True)
def _histogram(image: Bytes, counts: Counts) -> None:
    """Into the first bank; two take turns, as equal neighbours would wait for each other."""
    counts[:] = 0
    r, g, b = counts[:256], counts[256:512], counts[512:768]
    r2, g2, b2 = counts[768:1024], counts[1024:1280], counts[1280:]
    pairs = image.size // 6
    for x in range(pairs):
        r[image[6 * x]] += 1
        g[image[6 * x + 1]] += 1
        b[image[6 * x + 2]] += 1
        r2[image[6 * x + 3]] += 1
        g2[image[6 * x + 4]] += 1
        b2[image[6 * x + 5]] += 1
    if image.size > 6 * pairs:  # an odd number of pixels
        r[image[6 * pairs]] += 1
        g[image[6 * pairs + 1]] += 1
        b[image[6 * pairs + 2]] += 1
    for v in range(768):
        counts[v] += counts[768 + v]


@njit(nogil=True, cache=True)
def _through(table: Bytes, counts: Counts, carried: Counts) -> None:
    """The histogram of the image after its table."""
    carried[:] = 0
    for c in range(0, 768, 256):
        for v in range(256):
            carried[c + np.int64(table[c + v])] += counts[c + v]


@njit(nogil=True, cache=True)
def _contrast(table: Bytes, carried: Counts, factor: float) -> None:
    """Blends with the mean of the luma (ITU-R 601), rounded, as ImageEnhance does.

    Pillow rounds the luma of every pixel before it takes the mean, which then may be one apart.
    """
    total, n = 0.0, 0
    for v in range(256):
        total += v * (0.299 * carried[v] + 0.587 * carried[256 + v] + 0.114 * carried[512 + v])
        n += carried[v]
    mean = math.floor(total / n + 0.5)
    for i in range(768):
        table[i] = _blend(mean, table[i], np.float32(factor))


@njit(nogil=True, cache=True)
def _autocontrast(table: Bytes, carried: Counts) -> None:
    for c in range(0, 768, 256):
        low, high = 0, 255
        while low < 255 and carried[c + low] == 0:
            low += 1
        while high > 0 and carried[c + high] == 0:
            high -= 1
        if high > low:
            scale = 255.0 / (high - low)
            offset = -low * scale
            for v in range(c, c + 256):
                table[v] = np.uint8(min(255.0, max(0.0, table[v] * scale + offset)))


@njit(nogil=True, cache=True)
def _equalize(table: Bytes, carried: Counts) -> None:
    """ImageOps.equalize: the step is the pixels below the last filled value, by 255."""
    for c in range(0, 768, 256):
        total, last, filled = 0, 0, 0
        for v in range(c, c + 256):
            total += carried[v]
            if carried[v]:
                last = carried[v]
                filled += 1
        step = (total - last) // 255
        if filled <= 1 or step == 0:
            continue
        n = step // 2
        for v in range(c, c + 256):
            following = n + carried[v]
            carried[v] = min(255, n // step)  # its place is not needed any more
            n = following
        for v in range(c, c + 256):
            table[v] = np.uint8(carried[c + np.int64(table[v])])


@njit(nogil=True, cache=True)
def _colour(table: Bytes, what: int, operand: NDArray[np.float32], carried: Counts) -> None:
    """One point-wise operation; `carried` is the histogram for those that need it."""
    value = float(operand[0])
    if what == BRIGHTNESS:
        for i in range(768):
            table[i] = _blend(0, table[i], np.float32(value))
    elif what == ADD:
        shift = math.floor(value * 255.0 + 0.5)
        for i in range(768):
            table[i] = np.uint8(min(255.0, max(0.0, float(table[i]) + shift)))
    elif what == GAIN:
        for i in range(768):
            table[i] = np.uint8(min(255.0, table[i] * float(operand[i >> 8]) + 0.5))
    elif what == CONTRAST:
        _contrast(table, carried, value)
    elif what == POSTERIZE:
        if value < 8:
            keep = np.uint8(256 - (1 << (8 - int(value))))
            for i in range(768):
                table[i] &= keep
    elif what == SOLARIZE:
        for i in range(768):
            if table[i] >= value:
                table[i] = 255 - table[i]
    elif what == AUTOCONTRAST:
        _autocontrast(table, carried)
    elif what == EQUALIZE:
        _equalize(table, carried)
    elif what == INVERT:
        for i in range(768):
            table[i] = 255 - table[i]


@njit(nogil=True, cache=True)
def _apply(image: Bytes, table: Bytes, result: Bytes) -> None:
    t0, t1, t2 = table[:256], table[256:512], table[512:]
    for x in range(image.size // 3):
        result[3 * x] = t0[image[3 * x]]
        result[3 * x + 1] = t1[image[3 * x + 1]]
        result[3 * x + 2] = t2[image[3 * x + 2]]


@njit(nogil=True, cache=True)
def _blend_with_luma(r: Bytes, g: Bytes, b: Bytes, factor: Any) -> None:
    """In place; the luma as Pillow computes it, in integers."""
    for x in range(r.size):
        grey = (
            np.int32(r[x]) * np.int32(19595)
            + np.int32(g[x]) * np.int32(38470)
            + np.int32(b[x]) * np.int32(7471)
            + np.int32(32768)
        ) >> np.int32(16)
        r[x] = _blend(grey, r[x], factor)
        g[x] = _blend(grey, g[x], factor)
        b[x] = _blend(grey, b[x], factor)


@njit(nogil=True, cache=True)
def _saturate(image: Bytes, table: Bytes, factor: float, planes: Bytes, result: Bytes) -> None:
    """Blends with grey; the table is applied on the way."""
    t0, t1, t2 = table[:256], table[256:512], table[512:]
    r, g, b = planes[0], planes[1], planes[2]
    row = 3 * r.size
    for start in range(0, image.size, row):
        source, target = image[start : start + row], result[start : start + row]
        for x in range(r.size):
            r[x] = t0[source[3 * x]]
            g[x] = t1[source[3 * x + 1]]
            b[x] = t2[source[3 * x + 2]]
        _blend_with_luma(r, g, b, np.float32(factor))
        for x in range(r.size):
            target[3 * x] = r[x]
            target[3 * x + 1] = g[x]
            target[3 * x + 2] = b[x]


@njit(nogil=True, cache=True)
def _add(a: Bytes, b: Bytes, c: Bytes, sums: NDArray[np.uint16]) -> None:
    for i in range(sums.size):
        sums[i] = np.uint16(a[i]) + np.uint16(b[i]) + np.uint16(c[i])


@njit(nogil=True, cache=True)
def _blend_with_smooth(
    left: Any, middle: Any, right: Any, pixel: Bytes, factor: Any, result: Bytes
) -> None:
    """`left`, `middle`, `right`: the sums of three rows, at a pixel and its neighbours."""
    for i in range(result.size):
        total = np.int32(left[i]) + np.int32(middle[i]) + np.int32(right[i])
        total += np.int32(4) * np.int32(pixel[i])
        # a thirteenth is never a half: the rounding is safe in single precision
        smooth = np.int32(np.float32(total) * np.float32(1 / 13) + np.float32(0.5))
        result[i] = _blend(smooth, pixel[i], factor)


@njit(nogil=True, cache=True)
def _sharpen(
    image: Bytes, height: int, factor: float, sums: NDArray[np.uint16], result: Bytes
) -> None:
    """Blends with the image smoothed by (1 1 1, 1 5 1, 1 1 1) / 13; the border stays."""
    row = sums.size
    for y in range(height):
        here, target = image[y * row : (y + 1) * row], result[y * row : (y + 1) * row]
        if y == 0 or y == height - 1 or row < 9:
            target[:] = here
            continue
        _add(image[(y - 1) * row : y * row], here, image[(y + 1) * row : (y + 2) * row], sums)
        _blend_with_smooth(
            sums[: row - 6],
            sums[3 : row - 3],
            sums[6:],
            here[3 : row - 3],
            np.float32(factor),
            target[3 : row - 3],
        )
        target[:3] = here[:3]
        target[row - 3 :] = here[row - 3 :]


# ---- geometry ----


@njit(nogil=True, cache=True)
def _identity(m: Reals) -> None:
    m[:] = 0.0
    m[0] = m[4] = m[8] = 1.0


@njit(nogil=True, cache=True)
def _compose(m: Reals, a: Any, b: Any, tx: Any, c: Any, d: Any, ty: Any, p: Any, q: Any) -> None:
    """m <- m after (a b tx; c d ty; p q 1): both map a pixel of the result to one of the source."""
    for r in range(0, 9, 3):
        m0, m1, m2 = m[r], m[r + 1], m[r + 2]
        m[r] = m0 * a + m1 * c + m2 * p
        m[r + 1] = m0 * b + m1 * d + m2 * q
        m[r + 2] = m0 * tx + m1 * ty + m2


@njit(nogil=True, cache=True)
def _move(m: Reals, what: int, operand: NDArray[np.float32], height: int, width: int) -> None:
    """Composes one geometric operation; coordinates are pixels from the centre."""
    value = float(operand[0])
    if what == FLIP:
        _compose(m, -1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0)
    elif what == FLIP_Y:
        _compose(m, 1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0)
    elif what == SCALE:
        _compose(m, 1.0 / value, 0.0, 0.0, 0.0, 1.0 / value, 0.0, 0.0, 0.0)
    elif what == ROTATE:
        quarters = value / 90.0
        if quarters == math.floor(quarters):  # exact, where the sine of a half turn is not
            turn = int(quarters) % 4
            cos, sin = float((turn == 0) - (turn == 2)), float((turn == 1) - (turn == 3))
        else:
            cos, sin = math.cos(math.radians(value)), math.sin(math.radians(value))
        _compose(m, cos, -sin, 0.0, sin, cos, 0.0, 0.0, 0.0)
    elif what == SHEAR_X:
        _compose(m, 1.0, value, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0)
    elif what == SHEAR_Y:
        _compose(m, 1.0, 0.0, 0.0, value, 1.0, 0.0, 0.0, 0.0)
    elif what == TRANSLATE_X:
        _compose(m, 1.0, 0.0, value * width, 0.0, 1.0, 0.0, 0.0, 0.0)
    elif what == TRANSLATE_Y:
        _compose(m, 1.0, 0.0, 0.0, 0.0, 1.0, value * height, 0.0, 0.0)
    elif what == WARP:  # in parts of the sides
        slope = float(width) / height
        _compose(
            m,
            float(operand[0]),
            float(operand[1]) * slope,
            float(operand[2]) * width,
            float(operand[3]) / slope,
            float(operand[4]),
            float(operand[5]) * height,
            float(operand[6]) / width,
            float(operand[7]) / height,
        )


@njit(nogil=True, cache=True)
def _aim(m: Reals, y: float, half: float, u: Reals, v: Reals) -> None:
    """Where a row of the result looks: u, v [w], from the centre; `half` is its own half width."""
    a, b = m[0], m[3]
    s, t = m[1] * y + m[2] - a * half, m[4] * y + m[5] - b * half
    for x in range(u.size):
        u[x] = a * x + s
        v[x] = b * x + t
    if m[6] == 0.0 and m[7] == 0.0 and m[8] == 1.0:
        return
    c, w = m[6], m[7] * y + m[8] - m[6] * half
    for x in range(u.size):
        depth = c * x + w
        if depth > 1e-9:
            u[x] /= depth
            v[x] /= depth
        else:  # behind the eye
            u[x] = v[x] = FAR


@njit(nogil=True, cache=True)
def _shift(u: Reals, by: float) -> None:
    for x in range(u.size):
        u[x] += by


@njit(nogil=True, cache=True)
def _fixed(value: float) -> float:
    return math.floor(value * 65536.0 + 0.5) / 65536.0


@njit(nogil=True, cache=True)
def _aim_as_pillow(m: Reals, y: int, h: int, height: int, width: int, u: Reals, v: Reals) -> None:
    """As `_aim`, in pixels of the source, of an affine map: its numbers rounded as Pillow rounds
    them, so that the nearest pixel is the same one where two are almost as near."""
    x0, y0 = (u.size - 1) / 2.0, (h - 1) / 2.0
    # Pillow counts from the corner of the first pixel, we from its centre
    s = _fixed(m[2] - m[0] * x0 - m[1] * y0 + width / 2.0) - 0.5 + _fixed(m[1]) * y
    t = _fixed(m[5] - m[3] * x0 - m[4] * y0 + height / 2.0) - 0.5 + _fixed(m[4]) * y
    a, b = _fixed(m[0]), _fixed(m[3])
    for x in range(u.size):
        u[x] = a * x + s
        v[x] = b * x + t


@njit(nogil=True, cache=True)
def _new_field(field: Reals, cells: int, first: int, second: int) -> None:
    """Displacements in [-1, 1] at (cells + 3)^2 points: the counter-based draws of `draws.py`."""
    state = (np.uint64(first) << np.uint64(24)) ^ np.uint64(second)
    for i in range(2 * (cells + 3) ** 2):
        z = state + np.uint64(i + 1) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
        field[i] = float(z >> np.uint64(11)) * 2.0**-52 - 1.0


@njit(nogil=True, cache=True, inline="always")
def _splines(t: float) -> tuple[float, float, float, float]:
    """The four cubic B-splines that overlap at t in [0, 1]."""
    t2, t3 = t * t, t * t * t
    return (
        (1 - 3 * t + 3 * t2 - t3) / 6,
        (4 - 6 * t2 + 3 * t3) / 6,
        (1 + 3 * t + 3 * t2 - 3 * t3) / 6,
        t3 / 6,
    )


@njit(nogil=True, cache=True)
def _bend(
    field: Reals, cells: int, amount: float, height: int, width: int, u: Reals, v: Reals
) -> None:
    """Displaces u, v by the field, smooth as a cubic B-spline; amount is a part of the sides."""
    side = cells + 3
    other = field[side * side :]
    for x in range(u.size):
        # in this order, so that what is not a number becomes 0
        gx = min(max(0.0, (u[x] / width + 0.5) * cells), cells - 1e-9)
        gy = min(max(0.0, (v[x] / height + 0.5) * cells), cells - 1e-9)
        i, j = int(gx), int(gy)
        a0, a1, a2, a3 = _splines(gx - i)
        dx = dy = 0.0
        for b, weight in enumerate(_splines(gy - j)):
            k = (j + b) * side + i
            dx += weight * (
                a0 * field[k] + a1 * field[k + 1] + a2 * field[k + 2] + a3 * field[k + 3]
            )
            dy += weight * (
                a0 * other[k] + a1 * other[k + 1] + a2 * other[k + 2] + a3 * other[k + 3]
            )
        u[x] += amount * width * dx
        v[x] += amount * height * dy


@njit(nogil=True, cache=True)
def _map(m: Reals, u: Reals, v: Reals) -> None:
    """u, v through m."""
    for x in range(u.size):
        depth = m[6] * u[x] + m[7] * v[x] + m[8]
        a = m[0] * u[x] + m[1] * v[x] + m[2]
        b = m[3] * u[x] + m[4] * v[x] + m[5]
        good = depth > 1e-9
        u[x] = a / depth if good else FAR
        v[x] = b / depth if good else FAR


# ---- looking, and writing ----


@njit(nogil=True, cache=True)
def _pack_row(image: Bytes, t0: Words, t1: Words, t2: Words, packed: Words) -> None:
    for x in range(packed.size):
        packed[x] = t0[image[3 * x]] | t1[image[3 * x + 1]] | t2[image[3 * x + 2]]


@njit(nogil=True, cache=True)
def _pack(image: Bytes, height: int, width: int, table: Bytes, fill: Bytes, packed: Words) -> None:
    """The image through its table, three channels a word.

    One word of fill stands before each row and column and two behind, so that no look at four
    pixels leaves the array.
    """
    lanes = np.empty(768, np.uint64)
    blank = np.uint64(0)
    for c in range(3):
        for x in range(256):
            lanes[256 * c + x] = np.uint64(table[256 * c + x]) << np.uint64(LANE * c)
        blank |= np.uint64(fill[c]) << np.uint64(LANE * c)
    stride = width + 3
    packed[:stride] = blank
    packed[(height + 1) * stride :] = blank
    for y in range(height):
        row = packed[(y + 1) * stride : (y + 2) * stride]
        _pack_row(
            image[y * width * 3 : (y + 1) * width * 3],
            lanes[:256],
            lanes[256:512],
            lanes[512:],
            row[1 : width + 1],
        )
        row[0] = row[width + 1] = row[width + 2] = blank


@njit(nogil=True, cache=True)
def _weigh(
    u: Reals, v: Reals, height: int, width: int, at: Words, w0: Any, w1: Any, w2: Any, w3: Any
) -> None:
    """The word that holds the pixel up and left of (u, v), and the four bilinear weights."""
    sub, six, rest = np.uint64(SUB), np.uint64(6), np.uint64(SUB - 1)
    stride, last_x, last_y = np.uint64(width + 3), float(width), float(height)
    for x in range(at.size):
        px, py = u[x], v[x]
        # kept between -1, which is all fill and stands for no number too, and the first beyond
        px = px if px > -1.0 else -1.0
        py = py if py > -1.0 else -1.0
        px = last_x if px > last_x else px
        py = last_y if py > last_y else py
        ix = np.uint64(np.int64(px * SUB + (SUB + 0.5)))
        iy = np.uint64(np.int64(py * SUB + (SUB + 0.5)))
        at[x] = (iy >> six) * stride + (ix >> six)
        fx, fy = ix & rest, iy & rest
        gx, gy = sub - fx, sub - fy
        w0[x], w1[x], w2[x], w3[x] = gx * gy, fx * gy, gx * fy, fx * fy


@njit(nogil=True, cache=True)
def _blend_four(
    p0: Words, p1: Words, p2: Words, p3: Words, at: Words, weight: Words, value: Words
) -> None:
    w0, w1, w2, w3 = weight[0], weight[1], weight[2], weight[3]
    for x in range(value.size):
        k = at[x]
        value[x] = p0[k] * w0[x] + p1[k] * w1[x] + p2[k] * w2[x] + p3[k] * w3[x]


@njit(nogil=True, cache=True)
def _take_nearest(
    packed: Words, u: Reals, v: Reals, height: int, width: int, at: Words, value: Words
) -> None:
    """The pixel whose square (u, v) lies in."""
    stride, last_x, last_y = np.uint64(width + 3), float(width), float(height)
    for x in range(at.size):
        px, py = u[x], v[x]  # kept as in _weigh
        px = px if px > -1.0 else -1.0
        py = py if py > -1.0 else -1.0
        px = last_x if px > last_x else px
        py = last_y if py > last_y else py
        at[x] = np.uint64(np.int64(py + 1.5)) * stride + np.uint64(np.int64(px + 1.5))
    for x in range(at.size):
        value[x] = packed[at[x]]


@njit(nogil=True, cache=True)
def _unpack(value: Words, lane: Any, scale: Any, bias: Any, out: Any) -> None:
    """out[x]: one channel, normalised."""
    mask = np.uint64(MASK)
    for x in range(out.size):
        out[x] = np.float32(np.int32((value[x] >> lane) & mask)) * scale + bias


@njit(nogil=True, cache=True)
def _unpack_pixels(value: Words, scale: Any, bias: Any, out: Any) -> None:
    """out[3 x + c]: all channels, normalised."""
    mask = np.uint64(MASK)
    for x in range(value.size):
        for c in range(3):
            level = np.float32(np.int32((value[x] >> np.uint64(LANE * c)) & mask))
            out[3 * x + c] = level * scale[c] + bias[c]


@njit(nogil=True, cache=True)
def _whole(m: Reals) -> bool:
    """Whether m mirrors and shifts by whole pixels only; within the 1/64 that a warp can tell."""
    straight = m[1] == 0.0 and m[3] == 0.0 and m[6] == 0.0 and m[7] == 0.0 and m[8] == 1.0
    sides = abs(m[0]) == 1.0 and abs(m[4]) == 1.0
    x, y = m[2] - math.floor(m[2] + 0.5), m[5] - math.floor(m[5] + 0.5)
    return bool(straight and sides and abs(x) < 0.5 / SUB and abs(y) < 0.5 / SUB)


@njit(nogil=True, cache=True)
def _reach(side: int, sign: float, shift: float) -> tuple[int, int, int]:
    """Along an axis the pixel i of the result is the pixel first ± i of the source, for i from lo
    to hi - 1; beyond these it is fill. Returns first, lo, hi."""
    first = math.floor(shift + 0.5) + (0 if sign > 0.0 else side - 1)
    if sign > 0.0:
        lo, hi = max(0, -first), min(side, side - first)
    else:
        lo, hi = max(0, first - side + 1), min(side, first + 1)
    return first, min(lo, side), max(hi, min(lo, side))


@njit(nogil=True, cache=True)
def _copy_row(image: Bytes, back: bool, look: Any, o0: Any, o1: Any, o2: Any) -> None:
    """As many pixels as `o0` has; `back`: from the last to the first."""
    t0, t1, t2 = look[:256], look[256:512], look[512:]
    if back:
        last = 3 * (o0.size - 1)
        for x in range(o0.size):
            o0[x] = t0[image[last - 3 * x]]
            o1[x] = t1[image[last - 3 * x + 1]]
            o2[x] = t2[image[last - 3 * x + 2]]
    else:
        for x in range(o0.size):
            o0[x] = t0[image[3 * x]]
            o1[x] = t1[image[3 * x + 1]]
            o2[x] = t2[image[3 * x + 2]]


@njit(nogil=True, cache=True)
def _copy_pixels(image: Bytes, back: bool, look: Any, out: Any) -> None:
    t0, t1, t2 = look[:256], look[256:512], look[512:]
    last = image.size - 3
    for x in range(image.size // 3):
        k = last - 3 * x if back else 3 * x
        out[3 * x] = t0[image[k]]
        out[3 * x + 1] = t1[image[k + 1]]
        out[3 * x + 2] = t2[image[k + 2]]


@njit(nogil=True, cache=True)
def _copy(
    image: Bytes, height: int, width: int, m: Reals, look: Any, blank: Any, planar: bool, view: Any
) -> None:
    """Mirrored and shifted by whole pixels: nothing is between two pixels, and nothing blended."""
    plane = height * width
    first_x, lo, hi = _reach(width, m[0], m[2])
    first_y, top, bottom = _reach(height, m[4], m[5])
    left = lo + first_x if m[0] > 0.0 else first_x - hi + 1  # of what is copied of a row
    for y in range(height):
        start = y * width
        if not (top <= y < bottom and lo < hi):
            lo_here, hi_here = 0, 0
        else:
            lo_here, hi_here = lo, hi
            row = first_y + y if m[4] > 0.0 else first_y - y
            at = 3 * (row * width + left)
            source = image[at : at + 3 * (hi - lo)]
            if planar:
                _copy_row(
                    source,
                    m[0] < 0.0,
                    look,
                    view[start + lo : start + hi],
                    view[plane + start + lo : plane + start + hi],
                    view[2 * plane + start + lo : 2 * plane + start + hi],
                )
            else:
                _copy_pixels(source, m[0] < 0.0, look, view[3 * (start + lo) : 3 * (start + hi)])
        for c in range(3):
            for x in range(lo_here):
                view[c * plane + start + x if planar else 3 * (start + x) + c] = blank[c]
            for x in range(hi_here, width):
                view[c * plane + start + x if planar else 3 * (start + x) + c] = blank[c]


@njit(nogil=True, cache=True)
def render(
    images: Bytes,
    height: int,
    width: int,
    rows: Counts,
    code: NDArray[np.int16],
    operand: NDArray[np.float32],
    nearest: bool,
    fill: Bytes,
    scale: NDArray[np.float32],
    bias: NDArray[np.float32],
    look: Any,
    work: Workspace,
    out: Any,
    h: int,
    w: int,
    planar: bool,
) -> None:
    """Executes program `code` [B, M], `operand` [B, M, 8] on images[rows].

    `out` is [B * 3 * h * w]; a level x of channel c becomes scale[c] x + bias[c] there, and
    look[256 c + x] holds the same, of the type of `out`. `planar`: channels first.
    """
    table, u, v, value = work.table, work.u, work.v, work.value
    m, before = np.empty(9, np.float64), np.empty(9, np.float64)
    final, factor = np.empty(768, look.dtype), np.empty(3, np.float32)
    blank = np.empty(3, look.dtype)
    for c in range(3):
        blank[c] = look[256 * c + np.int64(fill[c])]
        factor[c] = scale[c] if nearest else scale[c] / np.float32(SUB * SUB)
    stride, plane = width + 3, h * w
    p0, p1 = work.packed, work.packed[1:]
    p2, p3 = work.packed[stride:], work.packed[stride + 1 :]
    for b in range(len(rows)):
        image = images[rows[b]]
        first_free = True  # the next pass over the image goes into work.one, else work.two
        for c in range(0, 768, 256):
            for x in range(256):
                table[c + x] = x
        _identity(m)
        coloured, counted, cells, amount = False, False, 0, 0.0
        cut_x0 = cut_y0 = cut_x1 = cut_y1 = 0
        for k in range(code.shape[1]):
            what, strength = code[b, k], float(operand[b, k, 0])
            if what == IDENTITY:
                continue
            if what in (CONTRAST, AUTOCONTRAST, EQUALIZE):
                if not counted:
                    _histogram(image, work.counts)
                    counted = True
                _through(table, work.counts, work.carried)
            if what in (SATURATION, SHARPNESS):
                if what == SATURATION:
                    target = work.one if first_free else work.two
                    _saturate(image, table, strength, work.planes, target)
                    image = work.one_read if first_free else work.two_read
                else:
                    if coloured:
                        _apply(image, table, work.one if first_free else work.two)
                        image = work.one_read if first_free else work.two_read
                        first_free = not first_free
                    target = work.one if first_free else work.two
                    _sharpen(image, height, strength, work.sums, target)
                    image = work.one_read if first_free else work.two_read
                first_free = not first_free
                counted = coloured = False
                for c in range(0, 768, 256):
                    for x in range(256):
                        table[c + x] = x
            elif BRIGHTNESS <= what <= INVERT or what in (GAIN, ADD):
                _colour(table, what, operand[b, k], work.carried)
                coloured = True
            elif what == CUTOUT:
                side = strength * min(h, w)
                cut_x0 = math.floor(operand[b, k, 1] * w - side / 2 + 0.5)
                cut_y0 = math.floor(operand[b, k, 2] * h - side / 2 + 0.5)
                cut_x1 = min(w, cut_x0 + math.floor(side + 0.5))
                cut_y1 = min(h, cut_y0 + math.floor(side + 0.5))
                cut_x0, cut_y0 = max(0, cut_x0), max(0, cut_y0)
            elif what == ELASTIC:
                before[:] = m
                _identity(m)
                amount, cells = strength, int(operand[b, k, 1])
                _new_field(work.field, cells, int(operand[b, k, 2]), int(operand[b, k, 3]))
            else:
                _move(m, what, operand[b, k], height, width)
        if h != height or w != width:
            _compose(m, float(width) / w, 0.0, 0.0, 0.0, float(height) / h, 0.0, 0.0, 0.0)

        view = out[3 * b * plane : 3 * (b + 1) * plane]
        if cells == 0 and h == height and w == width and _whole(m):
            for c in range(0, 768, 256):
                for x in range(256):
                    final[c + x] = look[c + np.int64(table[c + x])]
            _copy(image, height, width, m, final, blank, planar, view)
            last = 0  # of the rows that a warp writes
        else:
            _pack(image, height, width, table, fill, work.packed)
            last = h
        affine = m[6] == 0.0 and m[7] == 0.0 and m[8] == 1.0
        for y in range(last):
            o0 = view[y * w : (y + 1) * w]
            o1 = view[plane + y * w : plane + (y + 1) * w]
            o2 = view[2 * plane + y * w : 2 * plane + (y + 1) * w]
            pixels = view[3 * y * w : 3 * (y + 1) * w]
            if nearest and cells == 0 and affine:
                _aim_as_pillow(m, y, h, height, width, u, v)
            else:
                _aim(m, y - (h - 1) / 2.0, (w - 1) / 2.0, u, v)
                if cells:
                    _bend(work.field, cells, amount, height, width, u, v)
                    _map(before, u, v)
                _shift(u, (width - 1) / 2.0)
                _shift(v, (height - 1) / 2.0)
            if nearest:
                _take_nearest(p0, u, v, height, width, work.at, value)
            else:
                w0, w1, w2, w3 = work.weight[0], work.weight[1], work.weight[2], work.weight[3]
                _weigh(u, v, height, width, work.at, w0, w1, w2, w3)
                _blend_four(p0, p1, p2, p3, work.at, work.weight, value)
            if planar:
                _unpack(value, np.uint64(0), factor[0], bias[0], o0)
                _unpack(value, np.uint64(LANE), factor[1], bias[1], o1)
                _unpack(value, np.uint64(2 * LANE), factor[2], bias[2], o2)
            else:
                _unpack_pixels(value, factor, bias, pixels)
        for y in range(cut_y0, cut_y1):
            for c in range(3):
                for x in range(cut_x0, cut_x1):
                    view[c * plane + y * w + x if planar else 3 * (y * w + x) + c] = blank[c]
