import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fewlabels.pixels.resize import paste

Bytes = NDArray[np.uint8]


def resized(pixels: Bytes, width: int, height: int) -> Bytes:
    canvas = np.full((height + 5, width + 3, 3), 77, np.uint8)
    paste(pixels, canvas, (2, 1, width, height))
    inside = canvas[1 : 1 + height, 2 : 2 + width].copy()
    canvas[1 : 1 + height, 2 : 2 + width] = 77
    assert (canvas == 77).all()  # nothing is written beside the box
    return inside


def noise(height: int, width: int) -> Bytes:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize(
    ("source", "target"),  # width, height
    [
        ((500, 375), (224, 168)),
        ((100, 80), (64, 51)),
        ((40, 30), (39, 29)),
        ((8, 6), (32, 24)),
        ((3, 7), (50, 117)),
        ((1, 1), (9, 9)),
        ((1, 5000), (1, 16)),
        ((5000, 1), (16, 1)),
        ((2, 2), (1, 1)),
        ((17, 300), (1, 9)),
        ((64, 64), (7, 64)),
    ],
)
def test_as_pillow(source: tuple[int, int], target: tuple[int, int]) -> None:
    pixels = noise(*source[::-1])
    theirs = Image.fromarray(pixels).resize(target, Image.Resampling.BILINEAR)
    apart = abs(resized(pixels, *target).astype(int) - np.asarray(theirs, np.int64))
    # Of hundreds of pixels each weight is less than one 256th: of noise, some levels are lost.
    far = max(source) > 200 * max(target)
    assert apart.max() <= (8 if far else 2)
    assert far or apart.size < 50 or apart.mean() < 0.5


def test_the_same_size_is_untouched() -> None:
    pixels = noise(9, 7)
    np.testing.assert_array_equal(resized(pixels, 7, 9), pixels)


def test_one_colour_stays_itself() -> None:
    for level in (0, 1, 127, 128, 254, 255):
        for size in ((3, 3), (64, 48), (300, 7)):
            flat = np.full((41, 67, 3), level, np.uint8)
            assert (resized(flat, *size) == level).all()


def test_as_it_lies_in_memory_does_not_matter() -> None:
    pixels = noise(60, 40)
    expected = resized(pixels, 20, 30)
    turned = np.ascontiguousarray(pixels.swapaxes(0, 1)).swapaxes(0, 1)
    locked = pixels.copy()
    locked.flags.writeable = False
    for same in (turned, locked, pixels[::-1].copy()[::-1]):
        np.testing.assert_array_equal(resized(same, 20, 30), expected)
    assert pixels.flags.writeable
