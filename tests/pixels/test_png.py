"""Plain PNGs are read as Pillow reads them, and all others are left to it."""

import io
import struct
import zlib
from typing import Any

import damage
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from fewlabels.pixels.png import MOST, plain

RNG = np.random.default_rng(3)


def chunk(kind: bytes, data: bytes) -> bytes:
    body = kind + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))


def png(rows: bytes, width: int, height: int, kind: int, *more: bytes) -> bytes:
    """`rows` as they are compressed: each begins with the number of its filter."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0))
    packed = zlib.compress(rows)
    parts = chunk(b"IDAT", packed[:9]), chunk(b"IDAT", packed[9:]), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + b"".join((*more, *parts))


def encoded(image: Image.Image, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", **options)
    return file.getvalue()


def pillows(data: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("kind", [0, 2])
@pytest.mark.parametrize("width", [1, 2, 37])
def test_every_filter(kind: int, width: int) -> None:
    """Of noise, where each guess and each overflow comes about."""
    filters = np.array([*range(5), *RNG.integers(0, 5, 35)], np.uint8)
    noise = RNG.integers(0, 256, (40, width * (3 if kind else 1)), np.uint8)
    data = png(np.column_stack([filters, noise]).tobytes(), width, 40, kind)
    found = plain(data)
    assert found is not None
    np.testing.assert_array_equal(found, pillows(data))


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_what_pillow_writes(mode: str) -> None:
    smooth = Image.fromarray(RNG.integers(0, 256, (5, 6, 3), np.uint8)).resize((33, 32))
    for image in (smooth, smooth.convert("L").convert("RGB")):
        data = encoded(image.convert(mode), dpi=(72, 72))
        found = plain(data)
        assert found is not None
        np.testing.assert_array_equal(found, np.asarray(image.convert(mode).convert("RGB")))


def test_what_is_not_plain_is_left_to_pillow() -> None:
    rgb = Image.fromarray(RNG.integers(0, 256, (8, 8, 3), np.uint8))
    text = PngImagePlugin.PngInfo()
    text.add_text("Raw profile type exif", "a turned picture")
    exif = Image.Exif()
    exif[0x0112] = 6
    large = Image.new("RGB", (MOST // 100 + 1, 100))
    rows = bytes(8 * 25)
    others = {
        "palette": encoded(rgb.quantize(9)),
        "alpha": encoded(rgb.convert("RGBA")),
        "bits": encoded(rgb.convert("1")),
        "16 bits": encoded(Image.fromarray(np.zeros((8, 8), np.uint16))),
        "clear colour": encoded(rgb, transparency=(1, 2, 3)),
        "profile": encoded(rgb, icc_profile=b"any"),
        "EXIF": encoded(rgb, exif=exif),
        "text": encoded(rgb, pnginfo=text),
        "animated": encoded(rgb, save_all=True, append_images=[rgb.rotate(90)]),
        "large": encoded(large),
        "filter": png(b"\5" + rows[1:], 8, 8, 2),
        "short": png(rows[:-1], 8, 8, 2),
        "none": png(rows, 0, 8, 2),
        "critical chunk": png(rows, 8, 8, 2, chunk(b"ABCD", b"")),
    }
    assert plain(png(rows, 8, 8, 2)) is not None
    assert [name for name, data in others.items() if plain(data) is not None] == []


def test_damage_is_left_to_pillow() -> None:
    """Each byte flipped, each length cut off."""
    data = encoded(Image.fromarray(RNG.integers(0, 256, (3, 3, 3), np.uint8)))
    for at in range(8, len(data)):
        flipped = data[:at] + bytes([data[at] ^ 16]) + data[at + 1 :]
        assert plain(flipped) is None
        if at < len(data) - 4:
            assert plain(data[:at]) is None


def test_damage_under_a_sound_checksum_is_read_as_pillow_reads_it() -> None:
    data = encoded(Image.fromarray(RNG.integers(0, 256, (9, 9, 3), np.uint8)))
    read = 0
    for at in range(8, len(data)):
        for bit in range(8):
            flipped = bytearray(data)
            flipped[at] ^= 1 << bit
            sealed = bytes(damage._sealed(flipped))
            if (found := plain(sealed)) is not None:
                read += 1
                np.testing.assert_array_equal(found, pillows(sealed))
    assert read > 5
