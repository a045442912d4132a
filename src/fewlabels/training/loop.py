"""The loop: batches in, an averaged model out. It knows nothing of where batches come from.

One iteration is one step of the method, one of the optimiser, one of the moving average; and one
more of the optimiser where the method learns from how the student's went. Learning rate and method
see progress, which comes from the budget: steps, or seconds on the clock.

Several processes may take part: each has a part of every batch and all of the state
(`methods/sharing.py`), one of them leads (`training/lead.py`).
"""

import math
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn

from fewlabels.errors import UserError
from fewlabels.methods import Batch, Method, Networks
from fewlabels.methods.sharing import Sharing, mean_of_processes, own, shared, sum_gradients
from fewlabels.models.auxiliary import auxiliary_loss
from fewlabels.models.built import restore
from fewlabels.pixels.loader import prefetch
from fewlabels.training import optimiser, schedule
from fewlabels.training.budget import Budget
from fewlabels.training.ema import EMA
from fewlabels.training.freeze import Freeze, Freezer
from fewlabels.training.lead import Lead, Listener, Order, Pace
from fewlabels.training.optimiser import OptimiserSettings
from fewlabels.training.state import State
from fewlabels.training.threads import ThreadChoice

EXPLODED = 1e4  # a loss above it is no longer one that learns
ATTEMPTS = 3  # times that it goes back where the loss explodes, at half the rate each time
_UNTOLD = Order(0.0, keep=False, over=False)  # what a process that follows sends
NO_NUMBERS = "contains either `inf`, `nan`"  # what it says where it is to draw labels from such
NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")  # what torch says


class _Exploded(Exception):
    """The loss, or a weight, is no number that one can learn with."""


class _Full(Exception):
    """A batch does not fit into memory."""


@dataclass(frozen=True)
class TrainSettings:
    """What the loop takes beside the budget; defaults are for `cnn_small` from scratch."""

    optimiser: OptimiserSettings = field(default_factory=OptimiserSettings)
    schedule: str = "cosine"
    warmup: float = 0.03  # part of the budget
    clip: float | None = None  # the gradient's norm, at most
    accumulate: int = 1  # parts that a batch passes the network in, to save memory
    ema_decay: float = 0.99
    freeze: Freeze = field(default_factory=Freeze)
    workers: int = 1  # threads that make batches
    layout: torch.memory_format = torch.channels_last  # of images and weights in memory
    compile: bool = False  # the model, by torch.compile
    pace: Pace = field(default_factory=Pace)


@dataclass(frozen=True, eq=False)
class Task:
    """What is trained, on what, and how; the same for every process that takes part."""

    model: nn.Module
    method: Method
    # the number of a step -> its batch; or that, this process and how many there are -> its part
    make_batch: Callable[..., Batch]
    settings: TrainSettings
    by_steps: bool  # whether steps are what is limited
    seed: int
    size: int
    teachers: tuple[nn.Module, ...]


@dataclass(frozen=True)
class Fitted:
    """The averaged model, and what it took."""

    model: nn.Module
    steps: int
    seconds: float
    images: int  # that went through the model
    early: bool  # whether it ended before its budget, for want of a better accuracy


def fit(
    model: nn.Module,
    method: Method,
    make_batch: Callable[..., Batch],
    budget: Budget,
    settings: TrainSettings,
    fabric: Fabric,
    folder: Path,
    validate: Callable[[nn.Module], dict[str, float]],
    listener: Listener,
    tag: str = "",
    seed: int = 0,
    size: int = 32,
    teachers: tuple[nn.Module, ...] = (),
) -> Fitted:
    """Trains `model` until the budget is used and returns its moving average, in eval mode.

    Every few seconds the whole state goes to `folder`; a state found there that carries this `tag`
    is taken up where it stopped. Where the loss explodes the last good state is taken up, and all
    rates are halved from there on; UserError after three times. Where memory is too small for a
    batch it goes on from there with the batch in twice as many parts. `seed` is of what is drawn in
    the steps, such as dropout.
    `validate` maps a model to numbers for the log; `size` is the images' side in pixels; `teachers`
    are for a method that learns from others. The processes that `fabric` knows of take part, if
    they `follow`.
    """
    by_steps = budget.steps is not None
    task = Task(model, method, make_batch, settings, by_steps, seed, size, teachers)
    lead = Lead(folder, budget, settings.pace, validate, listener, tag)
    if fabric.world_size > 1:
        for network in (model, *teachers):
            network.cpu()  # else all would have theirs on this process's device
        fabric.broadcast(task)
    state = _train(task, fabric, lead)
    if lead.best.weights:
        restore(state.ema.model, lead.best.weights)
    early = lead.tired and lead.progress < 1.0
    return Fitted(state.ema.model, state.step, lead.clock(), state.images, early)


