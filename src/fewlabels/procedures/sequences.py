"""What a sequence of runs takes, beside the settings of its methods.

The docstrings are what `fewlabels methods` shows, as those of the methods are.
"""

from dataclasses import dataclass, fields
from typing import Any

from fewlabels.errors import UserError
from fewlabels.settings import between, make, one_of

TASKS = ("rotation", "simclr", "masked", "restoration")


@dataclass(frozen=True)
class Pretrain:
    """Pre-training (Chen et al. 2020): learns a pretext task on all images, then the labels.

        1. min over the backbone of L_task(all training images)
        2. min of L over backbone and head on the labels                             (section 2.1)

    What comes of the first part lies in `pretrained/`, for other runs too, as
    `--weights RUN/pretrained`.
    """

    task: str = "simclr"  # rotation, simclr, masked or restoration
    share: float = 0.6  # of the time after labels only, for the task

    def __post_init__(self) -> None:
        one_of("task", self.task, TASKS)
        between("share", self.share, 0.01, 0.99)


@dataclass(frozen=True)
class FixRes:
    """FixRes (Touvron et al. 2019): tunes a run's classifier and last norm for larger images.

        min over the head, and the last batch norm with its statistics, of
        1/B Σ_b H(y_b, p(x_b)),   x_b as at test time, at the larger size              (section 3)

    A crop that fills the image makes things look larger in training than they do at test time; at
    a larger size they look the same, but the statistics of the last map are others. The model of
    the run that is named is kept where it is better on validation images.
    """

    larger: float = 1.28  # the new side relative to the run's; without effect beside --img-size

    def __post_init__(self) -> None:
        between("larger", self.larger, 1, 4)


@dataclass(frozen=True)
class Ensemble:
    """Ensemble (Lakshminarayanan et al. 2017): several runs predict together.

        p(y | x) = 1/M Σ_m p_m(y | x)                                                (section 2.4)

    Nothing is trained. The artefact holds all models, and predicts, is served and distilled as one.
    """


@dataclass(frozen=True)
class Baseline:
    """Baselines (Kornblith et al. 2019): linear probe, nearest neighbours, label spreading and
    fine-tuning, side by side.

        argmax over them of the accuracy on validation images

    All but label spreading learn from the labels only. Each is cross-validated where the pool has
    no validation images; what is kept is fitted to all labels.
    """


SEQUENCES: dict[str, type[Any]] = {
    "pretrain": Pretrain,
    "fixres": FixRes,
    "ensemble": Ensemble,
    "baseline": Baseline,
}


def resolve(name: str, settings: dict[str, Any]) -> Any:
    """The settings of one of SEQUENCES; UserError for what it does not know."""
    known = [about.name for about in fields(SEQUENCES[name])]
    for key in settings:
        if key not in known:
            takes = f"it takes {', '.join(known)}" if known else "it takes none"
            raise UserError(f"setting '{key}' has no effect in the method {name}; {takes}")
    return make(SEQUENCES[name], settings, f"method {name}")
