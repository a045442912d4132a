"""Modes and profiles. The colours expected are computed here from the profiles' definition."""

import io
import struct
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from fewlabels.pixels.colour import changes
from fewlabels.pixels.decode import decode, square, to_picture

# Red, green and blue in XYZ, as profiles have them: adapted to D50. Rows: X, Y, Z.
SRGB = np.array([[0.4360, 0.3851, 0.1431], [0.2225, 0.7169, 0.0606], [0.0139, 0.0971, 0.7141]])
ADOBE = np.array([[0.6097, 0.2053, 0.1492], [0.3111, 0.6257, 0.0632], [0.0195, 0.0609, 0.7446]])
P3 = np.array([[0.5151, 0.2919, 0.1572], [0.2412, 0.6922, 0.0666], [-0.0011, 0.0419, 0.7841]])


def profile(space: bytes, gamma: float, primaries: NDArray[np.float64] | None = None) -> bytes:
    """An ICC profile, version 2, of the least that one may have."""

    def xyz(values: Any) -> bytes:
        return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(v * 65536) for v in values))

    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", 2) + b"x\0" + bytes(78),
        b"cprt": b"text\0\0\0\0x\0\0\0",
        b"wtpt": xyz((0.9642, 1.0, 0.8249)),
    }
    if primaries is None:
        tags[b"kTRC"] = curve
    else:
        for letter, column in zip((b"r", b"g", b"b"), primaries.T, strict=True):
            tags[letter + b"XYZ"], tags[letter + b"TRC"] = xyz(column), curve
    at = 128 + 4 + 12 * len(tags)
    table, bodies = struct.pack(">I", len(tags)), b""
    for name, body in tags.items():
        table += name + struct.pack(">II", at + len(bodies), len(body))
        bodies += body + bytes(-len(body) % 4)
    head = struct.pack(
        ">I4sI4s4s4s", at + len(bodies), b"lcms", 0x02100000, b"mntr", space, b"XYZ "
    )
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    head += struct.pack(">3i", 63190, 65536, 54061)  # the illuminant, D50
    return head.ljust(128, b"\0") + table + bodies


