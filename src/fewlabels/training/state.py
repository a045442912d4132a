"""What training carries from one step to the next; a checkpoint holds all of it."""

from dataclasses import dataclass, field
from typing import Any

import torch
from lightning_fabric.plugins.precision.precision import Precision
from lightning_fabric.wrappers import _FabricOptimizer
from torch import nn

from fewlabels.methods import Method
from fewlabels.models.built import restore
from fewlabels.training import optimiser
from fewlabels.training.ema import EMA


@dataclass(eq=False)
class State:
    """The networks, the method, the optimiser, and where training is.

    What is drawn is no state: it is a function of the seed and the step's number.
    """

    model: nn.Module
    ema: EMA
    method: Method
    optimiser: _FabricOptimizer
    precision: Precision  # scales the loss where numbers have 16 bits, as far as it has learnt to
    step: int = 0
    images: int = 0  # that went through the model, of all processes
    halvings: int = 0  # of the rate, where the loss exploded
    parts: int = 1  # that a batch passes the model in
    frozen: int | None = None  # stages of the model; None: not yet in training mode

    def kept(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {
            "model": self.model.state_dict(),
            "ema": self.ema.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "method": self.method.state_dict(),
            "precision": self.precision.state_dict(),
            "step": self.step,
            "images": self.images,
            "halvings": self.halvings,
            "parts": self.parts,
        }

    def take_up(self, kept: dict[str, Any]) -> None:
        """What `kept` once returned."""
        restore(self.model, kept["model"])
        restore(self.ema.model, kept["ema"])
        optimiser.restore(self.optimiser.optimizer, kept["optimiser"])
        restore(self.method, kept["method"])
        self.precision.load_state_dict(kept["precision"])
        self.step, self.images = kept["step"], kept["images"]
        self.halvings, self.parts = kept["halvings"], kept["parts"]

    @property
    def finite(self) -> bool:
        """Whether all of it is numbers: the networks', and what the method remembers."""
        all_of_it = (self.model, self.ema.model, self.method)
        values = [value for each in all_of_it for value in each.state_dict().values()]
        return all(bool(v.isfinite().all()) for v in values if v.is_floating_point())


@dataclass(eq=False)
class Best:
    """For early stopping: the best accuracy so far, its weights, and since how many validations."""

    accuracy: float = -1.0
    since: int = 0
    weights: dict[str, torch.Tensor] = field(default_factory=dict)

    def after(self, accuracy: float, model: nn.Module) -> None:
        """One more validation."""
        self.since = 0 if accuracy > self.accuracy else self.since + 1
        if accuracy >= self.accuracy:  # of equals the latest
            self.accuracy = accuracy
            self.weights = {name: v.clone() for name, v in model.state_dict().items()}
