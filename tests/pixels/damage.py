"""Broken images: files of every format, damaged in every way that a seed can think of.

    python tests/pixels/damage.py FIRST COUNT MEGABYTES

decodes those of the seeds FIRST, FIRST + 1, … with so much more address space than it has when it
starts, and is killed by an alarm where one takes longer than two seconds. It prints a line for each
before it begins with it, and one of what it found.
"""

import io
import json
import resource
import signal
import struct
import sys
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageCms, PngImagePlugin

from fewlabels.pixels.decode import Unreadable, decode, square

PATIENCE = 2.0  # seconds a file


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.copy().save(file, kind, **options)  # Pillow leaves on an image how it was saved last
    return file.getvalue()


@cache
def whole() -> tuple[bytes, ...]:
    """Sound files: every format, and within it every coding that Pillow writes."""
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8))
    rgb = small.resize((48, 40), Image.Resampling.BICUBIC)
    grey, rgba, palette = rgb.convert("L"), rgb.convert("RGBA"), rgb.convert("P")
    rgba.putalpha(grey)
    wide = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"

    def several(kind: str) -> bytes:
        return encoded(rgb, kind, save_all=True, append_images=[rgb.rotate(90), rgb.rotate(180)])

    text = PngImagePlugin.PngInfo()
    text.add_text("much", "a" * 5000, zip=True)
    return (
        encoded(rgb, "JPEG", quality=90),
        encoded(rgb, "JPEG", progressive=True, exif=exif, icc_profile=profile),
        encoded(rgb, "JPEG", subsampling=0, restart_marker_rows=1),
        encoded(grey, "JPEG"),
        encoded(rgb.convert("CMYK"), "JPEG"),
        several("MPO"),
        encoded(rgb, "PNG"),
        encoded(grey, "PNG"),
        encoded(rgb, "PNG", exif=exif, icc_profile=profile, pnginfo=text),
        encoded(rgba, "PNG"),
        encoded(palette, "PNG", transparency=3),
        encoded(wide, "PNG"),
        encoded(grey.convert("1"), "PNG"),
        several("PNG"),
        encoded(rgb, "WEBP", exif=exif, icc_profile=profile),
        encoded(rgba, "WEBP", lossless=True),
        several("WEBP"),
        encoded(palette, "GIF", transparency=3),
        encoded(palette, "GIF", interlace=1),
        several("GIF"),
        encoded(rgb, "BMP"),
        encoded(rgba, "BMP"),
        encoded(palette, "BMP"),
        encoded(grey.convert("1"), "BMP"),
        encoded(rgb, "TIFF", exif=exif, icc_profile=profile),
        encoded(rgb, "TIFF", compression="tiff_lzw"),
        encoded(rgba, "TIFF", compression="tiff_adobe_deflate"),
        encoded(rgb, "TIFF", compression="jpeg"),
        encoded(palette, "TIFF", compression="packbits"),
        encoded(grey.convert("1"), "TIFF", compression="group4"),
        encoded(wide, "TIFF", compression="tiff_lzw"),
        encoded(wide, "TIFF"),
        encoded(rgb.convert("CMYK"), "TIFF"),
        encoded(rgb, "TIFF", big_tiff=True),
        several("TIFF"),
    )


def damaged(seed: int) -> bytes:
    """One of the files, damaged once to three times."""
    rng = np.random.default_rng(seed)
    files = whole()
    data = bytearray(files[seed % len(files)])
    ways = (_flip, _cut, _splice, _lengths, _size, _zeros)
    for _ in range(rng.integers(1, 4)):
        way = ways[rng.integers(len(ways))]
        way(data, rng)
    return bytes(_sealed(data) if rng.random() < 0.7 else data)


def _flip(data: bytearray, rng: np.random.Generator) -> None:
    end = len(data) if rng.random() < 0.5 else min(len(data), 200)  # headers are short
    for at in rng.integers(0, max(1, end), rng.integers(1, 9)):
        if at < len(data):
            data[at] ^= 1 << rng.integers(8)


def _cut(data: bytearray, rng: np.random.Generator) -> None:
    del data[rng.integers(0, len(data) + 1) :]


def _splice(data: bytearray, rng: np.random.Generator) -> None:
    """A part of another file instead of a part of this, or in between."""
    other = whole()[rng.integers(len(whole()))]
    at, start = rng.integers(0, len(data) + 1), rng.integers(0, len(other))
    part = other[start : start + rng.integers(1, 400)]
    data[at : at + (len(part) if rng.random() < 0.5 else 0)] = part


def _zeros(data: bytearray, rng: np.random.Generator) -> None:
    at, count = rng.integers(0, len(data) + 1), rng.integers(1, 300)
    part = bytes(count) if rng.random() < 0.5 else b"\xff" * count
    data[at : at + count] = part[: max(0, len(data) - at)]


