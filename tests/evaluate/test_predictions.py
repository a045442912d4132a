import numpy as np
import pytest
import torch
from torch import nn

from fewlabels.evaluate.predictions import TTA, logits, probabilities, seen, softmax
from fewlabels.pixels.preprocess import Preprocess

PRE = Preprocess(4)


def test_the_mode_is_as_before_and_statistics_do_not_move() -> None:
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(48, 2)).train()
    images = np.random.default_rng(0).integers(0, 255, (5, 4, 4, 3), np.uint8)
    first = logits(model, images, PRE)
    assert model.training
    assert model[1].training
    assert isinstance(model[0], nn.BatchNorm2d)
    assert model[0].running_mean is not None
    assert model[0].running_mean.abs().sum() == 0
    assert np.array_equal(first, logits(model, images, PRE))


def test_training_mode_is_restored_after_an_error() -> None:
    class Broken(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("broken")

    model = Broken().train()
    with pytest.raises(RuntimeError, match="broken"):
        logits(model, np.zeros((1, 4, 4, 3), np.uint8), PRE)
    assert model.training


def test_softmax_by_hand_and_for_large_logits() -> None:
    p = softmax(np.array([[0.0, np.log(3.0)], [1000.0, 1000.0]], np.float32))
    assert p == pytest.approx(np.array([[0.25, 0.75], [0.5, 0.5]]), abs=1e-6)


def first_pixel(classes: int = 2) -> nn.Module:
    """Logits from the upper left pixel's first two channels."""

    class Corner(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[:, :classes, 0, 0]

    return Corner()


def test_looks_mirror_and_shift_and_repeat_the_edge() -> None:
    images = np.arange(2 * 16 * 16 * 3).reshape(2, 16, 16, 3).astype(np.uint8)
    assert np.array_equal(seen(images, (False, 0, 0)), images)
    assert np.array_equal(seen(images, (True, 0, 0)), images[:, :, ::-1])
    moved = seen(images, (False, 1, -1))  # a pixel down and to the left
    assert moved.shape == images.shape
    assert np.array_equal(moved[:, 1:, :-1], images[:, :-1, 1:])
    assert np.array_equal(moved[:, 0], moved[:, 1])
    assert np.array_equal(moved[:, :, -1], moved[:, :, -2])


def test_test_time_augmentation_averages_probabilities() -> None:
    images = np.random.default_rng(1).integers(0, 256, (5, 4, 4, 3), np.uint8)
    model = first_pixel()
    alone = probabilities(model, images, PRE)
    assert np.array_equal(alone, softmax(logits(model, images, PRE)))
    both = probabilities(model, images, PRE, tta="flip")
    mirrored = probabilities(model, np.ascontiguousarray(images[:, :, ::-1]), PRE)
    assert both == pytest.approx((alone + mirrored) / 2)
    assert both != pytest.approx(alone)


@pytest.mark.parametrize("tta", TTA)
def test_every_average_is_a_distribution_and_does_not_change_on_an_even_image(tta: str) -> None:
    images = np.full((3, 16, 16, 3), (10, 200, 90), np.uint8)
    p = probabilities(first_pixel(3), images, PRE, tta=tta)
    assert p.sum(1) == pytest.approx(1)
    assert p == pytest.approx(probabilities(first_pixel(3), images, PRE))
    if "flip" in tta:  # as likely mirrored
        odd = np.random.default_rng(2).integers(0, 256, (4, 16, 16, 3), np.uint8)
        mirrored = np.ascontiguousarray(odd[:, :, ::-1])
        one, two = (probabilities(first_pixel(), i, PRE, tta=tta) for i in (odd, mirrored))
        assert one == pytest.approx(two)
