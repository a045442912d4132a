import io
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fewlabels.pixels.jpeg import header


def encoded(mode: str = "RGB", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.new(mode, (21, 10)).save(file, "JPEG", **options)
    return file.getvalue()


def with_segment(data: bytes, marker: int, content: bytes) -> bytes:
    return data[:2] + struct.pack(">BBH", 255, marker, len(content) + 2) + content + data[2:]


def exif(order: str, kind: int, value: int) -> bytes:
    form = {3: "HH", 4: "I"}[kind]
    body = struct.pack(order + form, *(value, 0)[: len(form)])
    name = b"II*\0" if order == "<" else b"MM\0*"
    entries = struct.pack(order + "HHHI4s", 2, 0x010F, 2, 4, b"abc\0")
    entries += struct.pack(order + "HHI", 0x0112, kind, 1) + body
    return b"Exif\0\0" + name + struct.pack(order + "I", 8) + entries


def test_plain() -> None:
    found = header(encoded())
    assert found is not None
    assert (found.width, found.height, found.channels) == (21, 10, 3)
    assert (found.progressive, found.adobe, found.orientation) == (False, False, 1)
    assert found.profile == b""
    assert encoded()[found.scan : found.scan + 2] == b"\xff\xda"


def test_kinds() -> None:
    grey, cmyk, steps = (
        header(encoded("L")),
        header(encoded("CMYK")),
        header(encoded(progressive=True)),
    )
    assert grey is not None
    assert cmyk is not None
    assert steps is not None
    assert (grey.channels, cmyk.channels, steps.channels) == (1, 4, 3)
    assert cmyk.adobe
    assert steps.progressive


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [3, 4])
@pytest.mark.parametrize("value", [1, 6, 8])
def test_orientation(order: str, kind: int, value: int) -> None:
    found = header(with_segment(encoded(), 0xE1, exif(order, kind, value)))
    assert found is not None
    assert found.orientation == value


def test_orientation_as_pillow_reads_it() -> None:
    tags = Image.Exif()
    tags[0x0112] = 5
    found = header(encoded(exif=tags))
    assert found is not None
    assert found.orientation == 5


@pytest.mark.parametrize("text", [b'tiff:Orientation="3"', b"<tiff:Orientation>3</tiff:"])
def test_orientation_in_xmp(text: bytes) -> None:
    xmp = b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta " + text
    found = header(with_segment(encoded(), 0xE1, xmp))
    assert found is not None
    assert found.orientation == 3
    both = header(with_segment(with_segment(encoded(), 0xE1, xmp), 0xE1, exif("<", 3, 6)))
    assert both is not None
    assert both.orientation == 6  # EXIF comes first


@pytest.mark.parametrize(
    "segment",
    [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", exif("<", 3, 0), exif("<", 3, 9), b"Exif"],
)
def test_damaged_exif_says_nothing(segment: bytes) -> None:
    found = header(with_segment(encoded(), 0xE1, segment))
    assert found is not None
    assert found.orientation == 1


def test_a_profile_in_several_segments() -> None:
    profile = np.random.default_rng(0).bytes(150_000)
    found = header(encoded(icc_profile=profile))
    assert found is not None
    assert found.profile == profile


def test_what_is_out_of_order_has_no_header() -> None:
    data = encoded()
    scan = data.index(b"\xff\xda")
    for end in range(2, scan):
        assert header(data[:end]) is None
    assert header(data[:2] + b"rubbish" + data[2:]) is None
    assert header(data[: data.index(b"\xff\xc0")] + data[scan:]) is None
    filled = header(data[:2] + b"\xff\xff" + data[2:])  # fill bytes may stand before a marker
    assert filled is not None
    assert filled.width == 21
