"""What all corruptions share: colours from 0 to 1, and layers that are drawn once for all sizes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Bytes = NDArray[np.uint8]
Reals = NDArray[np.floating[Any]]


def unit(image: Bytes) -> Reals:
    """Levels 0..255 as colours 0..1."""
    return image.astype(np.float32) / np.float32(255)


def levels(x: Reals) -> Bytes:
    """Colours as levels, rounded; what lies outside 0..1 is cut off."""
    return np.rint(np.clip(x, 0, 1) * 255).astype(np.uint8)


def drawn_shape(x: Reals, scale: float) -> tuple[int, int]:
    """Height and width at which a layer over the image is drawn: the shorter side is 224 or 32."""
    return round(x.shape[0] / scale), round(x.shape[1] / scale)


def fitted(layer: Reals, height: int, width: int) -> Reals:
    """A layer [h, w] at the size of the image: enlarged linearly, or averaged."""
    if layer.shape == (height, width):
        return layer
    picture = Image.fromarray(np.ascontiguousarray(layer, np.float32))
    return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))
