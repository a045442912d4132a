"""The process that decides how far training is, writes checkpoints and tells; the others follow.

Alone it is the only one. What depends on a clock or a file is decided here and told to all, so that
all do the same.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from fewlabels.errors import UserError
from fewlabels.training import checkpoint
from fewlabels.training.budget import Budget, Clock
from fewlabels.training.state import Best, State

VERSION = 2  # of what a checkpoint holds


class Listener(Protocol):
    """Hears what happens; `training.events` writes it down and shows it."""

    def resumed(self, step: int) -> None: ...
    def step(self, progress: float, step: int, rate: float, loss: float) -> None: ...
    def metrics(self, row: dict[str, Any]) -> None: ...
    def saved(self) -> None: ...
    def went_back(self, step: int, why: str) -> None: ...


@dataclass(frozen=True)
class Order:
    """What all processes do next: a step at this progress, and whether what comes of it is kept;
    at the end of the budget, or where nothing gets better, no more steps."""

    progress: float
    keep: bool
    over: bool


@dataclass(frozen=True)
class Pace:
    """How often it looks and keeps."""

    validations: int = 20  # over the whole budget
    checkpoint_seconds: float = 1.0  # at least so long between two,
    checkpoint_share: float = 0.015  # and no more than this part of the time for them
    patience: int | None = None  # validations without a better accuracy, after which it stops


@dataclass(eq=False)
class Lead:
    """Clock, checkpoints and listener of one training."""

    folder: Path
    budget: Budget
    pace: Pace
    validate: Callable[[nn.Module], dict[str, float]]
    listener: Listener
    tag: str
    clock: Clock = field(default_factory=Clock)
    best: Best = field(default_factory=Best)
    progress: float = 0.0
    _validated: int = 0
    _saved: float = 0.0  # when, on the clock
    _cost: float = 0.0  # seconds that the last checkpoint took
    _since: tuple[int, float] = (0, 0.0)  # images and seconds from which the speed is counted

    def earlier(self) -> dict[str, Any] | None:
        """The state from which this training goes on, if it was cut off."""
        kept = checkpoint.load(self.folder)
        if kept is None or kept["tag"] != self.tag:
            return None
        if kept.get("version") != VERSION:
            raise UserError(
                f"{self.folder}: was made by another version of fewlabels: start a new run"
            )
        self.budget, self.clock = Budget(**kept["budget"]), Clock(kept["seconds"])
        self.listener.resumed(kept["step"])
        return kept

    @property
    def _good(self) -> Path:
        """Where the state lies that it goes back to. With fixed steps that of the last validation:
        when the last checkpoint was made depends on the clock, and so would the result."""
        return self.folder if self.budget.steps is None else self.folder.with_name("good")

    def last_good(self) -> dict[str, Any]:
        """The state to go back to."""
        kept = checkpoint.load(self._good)
        if kept is None:
            raise UserError(f"{self._good}: the checkpoint is gone; start a new run")
        return kept

    def begin(self, state: State, kept: dict[str, Any] | None) -> None:
        """From `state` on, which was `kept` or is new."""
        if kept is not None:
            self.best = Best(**kept["best"])
        self.progress = self.budget.progress(state.step, self.clock())
        self._validated = int(self.progress * self.pace.validations)
        self._since = state.images, self.clock()
        if kept is None:  # there is always a state to go back to
            self._write(self._good, state)
            self.keep(state)

    def order(self) -> Order:
        """What to do next."""
        pause = max(self.pace.checkpoint_seconds, self._cost / self.pace.checkpoint_share)
        keep = self.clock() - self._saved > pause
        return Order(self.progress, keep, self.tired or self.progress >= 1.0)

    @property
    def tired(self) -> bool:
        """Whether it has waited long enough for a better accuracy."""
        patience = self.pace.patience
        return patience is not None and self.best.since >= patience

    def stepped(self, state: State, lr: float, loss: float, logs: dict[str, float]) -> None:
        """After a step: looks how far it is, and tells."""
        self.progress = self.budget.progress(state.step, self.clock())
        images, seconds = state.images - self._since[0], self.clock() - self._since[1]
        self.listener.step(self.progress, state.step, images / max(1e-9, seconds), loss)
        due = int(self.progress * self.pace.validations)
        if due <= self._validated and self.progress < 1.0:
            return
        self._validated = due
        row = {"step": state.step, "progress": round(self.progress, 5)}
        row |= {"seconds": round(self.clock(), 2), "loss": round(loss, 5), "lr": lr} | logs
        asked = self.validate(state.ema.model)
        numbers = {name: round(value, 5) for name, value in asked.items()}
        self.listener.metrics(row | numbers)
        if self.pace.patience is not None and "val_accuracy" in numbers:
            self.best.after(numbers["val_accuracy"], state.ema.model)
        if self._good != self.folder and state.finite:
            self._write(self._good, state)

    def keep(self, state: State) -> None:
        """Writes a checkpoint."""
        start = self.clock()
        self._write(self.folder, state)
        self.listener.saved()
        self._saved = self.clock()
        self._cost = self._saved - start

    def end(self, state: State) -> None:
        """Writes the last checkpoint, from which nothing goes back."""
        self.keep(state)
        if self._good != self.folder:
            shutil.rmtree(self._good, ignore_errors=True)

    def _write(self, folder: Path, state: State) -> None:
        about = {"tag": self.tag, "version": VERSION}
        about |= {"budget": vars(self.budget), "best": vars(self.best)}
        checkpoint.save(folder, about | state.kept() | {"seconds": self.clock()})
