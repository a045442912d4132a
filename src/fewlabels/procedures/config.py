"""Everything a user can set for a run, and its resolution into what the run will do."""

import math
import re
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import torch
import yaml

from fewlabels.augment.mix import Mix
from fewlabels.augment.policy import Policy
from fewlabels.errors import UserError
from fewlabels.evaluate.predictions import TTA
from fewlabels.methods import METHODS, resolve
from fewlabels.models.initialise import Initialisation
from fewlabels.models.scaling import BASES
from fewlabels.pixels.cache_folder import parse_bytes
from fewlabels.pool.pool import TASKS, is_path
from fewlabels.procedures import probes, sequences
from fewlabels.procedures.probes import FROZEN
from fewlabels.procedures.sequences import SEQUENCES
from fewlabels.settings import POSITIVE, between, one_of
from fewlabels.training.freeze import ALL, FIXRES, Freeze
from fewlabels.training.schedule import SCHEDULES
from fewlabels.training.tensorboard import TENSORBOARD

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
LAYOUTS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}
INSIDE = "inside"  # the run that a run belongs to, which is the one that can be resumed
ABOUT = ("command", "versions", INSIDE)  # what config.yaml holds beside the settings
OPTIMISERS = ("sgd", "nesterov", "adamw")
AUTO = "auto"  # of --lr and --batch-size: found when the run starts
BATCH = 16  # labelled images a step
LR = {"adamw": 0.003, "sgd": 0.05, "nesterov": 0.05}
TIME_LIMIT = 600.0  # seconds
# pixels that a CPU has time for, with less than so many seconds. A linear probe of MobileNetV2 on
# photographs of clothes, 100 labels: 55.6 % at 128, 59.1 % at 160, 66.9 % at 224
CPU_SIDES = ((600.0, 128), (3600.0, 160))
TUNED_LR = {"adamw": 0.0003, "sgd": 0.003, "nesterov": 0.003}  # of pretrained weights,
TUNED_DECAY = 0.9  # with layer decay
# and weak views of the labelled images; docs/backbones.md has the figures
TUNED_SUPERVISED = {"view": "weak"}
ROUNDS = ("self_train", "noisy_student")  # of whole runs, each student a teacher to the next
EARLIER = ("distill", "ensemble", "fixres")  # what takes runs that were trained before
GROW = {"grow": 1.0}  # of `--model auto`: its students are larger by that φ each
RANGES = (
    ("time_limit", POSITIVE, math.inf),
    ("epochs", 1, 1e9),
    ("steps", 1, 1e9),
    ("labels_per_class", 1, math.inf),
    ("img_size", 8, 4096),
    ("devices", 1, 4096),
    ("accumulate", 1, 1e6),
    ("batch_size", 2, 1e6),  # batch norm has no statistics of one image
    ("lr", POSITIVE, math.inf),
    ("clip", POSITIVE, math.inf),
    ("weight_decay", 0, math.inf),
    ("ema_decay", 0, 0.999999),
    ("seed", 0, 2**31 - 1),
    ("workers", 1, 1024),
    ("head_lr", POSITIVE, math.inf),
    ("layer_decay", POSITIVE, 1),
    ("dropout", 0, 0.99),
    ("drop_path", 0, 0.99),
    ("patience", 1, math.inf),
)
UNTRAINED = (*FROZEN, "ensemble")
IDLE = {  # have no effect
    "supervised": ("guard",),
    "fixres": ("guard", "unfreeze", "weights"),
    "ensemble": ("weights",),
}
# what says how a model is trained, and so nothing where it is frozen and never trained
TRAINING = (
    "time_limit",
    "epochs",
    "steps",
    "batch_size",
    "optimiser",
    "lr",
    "schedule",
    "clip",
    "weight_decay",
    "ema_decay",
    "augment",
    "weak",
    "flip",
    "rotate",
    "guard",
    "balance",
    "mix",
    "freeze",
    "unfreeze",
    "norms",
    "head_lr",
    "layer_decay",
    "dropout",
    "drop_path",
    "init",
    "patience",
    "log",
    "devices",
    "accumulate",
    "precision",
    "layout",
    "compile",
    "tta",  # features are those of the images as they are
)
# the setting that holds the policy of each view; by default the preset of the view's own name
POLICIES = {"weak": "weak", "strong": "augment"}
INVARIANCES = {"flip": "flip", "rotate": "turn"}  # setting -> the stage it adds to every policy


