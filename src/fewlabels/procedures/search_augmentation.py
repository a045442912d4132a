"""`search --what augmentation`: policies of N operations, beside the default one.

Mirroring and turning are not searched; `train` decides them. What was found is `policy.txt`.

How short a training may be, measured with `cnn_small` on digits of 16 px, three folds: with 4
labels a class no augmentation at all has 90.1 % after 150 steps, the default policy 72.5 %; after
400 steps it is 85.2 and 90.1 %. With 10 labels a class and 150, 400, 1,000 steps it is 89.9, 93.9,
93.9 % and 86.9, 95.0, 97.0 %. What is learnt fastest is ahead at first: hence 400 steps.
"""

import shlex
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from fewlabels.augment.policy import Policy
from fewlabels.augment.search import CHOICES, policy_of
from fewlabels.procedures import search
from fewlabels.procedures.search import Candidate, Row, Work, percent, trainings
from fewlabels.procedures.stage import Context
from fewlabels.settings import between
from fewlabels.training.folder import write_text

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True)
class Plan(search.Plan):
    """How many operations a policy has."""

    operations: int = 2  # N

    def __post_init__(self) -> None:
        super().__post_init__()
        between("--operations", self.operations, 1, 8)

    def space(self, context: Context) -> "Policies":
        return Policies(context, self.operations)


@dataclass(frozen=True, eq=False)
class Policies:
    """Augmentations of the labelled images."""

    context: Context
    operations: int
    columns: ClassVar[tuple[str, ...]] = ("policy",)
    same: ClassVar[tuple[str, ...]] = ("policy",)

    def default(self) -> Candidate:
        return self._candidate(Policy.parse(str(self.context.config.augment)))

    def draw(self, trial: "optuna.Trial") -> Candidate:
        numbers = range(1, self.operations + 1)
        return self._candidate(
            policy_of(
                [trial.suggest_categorical(f"which {i}", CHOICES) for i in numbers],
                [trial.suggest_float(f"strength {i}", 0.0, 1.0) for i in numbers],
            )
        )

    def _candidate(self, policy: Policy) -> Candidate:
        config = replace(self.context.config, augment=str(policy))
        told = {"policy": str(policy)}
        return Candidate(str(policy), told, replace(self.context, config=config))

    def later(self, work: Work) -> float:
        return 0.0

    def close(self, work: Work, limit: float | None) -> None:
        """Nothing: the best trial is the answer."""

    def conclude(self, work: Work, result: Row) -> Row:
        """Writes `policy.txt`."""
        config, file = self.context.config, self.context.folder.path / "policy.txt"
        write_text(file, _policy_file(result))
        words = search.command(config)
        if config.model != "cnn_small":
            words += ["--model", config.model]
        words += ["--img-size", str(config.img_size)]
        return {"use": shlex.join([*words, "--augment", str(file)])}


def _policy_file(result: Row) -> str:
    """One line of comment, one with the policy: what `--augment FILE` reads."""
    winner, default, n = result["winner"], result["default"], len(result["trials"])
    score = percent(winner["accuracy"], winner["spread"])
    told = f"mean ± standard deviation over {result['folds']} {trainings(result)}"
    if result["improved"]:
        text = (
            f"{score} ({told}), the best of {n} trials and so a little too good; "
            f"default {percent(default['accuracy'], default['spread'])}"
        )
    else:
        text = f"{score} ({told}): the default policy; {n} trials, none better"
    data = " ".join(str(result["data"]).split())
    return f"# {data}: {text}\n{winner['policy']}\n"
