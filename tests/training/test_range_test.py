"""The range test on a bowl whose best rate is known, and what it must not do."""

import copy
import math

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from fewlabels.methods import Batch, Facts, Method, Step, Views
from fewlabels.training.freeze import Freeze
from fewlabels.training.loop import TrainSettings
from fewlabels.training.optimiser import OptimiserSettings
from fewlabels.training.range_test import (
    FEWEST,
    STEPS,
    RangeTest,
    chosen,
    range_test,
    smoothed,
)

PLAIN = TrainSettings(OptimiserSettings("sgd", 1.0, 0.0, momentum=0.0))


class Bowl(Method):
    """h/2 (w - x)²: gradient descent is fastest at 1/h and diverges beyond 2/h."""

    views = Views()

    def __init__(self, h: float) -> None:
        super().__init__(Facts(2, (1, 1), 2))
        self.h = h

    def step(self, student: object, batch: Batch, progress: float) -> Step:
        assert isinstance(student, nn.Module)
        away = student(batch.x) - batch.x.flatten(1)[:, :1]
        return Step(0.5 * self.h * away.square().mean(), away)


class Point(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.zeros(1))
        self.head = nn.Linear(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.first.expand(len(x), 1)


def batch_of(step: int) -> Batch:
    """x lies around 1; else the point would arrive, and stay at any rate."""
    g = torch.Generator().manual_seed(step)
    return Batch(1 + 0.1 * torch.randn(16, 1, 1, 1, generator=g), torch.arange(16) % 2)


def bowl(h: float, settings: TrainSettings = PLAIN, seconds: float = math.inf) -> RangeTest:
    fabric = Fabric(accelerator="cpu", devices=1)
    return range_test(Point(), Bowl(h), batch_of, settings, fabric, 2, 0, seconds)


@pytest.mark.parametrize("h", [8.0, 80.0, 800.0])
def test_the_rate_lies_below_the_one_that_diverges_as_far_as_it_should(h: float) -> None:
    test = bowl(h)
    rate = chosen(test)
    assert rate is not None
    assert 0.1 / h < rate < 0.4 / h  # a tenth of 1/h to 4/h: the smoothed loss lags behind
    assert test.rates[0] == pytest.approx(1e-6)
    assert len(test.rates) < STEPS  # it ended where the loss had grown


def test_each_loss_is_that_of_gradient_descent() -> None:
    test, w = bowl(8.0), 0.0
    judged = torch.cat([batch_of(0).x, batch_of(1).x])
    rates = (1e-6, 1e-6, 1e-6, *test.rates)  # three steps come before
    for step, rate in enumerate(rates):
        w -= rate * 8.0 * (w - float(batch_of(step).x.mean()))
        if step >= 3:
            expected = 4.0 * float((w - judged).square().mean())
            assert test.losses[step - 3] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("steps", [25, 33, 60])
def test_fewer_steps_find_the_rate_that_all_find(steps: int) -> None:
    """On a curve that falls from a rate of 0.0001 on and rises again from 0.003 on."""

    def curve(count: int) -> RangeTest:
        rates = np.geomspace(1e-6, 1.0, count)
        losses = 1 + 1 / (1 + rates / 1e-4) + (rates / 3e-3) ** 2
        losses = losses[losses < 10]
        mean = smoothed(losses.tolist(), count)
        return RangeTest(tuple(rates[: len(losses)]), tuple(losses), tuple(mean))

    every, few = curve(STEPS), curve(steps)
    shared = [r for r in every.rates if r < min(1e-3, few.rates[-1])]
    between = [np.interp(np.log(shared), np.log(c.rates), c.smoothed) for c in (every, few)]
    np.testing.assert_allclose(*between, atol=0.05)
    rates = [chosen(curve) for curve in (every, few)]
    assert rates[0] is not None
    assert rates[1] is not None
    assert 0.55 < rates[1] / rates[0] < 1.8  # a step of 25 is as long


def test_all_that_learns_is_clipped_as_in_the_loop() -> None:
    """A parameter of the method's own, whose gradient is a thousand times the model's."""
    taken: list[tuple[float, float]] = []

    class Owns(Bowl):
        def __init__(self) -> None:
            super().__init__(1.0)
            self.scale = nn.Parameter(torch.zeros(1))

        def step(self, student: object, batch: Batch, progress: float) -> Step:
            assert isinstance(student, Point)
            taken.append((float(student.first.detach()), float(self.scale.detach())))
            loss = student.first.sum() + 1000.0 * self.scale.sum()
            return Step(loss, student(batch.x))

    settings = TrainSettings(PLAIN.optimiser, clip=1.0)
    test = range_test(Point(), Owns(), batch_of, settings, Fabric(accelerator="cpu", devices=1), 2)
    way = sum(test.rates) + 3 * test.rates[0]
    assert abs(taken[-1][1]) == pytest.approx(way, rel=1e-2)  # steps of length 1 x rate …
    assert abs(taken[-1][0]) == pytest.approx(way / 1000, rel=1e-2)  # … of both together


def test_the_average_is_corrected_for_its_start() -> None:
    assert smoothed([2.0, 2.0, 2.0]) == pytest.approx([2.0, 2.0, 2.0])
    assert smoothed([2.0, 2.0, 2.0], 33) == pytest.approx([2.0, 2.0, 2.0])
    assert smoothed([1.0, 3.0], 50)[1] == pytest.approx((0.81 * 0.19 + 0.19 * 3.0) / (1 - 0.81**2))
    assert smoothed([1.0, 3.0])[1] == pytest.approx((0.9 * 0.1 * 1.0 + 0.1 * 3.0) / (1 - 0.81))


def test_what_comes_after_the_descent_is_not_looked_at() -> None:
    """Down at 0.001, up at 0.01, and down again, lower, at the very end."""
    rates = tuple(10.0 ** (-6 + 0.5 * i) for i in range(13))
    losses = (3, 3, 3, 3, 2.6, 2, 2, 2.6, 2.9, 3, 2.5, 1.5, 1)
    test = RangeTest(rates, losses, losses)
    assert chosen(test) == pytest.approx(0.1 * rates[6])


def test_where_the_loss_never_falls_no_rate_is_chosen() -> None:
    flat = (2.0, 2.0, 1.99, 2.0, 5.0)
    assert chosen(RangeTest((1e-6, 1e-5, 1e-4, 1e-3, 1e-2), flat, flat)) is None
    assert chosen(RangeTest((), (), ())) is None


def test_where_the_loss_never_rises_no_rate_is_chosen() -> None:
    falling = (2.0, 1.9, 1.5, 1.0, 0.9)
    rates = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
    assert chosen(RangeTest(rates, falling, falling)) is None
    risen = (2.0, 1.9, 1.5, 0.9, 2.1)
    assert chosen(RangeTest(rates, risen, risen)) == pytest.approx(0.01)


def test_a_loss_that_is_no_number_ends_it() -> None:
    test = bowl(1e18)
    assert all(map(math.isfinite, test.losses))
    assert chosen(test) is None


def test_steps_are_fewer_where_time_is_short_and_none_where_there_is_no_time() -> None:
    assert bowl(8.0, seconds=0.0).rates == ()
    some = bowl(8.0, seconds=1e9)
    assert len(some.rates) == len(bowl(8.0).rates)
    with pytest.MonkeyPatch.context() as patch:
        ticks = iter(range(1000))
        patch.setattr("time.monotonic", lambda: float(next(ticks)))  # a step takes a second
        few = bowl(1.0, seconds=40.0)
    assert len(few.rates) == 40 > FEWEST
    assert few.rates[-1] == pytest.approx(1.0)


def test_the_rate_of_the_head_and_the_usual_one_play_no_part() -> None:
    other = OptimiserSettings("adamw", 123.0, head_lr=7.0)
    assert learn(optimiser=other)[0] == learn()[0]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 4, 2), nn.BatchNorm2d(4), nn.Flatten(), nn.Dropout(0.5), nn.Linear(4, 2)
        )

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layers(x)
        return logits


