"""Pictures that are nearly the same: encoded again, resized, cropped a little, brighter, of lower
contrast, grey, mirrored.

Three steps, each far cheaper than the next. A hash of 64 bits, the signs of the lowest frequencies
of the grey picture (after Zauner 2010): all pairs are compared, as they are and mirrored, which
changes the sign of every odd frequency. Then the frequencies themselves, each weighed by its
number: natural pictures have little power in the high ones, and without the weights all skies over
all grounds are alike. Last a registration (Lucas and Kanade 1981): one picture is shifted and
scaled until it lies on the other, and then their details must agree.

All of it is blind to gain and bias of the grey values. A picture without contrast is like every
other one, and one of very few pixels like many: neither is compared.

Each of A anchors is compared with all N pictures; by default all are anchors. That takes 4 ns a
pair on one core, and a closer look at a pair that is alike 80 to 120 us.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray
from PIL import Image

from fewlabels.pool.threads import THREADS, each

Progress = Callable[[str, int, int], None]  # (what, done, total)

SIDE = 32  # of the grey pictures that are compared
LEAST = 16  # pixels that the shorter side must have
BLANK = 3.0  # levels of 255: a standard deviation below which a picture shows nothing

BITS = 20  # of 64 that may differ
# Correlation of the weighed frequencies from which on a pair gets a closer look. In CIFAR-10, 0.65
# misses none of the changes above, 0.8 one copy cropped by 5 % in a hundred, 0.9 one in five. Of
# photographs of hands, which are look-alikes, 5.7, 0.9 and 0.05 % of all pairs are so alike.
ALIKE = (0.65, 0.8, 0.9)
LOOKS = 1_000_000  # in all, a minute and a half
WHOLE = 0.93  # correlation of the registered pictures
DETAILS = 0.85  # and of what is left of them without their local means
STRONG = 0.95  # as alike as most copies are
SURE = 0.98  # more than look-alikes ever are

_RADIUS = 3  # of the local mean
_SHIFT, _SCALE = 3.0, 0.15  # the farthest that a registration goes, in pixels and as a part
_STEPS = 5
_BLOCK = 64  # rows that a task compares with all after them
_TILE = 4096  # rows whose hashes stay in the nearest cache
_AT_ONCE = 4096  # pictures that are described together

Grey = NDArray[np.uint8]  # [N, SIDE, SIDE]
Rows = NDArray[np.int64]

# Without the mean: the 64 lowest by the sum of both frequencies.
_LOWEST = sorted((u + v, max(u, v), u, v) for u in range(11) for v in range(11))[1:65]
_U = np.array([u for _, _, u, _ in _LOWEST])
_V = np.array([v for _, _, _, v in _LOWEST])
_WEIGHT = np.hypot(_U, _V).astype(np.float32)
_MIRROR = np.where(_V % 2, -1, 1).astype(np.float32)
_SAME = np.ones(64, np.float32)
_BIT = np.uint64(1) << np.arange(64, dtype=np.uint64)
_FLIPPED = _BIT[_V % 2 == 1].sum(dtype=np.uint64)
_WAVE = np.cos(np.pi / SIDE * np.outer(np.arange(11), np.arange(SIDE) + 0.5)).astype(np.float32)


class Found(NamedTuple):
    """Pairs of near duplicates, and how closely they were sought."""

    pairs: Rows  # [P, 2], the lower row first
    likeness: NDArray[np.float32]  # [P], of their details
    alike: float | None  # which of ALIKE; None where even the last would have taken too long


def small(picture: Image.Image) -> Grey:
    """A picture as it is compared: grey, the whole of it stretched to [SIDE, SIDE]."""
    grey = picture.convert("L")
    if grey.size != (SIDE, SIDE):
        grey = grey.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    return np.asarray(grey)


def clusters(count: int, found: Rows) -> Rows:
    """A number a row [count], the same for what hangs together through pairs [P, 2]."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    links = coo_array((np.ones(len(found), np.bool_), (found[:, 0], found[:, 1])), (count, count))
    return np.asarray(connected_components(links, directed=False)[1], dtype=np.int64)


def blank(grey: Grey) -> NDArray[np.bool_]:
    """Which pictures [N] show nothing."""
    flat = np.empty(len(grey), np.bool_)
    for start in range(0, len(grey), _AT_ONCE):
        part = grey[start : start + _AT_ONCE]
        flat[start : start + _AT_ONCE] = part.std(axis=(1, 2), dtype=np.float32) < BLANK
    return flat


