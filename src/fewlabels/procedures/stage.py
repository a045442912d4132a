"""A stage: one run of the loop inside a run folder, which a later process can take up again."""

import copy
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import nn

from fewlabels.augment.mix import Mix
from fewlabels.augment.policy import Policy
from fewlabels.evaluate.predictions import probabilities
from fewlabels.methods import METHODS, Batch, Facts, Method, create, resolve
from fewlabels.models.built import Built, restore
from fewlabels.pixels.preprocess import Preprocess
from fewlabels.pool.pool import MULTI, REGRESSION, SINGLE, Pool
from fewlabels.procedures import sequences
from fewlabels.procedures.config import INVARIANCES, POLICIES, TUNED_SUPERVISED, Config
from fewlabels.procedures.earlier import Earlier
from fewlabels.procedures.prepare import Data, Rows, at_size, balanced, batches
from fewlabels.procedures.scores import at_a_glance
from fewlabels.training import checkpoint
from fewlabels.training.budget import Budget, Clock
from fewlabels.training.events import Events
from fewlabels.training.folder import RunFolder
from fewlabels.training.freeze import Freeze
from fewlabels.training.lead import Pace
from fewlabels.training.loop import TrainSettings, fit
from fewlabels.training.optimiser import OptimiserSettings

Weights = dict[str, torch.Tensor]
FAVOURITE = "flexmatch"  # of `auto`, from random weights: the best of docs/results.md,
# and from pretrained ones. MobileNetV2, 100 labels of photographs of clothes, 250 steps at 128 px,
# one draw of development images: FreeMatch 74.0 %, FlexMatch 68.5 %
TUNED_FAVOURITE = "freematch"
FAVOURITES = {MULTI: "fixmatch"}  # of other tasks: docs/tasks.md


@dataclass(frozen=True)
class Stage:
    """What to train, on which labels, and how much of the budget to use."""

    name: str
    method: str
    trial: bool  # without the held-out labels
    part: float  # of the steps or epochs that the user asked for
    until: float  # the moment on the run's clock when it ends, where time is what is limited


@dataclass(frozen=True, eq=False)
class Trained:
    """A stage that is done: its weights, what it took, and what it says of validation images."""

    weights: Weights
    steps: int
    seconds: float
    images: int  # that went through the model
    val: NDArray[np.float64]  # [V, K]


