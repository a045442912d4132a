"""One image: encoded bytes -> RGB picture -> square of 8-bit pixels. The only way in."""

import io
import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# The plugins register themselves when imported: here once, so that Pillow does not search through
# all of its forty at the first image, in several threads.
from PIL import (  # noqa: F401
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageOps,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from fewlabels.errors import one_line

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")  # MPO, a JPEG of two pictures, is a JPEG
MOST_PIXELS = 178_000_000  # about Pillow's own limit: half a gigabyte once decoded
PAD = (124, 116, 104)  # ImageNet's mean, which normalises to about zero

# Damaged EXIF and TIFF tags, which cameras write often, make a line each. Not by catch_warnings
# around each image: that swaps the filters of the whole process, and threads decode here.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.TiffImagePlugin")


@dataclass(frozen=True, eq=False)
class Square:
    """An image as the model's input has it, before it is normalised."""

    pixels: NDArray[np.uint8]  # [size, size, 3]
    box: tuple[int, int, int, int]  # left, top, width, height of the picture; PAD is around it


class Unreadable(Exception):
    """The bytes are not an image that can be used; the message is the reason, in one line."""


def square(data: bytes, size: int) -> Square:
    """From encoded bytes: the one path, for training and prediction alike. Raises Unreadable."""
    return to_square(decode(data), size)


def decode(data: bytes) -> Image.Image:
    """The picture as a person sees it: upright (EXIF), in RGB, on white where it is transparent.

    16-bit greyscale is scaled to 8 bits; of several frames or pages the first is taken; colour
    profiles are not applied. Raises Unreadable, with the reason, whatever is wrong with the bytes.
    """
    if not data:
        raise Unreadable("empty file")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MOST_PIXELS:
                raise Unreadable(
                    f"{image.width}x{image.height} is more than {MOST_PIXELS // 10**6} megapixels"
                )
            image.load()
            return to_picture(image)
    except Unreadable:
        raise
    except UnidentifiedImageError:
        raise Unreadable("not an image, or damaged at its start") from None
    except Exception as error:
        # A damaged file makes Pillow raise nearly anything: OSError, SyntaxError, struct.error,
        # ValueError, zlib.error, … ; none of them may end a run over 40,000 images.
        raise Unreadable(one_line(error)) from error


def to_picture(image: Image.Image) -> Image.Image:
    """What `decode` makes of an image that Pillow has opened. Raises Unreadable."""
    return _to_rgb(_upright(image))


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # damaged EXIF says nothing about the orientation; the picture is whole
        return image.copy()


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        # Not convert("L"): depending on Pillow's version that clips at 255 instead of scaling.
        wide = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((wide + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise Unreadable("32-bit greyscale has no known range; save it with 8 or 16 bits")
    if "A" in image.mode or "a" in image.mode or "transparency" in image.info:
        picture = image.convert("RGBA")
        white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, picture).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def to_square(image: Image.Image, size: int) -> Square:
    """The whole image in a square: its longer side becomes `size`, the rest PAD.

    Nothing is cropped and the aspect ratio stays; shrinking is antialiased.
    """
    scale = size / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    pixels = np.empty((size, size, 3), dtype=np.uint8)
    pixels[:] = PAD
    left, top = (size - width) // 2, (size - height) // 2
    pixels[top : top + height, left : left + width] = np.asarray(image)
    return Square(pixels, (left, top, width, height))


def longer_side(data: bytes) -> int:
    """The longer side in pixels, from the header alone; 0 where it cannot be read."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return max(image.size)
    except Exception:  # whatever is wrong, `decode` will name it
        return 0
