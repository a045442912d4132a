"""Maps and weights as pictures: uint8 arrays [H, W, 3]."""

import math

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

# Brighter the hotter, so that it reads in grey and with any colour vision: position -> RGB.
SCALE = (
    (0.0, (38, 18, 72)),
    (0.3, (112, 30, 108)),
    (0.6, (208, 72, 66)),
    (0.8, (246, 144, 28)),
    (1.0, (252, 244, 158)),
)
TOP = 0.98  # quantile that has the full colour, so that a few pixels do not darken all others
DIM = 0.72  # of the picture's grey under the heat
OPAQUE = 0.9  # at most


def overlay(image: Pixels, values: NDArray[np.float32]) -> Pixels:
    """The positive part of a map [S, S] over the image [S, S, 3] in grey."""
    heat = np.maximum(values.astype(np.float64), 0)
    positive = heat[heat > 0]
    top = float(np.quantile(heat, TOP)) or float(positive.max(initial=0.0))
    heat = np.clip(heat / top, 0, 1) if top > 0 else heat
    at = [place for place, _ in SCALE]
    colour = np.stack([np.interp(heat, at, [rgb[i] for _, rgb in SCALE]) for i in range(3)], -1)
    grey = DIM * (image @ np.array([0.299, 0.587, 0.114]))[..., None]
    opacity = OPAQUE * np.sqrt(heat)[..., None]
    mixed: Pixels = np.round((1 - opacity) * grey + opacity * colour).astype(np.uint8)
    return mixed


def greys(maps: NDArray[np.float32]) -> Pixels:
    """Maps [n, H, W] -> pictures [n, H, W, 3], each from its lowest value to its highest."""
    low, high = (pick(maps, axis=(1, 2), keepdims=True) for pick in (np.min, np.max))
    scaled = (maps - low) / np.maximum(high - low, 1e-12)
    return np.repeat(np.round(255 * scaled).astype(np.uint8)[..., None], 3, axis=-1)


def grid(pictures: Pixels, across: int, side: int) -> Pixels:
    """Pictures [n, h, w, 3] in rows of `across`, a dark line between them; small ones are enlarged
    by a whole factor to about `side` pixels."""
    factor = max(1, side // max(pictures.shape[1:3]))
    large = pictures.repeat(factor, 1).repeat(factor, 2)
    down = math.ceil(len(large) / across)
    height, width = large.shape[1] + 1, large.shape[2] + 1
    sheet = np.full((down * height - 1, across * width - 1, 3), 24, np.uint8)
    for i, picture in enumerate(large):
        y, x = i // across * height, i % across * width
        sheet[y : y + height - 1, x : x + width - 1] = picture
    return sheet
