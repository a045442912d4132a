"""Searching: candidates are drawn, each judged by short trainings on labels alone.

A candidate is trained `folds` times for a few steps on a part of the labelled training images and
asked about the rest of them; what counts is the mean of these accuracies. One part held out of few
labels would be far too noisy. All candidates meet the same folds and the same order of images, and
so does the default, which is judged first: differences are paired. A pool with validation images of
its own is judged on those, by as many trainings on all its labels. The test images are never looked
at.

Optuna draws the candidates (TPE, Bergstra et al. 2011) and cuts off those that are worse after some
folds than the median of the others there. The study lies in `study.db`, and a trial's draws depend
on the seed and the trials before it: a search that was cut off, even killed, goes on as if nothing
had happened.

What is searched is a space, and each has a file: `search_augmentation`, `search_scaling`.
"""

import shlex
import shutil
import sqlite3
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
from rich.console import Console

from fewlabels.errors import UserError
from fewlabels.procedures.config import Config
from fewlabels.procedures.folds import Fold, fingerprint, make_folds
from fewlabels.procedures.stage import Context, Stage, run_stage
from fewlabels.settings import between
from fewlabels.training.folder import RunFolder

if TYPE_CHECKING:
    import optuna

HOME = Path("searches")
STEPS = 400  # of a short training
CLOSING = 1.0  # seconds for what is written at the end

Row = dict[str, Any]  # what `search.json` holds of a candidate


@dataclass(frozen=True, eq=False)
class Candidate:
    """What a trial is about, ready to be trained."""

    text: str  # how the terminal names it
    told: Row  # what its row says of it
    context: Context  # that it is trained in


class Space(Protocol):
    """What is searched."""

    columns: ClassVar[tuple[str, ...]]  # of what `told` holds
    same: ClassVar[tuple[str, ...]]  # of those: candidates that are equal in them train to the same

    def default(self) -> Candidate:
        """What all others are compared with: trial 0, outside of the space."""
        ...

    def draw(self, trial: "optuna.Trial") -> Candidate:
        """The next candidate."""
        ...

    def later(self, work: "Work") -> float:
        """Seconds that are to be left for `close`."""
        ...

    def close(self, work: "Work", limit: float | None) -> None:
        """What comes after the trials."""
        ...

    def conclude(self, work: "Work", result: Row) -> Row:
        """Writes what the folder is to hold beside `search.json`; returns what that holds more."""
        ...


@dataclass(frozen=True)
class Plan(ABC):
    """What to search and for how long."""

    what: str
    trials: int = 30  # in all, the default not counted
    folds: int = 3  # short trainings a trial

    def __post_init__(self) -> None:
        """UserError for what cannot be."""
        between("--trials", self.trials, 1, 1_000_000)
        between("--folds", self.folds, 2, 100)

    def settings(self, config: Config) -> Config:
        """The settings of the trainings. UserError for those that cannot be searched with."""
        return config

    @abstractmethod
    def space(self, context: Context) -> Space:
        """What is searched, on these images."""


@dataclass(frozen=True, eq=False)
class Work:
    """A search at work."""

    context: Context
    plan: Plan
    space: Space
    folds: tuple[Fold, ...]
    study: "optuna.Study"

    @property
    def default(self) -> Row:
        row: Row = self.study.user_attrs["default"]
        return row

    @property
    def trials(self) -> list[Row]:
        """Those that have an outcome, in order; one that a kill ended is FAIL without an error."""
        from optuna.trial import TrialState

        states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
        done = [
            trial
            for trial in self.study.get_trials(deepcopy=False, states=states)
            if trial.state != TrialState.FAIL or "error" in trial.user_attrs
        ]
        return [{"number": n, **_told(trial, self.space)} for n, trial in enumerate(done, 1)]

    def fits(self, seconds: float, limit: float | None) -> bool:
        """Whether what takes so long would end in time."""
        return limit is None or self.context.clock() + seconds + CLOSING <= limit

    def say(self, text: str) -> None:
        self.context.events.say(text)

    def time_is_up(self, number: int, of: int, what: str) -> None:
        self.say(
            f"the time is up after {number} of {of} {what}; go on with: "
            f"fewlabels search --resume {shlex.quote(str(self.context.folder.path))}"
        )


def need_optuna() -> None:
    """UserError where it is not installed."""
    try:
        import optuna  # noqa: F401
    except ImportError:
        raise UserError("search needs Optuna: pip install 'fewlabels[search]'") from None


