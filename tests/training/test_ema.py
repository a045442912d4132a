import pytest
import torch
from torch import nn

from fewlabels.training.ema import EMA


def test_parameters_are_averaged_and_buffers_copied() -> None:
    model = nn.BatchNorm1d(1)
    ema = EMA(model, decay=0.5)
    with torch.no_grad():
        model.weight.fill_(3.0)  # it was 1
    assert model.running_mean is not None
    model.running_mean.fill_(7.0)  # it was 0
    ema.update(step=100)
    state = ema.model.state_dict()
    assert state["weight"].item() == pytest.approx(2.0)
    assert state["running_mean"].item() == 7.0


def test_early_steps_forget_the_random_start() -> None:
    model = nn.Linear(1, 1)
    ema = EMA(model, decay=0.999)
    with torch.no_grad():
        model.weight.add_(1.0)
    before = ema.model.state_dict()["weight"].item()
    ema.update(step=0)  # decay is 1 / 10
    after = ema.model.state_dict()["weight"].item()
    assert after - before == pytest.approx(0.9, rel=1e-5)


def test_the_average_takes_no_gradient_and_stays_in_eval_mode() -> None:
    ema = EMA(nn.BatchNorm1d(2).train(), 0.9)
    assert not ema.model.training
    assert not any(p.requires_grad for p in ema.model.parameters())
