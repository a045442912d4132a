"""Small PNGs of the plainest kind: 8 bits of grey or RGB, not interlaced, nothing beside them.

Pillow spends most of its time on such a one before the first pixel. Whatever is not plain is left
to it: a chunk that might change the picture, an error anywhere.
"""

import struct
import zlib

import numpy as np
from numba import njit
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

# Chunks that say nothing about the pixels, or nothing that Pillow heeds.
HARMLESS = frozenset((b"gAMA", b"cHRM", b"sRGB", b"pHYs", b"tIME", b"bKGD", b"sBIT"))
MOST = 2**16  # pixels; of larger ones Pillow's decoder is what takes time


def plain(data: bytes) -> Bytes | None:
    """RGB [H, W, 3] of an encoded PNG; None where Pillow must be asked."""
    if len(data) < 45 or data[8:16] != b"\0\0\0\x0dIHDR":
        return None
    width, height, bits, kind, *rest = struct.unpack_from(">IIBBBBB", data, 16)
    if bits != 8 or kind not in (0, 2) or any(rest) or not 0 < width * height <= MOST:
        return None
    packed, at = [], 8
    while True:
        if at + 12 > len(data):
            return None
        length, name = struct.unpack_from(">I4s", data, at)
        end = at + 8 + length
        if data[end : end + 4] != zlib.crc32(data[at + 4 : end]).to_bytes(4, "big"):
            return None
        if name == b"IDAT":
            packed.append(data[at + 8 : end])
        elif name == b"IEND":
            break
        elif name not in HARMLESS and at > 8:
            return None
        at = end + 4
    channels = 3 if kind else 1
    row = 1 + width * channels
    unpacker = zlib.decompressobj()
    try:
        rows = unpacker.decompress(b"".join(packed), height * row)
    except zlib.error:
        return None
    if len(rows) != height * row:
        return None
    pixels = np.empty((height, width, 3), np.uint8)
    lines = np.frombuffer(rows, np.uint8).reshape(height, row)
    return pixels if _unfilter(lines, channels, pixels) else None


@njit(nogil=True, cache=True)
def _unfilter(lines: Bytes, step: int, pixels: Bytes) -> bool:
    """PNG, third edition, section 9: each byte is a difference from what is guessed by those a
    pixel before (a), above (b) and before that one (c). False where a filter is unknown."""
    height, length = lines.shape[0], lines.shape[1] - 1
    above = np.zeros(length + step, np.uint8)
    line = np.zeros(length + step, np.uint8)
    for y in range(height):
        kind = lines[y, 0]
        if kind > 4:
            return False
        for i in range(length):
            a, b, c = np.int64(line[i]), np.int64(above[i + step]), np.int64(above[i])
            guess = np.int64(0)
            if kind == 1:
                guess = a
            elif kind == 2:
                guess = b
            elif kind == 3:
                guess = (a + b) >> 1
            elif kind == 4:
                to_a, to_b, to_c = abs(b - c), abs(a - c), abs(a + b - c - c)
                guess = a if to_a <= to_b and to_a <= to_c else b if to_b <= to_c else c
            line[i + step] = (np.int64(lines[y, i + 1]) + guess) & 255
        flat = pixels[y].reshape(-1)
        if step == 3:
            flat[:] = line[step:]
        else:
            for i in range(length):
                flat[3 * i] = flat[3 * i + 1] = flat[3 * i + 2] = line[i + 1]
        above, line = line, above
    return True
