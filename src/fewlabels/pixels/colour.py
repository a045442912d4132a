"""Any of Pillow's modes to 8-bit sRGB: scaled, converted, on white where it is transparent."""

import io
from collections.abc import Callable
from functools import lru_cache, partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

Bytes = NDArray[np.uint8]

STRIP = 2**18  # pixels that are converted together
LONGEST_PROFILE = 4_000_000  # bytes; those of printing presses have up to 3 million
NEAR = 2  # levels of 255 that a profile may be from sRGB, and still be taken for it


def to_pixels(image: Image.Image) -> Bytes:
    """A loaded image of any mode, in RGB [H, W, 3].

    Its ICC profile is applied, unless it is damaged. Raises ValueError where values have no range.
    """
    convert = _conversion(image)
    width, height = image.size
    if width * height <= STRIP:
        return np.asarray(convert(image))
    return _by_strips(
        width, height, lambda top, bottom: convert(image.crop((0, top, width, bottom)))
    )


def converted(pixels: Bytes, mode: str, profile: bytes, inverted: bool = False) -> Bytes:
    """Opaque pixels of a mode that `to_srgb` takes, [H, W] or [H, W, C], in RGB [H, W, 3]."""

    def strip(top: int, bottom: int) -> Image.Image:
        part = pixels[top:bottom]
        return to_srgb(Image.fromarray(255 - part if inverted else part, mode), profile)

    return _by_strips(pixels.shape[1], pixels.shape[0], strip)


def to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """An opaque image, in RGB; `profile` says what its values mean, b"" = sRGB."""
    if image.mode not in ("L", "RGB", "CMYK"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    transform = _transform(profile, image.mode) if profile else None
    if transform is not None:
        return transform.apply(image)
    return image if image.mode == "RGB" else image.convert("RGB")


def changes(profile: bytes, mode: str) -> bool:
    """Whether the profile makes other colours of an image than sRGB does."""
    return bool(profile) and _transform(profile, mode) is not None


def _by_strips(width: int, height: int, strip: Callable[[int, int], Image.Image]) -> Bytes:
    """`strip(top, bottom)` is these rows in RGB. What is made on the way is then small: it stays
    in the processor's cache, and a large picture is not held several times."""
    rows = max(1, STRIP // width)
    pixels = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        pixels[top:bottom] = np.asarray(strip(top, bottom))
    return pixels


def _conversion(image: Image.Image) -> Callable[[Image.Image], Image.Image]:
    """What makes RGB of the image, or of a part of it."""
    profile = image.info.get("icc_profile") or b""
    if image.mode.startswith("I;16"):
        tags = getattr(image, "tag_v2", {})  # of a TIFF: bits a sample, what zero means
        levels = _levels(12 if tags.get(258) == (12,) else 16, tags.get(262) == 0)
        return partial(_narrowed, levels=levels, profile=profile)
    if image.mode in ("I", "F"):
        raise ValueError(
            "32-bit or signed greyscale has no known range; save it with 8 or 16 unsigned bits"
        )
    if image.mode == "CMYK" and image.format in ("JPEG", "MPO") and "adobe" not in image.info:
        # Pillow takes every such JPEG for one of Adobe's, which are inverted, and inverts it back.
        return lambda part: to_srgb(_inverted(part), profile)
    if image.mode == "LAB":
        return _from_lab().apply
    if image.has_transparency_data:
        return partial(_composited, profile=profile)
    return partial(to_srgb, profile=profile)


@lru_cache(maxsize=4)
def _levels(bits: int, white_is_zero: bool) -> Bytes:
    """Which of 256 each level [65536] of greyscale of so many bits becomes. Not by convert("L"):
    some of Pillow's versions clip there at 255."""
    wide = np.minimum(np.arange(2**16) << 16 - bits, 2**16 - 1)
    narrow: Bytes = ((wide + 128) // 257).astype(np.uint8)
    return np.invert(narrow) if white_is_zero else narrow


def _narrowed(image: Image.Image, levels: Bytes, profile: bytes) -> Image.Image:
    wide = np.asarray(image)
    picture = to_srgb(Image.fromarray(levels[wide]), profile)
    clear = image.info.get("transparency")  # one grey of a PNG
    if isinstance(clear, int):
        return _on_white(picture, Image.fromarray(np.where(wide == clear, 0, 255).astype(np.uint8)))
    return picture


def _composited(image: Image.Image, profile: bytes) -> Image.Image:
    grey = image.mode in ("L", "LA", "La")
    seen = image if image.mode in ("LA", "RGBA") else image.convert("LA" if grey else "RGBA")
    return _on_white(to_srgb(seen.convert("L" if grey else "RGB"), profile), seen.getchannel("A"))


def _on_white(picture: Image.Image, alpha: Image.Image) -> Image.Image:
    white = Image.new("RGB", picture.size, (255, 255, 255))
    white.paste(picture, mask=alpha)
    return white


def _inverted(image: Image.Image) -> Image.Image:
    return Image.fromarray(255 - np.asarray(image), "CMYK")


@lru_cache(maxsize=16)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """From the profile to sRGB; None where it is damaged, for another mode, or sRGB's own."""
    if len(profile) > LONGEST_PROFILE:
        return None
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        found = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
        if mode == "CMYK":
            return found
        # Not by its name: there are dozens of profiles that are sRGB's.
        swatches = _swatches(mode)
        plain, converted = (
            np.asarray(image).astype(int)
            for image in (swatches.convert("RGB"), found.apply(swatches))
        )
    except Exception:  # PyCMSError, OSError, ValueError, …: a damaged profile is ignored
        return None
    return None if abs(converted - plain).max() <= NEAR else found


@lru_cache(maxsize=1)
def _from_lab() -> ImageCms.ImageCmsTransform:
    return ImageCms.buildTransform(
        ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB"
    )


def _swatches(mode: str) -> Image.Image:
    """All greys, or 9 x 9 x 9 colours."""
    if mode == "L":
        return Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    steps = np.linspace(0, 255, 9).round().astype(np.uint8)
    return Image.fromarray(np.stack(np.meshgrid(steps, steps, steps), -1).reshape(1, -1, 3))