@dataclass(frozen=True)
class Config:
    """The settings of one run. None means: chosen for this pool and machine when the run starts."""

    data: str | list[str]  # several are joined
    method: str = "auto"
    model: str = "auto"
    weights: str = "auto"  # auto, none, or a file
    init: str | None = None  # random weights: gaussian(0.01), xavier, he; None: the model's own
    freeze: str | int = "none"  # none, backbone, or a number of stages from the input on
    unfreeze: float = 0.0  # the part of training in which the rest is thawed
    norms: str = "auto"  # statistics of batch norms: keep, learn; auto keeps pretrained ones
    time_limit: float | None = None  # seconds, of the whole command
    epochs: int | None = None  # passes over the images that the method learns from
    steps: int | None = None
    task: str | None = None  # what the labels are: single, multi, regression; None: as they look
    labels_per_class: int | None = None
    img_size: int | None = None  # pixels
    batch_size: int | Literal["auto"] = BATCH  # labelled images a step
    optimiser: str = "adamw"
    lr: float | Literal["auto"] | None = None
    head_lr: float | None = None
    layer_decay: float | None = None  # the rate of a unit relative to the one above it
    schedule: str = "cosine"  # of the rate; training.schedule has them
    clip: float | None = None  # the gradient's norm, at most
    weight_decay: float = 5e-4
    dropout: float | None = None  # before the head; None: the model's own
    drop_path: float | None = None  # stochastic depth: the last block's probability
    patience: int | None = None  # stop after so many validations without a better one
    ema_decay: float = 0.99
    seed: int = 0
    device: str = "auto"
    devices: int = 1  # processes that train together, each on a device of its own
    accumulate: int = 1  # parts that a batch passes the model in, to save memory
    precision: str = "auto"  # 32-true, bf16-mixed, 16-mixed, or the fastest
    layout: str = "auto"  # of images in memory: channels_last, contiguous, or the faster
    compile: bool = False  # whether the model is compiled, for CUDA
    workers: int = 1  # threads that make batches
    augment: str | None = None  # policy of the strong view, in its text form or a file
    weak: str | None = None  # and of the weak one
    flip: str = "auto"  # whether a mirrored image shows the same: auto, on, off
    rotate: str = "auto"  # and one turned by quarters
    guard: str = "on"  # whether unlabelled images that look like no class are left out: on, off
    balance: str = "none"  # of classes that are not equally frequent: none, sampling, logits
    mix: str = "none"  # of labelled images: none, mixup, cutmix
    tta: str = "none"  # test-time augmentation: none, flip, crop, flip+crop
    log: str | None = None  # tensorboard: event files beside metrics.jsonl
    cache_limit: str | None = None  # of the folder of decoded images: 10G, 500M
    images: str | None = None  # to learn from in the place of the unlabelled ones, by distill
    runs: list[str] = field(default_factory=list)  # trained before, that the method is about
    settings: dict[str, Any] = field(default_factory=dict)  # the method's own

    def __post_init__(self) -> None:
        """UserError for what cannot be."""
        _ = self.cache_bytes
        limits = [n for n in ("time_limit", "epochs", "steps") if getattr(self, n) is not None]
        if len(limits) > 1:
            raise UserError("name one of --time-limit, --epochs and --steps, not several")
        if self.method in SEQUENCES:
            sequences.resolve(self.method, self.settings)
        if self.method == "pretrain" and "share" in self.settings and (self.steps or self.epochs):
            raise UserError(
                f"setting 'share' is a part of --time-limit: no effect with --{limits[0]}"
            )
        if self.runs and self.method not in EARLIER:
            raise UserError(
                f"setting 'runs' has no effect in the method {self.method}; it has in "
                f"{', '.join(EARLIER)}"
            )
        if self.images is not None and self.method != "distill":
            raise UserError(f"setting 'images' has no effect in the method {self.method}")
        if self.method in UNTRAINED:
            if self.method in FROZEN:
                probes.resolve(self.method, self.settings)
            for about in fields(self):
                if about.name in TRAINING and getattr(self, about.name) != about.default:
                    raise UserError(
                        f"setting '{about.name}' has no effect in the method {self.method}: it "
                        "trains no backbone"
                    )
        elif self.method not in ("auto", *METHODS, *SEQUENCES):
            names = ", ".join(("auto", *METHODS, *FROZEN, *SEQUENCES))
            raise UserError(f"no method is named '{self.method}'; there are {names}")
        elif self.method in METHODS:
            resolve(self.method, self.settings)
        elif self.method == "auto" and self.settings:
            raise UserError(
                f"setting '{next(iter(self.settings))}' has no effect in auto; name a --method"
            )
        if self.task is not None:
            one_of("--task", self.task, TASKS)
        one_of("--precision", self.precision, ("auto", *PRECISIONS))
        one_of("--layout", self.layout, ("auto", *LAYOUTS))
        one_of("--optimiser", self.optimiser, OPTIMISERS)
        one_of("--schedule", self.schedule, tuple(SCHEDULES))
        for name, least, most in RANGES:
            value, option = getattr(self, name), f"--{name.replace('_', '-')}"
            if value != AUTO:
                between(option, value, least, most)
        Freeze(str(self.freeze), self.unfreeze)
        if self.method == "fixres" and self.freeze not in ("none", FIXRES):
            raise UserError(f"--freeze {self.freeze}: has no effect in the method fixres")
        one_of("--norms", self.norms, ("auto", "keep", "learn"))
        if self.freeze == ALL and self.layer_decay is not None:
            raise UserError(f"--layer-decay has no effect with --freeze {ALL}")
        if self.init is not None:
            Initialisation.parse(self.init)
        if self.log is not None:
            one_of("--log", self.log, (TENSORBOARD,))
        one_of("--guard", self.guard, ("on", "off"))
        for name in IDLE.get(self.method, ()):
            if (value := getattr(self, name)) != getattr(Config, name):
                raise UserError(f"--{name} {value}: has no effect in the method {self.method}")
        one_of("--balance", self.balance, ("none", "sampling", "logits"))
        one_of("--tta", self.tta, tuple(TTA))
        Mix.parse(self.mix)
        for name in INVARIANCES:
            one_of(f"--{name}", getattr(self, name), ("auto", "on", "off"))
        for view, name in POLICIES.items():
            text = getattr(self, name)
            if text is None:
                continue
            policy = Policy.read(text)
            if view not in self.views:
                raise UserError(f"setting '{name}' has no effect in the method {self.method}")
            for setting, stage in INVARIANCES.items():
                if stage in policy and getattr(self, setting) == "off":
                    raise UserError(f"--{setting} off: but '{name}' has the stage {stage}")

    @property
    def memory_format(self) -> torch.memory_format:
        """The order in which an image's numbers lie in memory while the model is trained."""
        return LAYOUTS.get(self.layout, torch.channels_last)

    @property
    def cache_bytes(self) -> int | None:
        """`cache_limit` in bytes; UserError where it is no size."""
        return parse_bytes(self.cache_limit, "--cache-limit") if self.cache_limit else None

    @property
    def batch(self) -> int:
        """Labelled images a step: BATCH, until more are found to be better."""
        return BATCH if isinstance(self.batch_size, str) else self.batch_size

    @property
    def rate(self) -> float:
        """The learning rate: the usual one, until another is found."""
        usual = (LR if self.weights == "none" else TUNED_LR)[self.optimiser]
        return usual if self.lr is None or isinstance(self.lr, str) else self.lr

    @property
    def views(self) -> tuple[str, ...]:
        """The augmentations that the run uses: labels only knows one."""
        if self.method in UNTRAINED:
            return ()
        if self.method == "supervised":
            return (resolve(self.method, self.settings).view,)
        if self.method == "fixres":
            return ("weak",)
        return ("weak", "strong")

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def resolved(
        self, data: str | list[str], model: str, img_size: int, tuned: bool, mirror: bool
    ) -> "Config":
        """The settings with what depends on the pool and the model filled in.

        `data`: where the pool lies, from wherever the run is resumed; `model`: its name; `tuned`:
        whether it has pretrained weights; `mirror`: whether a mirrored image still shows the same.
        """
        weights = self.weights if tuned else "none"  # a run that goes on fetches no others
        if weights not in ("auto", "none"):
            weights = _absolute(weights)
        runs = [_absolute(run) for run in self.runs]
        images = self.images
        if images is not None and is_path(images):
            images = _absolute(images)
        found = replace(self, data=data, weights=weights, model=model, img_size=img_size)
        found = replace(found, runs=runs, images=images)
        if self.method in UNTRAINED:
            return found

        if tuned and self.method == "supervised" and self.augment is None:
            found = replace(found, settings=TUNED_SUPERVISED | self.settings)
        chain = self.settings.get("models")
        if self.method in ROUNDS and self.model == "auto" and model in BASES and not chain:
            found = replace(found, settings=GROW | self.settings)

        def policy(view: str) -> str | None:
            usual = "none" if self.method == "fixres" else view  # as at test time
            given = getattr(self, POLICIES[view]) or usual
            return str(Policy.read(given)) if view in found.views else None

        limited = self.time_limit or self.epochs or self.steps
        return replace(
            found,
            lr=None if self.lr is None and self.batch_size == AUTO else self.lr or found.rate,
            layer_decay=self.layer_decay or (TUNED_DECAY if tuned and self.freeze != ALL else None),
            norms=("keep" if tuned else "learn") if self.norms == "auto" else self.norms,
            time_limit=self.time_limit if limited else TIME_LIMIT,
            augment=policy("strong"),
            weak=policy("weak"),
            flip="off" if self.flip == "auto" and not mirror else self.flip,
            rotate="off" if self.rotate == "auto" and not mirror else self.rotate,
        )

    def untuned(self) -> "Config":
        """The same for a model without pretrained weights, in a run that has some: what was
        resolved for these is as it is for random ones."""
        tuned = self.lr == TUNED_LR[self.optimiser]
        return replace(
            self,
            weights="none",
            lr=LR[self.optimiser] if tuned else self.lr,
            layer_decay=None if self.layer_decay == TUNED_DECAY else self.layer_decay,
            norms="learn",
        )


