import contextlib
import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fewlabels.pixels.decode import PAD, Unreadable, decode, to_square


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def pixel(data: bytes, x: int = 0, y: int = 0) -> tuple[int, ...]:
    image = decode(data)
    assert image.mode == "RGB"
    return image.getpixel((x, y))  # type: ignore[return-value]


# What stands at the top left of the upright picture, if the stored one has these four corners.
CORNERS = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 255]]], dtype=np.uint8)
UPRIGHT = {1: (0, 0), 2: (0, 1), 3: (1, 1), 4: (1, 0), 5: (0, 0), 6: (1, 0), 7: (1, 1), 8: (0, 1)}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_exif_orientation_is_applied(orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(CORNERS).resize((32, 16), Image.Resampling.NEAREST)
    image = decode(encoded(stored, kind, exif=exif))
    assert image.size == ((16, 32) if orientation >= 5 else (32, 16))
    assert image.getpixel((0, 0)) == tuple(CORNERS[UPRIGHT[orientation]])


def test_exif_orientation_in_jpeg() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = Image.fromarray(CORNERS).resize((32, 16), Image.Resampling.NEAREST)
    image = decode(encoded(stored, "JPEG", exif=exif, quality=95))
    assert image.size == (16, 32)
    np.testing.assert_allclose(image.getpixel((3, 3)), (0, 0, 255), atol=12)


def test_damaged_exif_does_not_cost_the_image() -> None:
    data = encoded(Image.new("RGB", (8, 8), (9, 9, 9)), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff")
    assert decode(data).size == (8, 8)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_not_clipped(kind: str) -> None:
    wide = np.array([[0, 257, 300], [32768, 65278, 65535]], dtype=np.uint16)
    image = np.asarray(decode(encoded(Image.fromarray(wide), kind)))
    np.testing.assert_array_equal(image[..., 0], [[0, 1, 1], [128, 254, 255]])
    np.testing.assert_array_equal(image[..., 0], image[..., 2])


def test_transparency_is_on_white() -> None:
    half = Image.new("RGBA", (2, 2), (255, 0, 0, 128))
    assert pixel(encoded(half)) == (255, 127, 127)
    assert pixel(encoded(Image.new("RGBA", (2, 2), (0, 0, 0, 0)))) == (255, 255, 255)
    assert pixel(encoded(Image.new("LA", (2, 2), (0, 0)))) == (255, 255, 255)
    palette = Image.new("P", (2, 2), 1)
    palette.putpalette([10, 20, 30, 40, 50, 60])
    assert pixel(encoded(palette)) == (40, 50, 60)
    assert pixel(encoded(palette, transparency=1)) == (255, 255, 255)
    assert pixel(encoded(palette, transparency=b"\xff\x00")) == (255, 255, 255)
    rgb = Image.new("RGB", (2, 2), (1, 2, 3))
    assert pixel(encoded(rgb, transparency=(1, 2, 3))) == (255, 255, 255)


def test_other_modes() -> None:
    assert pixel(encoded(Image.new("L", (2, 2), 77))) == (77, 77, 77)
    assert pixel(encoded(Image.new("1", (2, 2), 1))) == (255, 255, 255)
    cmyk = encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=95)
    np.testing.assert_allclose(pixel(cmyk), (255, 0, 0), atol=4)
    with pytest.raises(Unreadable, match="32-bit"):
        decode(encoded(Image.new("F", (2, 2), 0.5), "TIFF"))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_formats(kind: str) -> None:
    data = encoded(Image.new("RGB", (8, 6), (250, 250, 250)), kind)
    assert decode(data).size == (8, 6)
    np.testing.assert_allclose(pixel(data), 250, atol=2)


def test_first_frame() -> None:
    first, second = Image.new("RGB", (4, 4), "red"), Image.new("RGB", (4, 4), "blue")
    for kind in ("GIF", "TIFF", "WEBP", "MPO"):
        data = encoded(first, kind, save_all=True, append_images=[second])
        np.testing.assert_allclose(pixel(data), (255, 0, 0), atol=12)


def chunk(kind: bytes, data: bytes) -> bytes:
    body = kind + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))