def run(context: Context, plan: Plan, limit: float | None = None) -> Row:
    """Searches until all trials are done, or until the next one would end after `limit` seconds on
    the context's clock. Returns what `search.json` holds; what the space writes lies beside it.
    """
    folds = make_folds(context.data, plan.folds, context.config.seed)
    with _alone(context.folder.path):
        work = Work(context, plan, plan.space(context), folds, _study(context, plan, folds))
        if "default" not in work.study.user_attrs:
            default = work.space.default()
            row = {"number": 0, **judged(work, default)}
            work.study.set_user_attr("default", row)
            work.say(f"default: {scored(row)}  {default.text}")
        _take_up(work.study, work.say)
        if (number := len(work.trials)) >= plan.trials:
            work.say(f"{number} trials are done; a larger --trials goes on")
        while (number := len(work.trials)) < plan.trials:
            slowest = max(row["seconds"] for row in (work.default, *work.trials))
            if not work.fits(slowest + work.space.later(work), limit):
                work.time_is_up(number, plan.trials, "trials")
                break
            _trial(work, number)
            write(work)
        work.space.close(work, limit)
        return write(work)


def scored(row: Row) -> str:
    """The accuracy of a trial as the terminal shows it."""
    state = {"pruned": "cut off early"}.get(row["state"], str(row["state"]))
    if row["accuracy"] is None:
        return state
    text = percent(row["accuracy"], row["spread"])
    return text if state == "complete" else f"{text} ({state})"


def percent(accuracy: float, spread: float | None) -> str:
    """0.85 and 0.0412 -> 85.0 % ± 4.1"""
    return f"{100 * accuracy:.1f} %" + ("" if spread is None else f" ± {100 * spread:.1f}")


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """No other process works on this search; a killed one lets go of it by itself."""
    lock = sqlite3.connect(folder / ".lock", timeout=0)
    try:
        try:
            lock.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            raise UserError(f"{folder}: another process is searching there ({error})") from error
        yield
    finally:
        lock.close()


def _study(context: Context, plan: Plan, folds: tuple[Fold, ...]) -> "optuna.Study":
    """The study in `study.db`, new or as it was left; UserError if the images are others now."""
    import optuna
    from sqlalchemy.engine import URL

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    file = (context.folder.path / "study.db").absolute()
    study = optuna.create_study(
        storage=URL.create("sqlite", database=str(file)).render_as_string(),
        study_name=plan.what,
        direction="maximize",
        pruner=optuna.pruners.MedianPruner(),
        load_if_exists=True,
    )
    images = fingerprint(context.data, folds)
    if study.user_attrs.get("images", images) != images:
        raise UserError(
            f"{context.folder.path}: the labelled images of {context.data.pool.origin} are others "
            "than when this search began; begin a new one"
        )
    study.set_user_attr("images", images)
    return study


def _take_up(study: "optuna.Study", say: Callable[[str], None]) -> None:
    """Trials that a killed process left running are failed, and their candidates tried again."""
    from optuna.trial import TrialState

    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        study.enqueue_trial(trial.params)  # first: a kill between the two costs no candidate
        study.tell(trial.number, state=TrialState.FAIL)
        say("a trial that was cut off is tried again")


def _trial(work: Work, done: int) -> None:
    """Draws the next candidate and judges it, fold by fold, as long as it is worth while."""
    from optuna.trial import TrialState

    context, study, number = work.context, work.study, done + 1
    study.sampler = _sampler(context.config.seed, done)
    began, trial = context.clock(), study.ask()
    candidate = work.space.draw(trial)
    for name in work.space.columns:
        trial.set_user_attr(name, candidate.told[name])
    twin, found = _twin(work, candidate, "complete", "pruned"), list[float]()
    state, wrong = TrialState.COMPLETE, ""
    try:
        for i, fold in enumerate(work.folds, 1):
            found.append(twin["folds"][i - 1] if twin else judge(candidate.context, fold, i))
            trial.set_user_attr("folds", found)
            trial.report(mean(found), i)
            worse = i == len(twin["folds"]) if twin else trial.should_prune()
            if i < len(work.folds) and worse:
                state = TrialState.PRUNED
                break
    except UserError as error:  # the loss became infinite: no other candidate is to suffer for it
        state, wrong = TrialState.FAIL, str(error)
    trial.set_user_attr("seconds", round(context.clock() - began, 3))
    if wrong:
        trial.set_user_attr("error", wrong)
    value = mean(found) if state == TrialState.COMPLETE else None
    row = _told(study.tell(trial, value, state), work.space)
    work.say(f"trial {number} of {work.plan.trials}: {scored(row)}  {candidate.text}")


