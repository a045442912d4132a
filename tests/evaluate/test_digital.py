"""Colours, compression and the elastic transform against their definitions."""

import colorsys
import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scenes import NO_DRAWS, TABLES, scene, severities, sides
from scipy import ndimage

from fewlabels.evaluate.corruptions import (
    corrupt,
    digital,
    weather,
)
from fewlabels.evaluate.corruptions.canvas import unit
from fewlabels.evaluate.corruptions.parameters import CIFAR, IMAGENET


def through_hsv(
    x: NDArray[np.float32], change: Callable[[float, float, float], tuple[float, float, float]]
) -> NDArray[np.float64]:
    """Python's own colour conversion, pixel by pixel."""
    pixels = [colorsys.hsv_to_rgb(*change(*colorsys.rgb_to_hsv(*p))) for p in x.reshape(-1, 3)]
    return np.array(pixels).reshape(x.shape)


GREYS, COLOURED = ((0, 0, 0), (255,) * 3, (90,) * 3), ((10, 200, 60), (250, 3, 4), (1, 0, 2))
COLOUR_CARD = unit(np.array([[*GREYS, *COLOURED]], np.uint8))


@pytest.mark.parametrize("by", [-0.3, 0.05, 0.1, 0.5])
def test_brightness_shifts_the_value_of_hsv(by: float) -> None:
    expected = through_hsv(COLOUR_CARD, lambda h, s, v: (h, s, min(1.0, max(0.0, v + by))))
    assert weather.brightened(COLOUR_CARD, by) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("a", "b"), [*IMAGENET["saturate"], *CIFAR["saturate"]])
def test_saturation_of_hsv(a: float, b: float) -> None:
    expected = through_hsv(COLOUR_CARD, lambda h, s, v: (h, min(1.0, s * a + b), v))
    ours = digital.saturate(COLOUR_CARD, (a, b), 1.0, NO_DRAWS)
    assert ours == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("side", "severity", "square"), [(224, 5, 4), (224, 2, 2), (448, 5, 8)])
def test_pixelate_makes_squares_of_means(side: int, severity: int, square: int) -> None:
    image = scene(side, side)
    result = corrupt(image, "pixelate", severity).reshape(side // square, square, -1, square, 3)
    assert np.ptp(result, axis=(1, 3)).max() == 0
    means = image.reshape(result.shape).mean((1, 3))
    assert abs(result[:, 0, :, 0] - means).max() <= 1.01  # Pillow rounds after each axis


@severities
@sides
def test_pixelate_leaves_as_many_squares_as_published(side: int, severity: int) -> None:
    ramp = np.arange(side, dtype=np.uint8)[:, None, None].repeat(side, 1).repeat(3, 2)
    rows = corrupt(ramp, "pixelate", severity)[:, 0, 0]
    share = TABLES[side]["pixelate"][severity - 1][0]
    squares = len(np.unique(rows))
    if share <= 0.5:  # then no row lies in two of them
        assert squares == int(side * share)
    small = np.asarray(Image.fromarray(ramp).resize((int(side * share),) * 2, Image.Resampling.BOX))
    back = Image.fromarray(small).resize((side, side), Image.Resampling.BOX)
    assert np.array_equal(rows, np.asarray(back)[:, 0, 0])


@pytest.mark.parametrize("sigma", [0.96, 2.44, 19.52, 170.8])
def test_smoothed_noise_equals_scipys_filter(sigma: float) -> None:
    shape = (40, 56)
    noise = np.random.default_rng(5).uniform(-1, 1, shape)
    expected = ndimage.gaussian_filter(noise, sigma, mode="reflect", truncate=3)
    ours = digital.smoothed_noise(shape, sigma, np.random.default_rng(5))
    assert np.allclose(ours, expected, atol=1e-6)


def positions(height: int, width: int) -> NDArray[np.float32]:
    """A picture whose colours are its coordinates: x, y, 0."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    return np.stack([x, y, np.zeros_like(x)], -1)


def test_elastic_without_strength_changes_nothing() -> None:
    x = unit(scene(40, 56))
    same = digital.elastic_transform(x, (0, 0, 0), 1.25, np.random.default_rng(0))
    assert np.allclose(same, x, atol=1e-6)


def test_elastic_moves_the_three_points_to_their_targets() -> None:
    x = positions(60, 90)
    moved = digital.elastic_transform(x, (0, 0, 2.56), 60 / 32, np.random.default_rng(6))
    points = np.array([[65, 50], [65, 10], [25, 10]], float)  # 45, 30 and a third of 60
    jitter = np.random.default_rng(6).uniform(-2.56, 2.56, (3, 2)) * 60 / 32
    for (right, down), (of_x, of_y) in zip(points + jitter, points, strict=True):
        at = [[down], [right]]
        found = [ndimage.map_coordinates(moved[..., c], at, order=1)[0] for c in range(2)]
        assert found == pytest.approx([of_x, of_y], abs=1e-3)


@pytest.mark.parametrize(("severity", "scale"), [(3, 1), (5, 1), (5, 2)])
def test_elastic_displaces_as_far_as_its_noise_says(severity: int, scale: int) -> None:
    amount, sigma, _ = IMAGENET["elastic_transform"][severity - 1]
    x = positions(224 * scale, 224 * scale)
    moved = digital.elastic_transform(x, (amount, sigma, 0), scale, np.random.default_rng(7))
    inner = (moved - x)[20:-20, 20:-20]
    # uniform noise has deviation 1/sqrt(3), a Gaussian leaves 1 / (2 sqrt(pi) sigma) of it
    expected = scale * amount / math.sqrt(3) / (2 * math.sqrt(math.pi) * sigma)
    assert inner[..., 0].std() == pytest.approx(expected, rel=0.08)
    assert inner[..., 1].std() == pytest.approx(expected, rel=0.08)
    assert abs(np.corrcoef(inner[..., 0].ravel(), inner[..., 1].ravel())[0, 1]) < 0.1


@pytest.mark.parametrize(("beyond", "mode"), [(0.0, "mirror"), (0.5, "reflect")])
def test_pixels_beyond_the_edge_are_mirrored(beyond: float, mode: str) -> None:
    x = np.random.default_rng(0).random((8, 10, 3), np.float32)
    right, down = np.random.default_rng(1).uniform(-25, 35, (2, 8, 10))
    for c, channel in enumerate(np.moveaxis(digital.read(x, right, down, beyond), -1, 0)):
        theirs = ndimage.map_coordinates(x[..., c], [down, right], order=1, mode=mode)
        assert np.allclose(channel, theirs, atol=1e-5)
