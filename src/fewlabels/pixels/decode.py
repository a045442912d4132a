"""One image: encoded bytes -> RGB picture -> square of 8-bit pixels. The only way in.

JPEGs are decoded by libjpeg-turbo (simplejpeg), small plain PNGs by `png.py`, and what these cannot
do, as all else, by Pillow. All are asked for the same: each picture comes out upright, in sRGB and
on white, or as a reason.
"""

import io
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import simplejpeg
from numpy.typing import NDArray

# The plugins register themselves when imported: here once, so that Pillow does not search through
# all of its forty at the first image, in several threads.
from PIL import (  # noqa: F401
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from fewlabels.errors import one_line
from fewlabels.pixels import colour, jpeg, png
from fewlabels.pixels.formats import FORMATS, known, unknown
from fewlabels.pixels.resize import paste

Pixels = NDArray[np.uint8]  # [H, W, 3]

# Of a JPEG, which is decoded fast and without a copy; and of all else. Telephones make 108 million.
MOST_JPEG_PIXELS, MOST_PIXELS = 178_000_000, 80_000_000
LONGEST_SIDE = 200_000  # Pillow keeps 8 bytes for each row, however short
PAD = (124, 116, 104)  # ImageNet's mean, which normalises to about zero

# So many pixels, and so many for each byte of the file, and there is nothing in it: it was cut off,
# is blank, or was made to fill the memory.
LARGE, PIXELS_A_BYTE = 20_000_000, 1000
# Nanoseconds that a file may take, and what it takes at worst, on one core at 2.5 GHz
# (benchmarks/largest.py). A picture of LARGE pixels takes less in all formats but JPEG. To decode:
PATIENCE = 2_000_000_000
A_SAMPLE = {"JPEG": 1.5, "PNG": 11.0, "WEBP": 15.0, "GIF": 20.0, "BMP": 4.0, "TIFF": 10.0}
SLOWER = 1.5  # times as long, a PNG that is interlaced or has 16 bits
# A pixel, to become RGB, without a profile and with one; and to be put on white.
CONVERTED = {"L": (6, 31), "RGB": (6, 31), "CMYK": (21, 66), "LAB": (51, 51)}
COMPOSITED = 6
A_BYTE = {False: 4, True: 24}  # of a JPEG: baseline, progressive
A_SCAN = 0.5  # a pixel, of a progressive JPEG; a usual one has ten scans, a hostile one thousands
# A JPEG may be shrunk while it is decoded, as long as it stays so many times larger than is asked.
SPARE = 4
# What libjpeg says of lost pixels, rather than of bytes too many between its segments.
LOST = ("remature end", "bad Huffman code", "bad arithmetic code", "restart marker")

# Where an orientation stands in what Pillow has read, if anywhere.
TURNED_BY = ("exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp")

# Longer than any segment. A decoder walks through such a run byte by byte.
FILL = b"\xff" * 2**17


@dataclass(frozen=True, eq=False)
class Square:
    """An image as the model's input has it, before it is normalised."""

    pixels: NDArray[np.uint8]  # [size, size, 3]
    box: tuple[int, int, int, int]  # left, top, width, height of the picture; PAD is around it


class Unreadable(Exception):
    """The bytes are not an image that can be used; the message is the reason, in one line."""


def square(data: bytes, size: int) -> Square:
    """From encoded bytes: the one path, for training and prediction alike. Raises Unreadable."""
    pixels, profile = _pixels(data, size)
    framed = _framed(pixels, size)
    if profile:
        left, top, width, height = framed.box
        inside = framed.pixels[top : top + height, left : left + width]
        inside[:] = colour.converted(inside, "RGB", profile)
    return framed


def decode(data: bytes) -> Image.Image:
    """The picture as a person sees it: upright (EXIF), in sRGB, on white where it is transparent.

    16 bits are scaled to 8; colour profiles are applied; of several frames or pages the first is
    taken. Raises Unreadable, with the reason, whatever is wrong with the bytes.
    """
    return Image.fromarray(_pixels(data)[0])


def to_picture(image: Image.Image) -> Image.Image:
    """What `decode` makes of an image that Pillow has opened. Raises Unreadable."""
    try:
        return Image.fromarray(_upright(image))
    except ValueError as error:
        raise Unreadable(one_line(error)) from error


def to_square(image: Image.Image, size: int) -> Square:
    """The whole image in a square: its longer side becomes `size`, the rest PAD.

    Nothing is cropped and the aspect ratio stays; shrinking is antialiased.
    """
    return _framed(np.asarray(image), size)


def longer_side(data: bytes) -> int:
    """The longer side in pixels, from the header alone; 0 where it cannot be read."""
    try:
        if data.startswith(jpeg.START) and (header := jpeg.header(data)):
            return max(header.width, header.height)
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return max(image.size)
    except Exception:  # whatever is wrong, `decode` will name it
        return 0


def _framed(pixels: Pixels, size: int) -> Square:
    high, wide = pixels.shape[:2]
    height, width = (max(1, round(side * size / max(high, wide))) for side in (high, wide))
    box = (size - width) // 2, (size - height) // 2, width, height
    canvas = _blank(size).copy()
    paste(pixels, canvas, box)
    return Square(canvas, box)


@lru_cache(maxsize=4)
def _blank(size: int) -> Pixels:
    """Kept: to write three bytes again and again takes longer than to resize a small image."""
    return np.full((size, size, 3), PAD, dtype=np.uint8)


def _pixels(data: bytes, size: int = 0) -> tuple[Pixels, bytes]:
    """The upright picture, and b"". If it is to become `size` pixels long, a JPEG may come shrunk
    and in the colours of its profile, which is then returned too: fewer pixels are to be converted.
    """
    if not data:
        raise Unreadable("empty file")
    kind = known(data)
    if not kind:
        if other := unknown(data):
            raise Unreadable(f"{other}; formats read: {', '.join(FORMATS)}")
        raise Unreadable("not an image, or damaged at its start")
    if kind == "JPEG" and FILL in data:
        data = data[: data.rfind(jpeg.END) + len(jpeg.END)]  # behind its end they do no harm
        if FILL in data:
            raise Unreadable("JPEG that is damaged: a part of it is nothing but fill bytes")
    try:
        if kind == "JPEG" and (found := _by_turbo(data, size)) is not None:
            return found
        plain = png.plain(data) if kind == "PNG" else None
        return (_by_pillow(data, kind) if plain is None else plain), b""
    except Unreadable:
        raise
    except MemoryError:
        raise Unreadable(f"{kind} that needs more memory than there is") from None
    except Image.DecompressionBombError:
        raise Unreadable(f"{kind} of more than {_most(kind) // 10**6} megapixels") from None
    except UnidentifiedImageError:
        raise Unreadable(f"{kind} that is damaged at its start") from None
    except Exception as error:
        # A damaged file makes Pillow raise nearly anything: OSError, SyntaxError, struct.error,
        # ValueError, zlib.error, … ; none of them may end a run over 40,000 images.
        reason = one_line(error)
        if "truncated" in reason.lower() or _is_cut_off(data, kind):
            raise Unreadable(f"truncated {kind}") from error
        raise Unreadable(f"damaged {kind} ({reason})") from error


def _is_cut_off(data: bytes, kind: str) -> bool:
    """Whether a file says itself that it was longer."""
    if kind == "WEBP":
        return len(data) < 8 + int.from_bytes(data[4:8], "little")
    return kind == "PNG" and b"IEND" not in data[-64:]


def _most(kind: str) -> int:
    return MOST_JPEG_PIXELS if kind == "JPEG" else MOST_PIXELS


def _check_size(kind: str, width: int, height: int, length: int) -> None:
    """Before anything is decoded; `length` is the file's, in bytes."""
    named, pixels, most = f"{kind} of {width}x{height}", width * height, _most(kind)
    if pixels < 1:
        raise Unreadable(f"{named}, without pixels")
    if pixels > most:
        raise Unreadable(f"{named}, more than {most // 10**6} megapixels")
    if max(width, height) > LONGEST_SIDE:
        raise Unreadable(f"{named}, longer than {LONGEST_SIDE} pixels")
    if pixels > max(LARGE, PIXELS_A_BYTE * length):
        raise Unreadable(f"{named} in {length} bytes: truncated, blank, or made to fill the memory")


def _check_time(named: str, nanoseconds: float) -> None:
    if nanoseconds > PATIENCE:
        raise Unreadable(f"{named}, which would take more than {PATIENCE // 10**9} s")


# ---- JPEG ----


def _by_turbo(data: bytes, size: int) -> tuple[Pixels, bytes] | None:
    """As `_pixels`; None where libjpeg-turbo, or its header, is not to be trusted with it, and
    Pillow may try."""
    header = jpeg.header(data)
    # A file that was cut off would be decoded, and what is missing would be grey.
    if data.rfind(jpeg.END, header.scan if header else 0) < 0:
        raise Unreadable("truncated JPEG")
    if header is None or header.channels not in (1, 3, 4):
        return None
    width, height = header.width, header.height
    _check_size("JPEG", width, height, len(data))
    mode = {1: "L", 3: "RGB", 4: "CMYK"}[header.channels]
    profiled = colour.changes(header.profile, mode)
    scans = data.count(b"\xff\xda", header.scan) if header.progressive else 0
    # the colours of RGB are converted when it has been resized (but for `decode`, which is slower)
    converts = CONVERTED[mode][profiled and mode != "RGB"]
    a_pixel = A_SAMPLE["JPEG"] * header.channels + A_SCAN * scans + converts
    _check_time(
        f"JPEG of {width}x{height}" + (f" in {scans} scans" if scans else ""),
        width * height * a_pixel + A_BYTE[header.progressive] * len(data),
    )

    part = _part(width, height, size)
    # Coarser sums, and chroma spread by copying, save a tenth of the time. Where more than four
    # pixels become one, they cost little: 46 dB.
    shrinks = 0 < 2 * size <= max(width, height)
    if mode == "L" and not profiled:
        mode = "RGB"  # grey, three times
    try:
        pixels = simplejpeg.decode_jpeg(
            data,
            {"L": "GRAY"}.get(mode, mode),
            fastdct=shrinks,
            fastupsample=shrinks,
            min_width=width // part,
            min_height=height // part,
        )
    except ValueError as error:
        reason = one_line(error)
        if any(words in reason for words in LOST):
            raise Unreadable(f"damaged JPEG ({reason})") from error
        return None
    if mode == "RGB" and profiled and 0 < size < max(width, height):
        return _turned(pixels, header.orientation), header.profile
    if mode == "CMYK" or profiled:
        pixels = pixels[..., 0] if mode == "L" else pixels
        inverted = mode == "CMYK" and header.adobe
        pixels = colour.converted(pixels, mode, header.profile, inverted)
    return _turned(pixels, header.orientation), b""


def _part(width: int, height: int, size: int) -> int:
    """By what a JPEG is divided while it is decoded, if its longer side is to become `size`."""
    for part in (8, 4, 2):
        if max(width, height) >= part * SPARE * size and not (width % part or height % part):
            return part if size else 1
    return 1


def _turned(pixels: Pixels, orientation: int) -> Pixels:
    """Upright. EXIF's orientation says where the stored rows and columns begin."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels


# ---- all else ----


class _Encoded(io.BytesIO):
    """A file that tells when a decoder asks for more than there is.

    Pillow can be told to decode what is there (ImageFile.LOAD_TRUNCATED_IMAGES), by any library in
    the process; an image would then depend on who else was imported.
    """

    strict = False

    def read(self, size: int | None = -1, /) -> bytes:
        found = super().read(size)
        if self.strict and not found and size:
            raise OSError("image file is truncated")
        return found


def _by_pillow(data: bytes, kind: str) -> Pixels:
    file = _Encoded(data)
    with Image.open(file, formats=(kind,)) as image:
        _check_size(kind, *image.size, len(data))
        if (pixels := image.width * image.height) > LARGE:
            named = f"{kind} of {image.width}x{image.height} ({image.mode})"
            _check_time(named, pixels * _nanoseconds(image, kind, data))
        file.strict = True
        return _upright(image)


def _nanoseconds(image: Image.Image, kind: str, data: bytes) -> float:
    """A pixel, at worst, from the file to sRGB on white."""
    decoded = A_SAMPLE[kind] * len(image.getbands())
    if kind == "PNG" and (data[24] == 16 or data[28]):  # its bits, and whether it is interlaced
        decoded *= SLOWER
    mode = {"LA": "L"}.get(image.mode, image.mode if image.mode in CONVERTED else "RGB")
    profiled = colour.changes(image.info.get("icc_profile") or b"", mode)
    return decoded + CONVERTED[mode][profiled] + COMPOSITED * image.has_transparency_data


def _upright(image: Image.Image) -> Pixels:
    image.load()
    pixels = colour.to_pixels(image)
    if image.format == "TIFF" or image.info.keys().isdisjoint(TURNED_BY):  # Pillow turns a TIFF
        return pixels
    try:
        return _turned(pixels, image.getexif().get(jpeg.ORIENTATION, 1))
    except Exception:  # damaged EXIF says nothing about the orientation; the picture is whole
        return pixels
