"""`auto`: labels only first, then the unlabelled images too, and the better of the two.

Without validation images in the pool a method runs in two stages. In its *trial* a stratified part
of the labels is held out, and what it says of them is the only thing that methods are compared on.
Then it *goes on* from its own weights with all the labels, so that no label is lost and no training
thrown away. A pool with validation images of its own needs no trial.

    labels only: trial, goes on  ->  the other method: trial  ->  choice  ->  the chosen one goes on

Before another method learns from them, the guard leaves out unlabelled images that look like none
of the classes (`procedures/guard.py`).

Whether images may be mirrored or turned is decided after the first of these stages, which therefore
learns without; a pool with validation images has such a first part of labels only too.

The test images are looked at once, after everything has been decided. A method that the user names
has the baseline beside it too, but no choice is made, and it learns from all labels in one stage;
only where there are no test images a trial gives the estimate. A stage that goes on begins the
method anew, its ramps and averages too, from the weights of the one before.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from fewlabels.errors import UserError
from fewlabels.methods import METHODS
from fewlabels.procedures.guard import Guarded, guard
from fewlabels.procedures.heads import probed
from fewlabels.procedures.invariance import Decision, decide
from fewlabels.procedures.prepare import Rows
from fewlabels.procedures.stage import Context, Stage, Trained, Weights, run_stage
from fewlabels.training import checkpoint

BASELINE = "supervised"
BASELINE_SHARE = 0.2  # of the time, when another method runs too; labels alone are soon learnt
TRIAL_SHARE = 0.6  # of a method's budget
FEW_STEPS = 50  # with fewer, a stage has hardly begun
DOUBT = 0.2  # labels only must be better with a one-sided p below this


@dataclass(frozen=True, eq=False)
class Chosen:
    """What a run ends with; probabilities are [V, K] on validation and [T, K] on test."""

    method: str
    stages: tuple[Trained, ...]  # of the chosen method
    baseline: tuple[Trained, ...]  # labels only; empty where no other method ran
    val: dict[str, NDArray[np.float64]]  # by method, where a model had not seen those labels
    test: dict[str, NDArray[np.float64]]  # by method
    why: str  # one sentence
    decisions: tuple[Decision, ...]  # about mirroring and turning
    policies: dict[str, str]  # of each view, as they were in the end
    guarded: Guarded | None = None  # what the guard found; None where it was not asked
    beside: str = BASELINE  # the labels-only method that `val` and `test` hold too
    ask: Callable[[Rows], NDArray[np.float64]] | None = None  # the final model, where that is quick

    @property
    def final(self) -> Trained:
        return self.stages[-1]


def run(context: Context) -> Chosen:
    """Trains, chooses, and only then looks at the test images."""
    data, asked, method = context.data, context.config.method, context.method
    decisions: tuple[Decision, ...] = ()
    alone = method == BASELINE
    if not alone and not len(data.unlabelled):
        raise UserError(
            f"--method {method}: {data.pool.origin} has no unlabelled images; add some, keep fewer "
            "labels (--labels-per-class), or take --method supervised"
        )
    stages: dict[str, list[Trained]] = {BASELINE: [], method: []}

    def train(name: str, which: str, part: float, until: float, trial: bool = False) -> None:
        before = stages[which][-1].weights if stages[which] else None
        if before is None and not context.folder.stage(name).exists():  # else it is done
            labelled = np.setdiff1d(data.labelled, data.held_out) if trial else data.labelled
            before = probed(context, labelled)
        moment = context.began + until * ((context.deadline or context.began) - context.began)
        teachers: tuple[Weights, ...] = ()
        # held-out labels are kept from a trial's teacher too
        if METHODS[which].method.taught:
            teachers = (stages[BASELINE][0 if trial else -1].weights,)
        stage = Stage(name, which, trial, part, moment)
        trained = run_stage(context, stage, before, teachers)
        stages[which].append(trained)
        if context.config.time_limit and trained.steps < FEW_STEPS:
            context.events.say(
                f"{name}: the time was enough for {trained.steps} steps only, too few to learn "
                "much; take a longer --time-limit, a smaller --img-size or a smaller --model"
            )
        if not trial:
            keep(context, which, trained)

    trials = len(data.held_out) > 0
    first = TRIAL_SHARE if trials else 0.0
    share = 1.0 if alone else BASELINE_SHARE
    begin = TRIAL_SHARE if trials or context.undecided else 0.0
    if begin:
        name = "labels only trial" if trials else "labels only, first part"
        train(name, BASELINE, begin, share * begin, trial=trials)
    if context.undecided:
        decisions = decide(context, context.model(stages[BASELINE][0].weights))
        for decision in decisions:
            context.events.say(str(decision))
        found = frozenset(decision.name for decision in decisions if decision.on)
        context = replace(context, invariant=found)
    train("labels only", BASELINE, 1 - begin, share)
    judged = 0 if trials else -1  # the stage that has not seen the validation images' labels
    guarded = None
    if not alone and context.config.guard == "on":
        guarded = guard(context, stages[BASELINE][judged].weights)
        context.events.say(str(guarded))
        kept = np.setdiff1d(data.unlabelled, guarded.out)
        context = replace(context, data=replace(data, unlabelled=kept))
    if alone:
        chosen = BASELINE
        why = "labels only, as asked" if asked == BASELINE else "there are no unlabelled images"
        if asked != BASELINE and len(data.unlabelled):
            why = (
                "labels only: on a CPU a pretrained net is too slow to learn from the unlabelled "
                "images in this time; compare --model cnn_small and --method label_spreading"
            )
    else:
        # what is named is compared with nothing; without test images a trial gives the estimate
        tried = trials and (asked == "auto" or not len(data.test))
        if tried:
            train(f"{method} trial", method, first, share + (1 - share) * first, trial=True)
        else:
            train(method, method, 1.0, 1.0)
        chosen, why = method, f"{method}, as asked"
        if asked == "auto":
            chosen, why = choose(context, method, stages[method][judged], stages[BASELINE][judged])
        if tried:
            name = method if chosen == method else "labels only longer"
            train(name, chosen, 1 - first, 1.0)
        elif chosen == BASELINE:
            keep(context, BASELINE, stages[BASELINE][-1])

    return Chosen(
        method=chosen,
        stages=tuple(stages[chosen]),
        baseline=() if alone else tuple(stages[BASELINE]),
        val={name: its[judged].val for name, its in stages.items() if len(its[judged].val)},
        test={
            name: context.probabilities(context.model(stages[name][-1].weights), data.test)
            for name in dict.fromkeys((BASELINE, chosen))
        },
        why=why,
        decisions=decisions,
        policies={view: str(policy) for view, policy in context.policies.items()},
        guarded=guarded,
    )


def choose(context: Context, method: str, its: Trained, baseline: Trained) -> tuple[str, str]:
    """The better of the two on validation, and why, in one sentence.

    A few validation images cannot tell two good methods apart: by chance alone labels only would
    often win by one image. It is taken when a sign test on the images where the two differ leaves
    little doubt; otherwise the method that has learnt from many more images is.
    """
    label = context.data.pool.label[context.val_rows]
    n = len(label)
    if not n:
        return method, (
            f"{method}: with one label a class none is left to compare on, and it learns from "
            "the unlabelled images too"
        )
    right, base = its.val.argmax(1) == label, baseline.val.argmax(1) == label
    won, lost = int((right & ~base).sum()), int((base & ~right).sum())
    score = f"{right.sum()} of {n} validation images right against {base.sum()} for labels only"
    if won > lost:
        return method, f"{method}: {score}"
    if lost and binomtest(lost, won + lost, alternative="greater").pvalue < DOUBT:
        return BASELINE, f"labels only: {method} got {score}"
    return method, (
        f"{method}: {score} is no difference that {n} images can show, and it learns from the "
        "unlabelled images too"
    )


def keep(context: Context, method: str, trained: Trained) -> None:
    """Puts the best model so far where a kill cannot take it: `checkpoints/best`."""
    about = {
        "method": method,
        "model": context.start.architecture,
        "arguments": context.start.arguments,
        "classes": list(context.data.pool.classes),
        "preprocess": context.preprocess.to_json(),
        "tta": context.config.tta,
    }
    checkpoint.save(context.folder.best, {"about": about, "weights": trained.weights})