def follow(fabric: Fabric) -> None:
    """Takes part in what another process leads, until `dismiss` is called there."""
    told: Any = None
    while (task := fabric.broadcast(told)) is not None:
        _train(task, fabric, None)


def dismiss(fabric: Fabric) -> None:
    """Lets those that follow go."""
    if fabric.world_size > 1:
        fabric.broadcast(None)


def _train(task: Task, fabric: Fabric, lead: Lead | None) -> State:
    settings = task.settings
    state, freezer = _begin(task, fabric)
    kept: dict[str, Any] | None = fabric.broadcast(lead.earlier() if lead else None)
    if kept is not None:
        state.take_up(kept)
    if lead:
        lead.begin(state, kept)
    # another number of threads adds in another order: where steps are fixed, so is their result
    most = torch.get_num_threads()
    choice = None if task.by_steps else ThreadChoice.up_to(most)
    rank, world = fabric.global_rank, fabric.world_size
    there = partial(torch.Tensor.to, device=fabric.device, non_blocking=True)

    def make(step: int) -> Batch:
        return task.make_batch(step, rank, world) if world > 1 else task.make_batch(step)

    batches = prefetch(make, state.step, settings.workers)
    try:
        while True:
            order: Order = fabric.broadcast(lead.order() if lead else _UNTOLD)
            try:
                if not order.over:
                    batch = next(batches)
                    if fabric.device.type != "cpu":
                        batch = batch.to(there)
                    start = time.monotonic()
                    with shared(Sharing(rank, world, state.parts)):
                        done = _step(task, fabric, state, freezer, batch, order.progress)
                if (order.over or order.keep) and not state.finite:
                    raise _Exploded(f"a weight is no number any more after step {state.step}")
            except (_Exploded, _Full) as why:
                batches.close()
                _go_back(state, fabric, lead, why)
                batches = prefetch(make, state.step, settings.workers)
                continue
            if order.over:
                break
            if choice is not None:
                now = time.monotonic()
                torch.set_num_threads(choice.after_step(now - start, now))
            state.step += 1
            state.images += batch.images * world
            if lead:
                lead.stepped(state, *done)
                if order.keep:
                    lead.keep(state)
    finally:
        batches.close()
        torch.set_num_threads(most)
    freezer(1.0)
    if lead:
        lead.end(state)
    return state


def _begin(task: Task, fabric: Fabric) -> tuple[State, Freezer]:
    settings = task.settings
    torch.manual_seed(task.seed)
    model = task.model.to(fabric.device, memory_format=settings.layout)  # type: ignore[call-overload]
    freezer = Freezer(model, settings.freeze, task.size)
    freezer(1.0)  # the optimiser is for all that will ever learn
    ema = EMA(model, settings.ema_decay)
    teachers = tuple(teacher.to(fabric.device) for teacher in task.teachers)
    task.method.begin(Networks(model, ema.model, task.size, teachers))
    method = task.method.to(fabric.device)
    if settings.compile:
        model.compile()
    optim: Any = fabric.setup_optimizers(optimiser.build(model, settings.optimiser, method))
    precision = fabric.strategy.precision
    return State(model, ema, method, optim, precision, parts=settings.accumulate), freezer