@dataclass(frozen=True, eq=False)
class Context:
    """What the stages of a run share."""

    config: Config  # resolved
    start: Built  # the model before any training
    data: Data
    preprocess: Preprocess
    folder: RunFolder
    events: Events
    fabric: Fabric
    clock: Clock  # seconds since the command began, of all its processes
    began: float = 0.0  # on that clock: training begins
    deadline: float | None = None  # and ends; None where steps are what is limited
    invariant: frozenset[str] = frozenset()  # of flip and rotate: those that `auto` has found
    earlier: tuple[Earlier, ...] = ()  # the runs that `config.runs` names

    @property
    def method(self) -> str:
        """The method whose steps the run is about: the one asked for, or what a sequence, or
        `auto`, has most of."""
        asked = self.config.method
        task = self.data.pool.task
        if asked == "auto" and task != SINGLE:
            return FAVOURITES.get(task, "supervised") if len(self.data.unlabelled) else "supervised"
        if asked == "auto" and len(self.data.unlabelled):
            return FAVOURITE if self.config.weights == "none" else TUNED_FAVOURITE
        if asked == "pretrain":
            return str(sequences.resolve(asked, self.config.settings).task)
        return asked if asked in METHODS else "supervised"

    @property
    def own_settings(self) -> Any:
        """Those of the method that the run is about."""
        return resolve(self.method, _settings(self.config, self.method))

    @property
    def steps(self) -> int:
        """How many steps a method may take, the baseline as many as the other.

        An epoch is a pass over the images without regard to labels, or over the labelled ones
        where no others are learnt from.
        """
        if self.config.steps:
            return self.config.steps
        ratio = create(self.method, Facts(2, (1, 1), 2, 2), self.own_settings).views.ratio
        images = len(self.data.labelled) + (len(self.data.unlabelled) if ratio else 0)
        a_step = self.config.batch * max(1, ratio)
        return max(1, round((self.config.epochs or 0) * images / a_step))

    @property
    def policies(self) -> dict[str, Policy]:
        """The augmentation of each view, as far as it is decided."""
        config = self.config
        found = {view: Policy.parse(getattr(config, POLICIES[view])) for view in config.views}
        for setting, stage in INVARIANCES.items():
            if setting in self.invariant or getattr(config, setting) == "on":
                found = {v: p if stage in p else p.after(stage) for v, p in found.items()}
        return found

    @property
    def undecided(self) -> tuple[str, ...]:
        """Of flip and rotate, those that `auto` must decide."""
        return tuple(name for name in INVARIANCES if getattr(self.config, name) == "auto")

    def asked_as(self, preprocess: Preprocess, tta: str | None = None) -> "Context":
        """For models that see the images at another size, normalised otherwise, or with other
        test-time augmentation."""
        data, config = self.data, replace(self.config, tta=tta or self.config.tta)
        if preprocess.size != self.preprocess.size:
            with self.events.stage(f"decoding at {preprocess.size} px"):
                data = at_size(data, preprocess.size, self.events.count)
            if data.note:
                self.events.say(data.note)
        return replace(self, data=data, preprocess=preprocess, config=config)

    def moment(self, part: float) -> float:
        """On the run's clock, when this part of the time for training is over."""
        return self.began + part * ((self.deadline or self.began) - self.began)

    def learnt_from(self, stage: "Stage") -> Rows:
        """The labelled images that a stage learns from."""
        data = self.data
        return np.setdiff1d(data.labelled, data.held_out) if stage.trial else data.labelled

    @property
    def val_rows(self) -> Rows:
        """The rows that methods are compared on: the pool's own, else the held-out ones."""
        return self.data.val if len(self.data.val) else self.data.held_out

    def found_once(self, file: str, find: Callable[["Context"], dict[str, Any]]) -> dict[str, Any]:
        """What is found before the first stage, kept in this file for when the run is resumed."""
        found: dict[str, Any] | None = self.folder.read_json(file)
        if found is None:
            found = find(self)
            self.folder.write_json(file, found)
            self.events.say(found["said"])
        return found

    def probabilities(self, model: nn.Module, rows: Rows) -> NDArray[np.float64]:
        """What `model` says of these images, [R, K]: numbers where the labels are numbers."""
        if not len(rows):
            return np.zeros((0, self.data.pool.width))
        images, device = self.data.images[rows], self.fabric.device
        asked = images, self.preprocess, device, self.config.tta
        return probabilities(model, *asked, read=self.data.outputs.read)

    def model(self, weights: Weights | None = None) -> nn.Module:
        """The model of this run, at its start or with these weights."""
        model = copy.deepcopy(self.start.model)
        if weights:
            restore(model, weights)
        # the memory format that it trained in: sums in another order could differ in the last bit
        return model.to(self.fabric.device, memory_format=self.config.memory_format)  # type: ignore[call-overload,no-any-return]


