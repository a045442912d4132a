"""`search --what augmentation`: policies sampled, each judged by short trainings on labels alone.

A policy is trained with `folds` times for a few steps on a part of the labelled training images and
asked about the rest of them; what counts is the mean of these accuracies. One part held out of few
labels would be far too noisy. Every policy meets the same folds, from the same first weights and in
the same order of images, and so does the default policy: differences are paired. A pool with
validation images of its own is judged on those, by as many trainings on all its labels. The test
images are never looked at.

Optuna draws the policies (TPE, Bergstra et al. 2011) and cuts off those that are worse after some
folds than the median of the others there. The study lies in `study.db`, and a trial's draws depend
on the seed and the trials before it: a search that was cut off, even killed, goes on as if nothing
had happened. Mirroring and turning are not searched; `train` decides them.

How short a training may be, measured with `cnn_small` on digits of 16 px, three folds: with 4
labels a class no augmentation at all has 90.1 % after 150 steps, the default policy 72.5 %; after
400 steps it is 85.2 and 90.1 %. With 10 labels a class and 150, 400, 1,000 steps it is 89.9, 93.9,
93.9 % and 86.9, 95.0, 97.0 %. What is learnt fastest is ahead at first: hence 400 steps.
"""

import hashlib
import shlex
import shutil
import sqlite3
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console

from fewlabels.augment.policy import Policy
from fewlabels.augment.search import CHOICES, policy_of
from fewlabels.errors import UserError
from fewlabels.pool import split
from fewlabels.procedures.prepare import Data, Rows
from fewlabels.procedures.stage import Context, Stage, run_stage
from fewlabels.settings import between, one_of
from fewlabels.training.events import Events
from fewlabels.training.folder import RunFolder, write_text

if TYPE_CHECKING:
    import optuna

WHAT = ("augmentation",)
HOME = Path("searches")
STEPS = 400  # of a short training
CLOSING = 1.0  # seconds for what is written at the end
_FOLDS = 4  # names the generator of the folds; pool.split has 1 to 3


@dataclass(frozen=True)
class Plan:
    """What to search and for how long."""

    what: str
    trials: int = 30  # in all, the default policy not counted
    operations: int = 2  # N
    folds: int = 3  # short trainings a policy

    def __post_init__(self) -> None:
        """UserError for what cannot be."""
        one_of("--what", self.what, WHAT)
        between("--trials", self.trials, 1, 1_000_000)
        between("--operations", self.operations, 1, 8)
        between("--folds", self.folds, 2, 100)


@dataclass(frozen=True, eq=False)
class Fold:
    """One short training: the rows it learns from and those it is asked about."""

    train: Rows
    judged: Rows


def need_optuna() -> None:
    """UserError where it is not installed."""
    try:
        import optuna  # noqa: F401
    except ImportError:
        raise UserError("search needs Optuna: pip install 'fewlabels[search]'") from None


def make_folds(data: Data, count: int, seed: int) -> tuple[Fold, ...]:
    """`count` trainings: each labelled image is held out of one of them, class by class as evenly
    as can be; or, where the pool has validation images, all learn from all labels.

    Copies and groups stay together, and a class keeps a label in every training: what would take
    its last one is never held out. UserError where the labels are too few.
    """
    if len(data.val):
        return (Fold(data.labelled, data.val),) * count
    label, rows = data.pool.label, data.labelled
    keys = split.tied(data.pool, data.digest)
    rng = np.random.default_rng([_FOLDS, seed])
    units: dict[int, list[int]] = {}  # in random order
    for row in rng.permutation(rows).tolist():
        units.setdefault(int(keys[row]), []).append(row)
    held: list[list[int]] = [[] for _ in range(count)]
    have = [Counter[int]() for _ in range(count)]
    for unit in sorted(units.values(), key=lambda unit: int(label[unit[0]])):  # class by class
        c = int(label[unit[0]])
        least = min(range(count), key=lambda fold: (have[fold][c], len(held[fold])))
        held[least] += unit
        have[least].update(label[unit].tolist())
    every = Counter(label[rows].tolist())
    for fold, its in enumerate(have):
        lost = [c for c, n in its.items() if n == every[c]]
        alone = set(keys[rows[np.isin(label[rows], lost)]].tolist())
        held[fold] = [row for row in held[fold] if keys[row] not in alone]
    if not all(held):
        raise UserError(
            f"{data.pool.origin}: {len(rows)} labelled training images of {len(every)} classes are "
            f"too few for --folds {count}: a class must have two for one to be held out"
        )
    judged = [np.sort(np.array(some, np.int64)) for some in held]
    return tuple(Fold(np.setdiff1d(rows, some), some) for some in judged)


