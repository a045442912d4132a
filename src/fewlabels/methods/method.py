"""What a method is: one training step.

Shapes: B labelled and U unlabelled images a batch, C channels, K classes.
A procedure sequences whole runs; a method never knows about rounds.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fewlabels.methods.prior import estimated_prior

Student = Callable[[Tensor], Tensor]  # images [N, C, H, W] -> logits [N, K]
SINGLE, MULTI, REGRESSION = "single", "multi", "regression"  # tasks: what the labels are


@dataclass(frozen=True)
class Views:
    """Which augmented views of which images a batch must hold."""

    labelled: str = "weak"  # "weak" or "strong"
    unlabelled: tuple[str, ...] = ()  # of "weak", "strong", "other"
    ratio: int = 0  # unlabelled images for each labelled one
    given: bool = False  # the unlabelled images come with what a teacher has said of them


@dataclass(frozen=True)
class Batch:
    """x [B,C,H,W] with its labels y; views of the same U unlabelled images, and which they are.

    Where several processes share a batch each holds its part of the images, and all of the rest:
    y, index and given. `forward.together` then gives the outputs of all images.

    y is [B] classes, or probabilities [B,K] where images are mixed; [B,K] of 0 and 1 for the task
    multi; [B] or [B,K] numbers for regression.
    """

    x: Tensor
    y: Tensor
    weak: Tensor | None = None
    strong: Tensor | None = None
    index: Tensor | None = None  # [U], global: numbers of the images in the pool
    other: Tensor | None = None  # a second strong view
    given: Tensor | None = None  # [U, K], what a teacher has said of the unlabelled images before

    def to(self, move: Callable[[Any], Any]) -> "Batch":
        """The batch with every tensor moved."""
        parts: dict[str, Any] = {about.name: getattr(self, about.name) for about in fields(self)}
        moved: dict[str, Any] = {n: None if t is None else move(t) for n, t in parts.items()}
        return Batch(**moved)

    @property
    def images(self) -> int:
        """How many views it holds."""
        views = (self.x, self.weak, self.strong, self.other)
        return sum(len(view) for view in views if view is not None)


@dataclass(frozen=True)
class Step:
    """The loss [] to descend, the labelled logits [B, K] (none where a step shows no labelled
    images), and numbers for the log."""

    loss: Tensor
    logits: Tensor
    logs: dict[str, Tensor] = field(default_factory=dict)
    # whether the last forward pass in training mode began with the labelled images, and their
    # labels count: auxiliary classifiers then learn from them
    labels_first: bool = True


@dataclass(frozen=True)
class Facts:
    """What a method may know of the data before it starts."""

    num_classes: int
    label_counts: tuple[int, ...]  # labelled training images, by class
    num_images: int  # all images of the pool: per-image state is as long
    num_unlabelled: int = 0  # images that the unlabelled views are of
    task: str = SINGLE
    adjust: bool = False  # logit adjustment: the classes are to count alike, however frequent


@dataclass(frozen=True, eq=False)
class Networks:
    """The networks that a method may look at before its first step."""

    student: nn.Module  # what is trained
    average: nn.Module  # its moving average, in eval mode; the loop keeps it up to date
    size: int = 32  # side of the images in pixels
    teachers: tuple[nn.Module, ...] = ()  # trained before, in eval mode


class Method(nn.Module):
    """One training step and the state that outlives it.

    A subclass sets `views` and `tasks`, takes `(facts, settings)` where `settings` is an instance
    of its own frozen `Settings`, and implements `step`. Whatever it remembers between steps is a
    registered buffer, so that checkpoints hold it; parameters of its own (a pretext task's head, a
    teacher that learns) are trained by the student's optimiser.
    """

    views: Views
    tasks: ClassVar[tuple[str, ...]] = (SINGLE,)
    taught: ClassVar[bool] = False  # whether it needs teachers
    draws: torch.Generator | None = None  # what a step draws from, on the CPU
    prior: Tensor
    log_prior: Tensor

    def __init__(self, facts: Facts) -> None:
        super().__init__()
        self.facts = facts
        prior = estimated_prior(facts.label_counts)
        self.register_buffer("prior", prior)
        # zeros where nothing is adjusted: x + 0 is x
        adjusts = facts.adjust and facts.task == SINGLE
        self.register_buffer("log_prior", prior.log() * adjusts)

    def seed(self, seed: int) -> None:
        """What the next step draws. The same in every process, whatever its networks draw."""
        self.draws = self.draws or torch.Generator()
        self.draws.manual_seed(seed)

    def begin(self, networks: Networks) -> None:
        """Called once, before the first step: makes what depends on the student's shape."""

    def step(self, student: Student, batch: Batch, progress: float) -> Step:
        """One step; `progress` runs from 0 at the start of training to 1 at its end."""
        raise NotImplementedError

    def respond(self) -> Tensor | None:
        """After the student's update: the loss [] of what learns from how that went, if any."""
        return None

    def supervise(self, logits: Tensor, y: Tensor, smoothing: float = 0.0) -> Tensor:
        """The loss [B] of labelled images, [B, K] outputs.

        single: cross-entropy, of logits + log prior where classes are to count alike (Menon et al.
        2021, "Long-tail learning via logit adjustment", equation 10, τ = 1): the network's own
        logits are then those of classes that are equally frequent. multi: the soft margin loss,
        mean binary cross-entropy over the classes. regression: the squared error.
        """
        if self.facts.task == MULTI:
            return F.binary_cross_entropy_with_logits(logits, y, reduction="none").mean(1)
        if self.facts.task == REGRESSION:
            return F.mse_loss(logits, y.view_as(logits), reduction="none").mean(1)
        adjusted = logits + self.log_prior
        return F.cross_entropy(adjusted, y, reduction="none", label_smoothing=smoothing)


def logged(**values: Tensor) -> dict[str, Tensor]:
    """Numbers for the log, without their graphs."""
    return {name: value.detach() for name, value in values.items()}
