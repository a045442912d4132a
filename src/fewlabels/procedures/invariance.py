"""`--flip auto`, `--rotate auto`: may an image be mirrored or turned and still show the same?

A mirrored 2 is no 2. The labels-only model, trained without mirrored images, is asked about the
labelled images mirrored. What it has seen it knows by heart, so a mirrored image of it is at least
as easy as a new image of its class, unless mirroring made another thing of it: then it is
recognised less often than held-out images are.

How often mirrored labelled images were recognised, relative to new ones as they are: hand signs,
all of them right hands, 0.12 to 0.73 (133 runs with 20 to 81 labels); digits 0.12 to 0.31; CIFAR-10
1.04 to 1.37 with 25 and 400 labels a class, more with 4; photographs of clothes 1.4 to 1.8.
`ENOUGH` lies between. (The lower end of an interval for the new ones is too low where ten are held
out: by it 20 of 124 runs on the signs were mirrored.) Turned images count only where mirrored ones
do, and as often.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from fewlabels.evaluate.intervals import wilson
from fewlabels.evaluate.predictions import probabilities
from fewlabels.procedures.prepare import Rows
from fewlabels.procedures.stage import Context

Change = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
ENOUGH = 0.85  # of how often new images are recognised, for mirrored ones to show the same
MOST = 0.5  # without held-out images, mirrored ones must be recognised more often than this


@dataclass(frozen=True)
class Decision:
    """`name` is flip or rotate."""

    name: str
    on: bool
    why: str

    def __str__(self) -> str:
        return f"--{self.name} auto: {'on' if self.on else 'off'}; {self.why}"


def decide(context: Context, model: nn.Module) -> tuple[Decision, ...]:
    """A decision for each of flip and rotate that is undecided; `model` learnt without them."""
    rows = context.data.labelled
    mirrored = _recognised(context, model, rows, lambda images: images[:, :, ::-1])
    new = _recognised(context, model, context.val_rows, lambda images: images)
    flip = _flip(mirrored, len(rows), new, len(context.val_rows))
    found = []
    allowed = context.config.flip == "on"
    if "flip" in context.undecided:
        found.append(flip)
        allowed = flip.on
    if "rotate" in context.undecided:
        found.append(_rotate(context, model, allowed, mirrored))
    return tuple(found)


def _flip(mirrored: int, n: int, new: int, of: int) -> Decision:
    """`mirrored` of n labelled images were recognised, and `new` of the held-out ones."""
    seen = f"of {n} labelled images {mirrored} were recognised mirrored"
    if not of:
        on = mirrored > MOST * n
        return Decision("flip", on, f"{seen}, and there are none that the model has not seen")
    on = mirrored * of >= ENOUGH * new * n
    return Decision("flip", on, f"{seen}; {new} of {of} new ones as they are")


def _rotate(context: Context, model: nn.Module, flip: bool, mirrored: int) -> Decision:
    rows = context.data.labelled
    if not flip:
        return Decision("rotate", False, "what may not be mirrored is not turned")
    n = len(rows)
    turned = min(_recognised(context, model, rows, _turn(k)) for k in (1, 2, 3))
    guess = 1 / len(context.data.pool.classes)  # a model that has learnt nothing tells nothing
    on = turned >= wilson(mirrored, n)[0] * n and wilson(turned, n)[0] > guess
    why = f"of {n} labelled images {turned} were recognised turned, {mirrored} mirrored"
    return Decision("rotate", on, why)


def _turn(quarters: int) -> Change:
    return lambda images: np.rot90(images, quarters, (1, 2))


def _recognised(context: Context, model: nn.Module, rows: Rows, change: Change) -> int:
    if not len(rows):
        return 0
    images = np.ascontiguousarray(change(context.data.images[rows]))
    # once, as they are: averaged over mirrored images, mirroring would never be seen to matter
    p = probabilities(model, images, context.preprocess, context.fabric.device)
    return int((p.argmax(1) == context.data.pool.label[rows]).sum())
