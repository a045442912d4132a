"""The loop: batches in, an averaged model out. It knows nothing of where batches come from.

One iteration is one step of the method, one of the optimiser, one of the moving average; and one
more of the optimiser where the method learns from how the student's went. Learning rate and method
see progress, which comes from the budget: steps, or seconds on the clock.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from lightning_fabric import Fabric
from torch import nn

from fewlabels.errors import UserError
from fewlabels.methods import Batch, Method, Networks
from fewlabels.models.auxiliary import auxiliary_loss
from fewlabels.models.built import restore
from fewlabels.pixels.loader import prefetch
from fewlabels.training import checkpoint, optimiser, schedule
from fewlabels.training.budget import Budget, Clock
from fewlabels.training.ema import EMA
from fewlabels.training.freeze import Freeze, Freezer
from fewlabels.training.optimiser import OptimiserSettings
from fewlabels.training.threads import ThreadChoice


@dataclass(frozen=True)
class TrainSettings:
    """What the loop takes beside the budget; defaults are for `cnn_small` from scratch."""

    optimiser: OptimiserSettings = field(default_factory=OptimiserSettings)
    warmup: float = 0.03  # part of the budget
    ema_decay: float = 0.99
    freeze: Freeze = field(default_factory=Freeze)
    patience: int | None = None  # validations without a better accuracy, after which it stops
    workers: int = 1  # threads that make batches
    validations: int = 20  # over the whole budget
    checkpoint_seconds: float = 1.0  # at least so long between two,
    checkpoint_share: float = 0.05  # and no more than this part of the time for them


@dataclass(frozen=True)
class Fitted:
    """The averaged model, and what it took."""

    model: nn.Module
    steps: int
    seconds: float
    images: int  # that went through the model


class Listener(Protocol):
    """Hears what happens; `training.events` writes it down and shows it."""

    def resumed(self, step: int) -> None: ...
    def step(self, progress: float, step: int, rate: float, loss: float) -> None: ...
    def metrics(self, row: dict[str, Any]) -> None: ...
    def saved(self) -> None: ...


def fit(
    model: nn.Module,
    method: Method,
    make_batch: Callable[[int], Batch],
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
    is taken up where it stopped. `seed` is of what the model draws itself, such as dropout.
    `validate` maps a model to numbers for the log; `size` is the images' side in pixels; `teachers`
    are for a method that learns from others.
    """
    # oneDNN and cuDNN convolve faster over channels that lie together: 1.3-2.3x here, on CPU
    model = model.to(fabric.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    freezer = Freezer(model, settings.freeze, size)
    freezer(1.0)  # the optimiser is for all that will ever learn
    ema = EMA(model, settings.ema_decay)
    torch.manual_seed(seed)
    method.begin(Networks(model, ema.model, size, teachers))
    method = method.to(fabric.device)
    student, optim = fabric.setup(model, optimiser.build(model, settings.optimiser, method))
    best: dict[str, Any] = {"accuracy": -1.0, "since": 0, "weights": {}}  # for early stopping
    step, images, already = 0, 0, 0.0

    state = checkpoint.load(folder)
    if state is not None and state["tag"] == tag:
        restore(student.module, state["model"])
        restore(ema.model, state["ema"])
        optimiser.restore(optim.optimizer, state["optimiser"])
        restore(method, state["method"])
        torch.set_rng_state(state["rng"])
        best = state["best"]
        step, images, already = state["step"], state["images"], state["seconds"]
        budget = Budget(**state["budget"])
        listener.resumed(step)
    clock = Clock(already)

    def descend(loss: torch.Tensor) -> float:
        value = float(loss.detach())
        if not math.isfinite(value):
            raise UserError(f"the loss became {value} at step {step}: try a lower --lr")
        optim.zero_grad(set_to_none=True)  # what the loss does not reach stays as it is
        fabric.backward(loss)
        optim.step()
        return value

    def save() -> None:
        checkpoint.save(
            folder,
            {
                "tag": tag,
                "budget": vars(budget),
                "model": student.module.state_dict(),
                "ema": ema.model.state_dict(),
                "optimiser": optim.state_dict(),
                "method": method.state_dict(),
                "rng": torch.get_rng_state(),
                "best": best,
                "step": step,
                "images": images,
                "seconds": clock(),
            },
        )
        listener.saved()

    progress = budget.progress(step, clock())
    started = saved = clock()
    cost = 0.0  # seconds that the last checkpoint took
    first, validated = images, int(progress * settings.validations)
    # another number of threads adds in another order: where steps are fixed, so is their result
    most = torch.get_num_threads()
    choice = ThreadChoice.up_to(most) if budget.steps is None else None
    batches = prefetch(make_batch, step, settings.workers)
    while progress < 1.0 and not (settings.patience and best["since"] >= settings.patience):
        batch = next(batches).to(fabric.to_device)
        stepped = clock()
        for group in optim.param_groups:
            rate = settings.optimiser.lr * schedule.cosine(progress, settings.warmup)
            group["lr"] = rate * group["scale"]
        student.train()
        freezer(progress)
        with fabric.autocast():
            result = method.step(student, batch, progress)
        teach = method.supervise if result.labels_first else None
        auxiliary = auxiliary_loss(student.module, batch.y, teach)
        objective = result.loss if auxiliary is None else result.loss + auxiliary
        loss = descend(objective)
        with fabric.autocast():
            reply = method.respond()
        if reply is not None:
            descend(reply)
        ema.update(student.module, step)
        if choice is not None:
            torch.set_num_threads(choice.after_step(clock() - stepped, clock()))
        step += 1
        images += batch.images

        progress = budget.progress(step, clock())
        listener.step(progress, step, (images - first) / max(1e-9, clock() - started), loss)
        if int(progress * settings.validations) > validated or progress >= 1.0:
            validated = int(progress * settings.validations)
            logs = {name: round(float(value), 5) for name, value in result.logs.items()}
            row = {"step": step, "progress": round(progress, 5), "seconds": round(clock(), 2)}
            numbers = {name: round(value, 5) for name, value in validate(ema.model).items()}
            listener.metrics({**row, "loss": round(loss, 5), "lr": rate, **logs, **numbers})
            if settings.patience and "val_accuracy" in numbers:
                accuracy = numbers["val_accuracy"]
                better = accuracy > best["accuracy"]
                if accuracy >= best["accuracy"]:  # of equals the latest
                    kept = {name: value.clone() for name, value in ema.model.state_dict().items()}
                    best = best | {"accuracy": accuracy, "weights": kept}
                best["since"] = 0 if better else best["since"] + 1
        if clock() - saved > max(settings.checkpoint_seconds, cost / settings.checkpoint_share):
            start = clock()
            save()
            saved = clock()
            cost = saved - start
    batches.close()
    torch.set_num_threads(most)
    freezer(1.0)
    save()
    if best["weights"]:
        restore(ema.model, best["weights"])
    return Fitted(ema.model, step, clock(), images)
