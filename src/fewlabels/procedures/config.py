"""Everything a user can set for a run, and its resolution into what the run will do."""

import math
import re
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from fewlabels.augment.mix import Mix
from fewlabels.augment.policy import Policy
from fewlabels.errors import UserError
from fewlabels.evaluate.predictions import TTA
from fewlabels.methods import resolve
from fewlabels.settings import between, one_of

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
ABOUT = ("command", "versions")  # what config.yaml holds beside the settings
OPTIMISERS = ("sgd", "adamw")
TINY = 1e-9  # for what must be greater than 0
RANGES = (
    ("time_limit", TINY, math.inf),
    ("epochs", 1, 1e9),
    ("steps", 1, 1e9),
    ("labels_per_class", 1, math.inf),
    ("img_size", 8, 4096),
    ("batch_size", 2, 1e6),  # batch norm has no statistics of one image
    ("lr", TINY, math.inf),
    ("weight_decay", 0, math.inf),
    ("ema_decay", 0, 0.999999),
    ("seed", 0, 2**31 - 1),
    ("workers", 1, 1024),
)
# the setting that holds the policy of each view; by default the preset of the view's own name
POLICIES = {"weak": "weak", "strong": "augment"}
INVARIANCES = {"flip": "flip", "rotate": "turn"}  # setting -> the stage it adds to every policy


@dataclass(frozen=True)
class Config:
    """The settings of one run. None means: chosen for this pool and machine when the run starts."""

    data: str
    method: str = "auto"
    model: str = "auto"
    weights: str = "auto"  # auto, none, or a file
    time_limit: float | None = None  # seconds, of the whole command
    epochs: int | None = None  # passes over the images that the method learns from
    steps: int | None = None
    labels_per_class: int | None = None
    img_size: int | None = None  # pixels
    batch_size: int = 16  # labelled images a step
    optimiser: str = "adamw"
    lr: float | None = None
    weight_decay: float = 5e-4
    ema_decay: float = 0.99
    seed: int = 0
    device: str = "auto"
    precision: str = "32-true"
    workers: int = 1  # threads that make batches
    augment: str | None = None  # policy of the strong view, in its text form or a file
    weak: str | None = None  # and of the weak one
    flip: str = "auto"  # whether a mirrored image shows the same: auto, on, off
    rotate: str = "auto"  # and one turned by quarters
    mix: str = "none"  # of labelled images: none, mixup, cutmix
    tta: str = "none"  # test-time augmentation: none, flip, crop, flip+crop
    settings: dict[str, Any] = field(default_factory=dict)  # the method's own

    def __post_init__(self) -> None:
        """UserError for what cannot be."""
        limits = [n for n in ("time_limit", "epochs", "steps") if getattr(self, n) is not None]
        if len(limits) > 1:
            raise UserError("name one of --time-limit, --epochs and --steps, not several")
        if self.method != "auto":
            resolve(self.method, self.settings)
        elif self.settings:
            raise UserError(
                f"setting '{next(iter(self.settings))}' has no effect in auto; name a --method"
            )
        one_of("--precision", self.precision, PRECISIONS)
        one_of("--optimiser", self.optimiser, OPTIMISERS)
        for name, least, most in RANGES:
            between(f"--{name.replace('_', '-')}", getattr(self, name), least, most)
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
    def views(self) -> tuple[str, ...]:
        """The augmentations that the run uses: labels only knows one."""
        if self.method == "supervised":
            return (resolve(self.method, self.settings).view,)
        return ("weak", "strong")

    @property
    def model_name(self) -> str:
        return "cnn_small" if self.model == "auto" else self.model

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def resolved(self, data: str, side: int, model_side: int | None, mirror: bool) -> "Config":
        """The settings with what depends on the pool and the model filled in.

        `data`: where the pool lies, from wherever the run is resumed; `side`: of a typical image,
        in pixels; `model_side`: what the model was made for, if it was made for one; `mirror`:
        whether a mirrored image still shows the same.
        """

        def policy(view: str) -> str | None:
            given = getattr(self, POLICIES[view])
            return str(Policy.read(given or view)) if view in self.views else None

        named = self.weights in ("auto", "none")
        weights = self.weights if named else str(Path(self.weights).expanduser().absolute())
        default_lr = {"adamw": 0.003, "sgd": 0.05}[self.optimiser]
        limited = self.time_limit or self.epochs or self.steps
        return replace(
            self,
            data=data,
            weights=weights,
            model=self.model_name,
            img_size=self.img_size or model_side or small_size(side),
            lr=self.lr or default_lr,
            time_limit=self.time_limit if limited else 600.0,
            augment=policy("strong"),
            weak=policy("weak"),
            flip="off" if self.flip == "auto" and not mirror else self.flip,
            rotate="off" if self.rotate == "auto" and not mirror else self.rotate,
        )


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
