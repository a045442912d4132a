"""MixUp and CutMix: values by hand, exact areas, and what may not depend on the batch's maker."""

import numpy as np
import pytest
import torch

from fewlabels.augment.mix import Mix, cutmix, mixup, one_hot, rectangles
from fewlabels.errors import UserError

K = 4


def batch(n: int = 6, height: int = 9, width: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    """Image b is the number b everywhere; its class is b modulo K."""
    x = torch.arange(n, dtype=torch.float32).view(-1, 1, 1, 1).expand(n, 3, height, width)
    return x.clone(), torch.arange(n) % K


def test_mixup_by_hand() -> None:
    x, y = batch(2)
    mixed, labels = mixup(x, one_hot(y, K), np.array([1, 0]), np.array([0.75, 1.0]))
    assert (mixed[0] == 0.25).all()  # 0.75 * 0 + 0.25 * 1
    assert (mixed[1] == 1).all()
    assert labels.tolist() == [[0.75, 0.25, 0, 0], [0, 1, 0, 0]]


def test_cutmix_by_hand() -> None:
    x, y = batch(2, 4, 5)
    boxes = np.array([[1, 3, 2, 5], [0, 4, 0, 5]])  # 6 of 20 pixels, and all
    mixed, labels = cutmix(x, one_hot(y, K), np.array([1, 0]), boxes)
    expected = torch.zeros(4, 5)
    expected[1:3, 2:5] = 1
    assert (mixed[0] == expected).all()
    assert (mixed[1] == 0).all()
    torch.testing.assert_close(labels, torch.tensor([[0.7, 0.3, 0, 0], [1.0, 0, 0, 0]]))


@pytest.mark.parametrize("text", ["mixup", "cutmix", "mixup(1)", "cutmix(0.3)"])
@pytest.mark.parametrize("step", range(8))
def test_labels_go_by_what_is_in_the_image(text: str, step: int) -> None:
    """The images are numbers, so that the mean of an image tells the share of its partner."""
    x, _y = batch()
    mix = Mix.parse(text)
    assert mix is not None
    mixed, labels = mix(x, torch.eye(6)[torch.arange(6)], 6, seed=3, step=step)
    assert torch.allclose(labels.sum(1), torch.ones(6))
    assert torch.allclose(mixed.mean((1, 2, 3)), labels @ torch.arange(6.0), atol=1e-5)
    assert ((labels > 0).sum(1) <= 2).all()


def test_clipped_rectangles_count_what_is_left() -> None:
    """A quarter of a 20 x 10 image, around its corner, is cut down to a sixteenth."""
    box = rectangles(np.array([0.75]), np.array([[0.0, 0.0]]), 20, 10)
    assert box.tolist() == [[0, 5, 0, 3]]  # 10 x 5 before it is clipped; 5 // 2 columns lie outside
    x, y = batch(2, 20, 10)
    _, labels = cutmix(x, one_hot(y, K), np.array([1, 0]), np.repeat(box, 2, 0))
    assert labels[0, 1] == pytest.approx(15 / 200)


def test_rectangles_stay_in_the_image_and_cover_their_share() -> None:
    rng = np.random.default_rng(0)
    share, centre = rng.random(500), rng.random((500, 2))
    top, bottom, left, right = rectangles(share, centre, 33, 17).T
    assert (top >= 0).all()
    assert (bottom <= 33).all()
    assert (top <= bottom).all()
    assert (left >= 0).all()
    assert (right <= 17).all()
    assert (left <= right).all()
    inner = rectangles(share, np.full((500, 2), 0.5), 32, 32)
    area = (inner[:, 1] - inner[:, 0]) * (inner[:, 3] - inner[:, 2]) / 32**2
    # each side is within half a pixel of what it should be
    assert np.abs(area - (1 - share)).max() <= 2 * 0.5 / 32 + 0.25 / 32**2


def test_several_labels_and_soft_ones_are_mixed_by_share() -> None:
    x, _ = batch(2)
    y = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.2, 0.8]])
    _, labels = mixup(x, y, np.array([1, 0]), np.array([0.5, 0.25]))
    torch.testing.assert_close(labels, torch.tensor([[0.5, 0.6, 0.4], [0.75, 0.8, 0.2]]))


def test_a_function_of_seed_and_step() -> None:
    x, y = torch.rand(16, 3, 8, 8), torch.arange(16) % K
    mix = Mix.parse("cutmix")
    assert mix is not None
    first, again = mix(x, y, K, 1, 5), mix(x, y, K, 1, 5)
    assert all(map(torch.equal, first, again))
    for other in (mix(x, y, K, 1, 6), mix(x, y, K, 2, 5)):
        assert not torch.equal(first[0], other[0])


def test_partners_are_other_images_and_the_batch_stays_as_it_is() -> None:
    x, _ = batch(16)
    before = x.clone()
    mix = Mix.parse("cutmix(1)")
    assert mix is not None
    for step in range(20):
        _, labels = mix(x, torch.eye(16), 16, 0, step)
        assert torch.equal(x, before)
        changed = labels.diagonal() < 1
        assert (labels[changed].count_nonzero(1) <= 2).all()
    alone = mix(x[:1], torch.tensor([2]), K, 0, 0)
    assert torch.equal(alone[0], x[:1])
    assert alone[1].tolist() == [[0, 0, 1, 0]]


def test_text() -> None:
    assert Mix.parse("none") is None
    assert str(Mix.parse("mixup")) == "mixup(0.2)"
    assert str(Mix.parse("cutmix(0.5)")) == "cutmix(0.5)"
    for wrong in ("cut", "cutmix(0)", "mixup()x", "mixup(1.2.3)", ""):
        with pytest.raises(UserError, match="--mix"):
            Mix.parse(wrong)