def pairs(
    grey: Grey,
    among: NDArray[np.bool_] | None = None,
    anchors: NDArray[np.bool_] | None = None,
    most: int = 200,
    mirror: bool = True,
    workers: int = THREADS,
    progress: Progress | None = None,
) -> Found:
    """Near duplicates among N pictures, of which at least one is an anchor.

    `among` and `anchors` are masks [N], by default of all. A pair whose rows are joined by certain
    ones may be left out. Exact copies should be: a thousand of them make half a million pairs.
    Without `mirror` a mirrored picture is another. `most`: closer looks for each picture; where
    more are called for, only pairs that are more alike get one. `progress(what, done, total)`
    counts blocks of pictures that are compared, then closer looks.
    """
    rows = np.flatnonzero(~blank(grey) if among is None else among & ~blank(grey))
    first = np.ones(len(rows), np.bool_) if anchors is None else anchors[rows]
    rows = np.concatenate([rows[first], rows[~first]])
    hashes, waves = _described(grey, rows)
    may = min(LOOKS, most * max(1000, len(rows)))
    for alike in ALIKE:
        candidates = _all_candidates(
            *(hashes, waves, int(first.sum()), mirror, alike, may, workers, progress)
        )
        if candidates is not None:
            parent, looked = np.arange(len(rows)), [np.zeros((0, 3))]
            for start in range(0, len(candidates), _AT_ONCE):
                part = candidates[start : start + _AT_ONCE]
                looked.append(_looked_at(grey, rows, part, parent))
                if progress:
                    progress("looking closer", start + len(part), len(candidates))
            found = np.concatenate(looked)
            kept = found[found[:, 2] >= _limit(found[:, 2])]
            both = np.sort(rows[kept[:, :2].astype(np.int64)], axis=1)
            return Found(both, kept[:, 2].astype(np.float32), alike)
    return Found(np.zeros((0, 2), np.int64), np.zeros(0, np.float32), None)