def in_srgb(colour: Any, gamma: float, primaries: NDArray[np.float64]) -> NDArray[np.float64]:
    light = np.linalg.inv(SRGB) @ primaries @ ((np.asarray(colour) / 255) ** gamma)
    light = light.clip(0, 1)
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def middle(data: bytes) -> tuple[int, ...]:
    image = decode(data)
    assert image.mode == "RGB"
    return image.getpixel((image.width // 2, image.height // 2))  # type: ignore[return-value]


@pytest.mark.parametrize(("gamma", "primaries"), [(2.2, ADOBE), (2.2, P3), (1.8, SRGB)])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_profiles_are_applied(kind: str, gamma: float, primaries: NDArray[np.float64]) -> None:
    options: dict[str, Any] = {"icc_profile": profile(b"RGB ", gamma, primaries)}
    options |= {"WEBP": {"lossless": True}, "JPEG": {"quality": 100}}.get(kind, {})
    for colour in ((90, 160, 110), (200, 120, 60), (128, 128, 128)):
        data = encoded(Image.new("RGB", (16, 16), colour), kind, **options)
        np.testing.assert_allclose(middle(data), in_srgb(colour, gamma, primaries), atol=2.5)
        np.testing.assert_array_equal(square(data, 16).pixels[8, 8], middle(data))
        opened = Image.open(io.BytesIO(data))
        np.testing.assert_allclose(to_picture(opened).getpixel((8, 8)), middle(data), atol=1)
    assert abs(in_srgb((90, 160, 110), gamma, primaries) - (90, 160, 110)).max() > 10


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_grey_profiles(kind: str) -> None:
    data = encoded(Image.new("L", (16, 16), 100), kind, icc_profile=profile(b"GRAY", 1.0))
    light = 100 / 255
    np.testing.assert_allclose(middle(data), 255 * (1.055 * light ** (1 / 2.4) - 0.055), atol=2)
    assert middle(encoded(Image.new("L", (16, 16), 100), kind)) == (100, 100, 100)
    wide = Image.fromarray(np.full((4, 4), 100 * 257, np.uint16))
    if kind != "JPEG":
        again = encoded(wide, kind, icc_profile=profile(b"GRAY", 1.0))
        np.testing.assert_allclose(middle(again), middle(data), atol=1)


def test_profile_beside_transparency() -> None:
    adobe = profile(b"RGB ", 2.2, ADOBE)
    half = Image.new("RGBA", (4, 4), (90, 160, 110, 128))
    expected = 255 + (in_srgb((90, 160, 110), 2.2, ADOBE) - 255) * 128 / 255
    np.testing.assert_allclose(middle(encoded(half, "PNG", icc_profile=adobe)), expected, atol=2)
    grey = Image.new("LA", (4, 4), (100, 255))
    found = middle(encoded(grey, "PNG", icc_profile=profile(b"GRAY", 1.0)))
    np.testing.assert_allclose(found, 168, atol=2)  # of a light of 100 / 255


def test_srgb_profiles_change_nothing() -> None:
    own = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert not changes(own, "RGB")
    assert not changes(b"", "RGB")
    assert changes(profile(b"RGB ", 2.2, ADOBE), "RGB")
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    data = encoded(Image.fromarray(pixels), "PNG", icc_profile=own)
    np.testing.assert_array_equal(np.asarray(decode(data)), pixels)


@pytest.mark.parametrize("broken", [b"broken", profile(b"RGB ", 2.2, ADOBE)[:200], b"\0" * 4096])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_broken_profiles_are_ignored(broken: bytes, kind: str) -> None:
    data = encoded(Image.new("RGB", (16, 16), (90, 160, 110)), kind, icc_profile=broken)
    np.testing.assert_allclose(middle(data), (90, 160, 110), atol=2)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_profiles_for_another_mode_are_ignored(kind: str) -> None:
    adobe, linear = profile(b"RGB ", 1.8, ADOBE), profile(b"GRAY", 1.0)
    assert middle(encoded(Image.new("L", (8, 8), 90), kind, icc_profile=adobe)) == (90, 90, 90)
    colour = encoded(Image.new("RGB", (8, 8), (90, 90, 90)), kind, icc_profile=linear)
    assert middle(colour) == (90, 90, 90)


# ---- CMYK and Lab ----


def without_adobe(data: bytes) -> bytes:
    at = data.index(b"\xff\xee")
    return data[:at] + data[at + 2 + struct.unpack_from(">H", data, at + 2)[0] :]


def ycck(data: bytes) -> bytes:
    """The same numbers, said to be YCCK."""
    at = data.index(b"Adobe")
    return data[: at + 11] + b"\2" + data[at + 12 :]


def test_cmyk() -> None:
    for ink, colour in (((0, 255, 255, 0), (255, 0, 0)), ((255, 0, 0, 0), (0, 255, 255))):
        image = Image.new("CMYK", (16, 16), ink)
        for kind, options in (("JPEG", {"quality": 95}), ("TIFF", {})):
            data = encoded(image, kind, **options)
            np.testing.assert_allclose(middle(data), colour, atol=3)
            np.testing.assert_allclose(
                to_picture(Image.open(io.BytesIO(data))).getpixel((8, 8)), middle(data), atol=1
            )


def test_cmyk_that_is_not_adobes_is_not_inverted() -> None:
    paper = without_adobe(encoded(Image.new("CMYK", (16, 16), (255, 255, 255, 255)), "JPEG"))
    assert middle(paper) == (255, 255, 255)  # stored as zeros, which are then no ink
    assert to_picture(Image.open(io.BytesIO(paper))).getpixel((8, 8)) == (255, 255, 255)


def test_ycck() -> None:
    # Adobe's inverted inks of (0, 255, 255, 0): 255, 0, 0, 255; read as YCC they are an orange
    data = ycck(encoded(Image.new("CMYK", (16, 16), (0, 127, 127, 0)), "JPEG", quality=100))
    y, cb, cr = 255, 128, 128
    inks = np.array([y + 1.402 * (cr - 128), y, y + 1.772 * (cb - 128)])
    # libjpeg turns YCC into inverted RGB for CMY; Adobe's inversion turns it back
    np.testing.assert_allclose(middle(data), 255 - inks.clip(0, 255), atol=3)


@pytest.mark.parametrize(
    ("lab", "colour"),
    # of D50 white; L* 0 to 255, a* and b* around 128
    [
        ((255, 128, 128), (255, 255, 255)),
        ((136, 208, 195), (250, 3, 11)),
        ((0, 128, 128), (0, 0, 0)),
    ],
)
def test_lab(lab: tuple[int, int, int], colour: tuple[int, int, int]) -> None:
    image = Image.merge("LAB", [Image.new("L", (4, 4), value) for value in lab])
    np.testing.assert_allclose(middle(encoded(image, "TIFF")), colour, atol=10)
