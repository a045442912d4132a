"""The learning-rate range test: a short training in which the rate rises, to see which one to take.

Smith 2017, "Cyclical learning rates for training neural networks", section 3.3: while the rate is
too low the loss stays as it is, then it falls, and where the rate is too high it rises again. Here
the rate rises exponentially, so that every order of magnitude has as many steps.

The loss is not that of each step's batch, which is of other images each time: with few images a
batch that difference hides all others. It is that of the same labelled images after every step.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from fewlabels.methods import Batch, Method
from fewlabels.methods.sharing import Sharing, current, shared
from fewlabels.models.auxiliary import auxiliary_loss
from fewlabels.training import optimiser
from fewlabels.training.freeze import Freezer
from fewlabels.training.loop import TrainSettings
from fewlabels.training.random_state import random_state_kept

LOWEST, HIGHEST = 1e-6, 1.0
STEPS = 100
FEWEST = 25  # steps: with fewer the rate would be doubled in each
TIMED = 3  # steps at the lowest rate that come before; the last two are timed
JUDGED = 32  # images that the loss is of, at least
SMOOTHING = 0.9  # weight of the past in the smoothed loss, after one of STEPS steps
DIVERGED = 4.0  # it ends at so many times the best smoothed loss
FALL = 0.02  # of the first loss: less is no descent
LOST = 0.5  # of the descent: where so much is lost again it is over
BOTTOM = 0.1  # of the descent: so near to the lowest loss is as good as the lowest
BELOW = 10.0  # the rate that is chosen lies so many times below the end of the bottom


@dataclass(frozen=True)
class RangeTest:
    """What was seen, step by step: the rate, the loss after the step, and its moving average with
    bias correction (Kingma and Ba 2015, section 3)."""

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]


def range_test(
    model: nn.Module,
    method: Method,
    make_batch: Callable[[int], Batch],
    settings: TrainSettings,
    fabric: Fabric,
    size: int,
    seed: int = 0,
    seconds: float = math.inf,
) -> RangeTest:
    """Trains `model`, which the caller wants no more, at rates from LOWEST to HIGHEST.

    `method` looks at labelled images only and keeps nothing from step to step; `size` is the
    images' side in pixels, and `seed` of what is drawn. All layers' rates rise together, in their
    ratios by depth: `lr` and `head_lr` of the settings play no part. What is thawed in the course
    of training learns from the start.
    The steps are fewer where `seconds` are too short for STEPS, and there are none where these are
    not enough for FEWEST. Random numbers that are drawn elsewhere stay what they are.
    """
    device, rates, losses = fabric.device, list[float](), list[float]()
    with (
        random_state_kept(device),
        shared(Sharing(parts=settings.accumulate * fabric.world_size)),
    ):
        torch.manual_seed(seed)
        method.seed(seed)
        student = _student(model, method, settings, fabric, size)
        judged = _several(make_batch).to(fabric.to_device)
        took = math.inf
        for step in range(TIMED):
            start = time.monotonic()
            _after_step(student, make_batch(step).to(fabric.to_device), judged, LOWEST)
            took = min(took, time.monotonic() - start) if step else math.inf
        steps = int(min(STEPS, seconds / took))
        if steps < FEWEST:
            return RangeTest((), (), ())
        for rate in np.geomspace(LOWEST, HIGHEST, steps).tolist():
            batch = make_batch(TIMED + len(rates)).to(fabric.to_device)
            loss = _after_step(student, batch, judged, rate)
            if not math.isfinite(loss):
                break
            rates.append(rate)
            losses.append(loss)
            mean = smoothed(losses, steps)
            if mean[-1] > DIVERGED * min(mean):
                break
    return RangeTest(tuple(rates), tuple(losses), tuple(smoothed(losses, steps)))


def chosen(test: RangeTest) -> float | None:
    """A tenth of the highest rate at which the smoothed loss was about as low as it became, before
    it rose again. None where it did not fall, or not rise: a head alone learns at any rate.

    A tenth of the rate of the lowest loss is the usual advice; yet the bottom is flat, and where in
    it the lowest loss lies is chance. Its end is not: there training becomes unstable. Three draws
    of 50 labels of hand signs, adamw: ends at 0.027, 0.009, 0.017, lowest losses at 0.020, 0.0019,
    0.011. The steepest descent was worse than both: with few labels the loss falls fastest where
    the last layer's offsets are put right, long before anything is learnt (hand signs: at 0.0004;
    500 steps at 0.0005 end 11 points below those at 0.0015), or else close to the end (digits: at
    0.015 to 0.023, where 0.015 is 3 points below 0.0015).
    """
    mean = np.array(test.smoothed)
    if not len(mean):
        return None
    lowest = np.minimum.accumulate(mean)
    fell = mean[0] - lowest
    over = np.flatnonzero((fell > FALL * mean[0]) & (mean - lowest > LOST * fell))
    before = mean[: over[0]] if len(over) else mean
    descent = mean[0] - before.min()
    if descent <= FALL * mean[0]:
        return None
    end = int(np.flatnonzero(before <= before.min() + BOTTOM * descent)[-1])
    return test.rates[end] / BELOW if end < len(mean) - 1 else None


def smoothed(losses: list[float], steps: int = STEPS) -> list[float]:
    """The exponential moving average, with bias correction, of the first losses of so many steps.

    Its past is as long on the scale of rates however many steps there are: where they are fewer
    each weighs more. Else a curve of few steps would lag behind by more of the rate, up to ten
    times.
    """
    past = SMOOTHING ** (STEPS / steps)
    mean, out = 0.0, []
    for i, loss in enumerate(losses, start=1):
        mean = past * mean + (1 - past) * loss
        out.append(mean / (1 - past**i))
    return out


@dataclass(frozen=True, eq=False)
class _Student:
    model: nn.Module
    method: Method
    optimiser: torch.optim.Optimizer
    freezer: Freezer
    fabric: Fabric
    scaler: torch.amp.GradScaler  # of losses, where half precision needs it
    clip: float | None


def _student(
    model: nn.Module, method: Method, settings: TrainSettings, fabric: Fabric, size: int
) -> _Student:
    """Not set up by `fabric`: other processes do not take part, and would be waited for."""
    kind = fabric.device.type
    model = model.to(fabric.device)
    method = method.to(fabric.device)
    freezer = Freezer(model, settings.freeze, size)
    freezer(1.0)
    with fabric.autocast():
        half = torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) == torch.float16
    return _Student(
        model,
        method,
        optimiser.build(model, replace(settings.optimiser, lr=1.0, head_lr=None), method),
        freezer,
        fabric,
        torch.amp.GradScaler(kind, enabled=half),
        settings.clip,
    )


def _after_step(student: _Student, batch: Batch, judged: Batch, rate: float) -> float:
    """The loss of `judged` after a step on `batch`."""
    optim, scaler = student.optimiser, student.scaler
    for group in optim.param_groups:
        group["lr"] = rate * group["scale"]
    optim.zero_grad(set_to_none=True)
    scaler.scale(_loss(student, batch)).backward()  # type: ignore[no-untyped-call]
    if student.clip is not None:
        scaler.unscale_(optim)
        learning = [p for group in optim.param_groups for p in group["params"]]  # as in the loop
        nn.utils.clip_grad_norm_(learning, student.clip)
    scaler.step(optim)
    scaler.update()
    with torch.no_grad():
        return float(_loss(student, judged))


def _loss(student: _Student, batch: Batch) -> Tensor:
    student.model.train()
    student.freezer(1.0)
    with student.fabric.autocast():
        result = student.method.step(student.model, batch, 0.0)
        whole = result.labels_first and current().parts == 1  # of parts the last one is kept
        teach = student.method.supervise if whole else None
        auxiliary = auxiliary_loss(student.model, batch.y, teach)
    return result.loss if auxiliary is None else result.loss + auxiliary


def _several(make_batch: Callable[[int], Batch]) -> Batch:
    """JUDGED images or more, none of which is in memory that is used again."""
    x, y = list[Tensor](), list[Tensor]()
    while sum(map(len, x)) < JUDGED:
        batch = make_batch(len(x))
        x.append(batch.x.clone())
        y.append(batch.y.clone())
    return Batch(torch.cat(x), torch.cat(y))