def _all_candidates(
    hashes: NDArray[np.uint64],
    waves: NDArray[np.float32],
    anchors: int,
    mirror: bool,
    alike: float,
    may: int,
    workers: int,
    progress: Progress | None,
) -> NDArray[np.int32] | None:
    """Pairs [P, 3] whose first row is below `anchors`; None where they are more than `may`."""

    def block(number: int) -> NDArray[np.int32]:
        start = _BLOCK * number
        return _candidates(hashes, waves, start, min(start + _BLOCK, anchors), mirror, alike)

    blocks = -(-anchors // _BLOCK)
    found, count = [np.zeros((0, 3), np.int32)], 0
    for number, some in enumerate(each(block, blocks, workers)):
        found.append(some)
        count += len(some)
        if count > may:
            return None
        if progress:
            progress("comparing", number + 1, blocks)
    return np.concatenate(found)


def _limit(likeness: NDArray[np.float64]) -> float:
    """From where on pairs whose details are so alike [P] are copies.

    Unrelated photographs are rarely alike by DETAILS, and most copies are by STRONG: then DETAILS
    it is. Where pairs between the two are more than those above, the pool is of look-alikes, hands
    before a wall or written digits; copies are then what lies four deviations above the usual pair,
    on the scale of Fisher's z.
    """
    strong = int((likeness >= STRONG).sum())
    if int((likeness >= DETAILS).sum()) <= 2 * strong:
        return DETAILS
    z = np.arctanh(likeness[likeness >= 0.5])
    usual = np.median(z)
    deviation = 1.4826 * np.median(np.abs(z - usual))  # of a normal distribution
    return float(np.clip(np.tanh(usual + 4 * deviation), STRONG, SURE))


def _described(grey: Grey, rows: Rows) -> tuple[NDArray[np.uint64], NDArray[np.float32]]:
    """The hash of each of grey[rows], [R], and its weighed frequencies [R, 64] at length 1."""
    hashes = np.empty(len(rows), np.uint64)
    waves = np.empty((len(rows), 64), np.float32)
    for start in range(0, len(rows), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        both = (_WAVE @ grey[rows[part]].astype(np.float32) @ _WAVE.T)[:, _U, _V]
        hashes[part] = ((both > 0) * _BIT).sum(axis=1, dtype=np.uint64)
        both *= _WEIGHT
        waves[part] = both / np.maximum(np.linalg.norm(both, axis=1, keepdims=True), 1e-6)
    return hashes, waves


def _candidates(
    hashes: NDArray[np.uint64],
    waves: NDArray[np.float32],
    start: int,
    end: int,
    mirror: bool,
    alike: float,
) -> NDArray[np.int32]:
    """Pairs whose first row is in start..end-1, [P, 3]: two rows, and whether one is mirrored."""
    turned = (_MIRROR, _FLIPPED) if mirror else (_SAME, np.uint64(0))
    found: NDArray[np.int32] = _search(hashes, waves, *turned, start, end, BITS, alike)
    return found


@njit(nogil=True, cache=True)
def _ones(x: Any) -> Any:
    """How many bits are set, in the way that compilers turn into vector instructions."""
    x = x - ((x >> np.uint64(1)) & np.uint64(0x5555555555555555))
    x = (x & np.uint64(0x3333333333333333)) + ((x >> np.uint64(2)) & np.uint64(0x3333333333333333))
    x = (x + (x >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return (x * np.uint64(0x0101010101010101)) >> np.uint64(56)


@njit(nogil=True, cache=True)
def _search(
    hashes: Any,
    waves: Any,
    mirror: Any,
    flipped: Any,
    start: int,
    end: int,
    bits: int,
    alike: float,
) -> NDArray[np.int32]:
    found = np.empty((1024, 3), np.int32)
    count = 0
    n = len(hashes)
    apart = np.empty(_TILE, np.uint8)
    for tile in range(start + 1, n, _TILE):
        stop = min(tile + _TILE, n)
        for i in range(start, min(end, stop)):
            first = max(tile, i + 1)
            for j in range(first, stop):  # no branches: this is where the time goes
                differs = hashes[i] ^ hashes[j]
                apart[j - tile] = min(_ones(differs), _ones(differs ^ flipped))
            for j in range(first, stop):
                if apart[j - tile] > bits:
                    continue
                plain = np.float32(0)
                turned = np.float32(0)
                for k in range(64):
                    product = waves[i, k] * waves[j, k]
                    plain += product
                    turned += product * mirror[k]
                if max(plain, turned) < alike:
                    continue
                if count == len(found):
                    more = np.empty((2 * count, 3), np.int32)
                    more[:count] = found
                    found = more
                found[count, 0] = i
                found[count, 1] = j
                found[count, 2] = turned > plain
                count += 1
    return found[:count].copy()


@njit(nogil=True, cache=True)
def _root(parent: Any, row: int) -> int:
    while parent[row] != row:
        parent[row] = parent[parent[row]]
        row = parent[row]
    return row


@njit(nogil=True, cache=True)
def _looked_at(grey: Any, rows: Any, candidates: Any, parent: Any) -> NDArray[np.float64]:
    """Of those that are alike as a whole: both rows and the likeness of their details, [P, 3].

    `parent` [N] is a forest of what is certain to hang together, which is not looked at again: so
    a scene of which there are ten thousand pictures costs ten thousand looks, not fifty million.
    """
    found = np.empty((len(candidates), 3), np.float64)
    count = 0
    for c in range(len(candidates)):
        i, j = candidates[c, 0], candidates[c, 1]
        one, other = _root(parent, i), _root(parent, j)
        if one == other:
            continue
        whole, details = _likeness(grey[rows[i]], grey[rows[j]], candidates[c, 2] == 1)
        if whole < WHOLE:
            continue
        if details >= SURE:
            parent[other] = one
        found[count, 0] = i
        found[count, 1] = j
        found[count, 2] = details
        count += 1
    return found[:count].copy()


@njit(nogil=True, cache=True)
def _blurred(x: Any, mirrored: bool) -> Any:
    """Binomial weights 1 2 1: what is lost in a picture of half the size is not compared."""
    n = len(x)
    across = np.empty((n, n), np.float32)
    out = np.empty((n, n), np.float32)
    for i in range(n):
        for j in range(n):
            k = n - 1 - j if mirrored else j
            side = np.float32(x[i, max(k - 1, 0)]) + np.float32(x[i, min(k + 1, n - 1)])
            across[i, j] = side + np.float32(2) * np.float32(x[i, k])
    for i in range(n):
        for j in range(n):
            side = across[max(i - 1, 0), j] + across[min(i + 1, n - 1), j]
            out[i, j] = (side + np.float32(2) * across[i, j]) / np.float32(16)
    return out


@njit(nogil=True, cache=True, error_model="numpy")
def _likeness(first: Any, second: Any, mirrored: bool) -> tuple[float, float]:
    """Correlation of two pictures, and of their details, once the first lies on the second."""
    n = len(first)
    a, b = _blurred(first, False), _blurred(second, mirrored)
    a -= a.mean()  # else what keeps `normal` regular would outweigh a faint picture on white
    b -= b.mean()
    moved = np.zeros((n, n), np.float32)
    inside = np.zeros((n, n), np.bool_)
    shift_x = shift_y = scale_x = scale_y = 0.0
    centre = (n - 1) / 2
    normal = np.empty((6, 6))
    right = np.empty(6)
    slope = np.empty(6)
    whole = 0.0
    for step in range(_STEPS + 1):
        normal[:] = 0
        right[:] = 0
        for i in range(n):
            y = (i - centre) * (1 + scale_y) + shift_y + centre
            for j in range(n):
                x = (j - centre) * (1 + scale_x) + shift_x + centre
                inside[i, j] = 0 <= x <= n - 1 and 0 <= y <= n - 1
                if not inside[i, j]:
                    continue
                top, left = min(int(y), n - 2), min(int(x), n - 2)
                down, along = y - top, x - left
                p, q = a[top, left], a[top, left + 1]
                r, s = a[top + 1, left], a[top + 1, left + 1]
                value = (p + (q - p) * along) * (1 - down) + (r + (s - r) * along) * down
                moved[i, j] = value
                slope[0] = (q - p) * (1 - down) + (s - r) * down
                slope[1] = (r - p) * (1 - along) + (s - q) * along
                slope[2] = slope[0] * (j - centre)
                slope[3] = slope[1] * (i - centre)
                slope[4] = value
                slope[5] = 1
                for k in range(6):
                    right[k] += slope[k] * b[i, j]
                    for m in range(k + 1):
                        normal[k, m] += slope[k] * slope[m]
        before, whole = whole, _correlation(moved, b, inside)
        if step == _STEPS or whole < 0.5 + 0.1 * step or (step and whole - before < 1e-4):
            break
        # gain * (moved + slopes * d) + bias is to be b: linear in gain * d, gain and bias
        for k in range(6):
            for m in range(k):
                normal[m, k] = normal[k, m]
            normal[k, k] *= 1.001
            normal[k, k] += 1e-6
        solved = np.linalg.solve(normal, right)
        if not solved[4] > 0.05:  # the negative of a picture is another one
            break
        shift_x += solved[0] / solved[4]
        shift_y += solved[1] / solved[4]
        scale_x += solved[2] / solved[4]
        scale_y += solved[3] / solved[4]
        if not max(abs(shift_x), abs(shift_y)) <= _SHIFT:
            break
        if not max(abs(scale_x), abs(scale_y)) <= _SCALE:
            break
    if whole < WHOLE:
        return whole, 0.0
    return whole, _correlation(_details(moved, inside), _details(b, inside), inside)


@njit(nogil=True, cache=True)
def _correlation(a: Any, b: Any, where: Any) -> float:
    count = 0
    sum_a = sum_b = aa = bb = ab = 0.0
    n = len(a)
    for i in range(n):
        for j in range(n):
            if where[i, j]:
                x, y = float(a[i, j]), float(b[i, j])
                count += 1
                sum_a += x
                sum_b += y
                aa += x * x
                bb += y * y
                ab += x * y
    if count < n * n / 2:
        return 0.0
    power = (aa - sum_a * sum_a / count) * (bb - sum_b * sum_b / count)
    return (ab - sum_a * sum_b / count) / np.sqrt(power) if power > 1e-9 else 0.0


@njit(nogil=True, cache=True)
def _details(x: Any, where: Any) -> Any:
    """Each pixel less the mean of those around it, in a square of 2 * _RADIUS + 1."""
    n = len(x)
    total, count = np.zeros((n, n), np.float32), np.zeros((n, n), np.float32)
    for i in range(n):
        for j in range(n):
            for k in range(max(0, j - _RADIUS), min(n, j + _RADIUS + 1)):
                if where[i, k]:
                    total[i, j] += x[i, k]
                    count[i, j] += 1
    out = np.zeros((n, n), np.float32)
    for i in range(n):
        for j in range(n):
            if where[i, j]:
                sums, counts = np.float32(0), np.float32(0)
                for k in range(max(0, i - _RADIUS), min(n, i + _RADIUS + 1)):
                    sums += total[k, j]
                    counts += count[k, j]
                out[i, j] = x[i, j] - sums / counts
    return out