def _step(
    task: Task, fabric: Fabric, state: State, freezer: Freezer, batch: Batch, progress: float
) -> tuple[float, float, dict[str, float]]:
    """The learning rate, the loss, and what the method has to say."""
    settings = task.settings
    rate = settings.optimiser.lr * 0.5**state.halvings
    rate *= schedule.factor(settings.schedule, progress, settings.warmup)
    for group in state.optimiser.param_groups:
        group["lr"] = rate * group["scale"]
    # what networks draw, such as dropout, differs between processes; what methods draw does not
    _seed_networks(fabric.device, _seed(task.seed, state.step, fabric.global_rank))
    state.method.seed(_seed(task.seed, state.step))
    frozen, full = freezer.frozen(progress), False
    if frozen != state.frozen:  # a walk through all modules
        state.model.train()
        freezer(progress)
        state.frozen = frozen
    try:
        with fabric.autocast():
            result = state.method.step(state.model, batch, progress)
            loss = result.loss
            teach = state.method.supervise if result.labels_first else None
            if state.parts > 1 and "auxiliary" in vars(state.model):
                raise UserError(
                    "a model with auxiliary classifiers takes no batch in parts: take a smaller "
                    "--batch-size, and no --accumulate"
                )
            auxiliary = auxiliary_loss(state.model, own(batch.y), teach)
            if auxiliary is not None:
                loss = loss + mean_of_processes(auxiliary)
        value = _descend(loss, fabric, state, settings.clip)
        with fabric.autocast():
            reply = state.method.respond()
        if reply is not None:
            _descend(reply, fabric, state, settings.clip)
    except (RuntimeError, MemoryError) as error:
        full = fabric.world_size == 1 and out_of_memory(error)
        if not full and NO_NUMBERS not in str(error):
            raise
        if not full:
            raise _Exploded(f"the outputs became no numbers at step {state.step}") from error
    if full:  # not raised above, where the error still holds all that the step has made
        if 4 * state.parts > batch.images:
            raise UserError(
                f"out of memory even with a batch of {batch.images} images in {state.parts} parts: "
                "take a smaller --model or --img-size"
            )
        raise _Full
    state.ema.update(state.step)
    logs = {name: round(float(value), 5) for name, value in result.logs.items()}
    return rate, value, logs


def _descend(loss: torch.Tensor, fabric: Fabric, state: State, clip: float | None) -> float:
    value = float(loss.detach())
    if not math.isfinite(value) or value > EXPLODED:
        raise _Exploded(f"the loss became {value:.3g} at step {state.step}")
    state.optimiser.zero_grad(set_to_none=True)  # what the loss does not reach stays as it is
    fabric.backward(loss)
    sum_gradients(p for group in state.optimiser.param_groups for p in group["params"])
    if clip is not None:
        fabric.clip_gradients(state.model, state.optimiser, max_norm=clip, error_if_nonfinite=False)
    fabric.strategy.optimizer_step(state.optimiser.optimizer)  # of which `step` is a wrapper
    return value


def _go_back(state: State, fabric: Fabric, lead: Lead | None, why: Exception) -> None:
    """To the last good state: with half the rate, or with the batch in twice as many parts."""
    halvings, parts = state.halvings, state.parts
    if isinstance(why, _Full):
        parts *= 2
        what = f"out of memory at step {state.step}: from step {{}} on a batch in {parts} parts"
    elif halvings < ATTEMPTS:
        halvings += 1
        what = f"{why}: from step {{}} on at 1/{2**halvings} of the rate"
    else:
        raise UserError(
            f"{why}, also at 1/{2**halvings} of the rate: try a lower --lr, or --clip 1"
        )
    kept = fabric.broadcast(lead.last_good() if lead else {})
    state.take_up(kept)
    state.halvings, state.parts = halvings, parts
    if lead:
        lead.begin(state, kept)
        lead.listener.went_back(state.step, what.format(state.step))
        lead.keep(state)


def _seed_networks(device: torch.device, seed: int) -> None:
    """What `torch.manual_seed` does, for one device and in a hundredth of the time."""
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(seed)


def out_of_memory(error: Exception) -> bool:
    """Whether that is what an error says."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(
        text in str(error) for text in NO_MEMORY
    )


def _seed(*numbers: int) -> int:
    return zlib.crc32(" ".join(map(str, numbers)).encode())
