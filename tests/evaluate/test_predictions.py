import numpy as np
import pytest
import torch
from torch import nn

from fewlabels.evaluate.predictions import logits, softmax
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
