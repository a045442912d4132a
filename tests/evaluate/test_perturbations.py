"""The perturbation sequences against their definitions, and the rates at which predictions flip."""

import math
import zlib
from collections.abc import Callable
from itertools import pairwise

import definitions
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from fewlabels.errors import UserError
from fewlabels.evaluate.corruptions.canvas import levels, unit
from fewlabels.evaluate.corruptions.weather import brightened
from fewlabels.evaluate.perturbations import (
    EXTRA,
    PERTURBATIONS,
    flip_rate,
    frames,
    is_noise,
    mean_flip_rate,
    mfr,
)

Bytes = NDArray[np.uint8]
ALL = (*PERTURBATIONS, *EXTRA)
names = pytest.mark.parametrize("name", ALL)


def picture(height: int, width: int) -> Bytes:
    """Smooth colours, and a square."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(5 * x / width + c) + np.cos((3 + c) * y / height) for c in range(3)]
    image = (120 + 50 * np.stack(waves, -1)).astype(np.uint8)
    image[height // 4 : height // 2, width // 3 : width // 2] = (240, 30, 90)
    return image


def apart(a: NDArray[np.generic], b: NDArray[np.generic]) -> float:
    return float(np.abs(a.astype(float) - b.astype(float)).mean())


LENGTHS = {"translate": (41, 16), "motion_blur": (31, 21)}
# which frame is the original, at 224 and at 32 pixels
ORIGINAL = {
    **dict.fromkeys(("brightness", "rotate", "tilt", "shear"), (15, 15)),
    **dict.fromkeys(("gaussian_noise", "shot_noise", "speckle_noise", "zoom_blur"), (0, 0)),
    "translate": (20, 7),
    "scale": (24, 15),
}


@pytest.mark.parametrize("small", [False, True])
@names
def test_lengths_and_the_original_are_where_they_are_published(name: str, small: bool) -> None:
    side = 32 if small else 80
    image = picture(side, side)
    made = frames(image, name)
    assert made.shape == (LENGTHS.get(name, (31, 31))[small], side, side, 3)
    assert made.dtype == np.uint8
    if name in ORIGINAL:
        middle = ORIGINAL[name][small]
        assert np.array_equal(made[middle], image)
        far = [apart(frame, image) for frame in made]
        assert min(far[:middle] + far[middle + 1 :]) > 0


@names
def test_frames_change_slowly_or_are_noise(name: str) -> None:
    image = picture(32, 32)
    made = frames(image, name)
    steps = [apart(a, b) for a, b in pairwise(made)]
    whole = max(apart(a, b) for a in made for b in made[::5])
    if is_noise(name):
        assert np.median(steps) > 0.7 * whole
    else:
        assert np.median(steps) < 0.35 * whole


@pytest.mark.parametrize(("side", "sigma"), [(224, 0.03), (32, 0.02)])
def test_noise_is_drawn_anew_in_each_frame(side: int, sigma: float) -> None:
    grey = np.full((side, side, 3), 128, np.uint8)
    made = frames(grey, "gaussian_noise", limit=6)[1:] / 255 - 128 / 255
    assert made.std() == pytest.approx(sigma, rel=0.03)
    assert abs(np.corrcoef(made.reshape(5, -1)) - np.eye(5)).max() < 0.1


@pytest.mark.parametrize(("side", "photons"), [(224, 300), (32, 700)])
def test_shot_noise_counts_photons(side: int, photons: int) -> None:
    grey = np.full((side, side, 3), 64, np.uint8)
    made = frames(grey, "shot_noise", limit=4)[1:] / 255
    assert made.std() == pytest.approx(math.sqrt(64 / 255 / photons), rel=0.03)


@pytest.mark.parametrize(("side", "step"), [(80, 0.02), (32, 0.015)])
def test_brightness_rises_evenly(side: int, step: float) -> None:
    image = picture(side, side)
    made = frames(image, "brightness")
    for i in (0, 11, 30):
        assert np.array_equal(made[i], levels(brightened(unit(image), step * (i - 15))))


def test_translation_is_by_whole_pixels_at_the_published_size() -> None:
    for side, most in ((224, 20), (32, 7)):
        image = picture(side, side)
        made = frames(image, "translate")
        assert np.array_equal(made[0][:, : side - most], image[:, most:])
        assert made[0][:, side - most :].max() == 0
        assert np.array_equal(made[most + 3][:, 3:], image[:, :-3])


def expected(image: Bytes, back: NDArray[np.float64]) -> NDArray[np.float64]:
    """The image seen through `back` [3, 3], from a pixel of the result, counted from the middle, to
    one of the image; linear; nan near or beyond the edge."""
    height, width = image.shape[:2]
    y, x = np.mgrid[:height, :width]
    at = np.stack([x - (width - 1) / 2, y - (height - 1) / 2, np.ones(x.shape)])
    u, v, w = np.einsum("ij,jhw->ihw", back, at)
    u, v = u / w + (width - 1) / 2, v / w + (height - 1) / 2
    seen = [ndimage.map_coordinates(image[..., c].astype(float), [v, u], order=1) for c in range(3)]
    near = (u < 1) | (v < 1) | (u > width - 2) | (v > height - 2)
    return np.where(near[..., None], np.nan, np.stack(seen, -1))


def turn(degrees: float, small: bool) -> NDArray[np.float64]:
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])


def zoom(size: float, small: bool) -> NDArray[np.float64]:
    return np.diag([1 / size, 1 / size, 1.0])


@pytest.mark.parametrize(
    ("name", "frame", "back"),
    [
        ("rotate", 0, turn(-15, False)),
        ("rotate", 25, turn(10, False)),
        ("scale", 0, zoom(0.4, False)),
        ("scale", 30, zoom(1.15, False)),
        ("shear", 20, np.array([[1, math.tan(math.radians(5)), 0], [0, 1, 0], [0, 0, 1]])),
    ],
)
def test_geometry_against_scipy(name: str, frame: int, back: NDArray[np.float64]) -> None:
    image = picture(80, 100)
    theirs = expected(image, back)
    ours = frames(image, name)[frame]
    inside = ~np.isnan(theirs)
    assert inside.mean() > 0.1
    assert abs(ours[inside] - theirs[inside]).max() <= 1.01


def test_what_was_not_in_the_image_is_black() -> None:
    white = np.full((80, 100, 3), 255, np.uint8)
    for name in ("rotate", "tilt", "scale", "shear", "translate"):
        assert frames(white, name, limit=1).min() == 0
    assert frames(white, "scale")[30].min() == 255  # enlarged: nothing is missing


@pytest.mark.parametrize(("side", "degrees"), [(80, 1.0), (32, 0.75)])
def test_tilt_turns_the_flat_image_in_space(side: int, degrees: float) -> None:
    """Four points, one by one: about the vertical axis, then the horizontal one, then projected."""
    angle = math.radians(-15 * degrees)
    far = math.hypot(side, side)
    for u, v in ((10, -12), (-9, 5), (0, 11), (-8, -8)):
        x, y, z = u * math.cos(angle), v, u * math.sin(angle)
        y, z = y * math.cos(angle) - z * math.sin(angle), y * math.sin(angle) + z * math.cos(angle)
        to_x, to_y = (far * x / (far + z) + side / 2, far * y / (far + z) + side / 2)
        rows, columns = np.mgrid[:side, :side] + 0.5
        square = (rows - v - side / 2) ** 2 + (columns - u - side / 2) ** 2
        dot = (255 * np.exp(-square / 8)).astype(np.uint8)[..., None].repeat(3, 2)
        seen = frames(dot, "tilt", limit=1)[0, ..., 0].astype(float)
        seen[seen < 20] = 0
        assert (seen * columns).sum() / seen.sum() == pytest.approx(to_x, abs=0.15)
        assert (seen * rows).sum() / seen.sum() == pytest.approx(to_y, abs=0.15)


def test_zoom_blur_accumulates() -> None:
    image = picture(80, 80)
    made = frames(image, "zoom_blur")
    zooms = []
    for z in 1 + 0.004 * np.arange(31):
        start = 79 / 2 * (1 - 1 / z)
        channels = [image[..., c].astype(float) for c in range(3)]
        seen = [ndimage.affine_transform(c, [1 / z, 1 / z], start, order=1) for c in channels]
        zooms.append(np.stack(seen, -1))
    for i in (1, 30):
        assert abs(made[i] - np.mean(zooms[: i + 1], 0)).max() <= 0.51


def test_gaussian_blur_widens() -> None:
    image = picture(224, 224)
    made = frames(image, "gaussian_blur")
    for i in (0, 30):
        sigma = 0.25 + 0.035 * i
        theirs = ndimage.gaussian_filter(image.astype(float), (sigma, sigma, 0), mode="nearest")
        assert abs(made[i] - theirs).max() <= 0.51


@pytest.mark.parametrize(
    ("side", "radius", "sigma", "angle"),
    [(224, 10, 3, lambda i: 4 * (i - 30)), (32, 6, 1.8, lambda i: 9 * (i - 20))],
)
def test_motion_turns(side: int, radius: float, sigma: float, angle: Callable[[int], int]) -> None:
    image = picture(side, side)
    made = frames(image, "motion_blur")
    for i in (0, 7, 20):
        theirs = 255 * definitions.motion(image / 255, radius, sigma, angle(i))
        assert abs(made[i] - theirs).max() <= 0.51


@pytest.mark.parametrize(("side", "zoom", "radius", "sigma"), [(224, 3, 14, 4), (32, 2, 10, 2)])
def test_the_same_flakes_fall_ever_otherwise(
    side: int, zoom: float, radius: float, sigma: float
) -> None:
    image = picture(side, side)
    made = frames(image, "snow", seed=4, number=9)
    rng = np.random.default_rng([4, zlib.crc32(b"snow"), 9])
    layer = definitions.flakes(side, (0.05, 0.3, zoom, 0.5), rng)
    for i in (0, 11, 30):
        falling = definitions.motion(layer, radius, sigma, 4 * i - 150)
        theirs = 255 * np.clip(definitions.snowed(image / 255, falling, 0.85), 0, 1)
        assert abs(made[i] - theirs).max() <= 0.51


@names
@pytest.mark.parametrize("shape", [(8, 8), (16, 30), (47, 63), (224, 70)])
def test_any_size_and_seeded(name: str, shape: tuple[int, int]) -> None:
    image = picture(*shape)
    made = frames(image, name, seed=1, limit=3)
    assert made.shape == (3, *shape, 3)
    assert np.array_equal(made, frames(image, name, seed=1, limit=3))
    draws = is_noise(name) or name == "snow"
    if min(shape) > 30:
        assert np.array_equal(made, frames(image, name, seed=2, limit=3)) != draws
        assert np.array_equal(made, frames(image, name, seed=1, number=5, limit=3)) != draws


@pytest.mark.parametrize("name", [n for n in ALL if not is_noise(n)])
def test_an_enlargement_is_perturbed_alike(name: str) -> None:
    large = picture(64, 64)
    small = large.reshape(32, 2, 32, 2, 3).mean((1, 3)).astype(np.uint8)
    here, there = frames(small, name).astype(float), frames(large, name)
    seen = there.reshape(-1, 32, 2, 32, 2, 3).mean((2, 4))
    change, seen_change = here - here[0], seen - seen[0]
    assert np.corrcoef(change.ravel(), seen_change.ravel())[0, 1] > 0.9
    assert seen_change.std() == pytest.approx(change.std(), rel=0.3)


def test_what_is_unknown_is_refused() -> None:
    with pytest.raises(UserError, match="unknown perturbation 'fog'; there are gaussian_noise"):
        frames(picture(32, 32), "fog")
    with pytest.raises(UserError, match="too small"):
        frames(picture(7, 32), "tilt")
    with pytest.raises(UserError, match="seed -1: must be 0 or more"):
        frames(picture(32, 32), "snow", seed=-1)


# ---- rates ----


def test_flip_rate_by_hand() -> None:
    predicted = np.array([[1, 1, 2, 2, 1], [3, 3, 3, 3, 3]])
    assert flip_rate(predicted, noise=False) == pytest.approx(2 / 8)
    assert flip_rate(predicted, noise=True) == pytest.approx(2 / 8)
    predicted = np.array([[1, 2, 2, 2, 2]])
    assert flip_rate(predicted, noise=False) == pytest.approx(1 / 4)
    assert flip_rate(predicted, noise=True) == 1  # all differ from the first


def test_flip_rate_needs_frames() -> None:
    for shape in ((3,), (3, 1), (0, 5)):
        with pytest.raises(UserError, match="predictions are"):
            flip_rate(np.zeros(shape, np.int64), noise=False)


def test_mean_flip_rate_and_mfr() -> None:
    rates = {name: 0.01 * (i + 1) for i, name in enumerate(PERTURBATIONS)}
    assert mean_flip_rate(rates) == pytest.approx(0.055)
    assert mfr(rates, rates) == pytest.approx(1)
    alexnet = {**rates, "snow": 2 * rates["snow"]}
    assert mfr(rates, alexnet) == pytest.approx(0.95)
    with pytest.raises(UserError, match="ten perturbations and no other; shear"):
        mfr({**rates, "shear": 0.1}, alexnet)
    with pytest.raises(UserError, match="no other; snow"):
        mfr({name: r for name, r in rates.items() if name != "snow"}, alexnet)
    with pytest.raises(UserError, match="at least one"):
        mean_flip_rate({})
