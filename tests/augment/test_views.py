from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from rendering import SIZES, natural, noise

from fewlabels.augment.policy import STRONG, WEAK, Policy
from fewlabels.augment.views import Augmenter, picture
from fewlabels.pixels.preprocess import Preprocess

SIZE = 16
FILL = np.array([124.0, 116.4, 104.0])
NONE = Policy()
# every kind of stage
EVERYTHING = Policy.parse(
    "flip+flip_y+turn+crop+resized_crop+zoom+light+affine+perspective+elastic+rand(4,m=0..30)"
    "+rotate(p=0.5)+saturation+add+cutout"
)
policies = pytest.mark.parametrize(
    "policy", [WEAK, STRONG, EVERYTHING], ids=["weak", "strong", "everything"]
)


@pytest.fixture(scope="module")
def images() -> NDArray[np.uint8]:
    """24 images of noise, read-only as the cache's are."""
    made = np.random.default_rng(0).integers(0, 256, (24, SIZE, SIZE, 3), np.uint8)
    made.flags.writeable = False
    return made


def augmenter(images: NDArray[np.uint8], seed: int = 0, threads: int = 1) -> Augmenter:
    return Augmenter(images, Preprocess(SIZE), FILL, seed, threads)


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


@policies
def test_same_rows_same_views_whatever_the_batch(images: NDArray[np.uint8], policy: Policy) -> None:
    augment = augmenter(images)
    whole = viewed(augment, range(24), policy)
    order = np.random.default_rng(2).permutation(24)
    assert torch.equal(viewed(augment, order.tolist(), policy), whole[torch.from_numpy(order)])
    assert torch.equal(viewed(augment, [7], policy)[0], whole[7])
    assert torch.equal(viewed(augmenter(images), range(24), policy), whole)  # another object


@policies
@pytest.mark.parametrize("count", [0, 1, 2, 5, 24])
def test_same_bytes_whatever_the_threads(
    images: NDArray[np.uint8], policy: Policy, count: int
) -> None:
    one, two, three = (viewed(augmenter(images, 0, n), range(count), policy) for n in (1, 2, 3))
    assert one.numpy().tobytes() == two.numpy().tobytes() == three.numpy().tobytes()


@policies
@pytest.mark.parametrize("threads", [1, 3])
def test_same_bytes_in_either_memory(
    images: NDArray[np.uint8], policy: Policy, threads: int
) -> None:
    """Into planar and channels-last memory of the caller's, which is what comes back."""
    augment, rows = augmenter(images, 0, threads), np.arange(24)
    expected = augment(policy, rows, rows * 0, 1)
    for form in (torch.contiguous_format, torch.channels_last):
        out = torch.full((24, 3, SIZE, SIZE), torch.nan).to(memory_format=form)
        assert augment(policy, rows, rows * 0, 1, out) is out
        assert torch.equal(out, expected)
        assert out.is_contiguous(memory_format=form)


def test_out_of_another_form_is_refused(images: NDArray[np.uint8]) -> None:
    augment, rows = augmenter(images), np.arange(4)
    for out in (
        torch.zeros(3, 3, SIZE, SIZE),
        torch.zeros(4, 3, SIZE, SIZE + 1),
        torch.zeros(4, SIZE, SIZE, 3),
        torch.zeros(4, 3, SIZE, 2 * SIZE)[:, :, :, ::2],
    ):
        with pytest.raises(ValueError, match="out: "):
            augment(WEAK, rows, rows, 0, out)


def test_a_part_of_a_larger_batch_may_be_out(images: NDArray[np.uint8]) -> None:
    augment, rows = augmenter(images), np.arange(4)
    whole = torch.full((8, 3, SIZE, SIZE), torch.nan)
    augment(STRONG, rows, rows * 0, 0, whole[2:6])
    assert torch.equal(whole[2:6], viewed(augment, range(4)))
    assert whole[:2].isnan().all()
    assert whole[6:].isnan().all()


@pytest.mark.parametrize("size", [SIZE, 2 * SIZE, 9])
def test_views_of_another_size(images: NDArray[np.uint8], size: int) -> None:
    """The empty policy: the pixel itself, or the bilinear blend at the place that it looks at."""
    augment = Augmenter(images, Preprocess(size, (0, 0, 0), (1 / 255,) * 3), FILL, 0)
    made = viewed(augment, range(24), NONE).double()
    assert made.shape == (24, 3, size, size)
    planes = torch.tensor(images[...].transpose(0, 3, 1, 2)).double()
    expected = torch.nn.functional.interpolate(planes, (size, size), mode="bilinear")
    inner = slice(1, -1)  # at the edge the kernel blends with the fill
    error = (made - expected)[:, :, inner, inner].abs().max()
    assert error <= (1e-4 if size % SIZE == 0 else 2 * 255 / 128)


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
    fill = np.array([124.0, 116.0, 104.0]).reshape(3, 1, 1)  # whole levels
    filled = (np.abs(grey - fill) < 1e-3).all(1)
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


# ---- pictures ----


@pytest.mark.parametrize("size", SIZES)
def test_picture_of_the_empty_policy_is_the_image(size: tuple[int, int]) -> None:
    image = noise(size=size)
    made = picture(image, NONE)
    assert np.array_equal(made, image)
    assert not np.shares_memory(made, image)


@policies
@pytest.mark.parametrize("size", [*SIZES, (1000, 37)])
def test_pictures_of_any_size(size: tuple[int, int], policy: Policy) -> None:
    image = natural(0, *size)
    made = [picture(image, policy, seed=1, number=number) for number in range(4)]
    for view in made:
        assert view.shape == image.shape
        assert view.dtype == np.uint8
    again = [picture(image, policy, seed=1, number=number) for number in range(4)]
    assert all(map(np.array_equal, made, again))
    if min(size) > 20:
        assert len({view.tobytes() for view in made}) == 4
        assert not np.array_equal(made[0], picture(image, policy, seed=2))


@policies
def test_picture_is_what_the_model_sees(policy: Policy) -> None:
    """Rounded to bytes, of image 0 in epoch 0."""
    image = natural(1, 33, 33)
    preprocess = Preprocess(33, (0, 0, 0), (1 / 255,) * 3)
    augment = Augmenter(image[None], preprocess, FILL, seed=5)
    for number in range(6):
        seen = viewed(augment, [0], policy, view=number)[0].permute(1, 2, 0).double().numpy()
        made = picture(image, policy, seed=5, number=number, fill=(124, 116.4, 104))
        assert np.abs(made - seen).max() <= 0.5 + 1e-4


def test_picture_of_a_part_of_an_array() -> None:
    """Strides of any kind, and the image stays as it is."""
    whole = noise(3, size=(40, 60))
    before = whole.copy()
    for part in (whole[3:30, 5:41], whole[::-1, ::2], whole.transpose(1, 0, 2)):
        alone = np.ascontiguousarray(part)
        assert np.array_equal(picture(part, STRONG), picture(alone, STRONG))
    assert np.array_equal(whole, before)


def test_fill_of_a_picture() -> None:
    made = picture(noise(4), Policy.parse("scale(0.05)"), fill=(1, 2.5, 300))
    assert (made[0, 0] == [1, 3, 255]).all()
    assert (picture(noise(4), Policy.parse("scale(0.05)"))[0, 0] == 128).all()
