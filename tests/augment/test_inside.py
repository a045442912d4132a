"""Pictures that do not fill their square: windows keep to the picture, and the fill is its own."""

import numpy as np
import pytest
from numpy.typing import NDArray
from rendering import noise

from fewlabels.augment.policy import Policy
from fewlabels.augment.sampler import sample
from fewlabels.augment.views import Augmenter
from fewlabels.pixels.preprocess import Preprocess

S = 32
PLAIN = Preprocess(S, (0.0, 0.0, 0.0), (1 / 255,) * 3)
# landscape, portrait, odd on one side, nearly a line, and a whole one: left, top, width, height
BOXES = [(0, 8, S, 16), (10, 0, 12, S), (0, 9, S, 13), (0, 14, S, 3), (0, 0, S, S)]
PAD, FILL = 255, np.zeros(3)


def padded(boxes: list[tuple[int, int, int, int]]) -> NDArray[np.uint8]:
    """Dark noise in white."""
    images = np.full((len(boxes), S, S, 3), PAD, np.uint8)
    for image, (left, top, width, height) in zip(images, boxes, strict=True):
        image[top : top + height, left : left + width] = noise(size=(height, width)) // 4 + 1
    return images


def views(policy: str, row: int, count: int = 100, known: bool = True) -> NDArray[np.float32]:
    """Of one of the images [count, 3, S, S], in 0..255."""
    box = np.array(BOXES) if known else None
    augment = Augmenter(padded(BOXES), PLAIN, FILL, seed=1, box=box)
    return augment(Policy.parse(policy), np.full(count, row), np.arange(count), 0).numpy()


@pytest.mark.parametrize("row", range(4))
@pytest.mark.parametrize("area", ["0.08..1", "0.9..1", "1", "0.001"])
@pytest.mark.parametrize("first", ["", "flip(0.5)+", "flip_y+turn+", "light(0)+"])
def test_windows_never_show_padding(row: int, area: str, first: str) -> None:
    """Nor a blend with it; not where the picture was mirrored or turned before either."""
    policy = f"{first}resized_crop({area})"
    assert views(policy, row).max() < 64 + 1e-3
    if area != "0.001":
        assert views(policy, row, known=False).max() > 200  # as it was


@pytest.mark.parametrize("row", range(3))
def test_windows_reach_to_the_ends_of_the_picture(row: int) -> None:
    """Of each line of pixels along either axis some window shows something, but for the one that an
    odd number leaves over."""
    left, top, width, height = BOXES[row]
    for axis, count in ((0, height), (1, width)):
        levels = np.zeros((S, S), np.uint8)
        picture = levels[top : top + height, left : left + width]
        picture[:] = np.expand_dims(4 * np.arange(1, count + 1), 1 - axis)
        images = np.repeat(levels[None, :, :, None], 3, 3)
        augment = Augmenter(images, PLAIN, FILL, seed=row, box=np.array(BOXES[row : row + 1]))
        policy, rows = Policy.parse("nearest+resized_crop(0.2..1)"), np.zeros(2000, np.int64)
        seen = np.unique(np.rint(augment(policy, rows, np.arange(2000), 0).numpy()))
        assert len(seen) >= count - 1
        assert set(seen) <= set(4.0 * np.arange(1, count + 1))


def test_the_area_is_that_of_the_picture() -> None:
    """And the shape as drawn: between 3:4 and 4:3, or as near as fits."""
    n = 4000
    numbers = np.arange(n)
    policy = Policy.parse("resized_crop(0.2..0.4)")
    inside = np.tile([[1.0, 0.5]], (n, 1))
    warp = sample(policy, 0, numbers * 0, numbers, 0, S, S, inside).operand[:, 0].astype(float)
    w, x, h, y = warp[:, 0], warp[:, 2], warp[:, 4], warp[:, 5]
    area = w * h / 0.5
    assert area.min() >= 0.2 - 1e-6
    assert area.max() <= 0.4 + 1e-6
    assert abs(area.mean() - 0.3) < 0.005
    assert (np.abs(x) + w / 2 <= 0.5 + 1e-6).all()
    assert (np.abs(y) + h / 2 <= 0.25 + 1e-6).all()
    assert (np.abs(y) + h / 2).max() > 0.24
    assert ((w / h > 0.75 - 1e-5) & (w / h < 4 / 3 + 1e-5)).all()


@pytest.mark.parametrize("policy", ["resized_crop", "turn+resized_crop(0.5)", "strong", "weak"])
def test_whole_images_are_seen_as_they_were(policy: str) -> None:
    """To the bit, whether their boxes are known or not; and so are all without windows."""
    rows = [4] if "crop" in policy else range(5)
    for row in rows:
        known, unknown = views(policy, row), views(policy, row, known=False)
        assert known.tobytes() == unknown.tobytes()
