import io
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import damage
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageFile
from test_colour import ADOBE, profile

from fewlabels.pixels import colour, png
from fewlabels.pixels import decode as decoding
from fewlabels.pixels.decode import (
    PAD,
    Unreadable,
    _part,
    decode,
    longer_side,
    square,
    to_picture,
    to_square,
)

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
P3 = profile(b"RGB ", 2.2, np.array([[0.52, 0.29, 0.16], [0.24, 0.69, 0.07], [0, 0.04, 0.78]]))


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
        (noise("JPEG")[:10], "truncated"),
        (png_that_claims(30_000, 30_000), "pixels"),
        (png_that_claims(13_400, 13_300), "megapixels"),
        (encoded(Image.new("RGB", (2, 2)), "PPM"), "Netpbm"),  # a format that is not read
    ],
)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_unreadable(data: bytes, reason: str) -> None:
    with pytest.raises(Unreadable) as error:
        decode(data)
    assert reason in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("size", [(40, 10), (10, 40), (7, 3), (3, 7), (16, 16), (1000, 1), (1, 1)])
def test_square_keeps_the_whole_image(size: tuple[int, int]) -> None:
    image = Image.new("RGB", size, (255, 255, 255))
    framed = to_square(image, 16).pixels
    assert framed.shape == (16, 16, 3)
    assert framed.dtype == np.uint8
    inside = (framed == 255).all(axis=2)
    rows, columns = inside.any(axis=1).sum(), inside.any(axis=0).sum()
    scale = 16 / max(size)
    assert (columns, rows) == tuple(max(1, round(side * scale)) for side in size)
    assert inside.sum() == rows * columns  # a rectangle, and all else is padding
    assert (framed[~inside] == PAD).all()
    before, after = np.argmax(inside.any(axis=1)), np.argmax(inside.any(axis=1)[::-1])
    assert abs(int(before) - int(after)) <= 1  # centred


def test_square_crops_nothing() -> None:
    pixels = np.zeros((20, 80, 3), dtype=np.uint8)
    pixels[:, :10], pixels[:, -10:] = (255, 0, 0), (0, 0, 255)
    framed = to_square(Image.fromarray(pixels), 16).pixels
    np.testing.assert_allclose(framed[8, 0], (255, 0, 0), atol=20)
    np.testing.assert_allclose(framed[8, 15], (0, 0, 255), atol=20)


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
    framed = to_square(Image.new("RGB", size, (1, 2, 3)), 16)
    left, top, width, height = framed.box
    assert framed.box == box
    assert (framed.pixels[top : top + height, left : left + width] == (1, 2, 3)).all()
    assert (framed.pixels == PAD).all(-1).sum() == 16 * 16 - width * height


# ---- 16 bits of every kind ----


def png16(pixels: NDArray[np.uint16]) -> bytes:
    """Pillow writes only grey ones."""
    height, width, channels = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def tiff16(pixels: NDArray[np.uint16], order: str, photometric: int, bits: int = 16) -> bytes:
    height, width, channels = pixels.shape
    body = pixels.astype(order + "u2").tobytes()
    tags = [(256, 4, width), (257, 4, height), (259, 3, 1), (262, 3, photometric)]
    tags += [(273, 4, 8), (277, 3, channels), (278, 4, height), (279, 4, len(body))]
    each = 8 + len(body)  # where the bits of each sample stand
    tags.append((258, 3, bits) if channels == 1 else (258, 3, each))
    if channels == 4 and photometric == 2:
        tags.append((338, 3, 2))  # the fourth is alpha
    table = struct.pack(order + "H", len(tags))
    for tag, kind, value in sorted(tags):
        count = channels if tag == 258 else 1
        form = "HHIHH" if kind == 3 and count == 1 else "HHII"
        rest = (value, 0) if kind == 3 and count == 1 else (value,)
        table += struct.pack(order + form, tag, kind, count, *rest)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", each + 2 * channels)
    return head + body + struct.pack(order + "H", bits) * channels + table + bytes(4)


LEVELS = np.array([[0, 300, 32768], [40_000, 65_278, 65_535]], np.uint16)[..., None]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("form", ["PNG", "TIFF <", "TIFF >"])
def test_16_bits(channels: int, form: str) -> None:
    wide = np.repeat(LEVELS, channels, 2)
    wide[..., -1] = wide[::-1, ::-1, -1] if channels > 1 else wide[..., -1]
    _, *order = form.split()
    data = tiff16(wide, *order, 1 if channels == 1 else 2) if order else png16(wide)
    found = np.asarray(decode(data)).astype(int)
    expected = np.broadcast_to(wide / 257, (2, 3, 3))
    assert abs(found - expected).max() < 1  # Pillow takes the higher byte of colours


