"""What a procedure ends with, and the best so far, which a kill cannot take."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewlabels.procedures.compare import Compared
from fewlabels.procedures.guard import Guarded
from fewlabels.procedures.invariance import Decision
from fewlabels.procedures.prepare import Rows
from fewlabels.procedures.stage import Context, Trained
from fewlabels.training import checkpoint
from fewlabels.training.folder import RunFolder

BASELINE = "supervised"


@dataclass(frozen=True, eq=False)
class Chosen:
    """A run that is done. Probabilities are [V, K] on validation and [T, K] on test."""

    context: Context  # with the final model's size and start
    method: str
    stages: tuple[Trained, ...]  # of the chosen method
    baseline: tuple[Trained, ...]  # labels only; empty where no other method ran
    val: dict[str, NDArray[np.float64]]  # by method, where a model had not seen those labels
    test: dict[str, NDArray[np.float64]]  # by method
    why: str  # one sentence
    decisions: tuple[Decision, ...] = ()  # about mirroring and turning
    guarded: Guarded | None = None  # what the guard found; None where it was not asked
    beside: str = BASELINE  # the labels-only method that `val` and `test` hold too
    ask: Callable[[Rows], NDArray[np.float64]] | None = None  # the final model, where that is quick
    inside: tuple["Chosen", ...] = ()  # the runs inside this one, in order
    more: dict[str, Any] = field(default_factory=dict)  # what only this procedure has to say
    compared: Compared | None = None  # what it was chosen by; None: by `val`, or by nothing
    verdict: str = ""  # where it is not about unlabelled images

    @property
    def final(self) -> Trained:
        return self.stages[-1]

    @property
    def validated(self) -> tuple[Rows, dict[str, NDArray[np.float64]]]:
        """The images that tell how good it is without a test, and what was said of them by models
        that had not seen their labels: its own, or those it was chosen by."""
        if self.method in self.val or self.compared is None:
            return self.context.val_rows, self.val
        return self.compared.rows, self.compared.said

    def said(self, rows: Rows) -> NDArray[np.float64]:
        """What the final model says of these images, [R, K]."""
        if self.ask is not None:
            return self.ask(rows)
        return self.context.probabilities(self.context.model(self.final.weights), rows)


def keep(context: Context, method: str, trained: Trained, folder: RunFolder | None = None) -> None:
    """Puts the best model so far where a kill cannot take it: `checkpoints/best`, of the run itself
    or of the one in `folder`."""
    best = {"about": described(context, method), "weights": trained.weights}
    checkpoint.save((folder or context.folder).best, best)


def described(context: Context, method: str) -> dict[str, Any]:
    """What it takes to build the model anew and to ask it."""
    return {
        "method": method,
        "model": context.start.architecture,
        "arguments": context.start.arguments,
        "classes": list(context.data.pool.classes),
        "preprocess": context.preprocess.to_json(),
        "tta": context.config.tta,
        "layout": context.config.layout,
        **context.data.outputs.to_json(),
    }
