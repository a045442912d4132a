"""Any of Pillow's modes to 8-bit sRGB: scaled, converted, on white where it is transparent."""

import io
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

LONGEST_PROFILE = 4_000_000  # bytes; those of printing presses have up to 3 million
NEAR = 2  # levels of 255 that a profile may be from sRGB, and still be taken for it


def to_rgb(image: Image.Image) -> Image.Image:
    """A loaded image of any mode, in RGB; the image itself where it needs nothing.

    Its ICC profile is applied, unless it is damaged. Raises ValueError where values have no range.
    """
    profile = image.info.get("icc_profile") or b""
    if image.mode.startswith("I;16"):
        return _wide(image, profile)
    if image.mode in ("I", "F"):
        raise ValueError(
            "32-bit or signed greyscale has no known range; save it with 8 or 16 unsigned bits"
        )
    if image.mode == "CMYK" and image.format in ("JPEG", "MPO") and "adobe" not in image.info:
        # Pillow takes every such JPEG for one of Adobe's, which are inverted, and inverts it back.
        image = _inverted(image)
    if image.mode == "LAB":
        return _from_lab().apply(image)
    if not image.has_transparency_data:
        return to_srgb(image, profile)
    grey = image.mode in ("L", "LA", "La")
    seen = image.convert("LA" if image.mode == "La" else "RGBA")
    return _on_white(to_srgb(seen.convert("L" if grey else "RGB"), profile), seen.getchannel("A"))


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


def _wide(image: Image.Image, profile: bytes) -> Image.Image:
    """16-bit greyscale. Not convert("L"): some of Pillow's versions clip there at 255."""
    wide = np.asarray(image).astype(np.uint32)
    tags = getattr(image, "tag_v2", {})  # of a TIFF
    if tags.get(258) == (12,):  # bits per sample
        wide *= 16
    narrow = ((wide + 128) // 257).astype(np.uint8)
    if tags.get(262) == 0:  # 0 is white
        narrow = 255 - narrow
    picture = to_srgb(Image.fromarray(narrow), profile)
    clear = image.info.get("transparency")  # one grey of a PNG
    if isinstance(clear, int):
        return _on_white(picture, Image.fromarray(np.where(wide == clear, 0, 255).astype(np.uint8)))
    return picture


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