@pytest.mark.parametrize("form", ["PNG", "TIFF <", "TIFF >"])
def test_16_bits_with_alpha(form: str) -> None:
    wide = np.full((2, 3, 4), 20_000, np.uint16)
    wide[0, :, 3], wide[1, :, 3] = 65_535, 0
    _, *order = form.split()
    data = tiff16(wide, *order, 2) if order else png16(wide)
    found = np.asarray(decode(data)).astype(int)
    assert abs(found[0] - 20_000 / 257).max() < 1
    assert (found[1] == 255).all()


def test_16_bits_grey_with_alpha() -> None:
    wide = np.full((2, 3, 2), 20_000, np.uint16)
    wide[0, :, 1], wide[1, :, 1] = 65_535, 0
    found = np.asarray(decode(png16(wide))).astype(int)
    assert abs(found[0] - 20_000 / 257).max() < 1
    assert (found[1] == 255).all()


@pytest.mark.parametrize("order", ["<", ">"])
def test_16_bits_of_ink(order: str) -> None:
    wide = np.zeros((2, 3, 4), np.uint16)
    wide[..., 1:3] = 65_535
    assert pixel(tiff16(wide, order, 5)) == (255, 0, 0)


def test_16_bits_where_zero_is_white() -> None:
    assert pixel(tiff16(np.full((2, 2, 1), 257 * 10, np.uint16), "<", 0)) == (245, 245, 245)


def test_signed_grey_is_refused() -> None:
    wide = Image.fromarray(np.full((4, 4), 7, np.int32))
    with pytest.raises(Unreadable, match="signed"):
        decode(encoded(wide, "TIFF"))


def test_a_transparent_grey_of_16_bits() -> None:
    wide = np.full((2, 2, 1), 300, np.uint16)
    data = png16(wide)
    at = data.index(b"IDAT") - 4
    data = data[:at] + chunk(b"tRNS", struct.pack(">H", 300)) + data[at:]
    assert pixel(data) == (255, 255, 255)


# ---- what must not matter ----