EXTREMES = (0, 1, 2, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0xFFFFFFFF)


def _lengths(data: bytearray, rng: np.random.Generator) -> None:
    """The length of a chunk, a segment or a tag, or any number in the header."""
    places = [*_chunks(data), *_segments(data), int(rng.integers(0, min(len(data), 120) + 1))]
    at = places[rng.integers(len(places))]
    _write(data, at, EXTREMES[rng.integers(len(EXTREMES))], rng)


def _size(data: bytearray, rng: np.random.Generator) -> None:
    """Width and height: huge, long, or nothing."""
    width, height = (
        (30_000, 30_000),
        (13_300, 13_300),
        (65_535, 2_700),
        (2_500, 2_000),
        (1, 60_000),
        (0, 9),
    )[rng.integers(6)]
    if data.startswith(b"\x89PNG"):
        data[16:24] = struct.pack(">II", width, height)
    elif data.startswith(b"GIF"):
        at = (6, bytes(data).find(b",") + 5)[rng.integers(2)]
        data[at : at + 4] = struct.pack("<HH", min(width, 65535), min(height, 65535))
    elif data.startswith(b"BM"):
        data[18:26] = struct.pack("<ii", width, height * (1, -1)[rng.integers(2)])
    elif data[8:16] == b"WEBPVP8X":
        data[24:30] = struct.pack("<I", width)[:3] + struct.pack("<I", height)[:3]
    elif data[:4] in (b"II*\0", b"MM\0*"):
        order = "<" if data[:2] == b"II" else ">"
        for tag, value in ((256, width), (257, height)):
            at = bytes(data).find(struct.pack(order + "H", tag))
            if at >= 0:
                data[at + 8 : at + 12] = struct.pack(order + "I", value)
    else:
        for marker in (b"\xff\xc0", b"\xff\xc2"):
            at = bytes(data).find(marker)
            if at >= 0:
                data[at + 5 : at + 9] = struct.pack(">HH", min(height, 65535), min(width, 65535))


def _write(data: bytearray, at: int, value: int, rng: np.random.Generator) -> None:
    width, order = ((2, ">H"), (2, "<H"), (4, ">I"), (4, "<I"))[rng.integers(4)]
    data[at : at + width] = struct.pack(order, value & (1 << 8 * width) - 1)


def _chunks(data: bytearray) -> list[int]:
    """Where the lengths of a PNG's or RIFF's chunks stand."""
    if data.startswith(b"\x89PNG"):
        return _places(data, 8, ">I", 0, 12)
    if data.startswith(b"RIFF"):
        return [4, *(at + 4 for at in _places(data, 12, "<I", 4, 8))]
    return []


def _places(data: bytearray, at: int, form: str, length_at: int, extra: int) -> list[int]:
    found = []
    while at + 8 <= len(data):
        found.append(at)
        at += struct.unpack_from(form, data, at + length_at)[0] + extra
    return found


def _segments(data: bytearray) -> list[int]:
    return [
        at + 2 for at in range(len(data) - 4) if data[at] == 0xFF and 0xC0 <= data[at + 1] < 255
    ]


def _sealed(data: bytearray) -> bytearray:
    """A PNG's checksums made right again, so that what is behind them is reached."""
    for at in _chunks(data) if data.startswith(b"\x89PNG") else []:
        end = at + 8 + struct.unpack_from(">I", data, at)[0]
        if end + 4 <= len(data):
            data[end : end + 4] = struct.pack(">I", zlib.crc32(data[at + 4 : end]))
    return data


def outcome(data: bytes) -> str:
    """ "" where the bytes are decoded, else the reason; raises what must not be raised."""
    try:
        image = decode(data)
    except Unreadable as error:
        reason = str(error)
        assert reason, "an empty reason"
        assert "\n" not in reason, reason
        try:
            square(data, 16)
        except Unreadable:
            return reason
        raise AssertionError(f"decode says {reason!r}, square nothing") from None
    assert image.mode == "RGB"
    assert square(data, 16).pixels.shape == (16, 16, 3)
    return ""


def main(first: int, count: int, megabytes: int) -> None:
    outcome(damaged(0))  # imports and compiles what it needs
    square(whole()[0], 16)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + megabytes * 10**6,) * 2)
    reasons: dict[str, int] = {}
    for seed in range(first, first + count):
        print(seed, flush=True)
        data = damaged(seed)
        signal.setitimer(signal.ITIMER_REAL, PATIENCE)
        reason = outcome(data)
        signal.setitimer(signal.ITIMER_REAL, 0)
        reasons[reason] = reasons.get(reason, 0) + 1
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1000
    print(json.dumps({"peak_mb": peak, "reasons": reasons}))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