def run_stage(
    context: Context, stage: Stage, before: Weights | None, teachers: tuple[nn.Module, ...] = ()
) -> Trained:
    """Trains, from the weights `before` or from the model's start; `teachers`, in eval mode, are
    for a method that learns from others.

    What it leaves in `stages/<name>` is returned at once by the next process that asks for it; a
    stage that was cut off goes on from `checkpoints/last`.
    """
    home = context.folder.stage(stage.name)
    done = checkpoint.load(home)
    if done is not None:
        return Trained(**(done | {"val": done["val"].numpy()}))

    config, data = context.config, context.data
    # each stage draws anew: what goes on must not see the trial's pictures again
    seed = zlib.crc32(f"{config.seed} {stage.name}".encode())
    method, make_batch = ingredients(context, stage.method, context.learnt_from(stage), seed)
    # the pool's own validation images can be asked at any time; held-out ones only in a trial
    watched = context.val_rows if stage.trial or len(data.val) else data.held_out[:0]

    def validate(model: nn.Module) -> dict[str, float]:
        if not len(watched):
            return {}
        said = context.probabilities(model, watched)
        if data.pool.task != SINGLE:
            return at_a_glance(data.pool, watched, said)
        right = said.argmax(1) == data.pool.label[watched]
        return {"val_accuracy": float(right.mean()), "val_n": len(watched)}

    with context.events.stage(stage.name):
        fitted = fit(
            context.model(before),
            method,
            make_batch,
            _budget(context, stage),
            train_settings(config),
            context.fabric,
            context.folder.last,
            validate,
            context.events,
            tag=stage.name,
            seed=seed,
            size=context.preprocess.size,
            teachers=teachers,
        )
    if fitted.early:
        context.events.say(
            f"{stage.name}: ended at step {fitted.steps}, after {config.patience} validations "
            "without a better one"
        )
    trained = Trained(
        weights=fitted.model.state_dict(),
        steps=fitted.steps,
        seconds=fitted.seconds,
        images=fitted.images,
        val=context.probabilities(fitted.model, watched),
    )
    checkpoint.save(home, vars(trained) | {"val": torch.from_numpy(trained.val)})
    return trained


def ingredients(
    context: Context, name: str, labelled: Rows, seed: int
) -> tuple[Method, Callable[..., Batch]]:
    """The method of that name, with the user's settings, and its batches, which show these labelled
    images and are drawn from `seed`."""
    config, data = context.config, context.data
    counts = _counts(data.pool, labelled)
    facts = Facts(
        num_classes=len(counts),
        label_counts=tuple(counts.tolist()),
        num_images=len(data.pool),
        num_unlabelled=len(labelled) + len(data.unlabelled),  # as `batches` streams them
        task=data.pool.task,
        adjust=config.balance == "logits",
    )
    method = create(name, facts, resolve(name, _settings(config, name)))
    make_batch = batches(
        data,
        balanced(labelled, data.pool.label) if config.balance == "sampling" else labelled,
        data.unlabelled,
        method,
        context.policies,
        context.preprocess,
        config.batch,
        seed,
        Mix.parse(config.mix),
        slots=config.workers + 2,  # those that are being made, the next one, the one in use
        pin=context.fabric.device.type == "cuda",
        memory_format=config.memory_format,
    )
    return method, make_batch


def _counts(pool: Pool, labelled: Rows) -> NDArray[np.int64]:
    """The labelled images of each class, [K]; where labels are numbers, of each number."""
    if pool.task == MULTI and pool.target is not None:
        return np.asarray(pool.target[labelled].sum(0), dtype=np.int64)
    if pool.task == REGRESSION:
        return np.full(pool.width, len(labelled))
    return np.bincount(pool.label[labelled], minlength=len(pool.classes))


def train_settings(config: Config) -> TrainSettings:
    """What the loop takes of a run's settings."""
    return TrainSettings(
        optimiser=OptimiserSettings(
            config.optimiser,
            config.rate,
            config.weight_decay,
            layer_decay=config.layer_decay or 1.0,
            head_lr=config.head_lr,
        ),
        schedule=config.schedule,
        clip=config.clip,
        ema_decay=config.ema_decay,
        freeze=Freeze(str(config.freeze), config.unfreeze, config.norms == "keep"),
        workers=config.workers,
        accumulate=config.accumulate,
        layout=config.memory_format,
        compile=config.compile,
        pace=Pace(patience=config.patience),
    )


def _settings(config: Config, method: str) -> dict[str, Any]:
    """The method's own settings: the user's, if it is the method that the user named."""
    if method == config.method:
        return config.settings
    weak = config.weights != "none" or config.task == REGRESSION
    return TUNED_SUPERVISED if weak and method == "supervised" else {}


def _budget(context: Context, stage: Stage) -> Budget:
    config = context.config
    if config.time_limit:
        return Budget(seconds=max(0.0, stage.until - context.clock()))
    return Budget(steps=max(1, round(context.steps * stage.part)))
