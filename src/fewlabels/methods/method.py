"""What a method is: one training step.

Shapes: B labelled and U unlabelled images a batch, C channels, K classes.
A procedure sequences whole runs; a method never knows about rounds.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

Student = Callable[[Tensor], Tensor]  # images [N, C, H, W] -> logits [N, K]


@dataclass(frozen=True)
class Views:
    """Which augmented views of which images a batch must hold."""

    labelled: str = "weak"  # "weak" or "strong"
    unlabelled: tuple[str, ...] = ()  # of ("weak", "strong")
    ratio: int = 0  # unlabelled images for each labelled one


@dataclass(frozen=True)
class Batch:
    """x [B,C,H,W] and y [B]; the two views of the same U unlabelled images, and which they are."""

    x: Tensor
    y: Tensor
    weak: Tensor | None = None
    strong: Tensor | None = None
    index: Tensor | None = None  # [U], global: numbers of the images in the pool

    def to(self, move: Callable[[Any], Any]) -> "Batch":
        """The batch with every tensor moved."""

        def moved(part: Tensor | None) -> Tensor | None:
            return None if part is None else move(part)

        return Batch(
            move(self.x), move(self.y), moved(self.weak), moved(self.strong), moved(self.index)
        )


@dataclass(frozen=True)
class Step:
    """The loss [] to descend, the labelled logits [B, K], and numbers for the log."""

    loss: Tensor
    logits: Tensor
    logs: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Facts:
    """What a method may know of the data before it starts."""

    num_classes: int
    label_counts: tuple[int, ...]  # labelled training images, by class
    num_images: int  # all images of the pool: per-image state is as long


class Method(nn.Module):
    """One training step and the state that outlives it.

    A subclass sets `views`, takes `(facts, settings)` where `settings` is an instance of its own
    frozen `Settings`, and implements `step`. Whatever it remembers between steps is a registered
    buffer, so that checkpoints hold it.
    """

    views: Views

    def step(self, student: Student, batch: Batch, progress: float) -> Step:
        """One step; `progress` runs from 0 at the start of training to 1 at its end."""
        raise NotImplementedError
