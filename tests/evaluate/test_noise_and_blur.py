"""Noise and blur against their definitions, by hand or by another library."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scenes import NO_DRAWS, TABLES, distance, grey, many, scene, severities, sides
from scipy import ndimage
from scipy.stats import norm, poisson

from fewlabels.evaluate.corruptions import (
    blur,
    corrupt,
    corrupted,
)
from fewlabels.evaluate.corruptions.canvas import unit
from fewlabels.evaluate.corruptions.parameters import IMAGENET


def clipped_normal(at: float, sigma: float) -> tuple[float, float]:
    """Mean and deviation of at + N(0, sigma²), cut off at 0 and 1."""
    values = np.clip(at + sigma * norm.ppf((np.arange(100_000) + 0.5) / 100_000), 0, 1)
    return float(values.mean()), float(values.std())


@severities
@sides
@pytest.mark.parametrize("name", ["gaussian_noise", "speckle_noise"])
def test_the_spread_of_normal_noise_on_grey(name: str, side: int, severity: int) -> None:
    level = 100 / 255
    sigma = TABLES[side][name][severity - 1][0] * (level if name == "speckle_noise" else 1)
    images = corrupted(many(grey(side, 100)), name, severity)
    mean, spread = clipped_normal(level, sigma)
    assert images.std() / 255 == pytest.approx(spread, rel=0.01)
    assert images.mean() / 255 == pytest.approx(mean, abs=4 * spread / math.sqrt(images.size))


def test_speckle_leaves_black_black_and_gaussian_noise_does_not() -> None:
    assert corrupt(grey(32, 0), "speckle_noise", 5).max() == 0
    assert corrupt(grey(32, 0), "gaussian_noise", 5).max() > 0


@severities
@sides
def test_shot_noise_counts_photons(side: int, severity: int) -> None:
    photons = TABLES[side]["shot_noise"][severity - 1][0]
    images = corrupted(many(grey(side, 64)), "shot_noise", severity)
    k = np.arange(2000)
    share = poisson.pmf(k, photons * 64 / 255)
    value = np.rint(255 * np.minimum(k / photons, 1)) / 255
    mean = (share * value).sum()
    spread = math.sqrt((share * (value - mean) ** 2).sum())
    assert images.mean() / 255 == pytest.approx(mean, abs=4 * spread / math.sqrt(images.size))
    assert images.std() / 255 == pytest.approx(spread, rel=0.02)
    assert set(np.unique(images)) <= set(np.rint(255 * value).astype(int))


@severities
@sides
def test_impulse_noise_changes_its_share_of_the_values(side: int, severity: int) -> None:
    share = TABLES[side]["impulse_noise"][severity - 1][0]
    images = corrupted(many(grey(side)), "impulse_noise", severity)
    for value in (0, 255):
        half = (images == value).mean()
        assert half == pytest.approx(share / 2, abs=4 * math.sqrt(share / 2 / images.size))
    assert ((images == 128) | (images == 0) | (images == 255)).all()
    whole = (images != 128).all(-1).mean()  # channels are struck one by one
    assert whole == pytest.approx(share**3, abs=4 * math.sqrt(share**3 / images.size * 3))


# ---- blur ----


def spread(kernel: NDArray[np.float64]) -> tuple[float, float]:
    """The second moments of a kernel about its middle: down, right."""
    y, x = np.indices(kernel.shape)
    y, x = y - kernel.shape[0] // 2, x - kernel.shape[1] // 2
    return float((kernel * y**2).sum()), float((kernel * x**2).sum())


def test_discs_by_hand() -> None:
    plus = blur.disc_kernel(1, 0.01)  # five pixels, and nothing to soften
    assert plus[1:-1, 1:-1] == pytest.approx(np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]]) / 5)
    square = blur.disc_kernel(1.5, 0.1)[1:-1, 1:-1]
    assert square == pytest.approx(np.ones((3, 3)) / 9)
    point = blur.disc_kernel(0.3, 0.4)  # CIFAR's mildest: only the Gaussian of three taps
    side = math.exp(-1 / (2 * 0.4**2))
    assert point[1] == pytest.approx(np.array([side, 1, side]) / (1 + 2 * side) ** 2)


@severities
@sides
def test_discs_sum_to_one_and_are_as_wide_as_their_pixels(side: int, severity: int) -> None:
    radius, softness = TABLES[side]["defocus_blur"][severity - 1]
    kernel = blur.disc_kernel(radius, softness)
    assert kernel.sum() == pytest.approx(1)
    assert np.allclose(kernel, kernel.T)
    inside = [(i, j) for i in range(-11, 12) for j in range(-11, 12) if i * i + j * j <= radius**2]
    taps = range(-1, 2) if radius <= 8 else range(-2, 3)
    weights = [math.exp(-(t**2) / (2 * softness**2)) for t in taps]
    soft = sum(w * t**2 for w, t in zip(weights, taps, strict=True)) / sum(weights)
    expected = sum(i * i for i, _ in inside) / len(inside) + soft
    assert spread(kernel) == pytest.approx((expected, expected))
    for scale in (0.5, 1.1, 2.0):
        larger = blur.disc_kernel(radius, softness, scale)
        assert larger.sum() == pytest.approx(1)
        assert spread(larger) == pytest.approx((scale**2 * expected,) * 2)


def test_filtering_equals_scipys_correlation() -> None:
    x = unit(scene(30, 41))
    kernel = blur.disc_kernel(4, 0.5)
    kernel[2, 1] += 0.2  # not the same when turned
    for beyond, theirs in (("reflect", "mirror"), ("edge", "nearest")):
        expected = ndimage.correlate(x, kernel[..., None].astype(np.float32), mode=theirs)
        assert np.allclose(blur.filtered(x, kernel, beyond), expected, atol=1e-5)
        flat = blur.filtered(x[..., 0], kernel, beyond)
        assert np.allclose(flat, expected[..., 0], atol=1e-5)


def test_motion_is_half_a_gaussian_along_its_line() -> None:
    level = blur.motion_kernel(10, 3, 0)
    half = np.exp(-(np.arange(21) ** 2) / 18)
    assert level.shape == (1, 41)
    assert level[0, 20:] == pytest.approx(half / half.sum())
    assert level[0, :20].max() == 0
    steep = blur.motion_kernel(10, 3, -90)  # upward
    assert steep[:21, 0] == pytest.approx(level[0, 20:][::-1])
    slanted = blur.motion_kernel(15, 8, 30)
    assert slanted.sum() == pytest.approx(1)
    y, x = np.nonzero(slanted)
    off = (y - slanted.shape[0] // 2) * math.cos(math.radians(30))
    off -= (x - slanted.shape[1] // 2) * math.sin(math.radians(30))
    assert abs(off).max() <= math.sqrt(0.5) + 1e-9  # pixels that the line touches
    assert 29 <= len(y) <= 31  # two taps may lie in one pixel


def test_motion_changes_nothing_along_stripes() -> None:
    stripes = np.repeat(np.arange(0, 240, 8, dtype=np.uint8)[:, None, None], 40, 1).repeat(3, 2)
    x = unit(stripes)
    assert np.allclose(blur.moved(x, 15, 8, 0), x, atol=1e-5)
    assert distance(blur.moved(x, 15, 8, 90), x) > 0.02


def test_zooms_by_hand() -> None:
    assert blur.trimmed_zoom(32, 1.0) == (0, 1)
    # 32 points from 0 to 31 spread over 33, none trimmed: the last 31/32 of the way to a 33rd
    assert blur.trimmed_zoom(32, 1.02) == (0, 31 / 32)
    # 31 of 32 points, the first ones, spread over 33
    assert blur.trimmed_zoom(32, 1.06) == (0, 30 / 32)
    # 26 of 32 points from the fourth on, spread over 32
    assert blur.trimmed_zoom(32, 1.25) == (3, 25 / 31)


def test_an_enlarged_zoom_blur_is_the_same_picture() -> None:
    """A ramp stays one: each pixel of twice the size sees a quarter of a pixel to either side."""
    ramp = np.arange(32, dtype=np.float32)[:, None, None].repeat(32, 1).repeat(3, 2)
    small = blur.zoom_blur(ramp, (12, 0.01), 1.0, NO_DRAWS)
    large = ((np.arange(64, dtype=np.float32) - 0.5) / 2)[:, None, None].repeat(64, 1).repeat(3, 2)
    seen = blur.zoom_blur(large, (12, 0.01), 2.0, NO_DRAWS).reshape(32, 2, 64, 3).mean(1)
    assert np.allclose(seen[2:-2, ::2], small[2:-2], atol=1e-4)


def test_glass_takes_colours_as_numpys_swap_of_two_pixels_does() -> None:
    """The published program swaps two views of one array: the second assignment changes nothing."""
    x, reach = np.random.default_rng(3).random((32, 36, 3), np.float32), 2
    ours, theirs = blur.scattered(x, reach, 2, 1.0, np.random.default_rng(4)), x.copy()
    rng = np.random.default_rng(4)
    for _ in range(2):
        step = rng.integers(-reach, reach, (32, 36, 2), np.int16)
        for i in range(32 - reach, reach, -1):
            for j in range(36 - reach, reach, -1):
                k, m = i + step[i, j, 0], j + step[i, j, 1]
                theirs[i, j], theirs[k, m] = theirs[k, m], theirs[i, j]
    assert np.array_equal(ours, theirs)
    assert not np.array_equal(ours, x)
    assert np.array_equal(ours[: reach + 1], x[: reach + 1])


def test_glass_moves_larger_squares_in_larger_images() -> None:
    x = unit(scene(32, 36))
    large = x.repeat(3, 0).repeat(3, 1)
    here = blur.scattered(x, 1, 2, 1.0, np.random.default_rng(5))
    there = blur.scattered(large, 1, 2, 3.0, np.random.default_rng(5))
    assert np.array_equal(there, here.repeat(3, 0).repeat(3, 1))


@pytest.mark.parametrize("severity", [1, 3, 5])
def test_a_point_becomes_a_gaussian(severity: int) -> None:
    sigma = IMAGENET["gaussian_blur"][severity - 1][0]
    x = np.zeros((71, 71, 3), np.float32)
    x[35, 35] = 1
    for scale in (1.0, 0.5):
        wide = blur.gaussian_blur(x, (sigma,), scale, NO_DRAWS)[..., 0].astype(float)
        assert wide.sum() == pytest.approx(1, abs=1e-5)
        # cut off at four sigma; half a pixel is too narrow to be sampled well
        assert spread(wide)[0] == pytest.approx(
            (sigma * scale) ** 2, rel=0.16 if sigma < 2 else 0.02
        )