class Labels(Method):
    views = Views()

    def step(self, student: object, batch: Batch, progress: float) -> Step:
        assert isinstance(student, nn.Module)
        logits = student(batch.x)
        return Step(self.supervise(logits, batch.y).mean(), logits)


def learn(
    flip: bool = False,
    seed: int = 0,
    freeze: Freeze | None = None,
    optimiser: OptimiserSettings | None = None,
) -> tuple[RangeTest, Net]:
    torch.manual_seed(3)
    net = Net()
    if flip:
        last = net.layers[-1]
        for value in (last.weight, last.bias):
            value.data = value.data.flip(0)

    def make(step: int) -> Batch:
        g = torch.Generator().manual_seed(step)
        y = torch.arange(8) % 2
        x = torch.randn(8, 1, 2, 2, generator=g) + 2.0 * y[:, None, None, None]
        return Batch(x, 1 - y if flip else y)

    usual = OptimiserSettings("adamw", 0.01)
    settings = TrainSettings(optimiser or usual, freeze=freeze or Freeze())
    fabric = Fabric(accelerator="cpu", devices=1)
    found = range_test(net, Labels(Facts(2, (4, 4), 8)), make, settings, fabric, 2, seed)
    return found, net


def test_the_same_seed_sees_the_same_and_another_another() -> None:
    assert learn()[0] == learn()[0]
    assert learn()[0] != learn(seed=1)[0]  # dropout


def test_classes_under_other_names_have_the_same_rate() -> None:
    one, other = learn()[0], learn(flip=True)[0]
    assert one.losses == pytest.approx(other.losses, rel=1e-3)
    assert chosen(one) == chosen(other)


def test_random_numbers_of_others_are_not_touched() -> None:
    point, state = Point(), torch.get_rng_state()
    range_test(point, Bowl(8.0), batch_of, PLAIN, Fabric(accelerator="cpu", devices=1), 2)
    assert torch.equal(state, torch.get_rng_state())


def test_what_is_frozen_stays() -> None:
    torch.manual_seed(3)
    start = copy.deepcopy(Net().layers[0].weight)
    assert torch.equal(learn(freeze=Freeze("backbone"))[1].layers[0].weight, start)
    assert not torch.equal(learn()[1].layers[0].weight, start)