def scene(width: int, height: int) -> Image.Image:
    """Smooth, with edges and saturated colours: nearer to a photograph than noise is."""
    rng = np.random.default_rng(2)
    coarse = Image.fromarray(rng.integers(0, 256, (9, 12, 3), np.uint8))
    image = coarse.resize((width, height), Image.Resampling.BICUBIC)
    image.paste((230, 20, 30), (width // 5, height // 4, width // 2, height // 2))
    image.paste((10, 40, 220), (width // 3, height // 3, width // 3 + 9, height - 3))
    return image


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_jpegs_as_pillow_decodes_them(options: dict[str, Any]) -> None:
    for image in (scene(203, 151), scene(203, 151).convert("L")):
        data = encoded(image, "JPEG", quality=90, **options)
        theirs = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
        assert abs(np.asarray(decode(data)).astype(int) - theirs).max() <= 1


@pytest.mark.parametrize("size", [(500, 376), (1600, 1200), (1601, 1203), (90, 61)])
@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("profile", [b"", P3], ids=["sRGB", "P3"])
def test_bytes_pictures_and_arrays_are_alike(
    size: tuple[int, int], orientation: int, profile: bytes
) -> None:
    """Also where libjpeg shrinks the image while it decodes, and colours are converted last."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(scene(*size), "JPEG", quality=90, exif=exif, icc_profile=profile)
    found = square(data, 48)
    opened = to_picture(Image.open(io.BytesIO(data)))
    as_array = Image.fromarray(np.asarray(decode(data)))
    for other in (to_square(opened, 48), to_square(to_picture(as_array), 48)):
        assert other.box == found.box
        apart = abs(other.pixels.astype(int) - found.pixels)
        # At the edges of saturated colours. What sRGB lacks is cut off before or after a mean, and
        # this scene is full of it.
        assert apart.mean() < (1.5 if profile else 1)
        assert apart.max() <= (48 if profile else 12)


def test_what_is_decoded_smaller_stays_four_times_larger_than_asked() -> None:
    """Then the filter that follows decides how it looks, not the decoder's."""
    assert [_part(4000, 3000, size) for size in (32, 125, 126, 250, 251, 500, 501)] == [
        *(8, 8, 4, 4, 2, 2, 1)
    ]
    assert _part(4001, 3000, 32) == _part(4000, 3000, 0) == 1  # a column cut off; all pixels
    assert _part(4004, 3000, 32) == 4


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_squares(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(CORNERS).resize((32, 16), Image.Resampling.NEAREST)
    data = encoded(stored, kind, exif=exif, quality=95)
    left, top, *_ = square(data, 16).box
    assert (left, top) == ((4, 0) if orientation >= 5 else (0, 4))
    corner = square(data, 16).pixels[top + 1, left + 1]
    np.testing.assert_allclose(corner, CORNERS[UPRIGHT[orientation]], atol=20)


def test_first_picture_of_an_animated_png() -> None:
    first, second = Image.new("RGB", (4, 4), "red"), Image.new("RGB", (4, 4), "blue")
    data = encoded(first, "PNG", save_all=True, append_images=[second])
    assert b"acTL" in data
    assert pixel(data) == (255, 0, 0)


def test_the_content_decides_not_the_name(tmp_path: Path) -> None:
    for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"):
        (tmp_path / "x.jpg").write_bytes(encoded(Image.new("RGB", (8, 8), (250,) * 3), kind))
        assert decode((tmp_path / "x.jpg").read_bytes()).size == (8, 8)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP"])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.9])
def test_truncated_whatever_others_told_pillow(
    kind: str, part: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = noise(kind)
    cut = data[: int(len(data) * part)]
    for told in (False, True):
        monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", told)
        with pytest.raises(Unreadable, match=r"truncated|damaged"):
            decode(cut)
        assert decode(data).size == (40, 40)


def test_a_truncated_jpeg_with_an_end_is_not_half_grey() -> None:
    for options in ({}, {"progressive": True}):
        data = encoded(scene(160, 120), "JPEG", quality=90, **options)
        with pytest.raises(Unreadable, match="damaged JPEG"):
            decode(data[: len(data) // 2] + b"\xff\xd9")


def test_what_lies_behind_a_jpeg_does_not_matter() -> None:
    """Telephones put a film there; some cameras zeros."""
    data = noise("JPEG")
    expected = np.asarray(decode(data))
    for tail in (b"\0" * 3000, b"\0\0\0\x18ftypmp42" + np.random.default_rng(0).bytes(9999)):
        np.testing.assert_array_equal(np.asarray(decode(data + tail)), expected)


def test_bytes_too_many_in_a_jpeg_do_not_matter() -> None:
    data = noise("JPEG")
    at = data.index(b"\xff\xdb")  # libjpeg warns of them and goes on
    assert decode(data[:at] + b"\0\0\0" + data[at:]).size == (40, 40)
    end = len(data) - 2
    assert decode(data[:end] + b"\0" * 40 + data[end:]).size == (40, 40)


# ---- bombs ----


def jpeg_that_claims(width: int, height: int, scans: int = 1) -> bytes:
    data = encoded(Image.new("RGB", (16, 16)), "JPEG", progressive=scans > 1)
    at = data.index(b"\xff\xc2" if scans > 1 else b"\xff\xc0")
    data = data[: at + 5] + struct.pack(">HH", height, width) + data[at + 9 :]
    scan = data.rindex(b"\xff\xda")
    return data[:scan] + data[scan:-2] * scans + b"\xff\xd9"


def test_a_jpeg_that_claims_what_it_cannot_hold() -> None:
    with pytest.raises(Unreadable, match=r"JPEG of 12000x9000 in .* bytes: truncated"):
        decode(jpeg_that_claims(12_000, 9_000))
    with pytest.raises(Unreadable, match="more than 178 megapixels"):
        decode(jpeg_that_claims(60_000, 60_000))
    with pytest.raises(Unreadable, match="without pixels"):
        decode(jpeg_that_claims(0, 100))


def test_a_jpeg_of_too_many_scans() -> None:
    many = jpeg_that_claims(2000, 1500, scans=2000)
    with pytest.raises(Unreadable, match=r"in 20.. scans, which would take more than 2 s"):
        decode(many)


def png_of(channels: int, bits: int = 8, interlaced: bool = False) -> bytes:
    """40 x 40 noughts."""
    kind = {2: 4, 3: 2, 4: 6}[channels]
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 40, 40, bits, kind, 0, 0, interlaced))
    rows = chunk(b"IDAT", zlib.compress(bytes(20_000)))  # more than enough
    return b"\x89PNG\r\n\x1a\n" + header + rows + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "nanoseconds"),
    [
        (png_of(3), 33 + 6),
        (png_of(4), 44 + 6 + 6),
        (png_of(2), 22 + 6 + 6),
        (png_of(3, 16), 1.5 * 33 + 6),
        (png_of(3, interlaced=True), 1.5 * 33 + 6),
        (encoded(Image.new("RGB", (40, 40)), icc_profile=profile(b"RGB ", 1.0, ADOBE)), 33 + 31),
        (encoded(Image.new("RGB", (40, 40)), icc_profile=SRGB), 33 + 6),
        (encoded(Image.new("CMYK", (40, 40)), "TIFF"), 40 + 21),
        (encoded(Image.new("LAB", (40, 40)), "TIFF"), 30 + 51),
        (encoded(Image.new("1", (40, 40)), "TIFF"), 10 + 6),
        (encoded(Image.new("P", (40, 40)), "GIF", transparency=3), 20 + 6 + 6),
        (encoded(Image.new("RGB", (40, 40)), "WEBP"), 45 + 6),
    ],
)
def test_what_would_take_too_long_is_refused(
    data: bytes, nanoseconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its size and by what is in it; small images are not even asked."""
    monkeypatch.setattr(decoding, "PATIENCE", nanoseconds * 40 * 40 - 1)
    monkeypatch.setattr(png, "MOST", 0)
    assert decode(data).size == (40, 40)
    monkeypatch.setattr(decoding, "LARGE", 40 * 40 - 1)
    for way in (decode, lambda data: square(data, 8)):
        with pytest.raises(Unreadable, match=r"of 40x40 .*, which would take more than"):
            way(data)
    monkeypatch.setattr(decoding, "PATIENCE", nanoseconds * 40 * 40)
    assert decode(data).size == (40, 40)


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_that_would_take_too_long(
    progressive: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = scene(40, 40)
    plain = encoded(image, "JPEG", progressive=progressive)
    converted = encoded(image, "JPEG", progressive=progressive, icc_profile=P3)
    scans = plain.count(b"\xff\xda") if progressive else 0
    took = 1600 * (3 * 1.5 + 6 + 0.5 * scans) + (24 if progressive else 4) * len(plain)
    monkeypatch.setattr(decoding, "PATIENCE", took)
    assert decode(plain).size == (40, 40)
    with pytest.raises(Unreadable, match="more than"):
        decode(converted)
    monkeypatch.setattr(decoding, "PATIENCE", took - 1)
    with pytest.raises(Unreadable, match="JPEG of 40x40"):
        decode(plain)


def test_strips_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither of Pillow's images, in all modes and on white, nor of JPEGs with a profile."""
    others = [encoded(scene(48, 40), kind, icc_profile=P3) for kind in ("JPEG", "PNG")]
    grey = profile(b"GRAY", 1.0)
    others += [encoded(scene(48, 40).convert("L"), "JPEG", icc_profile=grey)]
    others += [encoded(scene(48, 40), "PNG", transparency=(230, 20, 30))]
    files = [*damage.whole(), *others]
    expected = [np.asarray(decode(data)) for data in files]
    monkeypatch.setattr(colour, "STRIP", 7 * 48)
    monkeypatch.setattr(png, "MOST", 0)
    for data, pixels in zip(files, expected, strict=True):
        np.testing.assert_array_equal(np.asarray(decode(data)), pixels)


def test_a_long_thin_image_is_refused() -> None:
    with pytest.raises(Unreadable, match="longer than 200000"):
        decode(png_that_claims(1, 60_000_000))


def test_a_gif_of_a_huge_screen() -> None:
    data = bytearray(encoded(Image.new("P", (4, 4)), "GIF"))
    data[6:10] = struct.pack("<HH", 65_535, 65_535)
    with pytest.raises(Unreadable, match="megapixels"):
        decode(bytes(data))


def test_threads_decode_at_once() -> None:
    """The same pixels as one after another, whatever comes between them."""
    files = [noise(kind) for kind in ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP")] * 20
    expected = [square(data, 16).pixels for data in files[:6]] * 20
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda data: square(data, 16).pixels, files))
    np.testing.assert_array_equal(found, expected)


def test_the_longer_side_without_decoding() -> None:
    for kind in ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"):
        assert longer_side(encoded(Image.new("RGB", (30, 70)), kind)) == 70
    assert longer_side(b"") == longer_side(b"no image") == longer_side(b"\xff\xd8\xff") == 0


def test_a_run_of_fill_bytes_is_refused_at_once() -> None:
    """As an erased part of a memory card; libjpeg and Pillow walk through it byte by byte."""
    with pytest.raises(Unreadable, match="nothing but fill bytes"):
        decode(b"\xff\xd8" + b"\xff" * 20_000_000 + b"\xff\xd9")
    segment = b"\xff\xe1\0\x06ab\xff\xd9"  # it is not the end that stands in there
    for start in (b"\xff\xd8", b"\xff\xd8" + segment):
        with pytest.raises(Unreadable, match="JPEG"):
            decode(start + b"\xff" * 20_000_000)


def test_fill_bytes_behind_the_end_do_no_harm() -> None:
    whole = encoded(Image.new("RGB", (20, 20), (200, 10, 10)), "JPEG")
    for fill in (b"\xff", b"\0"):
        assert pixel(whole + fill * 20_000_000) == pixel(whole)