def _absolute(path: str) -> str:
    """So that a run can be resumed from anywhere."""
    return str(Path(path).expanduser().absolute())


def image_size(
    side: int, model_side: int | None, fixed: bool, device: str, seconds: float | None
) -> int:
    """The side at which a model learns, in pixels: the one it was made for; on a CPU a smaller one,
    where every image is seen many times and the time is short.

    side: of a typical image; model_side: what the model was made for, if it was made for one;
    fixed: whether it takes no other; seconds: for training, None where steps are what is limited,
    infinite where every image is seen once.
    """
    if model_side is None:
        return small_size(side)
    if fixed or device != "cpu":
        return model_side
    if side <= 64:
        return min(model_side, 96)
    return min([model_side, *(px for limit, px in CPU_SIDES if (seconds or 0.0) < limit)])


def small_size(side: int) -> int:
    """The side at which small nets learn from images of this size, for a CPU's sake no larger."""
    return 32 if side <= 128 else 64


def seconds(text: str | float) -> float:
    """ "90", "90s", "10m", "1.5h" or "1h30m" in seconds. UserError for anything else."""
    units = {"h": 3600.0, "m": 60.0, "s": 1.0, "": 1.0}
    parts = re.findall(r"(\d+(?:\.\d+)?)([hms]?)", str(text))
    if not parts or "".join(n + u for n, u in parts) != str(text):
        raise UserError(f"--time-limit {text}: write seconds, or a time such as 90s, 10m or 1h30m")
    return sum(float(number) * units[unit] for number, unit in parts)


def read_recipe(path: Path) -> dict[str, Any]:
    """The settings in a recipe (YAML). UserError when it is none."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"-c {path}: no such file") from None
    except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        raise UserError(f"-c {path}: cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise UserError(f"-c {path}: must hold settings, one 'name: value' a line")
    return {str(key): value for key, value in values.items() if key not in ABOUT}
