"""What a model's outputs are, by task: logits of one class, of each class by itself, or numbers."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from fewlabels.errors import UserError
from fewlabels.evaluate.predictions import softmax
from fewlabels.pool.pool import MULTI, REGRESSION, SINGLE

Target = NDArray[np.bool_] | NDArray[np.float64]


@dataclass(frozen=True)
class Outputs:
    """K classes or T numbers an image. Numbers are learnt less their mean and over their deviation,
    [T] each, so that neither their unit nor their zero matters."""

    task: str = SINGLE
    mean: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()

    @classmethod
    def of(cls, task: str, learnt: Target | None) -> "Outputs":
        """For the labels [L, K or T] that are learnt from; a number that never varies is only
        shifted."""
        if task != REGRESSION or learnt is None:
            return cls(task)
        deviation = learnt.std(0)
        scale = np.where(deviation > 0, deviation, 1.0)
        return cls(task, tuple(learnt.mean(0).tolist()), tuple(scale.tolist()))

    def taught(self, target: Target) -> NDArray[np.float32]:
        """Labels [N, K or T] as a loss compares the outputs with them."""
        if self.task == REGRESSION:
            target = (target - np.array(self.mean)) / np.array(self.deviation)
        return target.astype(np.float32)

    def read(self, outputs: NDArray[np.float32]) -> NDArray[np.float64]:
        """What outputs [N, K or T] say: probabilities, of one class an image together 1; or numbers
        in the unit of the labels."""
        if self.task == SINGLE:
            return softmax(outputs)
        values = outputs.astype(np.float64)
        if self.task == MULTI:
            return np.asarray(expit(values))
        return np.asarray(values * np.array(self.deviation) + np.array(self.mean))

    def need_one_class(self, what: str) -> None:
        """UserError, which begins with `what` asks, unless the task is one class an image."""
        if self.task != SINGLE:
            raise UserError(
                f"{what}: is for runs of one class an image, and this one's task is {self.task}"
            )

    def to_json(self) -> dict[str, Any]:
        """For the artefact, which says nothing of one class an image."""
        if self.task == SINGLE:
            return {}
        about = {"label_mean": list(self.mean), "label_deviation": list(self.deviation)}
        return {"task": self.task} | (about if self.mean else {})

    @classmethod
    def from_json(cls, about: dict[str, Any]) -> "Outputs":
        """From what an artefact says."""
        scale = (tuple(about.get(f"label_{name}", ())) for name in ("mean", "deviation"))
        return cls(about.get("task", SINGLE), *scale)
