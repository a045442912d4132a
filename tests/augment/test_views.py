from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fewlabels.augment.policy import STRONG, WEAK, Policy
from fewlabels.augment.views import Augmenter
from fewlabels.pixels.preprocess import Preprocess

SIZE = 16
FILL = np.array([124.0, 116.5, 104.0])
NONE = Policy()


@pytest.fixture(scope="module")
def images() -> NDArray[np.uint8]:
    """24 images of noise, read-only as the cache's are."""
    made = np.random.default_rng(0).integers(0, 256, (24, SIZE, SIZE, 3), np.uint8)
    made.flags.writeable = False
    return made


def augmenter(images: NDArray[np.uint8], seed: int = 0) -> Augmenter:
    return Augmenter(images, Preprocess(SIZE), FILL, seed)


def viewed(
    augment: Augmenter,
    rows: list[int] | range,
    policy: Policy = STRONG,
    epoch: int = 0,
    view: int = 0,
) -> torch.Tensor:
    numbers = np.array(rows, np.int64)
    return augment(policy, numbers, np.full_like(numbers, epoch), view)


def test_form(images: NDArray[np.uint8]) -> None:
    made = viewed(augmenter(images), [3, 1])
    assert made.shape == (2, 3, SIZE, SIZE)
    assert made.dtype == torch.float32
    assert made.is_contiguous()
    assert viewed(augmenter(images), []).shape == (0, 3, SIZE, SIZE)


def test_the_empty_policy_is_the_evaluation_pipeline(images: NDArray[np.uint8]) -> None:
    """Within 1e-6, four units in the last place of the largest values: the kernel divides by a
    reciprocal in float64, `Preprocess` divides in float32. Not bitwise.
    """
    rows = [5, 0, 23, 5]
    expected = Preprocess(SIZE)(images[rows])
    assert expected.abs().max() > 2
    torch.testing.assert_close(viewed(augmenter(images), rows, NONE), expected, rtol=0.0, atol=1e-6)


@pytest.mark.parametrize("policy", [WEAK, STRONG], ids=["weak", "strong"])
def test_same_rows_same_views_whatever_the_batch(images: NDArray[np.uint8], policy: Policy) -> None:
    augment = augmenter(images)
    whole = viewed(augment, range(24), policy)
    order = np.random.default_rng(2).permutation(24)
    assert torch.equal(viewed(augment, order.tolist(), policy), whole[torch.from_numpy(order)])
    assert torch.equal(viewed(augment, [7], policy)[0], whole[7])
    assert torch.equal(viewed(augmenter(images), range(24), policy), whole)  # another object


@pytest.mark.parametrize("other", [{"epoch": 1}, {"view": 1}])
def test_another_epoch_or_view(images: NDArray[np.uint8], other: dict[str, Any]) -> None:
    augment = augmenter(images)
    first, second = viewed(augment, range(24)), viewed(augment, range(24), **other)
    assert all(not torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_another_seed(images: NDArray[np.uint8]) -> None:
    first, second = (viewed(augmenter(images, seed), range(24)) for seed in (0, 1))
    assert all(not torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_each_image_in_its_own_epoch(images: NDArray[np.uint8]) -> None:
    """A batch that spans two epochs holds a row twice, in two views."""
    augment = augmenter(images)
    made = augment(STRONG, np.array([4, 4]), np.array([0, 1]), 0)
    assert torch.equal(made[0], viewed(augment, [4])[0])
    assert torch.equal(made[1], viewed(augment, [4], epoch=1)[0])


def test_fill_is_normalised(images: NDArray[np.uint8]) -> None:
    """A cutout as large as the image leaves the fill alone wherever it lies; in the rest, the
    pixels of the image.
    """
    preprocess = Preprocess(SIZE, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    augment = Augmenter(images, preprocess, FILL, 0)
    made = viewed(augment, range(24), Policy.parse("cutout(1)")).double().numpy()
    mean, std = (np.array(v).reshape(3, 1, 1) * 255 for v in (preprocess.mean, preprocess.std))
    grey = made * std + mean
    filled = (np.abs(grey - FILL.reshape(3, 1, 1)) < 1e-3).all(1)
    kept = (np.abs(grey - images.transpose(0, 3, 1, 2)) < 1e-3).all(1)
    assert (filled | kept).all()
    assert 0.05 < filled.mean() < 0.5


def test_from_a_memory_map(images: NDArray[np.uint8], tmp_path: Path) -> None:
    images.tofile(tmp_path / "cache.u8")
    mapped = np.memmap(tmp_path / "cache.u8", np.uint8, "r", shape=images.shape)
    assert torch.equal(viewed(augmenter(mapped), range(24)), viewed(augmenter(images), range(24)))


def test_threads_do_not_disturb_each_other(images: NDArray[np.uint8]) -> None:
    augment = augmenter(images)
    expected = [viewed(augment, range(24), epoch=epoch) for epoch in range(16)]
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda epoch: viewed(augment, range(24), epoch=epoch), range(16)))
    assert all(map(torch.equal, made, expected))


def test_leaves_the_images_as_they_are(images: NDArray[np.uint8]) -> None:
    mine = images.copy()  # writable
    made = viewed(augmenter(mine), range(24))
    assert np.array_equal(mine, images)
    assert torch.equal(made, viewed(augmenter(images), range(24)))