def run(context: Context, plan: Plan, limit: float | None = None) -> dict[str, Any]:
    """Searches until all trials are done, or until the next one would end after `limit` seconds on
    the context's clock. Returns what `search.json` holds; `policy.txt` lies beside it.
    """
    folder, say = context.folder, context.events.say
    parts = make_folds(context.data, plan.folds, context.config.seed)
    with _alone(folder.path):
        study = _study(context, plan, parts)
        if "default" not in study.user_attrs:
            default = _default(context, parts)
            study.set_user_attr("default", default)
            say(f"default: {scored(default)}  {default['policy']}")
        _take_up(study, say)
        if (number := len(_done(study))) >= plan.trials:
            say(f"{number} trials are done; a larger --trials goes on")
        while (number := len(_done(study))) < plan.trials:
            slowest = max([study.user_attrs["default"]["seconds"], *map(_seconds, _done(study))])
            if limit is not None and context.clock() + slowest + CLOSING > limit:
                say(
                    f"the time is up after {number} of {plan.trials} trials; go on with: "
                    f"fewlabels search --resume {shlex.quote(str(folder.path))}"
                )
                break
            trial = _trial(study, context, plan, parts, number)
            say(f"trial {trial['number']} of {plan.trials}: {scored(trial)}  {trial['policy']}")
            _write(context, plan, parts, study)
        return _write(context, plan, parts, study)


def scored(trial: dict[str, Any]) -> str:
    """The accuracy of a trial as the terminal shows it."""
    state = {"pruned": "cut off early"}.get(trial["state"], str(trial["state"]))
    if trial["accuracy"] is None:
        return state
    text = percent(trial["accuracy"], trial["spread"])
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


def _study(context: Context, plan: Plan, parts: tuple[Fold, ...]) -> "optuna.Study":
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
    images = _fingerprint(context.data, parts)
    if study.user_attrs.get("images", images) != images:
        raise UserError(
            f"{context.folder.path}: the labelled images of {context.config.data} are others than "
            "when this search began; begin a new one"
        )
    study.set_user_attr("images", images)
    return study


