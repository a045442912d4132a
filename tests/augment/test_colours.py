"""The colours of the kernel against Pillow, one by one and in sequence: bit for bit, but for
contrast, whose bound is derived where it is used.
"""

import math

import numpy as np
import pytest
from PIL import ImageOps
from rendering import (
    IMAGES,
    SIDE,
    Bytes,
    Enhance,
    Instruction,
    brightness,
    by,
    contrast,
    noise,
    posterize,
    rendered,
    saturation,
    sharpness,
    solarize,
)

from fewlabels.augment import operations as op

every_image = pytest.mark.parametrize("image", IMAGES.values(), ids=IMAGES)
FACTORS = (-0.5, 0.0, 0.05, 0.3, 0.5, 0.77, 0.95, 1.0, 1.4, 1.9, 3.7)
every_factor = pytest.mark.parametrize("factor", FACTORS)


# ---- one by one ----


@every_image
@every_factor
def test_brightness(factor: float, image: Bytes) -> None:
    assert (rendered(image, (op.BRIGHTNESS, factor)) == by(image, brightness(factor))).all()


@every_image
@every_factor
def test_saturation(factor: float, image: Bytes) -> None:
    assert (rendered(image, (op.SATURATION, factor)) == by(image, saturation(factor))).all()


@every_image
@every_factor
def test_sharpness(factor: float, image: Bytes) -> None:
    assert (rendered(image, (op.SHARPNESS, factor)) == by(image, sharpness(factor))).all()


@every_image
@every_factor
def test_contrast(factor: float, image: Bytes) -> None:
    """Pillow rounds each pixel's luma before it takes the mean: 1/2 off at most, so that the two
    means, rounded, are one level apart at most. The blend scales that by |1 - factor|, and the
    fractions that are cut off can make a whole level of it: 1 in all for factors from 0 to 2.
    """
    apart = np.abs(rendered(image, (op.CONTRAST, factor)) - by(image, contrast(factor)))
    assert apart.max() <= math.ceil(abs(1 - factor))


def test_contrast_by_hand() -> None:
    """Half black, half (100, 100, 100): the mean is 50, and a factor of 0.5 halves the way."""
    image = np.zeros((4, 4, 3), np.uint8)
    image[:2] = 100
    result = rendered(image, (op.CONTRAST, 0.5))
    assert (result[:2] == 75).all()
    assert (result[2:] == 25).all()


@pytest.mark.parametrize("seed", range(5))
@every_factor
def test_contrast_of_grey_is_exact(factor: float, seed: int) -> None:
    """Luma is whole there, so that Pillow has nothing to round before the mean."""
    image = np.repeat(noise(seed, 20, 200)[:, :, :1], 3, axis=2)
    assert (rendered(image, (op.CONTRAST, factor)) == by(image, contrast(factor))).all()