def _sampler(seed: int, done: int) -> "optuna.samplers.BaseSampler":
    """Draws that depend on the seed and the number of trials done, in whatever process."""
    from optuna.exceptions import ExperimentalWarning
    from optuna.samplers import TPESampler

    draw = int(np.random.SeedSequence([seed, done]).generate_state(1)[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # of Optuna 4 about `multivariate`
        return TPESampler(seed=draw, multivariate=True, constant_liar=False)


def judged(work: Work, candidate: Candidate) -> Row:
    """The row of a candidate outside of the trials, which is never cut off."""
    began = work.context.clock()
    if twin := _twin(work, candidate, "complete"):
        found = twin["folds"]
    else:
        found = [judge(candidate.context, fold, i) for i, fold in enumerate(work.folds, 1)]
    return _row(candidate.told, "complete", found, work.context.clock() - began)


def failed(candidate: Candidate) -> Row:
    """The row of one whose training came to nothing."""
    return _row(candidate.told, "failed", [], 0.0)


def _twin(work: Work, candidate: Candidate, *states: str) -> Row | None:
    """One that is the same and has come to one of these ends."""
    default = [work.default] if "default" in work.study.user_attrs else []
    for row in default + work.trials:
        if row["state"] in states and all(
            row[name] == candidate.told[name] for name in work.space.same
        ):
            return row
    return None


def judge(context: Context, fold: Fold, number: int) -> float:
    """The accuracy on `fold.judged` after a short training on `fold.train`.

    What it draws depends on the run's seed and the fold's number, not on the candidate.
    """
    scratch = RunFolder(context.folder.path / "scratch")
    shutil.rmtree(scratch.path, ignore_errors=True)  # of a process that was killed
    scratch.path.mkdir()
    console, none = context.events.console, context.data.val[:0]
    inner = replace(
        context,
        data=replace(context.data, labelled=fold.train, val=none, held_out=none, test=none),
        folder=scratch,
        events=context.events.inside(
            scratch, console if console.is_terminal else Console(quiet=True)
        ),
    )
    stage = Stage(f"fold {number}", inner.method, trial=False, part=1.0, until=0.0)
    model = inner.model(run_stage(inner, stage, None).weights)
    shutil.rmtree(scratch.path)
    said = inner.probabilities(model, fold.judged).argmax(1)
    return float((said == context.data.pool.label[fold.judged]).mean())


def _told(trial: "optuna.trial.FrozenTrial", space: Space) -> Row:
    state = {"FAIL": "failed"}.get(trial.state.name, trial.state.name.lower())
    attrs = trial.user_attrs
    told = {name: attrs[name] for name in space.columns}
    return _row(told, state, attrs.get("folds", []), attrs["seconds"])


def _row(told: Row, state: str, found: list[float], seconds: float) -> Row:
    return {
        **told,
        "state": state,
        "folds": found,
        "accuracy": mean(found) if found else None,
        "spread": _spread(found),
        "seconds": round(seconds, 3),
    }


def mean(values: list[float]) -> float:
    """Rounded, so that the same values in another order have the same mean."""
    return round(float(np.mean(values)), 6)


def _spread(values: list[float]) -> float | None:
    """The standard deviation over the folds."""
    return round(float(np.std(values, ddof=1)), 6) if len(values) > 1 else None


def best(trials: list[Row]) -> Row | None:
    """The most accurate of those that are complete, the first of equals."""
    complete = [trial for trial in trials if trial["state"] == "complete"]
    return max(complete, key=lambda trial: trial["accuracy"], default=None)


def write(work: Work) -> Row:
    """Writes `search.json`, and what the space has beside it, as they are now; returns the
    former's content."""
    config, data = work.context.config, work.context.data
    default, trials = work.default, work.trials
    first = best(trials)
    improved = first is not None and first["accuracy"] > default["accuracy"]
    winner = first if first is not None and improved else default
    less = [a - b for a, b in zip(winner["folds"], default["folds"], strict=True)]
    result = {
        "data": data.pool.origin,
        **asdict(work.plan),
        "judged_on": "val" if len(data.val) else "folds",
        "judged": len(np.unique(np.concatenate([fold.judged for fold in work.folds]))),
        "labels": len(data.labelled),
        "classes": len(data.pool.classes),
        "steps": config.steps,
        "model": config.model,
        "img_size": config.img_size,
        "seed": config.seed,
        "default": default,
        "winner": winner,
        "improved": improved,
        "difference": {"mean": mean(less), "spread": _spread(less), "folds": less},
        "trials": trials,
    }
    result |= work.space.conclude(work, result)
    work.context.folder.write_json("search.json", result)
    return result


def trainings(result: Row) -> str:
    """What an accuracy is the mean over, as a word."""
    return "folds" if result["judged_on"] == "folds" else "trainings"


def command(config: Config) -> list[str]:
    """The words that train on the labels that were searched with."""
    words = ["fewlabels", "train"]
    words += [config.data] if isinstance(config.data, str) else config.data
    if config.labels_per_class:
        words += ["--labels-per-class", str(config.labels_per_class), "--seed", str(config.seed)]
    return words