def png_that_claims(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b""))


def noise(kind: str) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    return encoded(Image.fromarray(pixels), kind)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"no image at all", "not an image"),
        (noise("JPEG")[:-500], "truncated"),
        (noise("PNG")[:-500], "truncated"),
        (noise("JPEG")[:10], "Truncated"),
        (png_that_claims(30_000, 30_000), "pixels"),
        (png_that_claims(13_400, 13_300), "megapixels"),
        (encoded(Image.new("RGB", (2, 2)), "PPM"), "not an image"),  # a format that is not read
    ],
)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_unreadable(data: bytes, reason: str) -> None:
    with pytest.raises(Unreadable) as error:
        decode(data)
    assert reason in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL.TiffImagePlugin")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_any_damage_is_unreadable_or_an_image(kind: str) -> None:
    """Whatever bytes come, decode returns an image or raises Unreadable; never anything else."""
    whole = np.frombuffer(noise(kind), dtype=np.uint8)
    rng = np.random.default_rng(1)
    for _ in range(40):
        damaged = whole.copy()
        damaged[rng.integers(0, len(whole), 8)] = rng.integers(0, 256, 8)
        damaged[rng.integers(0, min(60, len(whole)), 2)] = rng.integers(0, 256, 2)
        with contextlib.suppress(Unreadable):
            assert decode(damaged.tobytes()[: rng.integers(1, len(whole) + 1)]).mode == "RGB"


@pytest.mark.parametrize("size", [(40, 10), (10, 40), (7, 3), (3, 7), (16, 16), (1000, 1), (1, 1)])
def test_square_keeps_the_whole_image(size: tuple[int, int]) -> None:
    image = Image.new("RGB", size, (255, 255, 255))
    square = to_square(image, 16).pixels
    assert square.shape == (16, 16, 3)
    assert square.dtype == np.uint8
    inside = (square == 255).all(axis=2)
    rows, columns = inside.any(axis=1).sum(), inside.any(axis=0).sum()
    scale = 16 / max(size)
    assert (columns, rows) == tuple(max(1, round(side * scale)) for side in size)
    assert inside.sum() == rows * columns  # a rectangle, and all else is padding
    assert (square[~inside] == PAD).all()
    before, after = np.argmax(inside.any(axis=1)), np.argmax(inside.any(axis=1)[::-1])
    assert abs(int(before) - int(after)) <= 1  # centred


def test_square_crops_nothing() -> None:
    pixels = np.zeros((20, 80, 3), dtype=np.uint8)
    pixels[:, :10], pixels[:, -10:] = (255, 0, 0), (0, 0, 255)
    square = to_square(Image.fromarray(pixels), 16).pixels
    np.testing.assert_allclose(square[8, 0], (255, 0, 0), atol=20)
    np.testing.assert_allclose(square[8, 15], (0, 0, 255), atol=20)


def test_shrinking_is_antialiased() -> None:
    stripes = np.zeros((64, 64, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    inner = to_square(Image.fromarray(stripes), 8).pixels[2:-2, 2:-2].astype(int)
    assert abs(inner - 127).max() <= 3  # one pixel in eight would be 0 or 255


def test_right_size_is_untouched() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    np.testing.assert_array_equal(to_square(Image.fromarray(pixels), 9).pixels, pixels)


@pytest.mark.parametrize(
    ("size", "box"),
    [((40, 20), (0, 4, 16, 8)), ((10, 30), (5, 0, 5, 16)), ((7, 7), (0, 0, 16, 16))],
)
def test_where_the_picture_lies_in_the_square_is_known(
    size: tuple[int, int], box: tuple[int, int, int, int]
) -> None:
    square = to_square(Image.new("RGB", size, (1, 2, 3)), 16)
    left, top, width, height = square.box
    assert square.box == box
    assert (square.pixels[top : top + height, left : left + width] == (1, 2, 3)).all()
    assert (square.pixels == PAD).all(-1).sum() == 16 * 16 - width * height
