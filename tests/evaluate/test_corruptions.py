"""What holds for every corruption: severities, seeds and sizes; and the scores."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scenes import ALL, Bytes, distance, scene, sides

from fewlabels.errors import UserError
from fewlabels.evaluate.corruptions import (
    CORRUPTIONS,
    NAMES,
    corrupt,
    corrupted,
)
from fewlabels.evaluate.corruptions.parameters import CIFAR, IMAGENET, Strengths
from fewlabels.evaluate.corruptions.scores import ALEXNET_ERROR, c_like_error, mce

# The published strengths themselves are not monotone here: b disturbs less than a, or no more.
NOT_MONOTONE = {
    # fewer rounds
    (224, "glass_blur"): {(1, 2), (3, 4)},
    # a higher threshold, and larger flakes
    (224, "snow"): {(2, 3)},
    # dimmed more, which makes up for the light of the ice
    (224, "frost"): {(3, 4), (4, 5)},
    (32, "frost"): {(3, 4)},
    # as thick, but of finer detail
    (224, "fog"): {(3, 4)},
    # the affine jitter shrinks, and then outweighs the displacement
    (224, "elastic_transform"): {(2, 3), (3, 4)},
    (32, "elastic_transform"): {(1, 2), (2, 3), (3, 4), (4, 5)},
    # less saturation, then more
    (224, "saturate"): {(2, 3)},
    (32, "saturate"): {(2, 3)},
    # one reach, one round and then two; the sigmas of 0.05 to 0.4 do little
    (32, "glass_blur"): {(1, 2), (2, 3), (4, 5)},
    # water, then mud, of which there is less
    (32, "spatter"): {(3, 4)},
}


@sides
@pytest.mark.parametrize("name", ALL)
def test_distance_from_the_original_grows_with_severity(name: str, side: int) -> None:
    count = 4 if side == 224 and name != "frost" else 20
    images = np.stack([scene(side, side, seed) for seed in range(count)])
    far = [distance(corrupted(images, name, severity), images) for severity in range(1, 6)]
    falls = {(s, s + 1) for s in range(1, 5) if far[s] <= far[s - 1]}
    assert falls <= NOT_MONOTONE.get((side, name), set()), far
    assert far[0] > 0
    assert far[4] > far[0] or (side, name) in NOT_MONOTONE


DRAWS = set(ALL) - {
    *("defocus_blur", "zoom_blur", "gaussian_blur", "brightness", "contrast"),
    *("pixelate", "jpeg_compression", "saturate"),
}


@pytest.mark.parametrize("shape", [(8, 8), (16, 16), (32, 32), (47, 63), (70, 8), (90, 66)])
@pytest.mark.parametrize("name", ALL)
def test_any_size_seeded_and_the_original_unchanged(name: str, shape: tuple[int, int]) -> None:
    image = scene(*shape)
    before = image.copy()
    for severity in (1, 5):
        first = corrupt(image, name, severity, seed=1)
        assert first.shape == image.shape
        assert first.dtype == np.uint8
        assert np.array_equal(first, corrupt(image, name, severity, seed=1))
    assert np.array_equal(image, before)
    if min(shape) >= 32:
        other = corrupt(image, name, 5, seed=2)
        assert np.array_equal(first, other) == (name not in DRAWS)


@pytest.mark.parametrize("name", ALL)
def test_a_large_image(name: str) -> None:
    image = scene(512, 333)
    assert 1 < distance(corrupt(image, name, 5), image) < 128


@pytest.mark.parametrize("name", ALL)
def test_an_image_is_corrupted_as_it_is_alone(name: str) -> None:
    images = np.stack([scene(32, 40, seed) for seed in range(4)])
    together = corrupted(images, name, 3, seed=9)
    assert np.array_equal(together[2], corrupt(images[2], name, 3, seed=9, number=2))
    assert np.array_equal(together[2:], corrupted(images[2:], name, 3, seed=9, first=2))
    same = corrupted(np.stack([images[0]] * 2), name, 3, seed=9)
    assert np.array_equal(same[0], same[1]) == (name not in DRAWS)


BY_PIXEL = ("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise", "jpeg_compression")


@sides
@pytest.mark.parametrize("name", [n for n in ALL if n not in BY_PIXEL])
def test_an_enlargement_is_disturbed_alike(name: str, side: int) -> None:
    """The same snow, the same drops, as far blurred: seen at the size of the small image."""
    count = 1 if side == 224 else 6
    small = np.stack([scene(side, side, seed) for seed in range(count)])
    large = np.stack([scene(2 * side, 2 * side, seed) for seed in range(count)])

    def halved(images: Bytes) -> NDArray[np.float64]:
        return images.reshape(count, side, 2, side, 2, 3).mean((2, 4))

    here, there = (corrupted(images, name, 5) for images in (small, large))
    disturbed = distance(here, small)
    assert distance(halved(there), halved(large)) == pytest.approx(disturbed, rel=0.25)
    if (name, side) != ("pixelate", 32):  # whose squares of 1.5 pixels lie otherwise
        part = 0.5 if name == "spatter" else 0.25  # the outlines of drops are thinner than a pixel
        assert distance(halved(there), here) < part * disturbed + distance(halved(large), small)


def test_small_images_get_cifars_parameters() -> None:
    for shape, table in (((64, 200), CIFAR), ((65, 200), IMAGENET)):
        image = np.full((*shape, 3), 100, np.uint8)
        spread = corrupt(image, "gaussian_noise", 1).std() / 255
        assert spread == pytest.approx(table["gaussian_noise"][0][0], rel=0.03)


def test_there_are_15_in_four_groups_and_4_more() -> None:
    assert {group: len(names) for group, names in CORRUPTIONS.items()} == {
        **{"noise": 3, "blur": 4, "weather": 4},
        "digital": 4,
    }
    assert set(ALL) == set(IMAGENET) == set(CIFAR)
    assert set(ALEXNET_ERROR) == set(NAMES)


@pytest.mark.parametrize("name", ALL)
def test_the_page_states_the_parameters(name: str) -> None:
    page = (Path(__file__).parents[2] / "docs" / "robustness.md").read_text(encoding="utf-8")

    def stated(table: Strengths) -> str:
        return " · ".join(", ".join(f"{number:g}" for number in row) for row in table[name])

    row = next(line for line in page.splitlines() if line.startswith(f"| `{name}` |"))
    assert row.endswith(f"| {stated(IMAGENET)} | {stated(CIFAR)} |")


@pytest.mark.parametrize(
    ("image", "name", "severity", "says"),
    [
        (scene(32, 32), "rain", 1, "unknown corruption 'rain'"),
        (scene(32, 32), "fog", 0, "1 to 5, not 0"),
        (scene(32, 32), "fog", 6, "1 to 5, not 6"),
        (scene(7, 32), "fog", 1, "7 x 32 pixels is too small"),
        (scene(32, 32)[..., 0], "fog", 1, r"\[32, 32\]"),
        (scene(32, 32).astype(np.float32), "fog", 1, "not float32"),
    ],
)
def test_what_cannot_be_corrupted_is_refused(
    image: Bytes, name: str, severity: int, says: str
) -> None:
    with pytest.raises(UserError, match=says):
        corrupt(image, name, severity)


def test_a_seed_is_not_negative() -> None:
    with pytest.raises(UserError, match="seed -1: must be 0 or more"):
        corrupt(scene(32, 32), "fog", 1, seed=-1)


# ---- scores ----


def test_c_like_error_by_hand() -> None:
    errors = {"fog": [0.1, 0.2, 0.3, 0.4, 0.5], "frost": [0.5, 0.5, 0.5, 0.5, 1.0]}
    assert c_like_error(errors) == pytest.approx((0.3 + 0.6) / 2)
    with pytest.raises(UserError, match="at least one"):
        c_like_error({})


def test_mce_is_relative_to_alexnet() -> None:
    as_alexnet = {name: [error] * 5 for name, error in ALEXNET_ERROR.items()}
    assert mce(as_alexnet) == pytest.approx(1)
    # sums of the severities are compared, not ratios at each
    as_alexnet["fog"] = [0.0, 0.0, 0.0, 0.0, 5 * ALEXNET_ERROR["fog"] / 2]
    assert mce(as_alexnet) == pytest.approx((14 + 0.5) / 15)
    # ResNet-50's errors of table 3 in percent of AlexNet's have the mean 76.7
    published = (80, 82, 83, 75, 89, 78, 80, 78, 75, 66, 57, 71, 85, 77, 77)
    resnet = {
        name: [error * share / 100] * 5
        for (name, error), share in zip(ALEXNET_ERROR.items(), published, strict=True)
    }
    assert mce(resnet) == pytest.approx(0.767, abs=0.003)


def test_mce_refuses_other_corruptions() -> None:
    errors = {name: [0.5] * 5 for name in ALEXNET_ERROR}
    with pytest.raises(UserError, match="wrong: spatter"):
        mce({**errors, "spatter": [0.5] * 5})
    with pytest.raises(UserError, match="wrong: fog"):
        mce({**errors, "fog": [0.5] * 4})
    errors.pop("snow")
    with pytest.raises(UserError, match="wrong: snow"):
        mce(errors)