@every_image
def test_factors_by_hand(image: Bytes) -> None:
    assert (rendered(image, (op.BRIGHTNESS, 0.5)) == image // 2).all()
    assert not rendered(image, (op.BRIGHTNESS, 0)).any()
    assert (rendered(image, (op.BRIGHTNESS, 1.5)) == np.minimum(255, image * 1.5 // 1)).all()
    for what in (op.BRIGHTNESS, op.CONTRAST, op.SATURATION, op.SHARPNESS):
        assert (rendered(image, (what, 1)) == image).all()
    grey = rendered(image, (op.SATURATION, 0))
    assert (grey[:, :, :1] == grey).all()
    assert np.abs(grey[:, :, 0] - image @ (0.299, 0.587, 0.114)).max() < 0.51


@every_image
def test_invert(image: Bytes) -> None:
    assert (rendered(image, (op.INVERT,)) == by(image, ImageOps.invert)).all()
    assert (rendered(image, (op.INVERT,)) == 255 - image).all()
    assert (rendered(image, (op.INVERT,), (op.INVERT,)) == image).all()


@every_image
@pytest.mark.parametrize("bits", range(1, 9))
def test_posterize(bits: int, image: Bytes) -> None:
    expected = by(image, posterize(bits))
    assert (rendered(image, (op.POSTERIZE, bits)) == expected).all()
    if bits < 8:  # a strength between two numbers of bits means the smaller
        assert (rendered(image, (op.POSTERIZE, bits + 0.9)) == expected).all()


@every_image
@pytest.mark.parametrize("threshold", [0, 1, 77, 128, 255, 256])
def test_solarize(threshold: int, image: Bytes) -> None:
    result = rendered(image, (op.SOLARIZE, threshold))
    assert (result == by(image, solarize(threshold))).all()


def test_solarize_with_a_fraction() -> None:
    image = np.full((4, 4, 3), (99, 100, 101), np.uint8)
    assert (rendered(image, (op.SOLARIZE, 99.5)) == (99, 155, 154)).all()


@every_image
def test_equalize(image: Bytes) -> None:
    assert (rendered(image, (op.EQUALIZE,)) == by(image, ImageOps.equalize)).all()


@every_image
def test_autocontrast(image: Bytes) -> None:
    assert (rendered(image, (op.AUTOCONTRAST,)) == by(image, ImageOps.autocontrast)).all()


def test_every_range_of_autocontrast() -> None:
    """Both cut off the fraction of the same quotient: also where it is whole but for a rounding."""
    for low in range(0, 255, 5):
        for high in range(low, 256, 7):
            image = np.linspace(low, high, 3 * 16).round().astype(np.uint8).reshape(4, 4, 3)
            assert (rendered(image, (op.AUTOCONTRAST,)) == by(image, ImageOps.autocontrast)).all()


def test_statistics_of_a_single_level_change_nothing() -> None:
    """Nor does a channel that is flat change in an image that is not."""
    flat = IMAGES["flat"]
    for what in (op.AUTOCONTRAST, op.EQUALIZE):
        assert (rendered(flat, (what,)) == flat).all()
    mixed = noise(4, 50, 100)
    mixed[:, :, 1] = 77
    for what in (op.AUTOCONTRAST, op.EQUALIZE):
        result = rendered(mixed, (what,))
        assert (result[:, :, 1] == 77).all()
        assert result[:, :, 0].min() == 0
        assert result[:, :, 0].max() >= 254


def test_sharpness_leaves_the_border() -> None:
    image = noise(5)
    result = rendered(image, (op.SHARPNESS, 0))
    inner = np.zeros((SIDE, SIDE), bool)
    inner[1:-1, 1:-1] = True
    assert (result[~inner] == image[~inner]).all()
    assert (result[inner] != image[inner]).mean() > 0.9


@every_image
@pytest.mark.parametrize("part", [-1.0, -0.4, -0.1, 0.0, 0.1, 0.4, 1.0])
def test_add(part: float, image: Bytes) -> None:
    """A part of 255, rounded to whole levels, then clipped."""
    shift = math.floor(float(np.float32(part)) * 255 + 0.5)
    expected = np.clip(image.astype(np.int64) + shift, 0, 255)
    assert (rendered(image, (op.ADD, part)) == expected).all()


@every_image
def test_gain(image: Bytes) -> None:
    """Each channel by its own factor, rounded, then clipped."""
    expected = np.minimum(255, np.floor(image * np.array([0.5, 1.0, 1.75]) + 0.5))
    assert (rendered(image, (op.GAIN, 0.5, 1.0, 1.75)) == expected).all()


# ---- in sequence ----

# whose result agrees with Pillow's bit for bit on any image
EXACT: list[tuple[Instruction, Enhance]] = [
    ((op.POSTERIZE, 4), posterize(4)),
    ((op.POSTERIZE, 6), posterize(6)),
    ((op.SOLARIZE, 100), solarize(100)),
    ((op.SOLARIZE, 200), solarize(200)),
    ((op.EQUALIZE,), ImageOps.equalize),
    ((op.AUTOCONTRAST,), ImageOps.autocontrast),
    ((op.INVERT,), ImageOps.invert),
    ((op.BRIGHTNESS, 0.4), brightness(0.4)),
    ((op.BRIGHTNESS, 1.3), brightness(1.3)),
    ((op.SHARPNESS, 0), sharpness(0)),
    ((op.SHARPNESS, 1.8), sharpness(1.8)),
    ((op.SATURATION, 0.3), saturation(0.3)),
    ((op.SATURATION, 1.7), saturation(1.7)),
]


@pytest.mark.parametrize("seed", range(60))
def test_colours_run_in_order(seed: int) -> None:
    """Random programs of five, with statistics and passes over the image in between."""
    rng = np.random.default_rng(seed)
    chosen = [EXACT[k] for k in rng.integers(len(EXACT), size=5)]
    size = (int(rng.integers(1, 40)), int(rng.integers(1, 40)))
    image = noise(seed, int(rng.integers(100)), int(rng.integers(150, 257)), size)
    result = rendered(image, *(instruction for instruction, _ in chosen))
    assert (result == by(image, *(enhance for _, enhance in chosen))).all()


def test_posterize_then_equalize() -> None:
    """The histogram is that of the posterised image; the other way round is another image."""
    image = noise(6, 30, 180)
    first = rendered(image, (op.POSTERIZE, 4), (op.EQUALIZE,))
    second = rendered(image, (op.EQUALIZE,), (op.POSTERIZE, 4))
    assert (first == by(image, posterize(4), ImageOps.equalize)).all()
    assert (second == by(image, ImageOps.equalize, posterize(4))).all()
    assert (first != second).mean() > 0.5


def test_histogram_is_taken_anew_after_a_pass() -> None:
    image = noise(7, 80, 160)
    grey = rendered(image, (op.EQUALIZE,), (op.SHARPNESS, 0), (op.EQUALIZE,))
    expected = by(image, ImageOps.equalize, sharpness(0), ImageOps.equalize)
    assert (grey == expected).all()
    stale = by(image, ImageOps.equalize, sharpness(0))
    assert np.abs(grey - stale).max() > 20  # the second one had something to do


def test_contrast_takes_the_mean_of_what_came_before() -> None:
    """Levels 40 and 80 at half brightness are 20 and 40, their mean 30."""
    image = np.full((4, 4, 3), 40, np.uint8)
    image[:2] = 80
    result = rendered(image, (op.BRIGHTNESS, 0.5), (op.CONTRAST, 0.5))
    assert (result[:2] == 35).all()
    assert (result[2:] == 25).all()


def test_saturation_and_sharpness_take_their_turn() -> None:
    image = noise(8)
    line: list[Instruction] = [(op.SATURATION, 0.2), (op.POSTERIZE, 7), (op.BRIGHTNESS, 0.5)]
    line += [(op.SHARPNESS, 0.1), (op.SOLARIZE, 60), (op.EQUALIZE,)]
    steps = [saturation(0.2), posterize(7), brightness(0.5)]
    steps += [sharpness(0.1), solarize(60), ImageOps.equalize]
    assert (rendered(image, *line) == by(image, *steps)).all()
    for first, second in ((0, 2), (0, 4), (1, 3), (2, 4)):  # in another order, another image
        steps[first], steps[second] = steps[second], steps[first]
        assert np.abs(rendered(image, *line) - by(image, *steps)).max() > 30
        steps[first], steps[second] = steps[second], steps[first]