def _fingerprint(data: Data, parts: tuple[Fold, ...]) -> str:
    """Of what the folds hold: contents and labels, in order."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        for rows in (part.train, part.judged):
            digest.update(data.pool.label[rows].tobytes())
            digest.update("\n".join(data.digest[row] for row in rows).encode())
    return digest.hexdigest()


def _take_up(study: "optuna.Study", say: Callable[[str], None]) -> None:
    """Trials that a killed process left running are failed, and their policies tried again."""
    from optuna.trial import TrialState

    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        study.enqueue_trial(trial.params)  # first: a kill between the two costs no policy
        study.tell(trial.number, state=TrialState.FAIL)
        say("a trial that was cut off is tried again")


def _done(study: "optuna.Study") -> list["optuna.trial.FrozenTrial"]:
    """The trials that have an outcome; one that a kill ended is FAIL without an error."""
    from optuna.trial import TrialState

    states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
    return [
        trial
        for trial in study.get_trials(deepcopy=False, states=states)
        if trial.state != TrialState.FAIL or "error" in trial.user_attrs
    ]


def _seconds(trial: "optuna.trial.FrozenTrial") -> float:
    return float(trial.user_attrs["seconds"])


def _default(context: Context, parts: tuple[Fold, ...]) -> dict[str, Any]:
    """The default policy, judged like every other: trial 0, outside of the space."""
    began, policy = context.clock(), Policy.parse(str(context.config.augment))
    found = [judge(context, policy, part, i) for i, part in enumerate(parts, 1)]
    return _row(0, str(policy), "complete", found, context.clock() - began)


def _trial(
    study: "optuna.Study", context: Context, plan: Plan, parts: tuple[Fold, ...], done: int
) -> dict[str, Any]:
    """Draws the next policy and judges it, fold by fold, as long as it is worth while."""
    from optuna.trial import TrialState

    study.sampler = _sampler(context.config.seed, done)
    began, trial = context.clock(), study.ask()
    policy = policy_of(
        [trial.suggest_categorical(f"which {i + 1}", CHOICES) for i in range(plan.operations)],
        [trial.suggest_float(f"strength {i + 1}", 0.0, 1.0) for i in range(plan.operations)],
    )
    trial.set_user_attr("policy", str(policy))
    found: list[float] = []
    state, wrong = TrialState.COMPLETE, ""
    try:
        for i, part in enumerate(parts, 1):
            found.append(judge(context, policy, part, i))
            trial.set_user_attr("folds", found)
            trial.report(mean(found), i)
            if i < len(parts) and trial.should_prune():
                state = TrialState.PRUNED
                break
    except UserError as error:  # the loss became infinite: no other policy is to suffer for it
        state, wrong = TrialState.FAIL, str(error)
    trial.set_user_attr("seconds", round(context.clock() - began, 3))
    if wrong:
        trial.set_user_attr("error", wrong)
    value = mean(found) if state == TrialState.COMPLETE else None
    return _told(study.tell(trial, value, state), done + 1)


def _sampler(seed: int, done: int) -> "optuna.samplers.BaseSampler":
    """Draws that depend on the seed and the number of trials done, in whatever process."""
    from optuna.exceptions import ExperimentalWarning
    from optuna.samplers import TPESampler

    draw = int(np.random.SeedSequence([seed, done]).generate_state(1)[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # of Optuna 4 about `multivariate`
        return TPESampler(seed=draw, multivariate=True, constant_liar=False)


def judge(context: Context, policy: Policy, part: Fold, number: int) -> float:
    """The accuracy on `part.judged` after a short training on `part.train` with `policy`.

    What it draws depends on the run's seed and the fold's number, not on the policy.
    """
    scratch = RunFolder(context.folder.path / "scratch")
    shutil.rmtree(scratch.path, ignore_errors=True)  # of a process that was killed
    scratch.path.mkdir()
    console, none = context.events.console, context.data.val[:0]
    inner = replace(
        context,
        config=replace(context.config, augment=str(policy)),
        data=replace(context.data, labelled=part.train, val=none, held_out=none, test=none),
        folder=scratch,
        events=Events(scratch, console if console.is_terminal else Console(quiet=True)),
    )
    stage = Stage(f"fold {number}", inner.method, trial=False, part=1.0, until=0.0)
    model = inner.model(run_stage(inner, stage, None).weights)
    shutil.rmtree(scratch.path)
    said = inner.probabilities(model, part.judged).argmax(1)
    return float((said == context.data.pool.label[part.judged]).mean())


def _told(trial: "optuna.trial.FrozenTrial", number: int) -> dict[str, Any]:
    state = {"FAIL": "failed"}.get(trial.state.name, trial.state.name.lower())
    attrs = trial.user_attrs
    return _row(number, attrs["policy"], state, attrs.get("folds", []), attrs["seconds"])


def _row(
    number: int, policy: str, state: str, found: list[float], seconds: float
) -> dict[str, Any]:
    return {
        "number": number,
        "policy": policy,
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


def _write(
    context: Context, plan: Plan, parts: tuple[Fold, ...], study: "optuna.Study"
) -> dict[str, Any]:
    """Writes `search.json` and `policy.txt` as they are now; returns the former's content."""
    config, data = context.config, context.data
    default = study.user_attrs["default"]
    trials = [_told(trial, number) for number, trial in enumerate(_done(study), 1)]
    complete = [trial for trial in trials if trial["state"] == "complete"]
    best = max(complete, key=lambda trial: trial["accuracy"], default=None)  # the first of equals
    improved = best is not None and best["accuracy"] > default["accuracy"]
    winner = best if best is not None and improved else default
    less = [a - b for a, b in zip(winner["folds"], default["folds"], strict=True)]
    result = {
        "data": config.data,
        **asdict(plan),
        "judged_on": "val" if len(data.val) else "folds",
        "judged": len(np.unique(np.concatenate([part.judged for part in parts]))),
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
        "use": _use(context),
    }
    context.folder.write_json("search.json", result)
    write_text(context.folder.path / "policy.txt", _policy_file(result))
    return result


def _policy_file(result: dict[str, Any]) -> str:
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


def trainings(result: dict[str, Any]) -> str:
    """What an accuracy is the mean over, as a word."""
    return "folds" if result["judged_on"] == "folds" else "trainings"


def _use(context: Context) -> str:
    """The command that trains with what was found, on the labels that it was found with."""
    config = context.config
    words = ["fewlabels", "train", config.data]
    if config.labels_per_class:
        words += ["--labels-per-class", str(config.labels_per_class), "--seed", str(config.seed)]
    if config.model != "cnn_small":
        words += ["--model", config.model]
    words += ["--img-size", str(config.img_size)]
    return shlex.join([*words, "--augment", str(context.folder.path / "policy.txt")])
