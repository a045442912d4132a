"""What runs begin with: labels only, and what is decided with the model that comes of it.

Whether images may be mirrored or turned is decided after the first of its two stages, which learns
without. Where a part of the labels is held out that stage is the *trial*, which does not see them;
the second goes on with all labels. Then the guard leaves out unlabelled images that look like none
of the classes (`procedures/guard.py`).
"""

from dataclasses import dataclass, replace

import numpy as np
from torch import nn

from fewlabels.methods import METHODS
from fewlabels.procedures.chosen import BASELINE, Chosen, keep
from fewlabels.procedures.guard import Guarded, guard
from fewlabels.procedures.heads import probed
from fewlabels.procedures.invariance import Decision, decide
from fewlabels.procedures.stage import Context, Stage, Trained, Weights, run_stage

BASELINE_SHARE = 0.2  # of the time, when another method runs too; labels alone are soon learnt
FIRST_SHARE = 0.5  # of labels only: so there is an answer within a tenth of the time
TRIAL_SHARE = 0.6  # of another method's budget
FEW_STEPS = 50  # with fewer, a stage has hardly begun


@dataclass(frozen=True, eq=False)
class Begun:
    """A run after its first part."""

    context: Context  # with what was decided, and without strangers
    stages: tuple[Trained, ...]  # a trial or first part, if there was one, and the whole
    decisions: tuple[Decision, ...]
    guarded: Guarded | None

    @property
    def judged(self) -> Trained:
        """The stage that has not seen the validation images' labels."""
        return self.stages[0 if len(self.context.data.held_out) else -1]

    @property
    def rate(self) -> float:
        """Images a second that labels only passes forward and back."""
        last = self.stages[-1]
        return last.images / max(last.seconds, 1e-9)

    def learn(self, stage: Stage, earlier: tuple[Trained, ...] = ()) -> Trained:
        """A stage of another method: from the weights of its earlier ones, taught by labels only
        where it needs a teacher. A trial's teacher has not seen the held-out labels either."""
        teachers: tuple[nn.Module, ...] = ()
        if METHODS[stage.method].method.taught:
            weights = (self.judged if stage.trial else self.stages[-1]).weights
            teachers = (self.context.model(weights).eval(),)
        before = earlier[-1].weights if earlier else None
        return learn(self.context, stage, before, teachers)

    def finish(self, method: str, stages: tuple[Trained, ...], why: str) -> Chosen:
        """The run's end with these stages of `method`, none for labels only: now the test images
        are looked at."""
        context, test = self.context, self.context.data.test
        alone = not stages
        ends = {BASELINE: self.stages} | ({} if alone else {method: stages})
        keep(context, method, ends[method][-1])
        first = {BASELINE: self.judged} | ({} if alone else {method: stages[0]})
        return Chosen(
            context=context,
            method=method,
            stages=ends[method],
            baseline=() if alone else self.stages,
            val={name: its.val for name, its in first.items() if len(its.val)},
            test={
                name: context.probabilities(context.model(its[-1].weights), test)
                for name, its in ends.items()
            },
            why=why,
            decisions=self.decisions,
            guarded=self.guarded,
        )

    def longer(self, why: str) -> Chosen:
        """The run's end where labels only goes on for the rest of the time."""
        stage = Stage("labels only longer", BASELINE, False, 1.0, self.context.moment(1.0))
        last = learn(self.context, stage, self.stages[-1].weights)
        return replace(self, stages=(*self.stages, last)).finish(BASELINE, (), why)


def begin(context: Context, share: float, guarded: bool) -> Begun:
    """Labels only, until `share` of the time is over; `guarded`: other methods are to follow."""
    trial = len(context.data.held_out) > 0
    first = FIRST_SHARE if trial or context.undecided else 0.0
    stages: list[Trained] = []
    decisions: tuple[Decision, ...] = ()
    if first:
        name = "labels only trial" if trial else "labels only, first part"
        until = context.moment(share * first)
        stages.append(learn(context, Stage(name, BASELINE, trial, first, until)))
    if context.undecided:
        decisions = decide(context, context.model(stages[0].weights))
        for decision in decisions:
            context.events.say(str(decision))
        found = frozenset(decision.name for decision in decisions if decision.on)
        context = replace(context, invariant=found)
    rest = Stage("labels only", BASELINE, False, 1 - first, context.moment(share))
    stages.append(learn(context, rest, stages[0].weights if stages else None))
    found_out = None
    if guarded and context.config.guard == "on":
        found_out = guard(context, stages[0 if trial else -1].weights)
        context.events.say(str(found_out))
        kept = np.setdiff1d(context.data.unlabelled, found_out.out)
        context = replace(context, data=replace(context.data, unlabelled=kept))
    return Begun(context, tuple(stages), decisions, found_out)


def learn(
    context: Context,
    stage: Stage,
    before: Weights | None = None,
    teachers: tuple[nn.Module, ...] = (),
) -> Trained:
    """`run_stage`, from a linear probe where pretrained weights begin. A model that has learnt from
    all labels is kept as the best so far, and so is the very first."""
    if before is None and not context.folder.stage(stage.name).exists():  # else it is done
        before = probed(context, context.learnt_from(stage))
    trained = run_stage(context, stage, before, teachers)
    if context.config.time_limit and trained.steps < FEW_STEPS:
        context.events.say(
            f"{stage.name}: the time was enough for {trained.steps} steps only, too few to learn "
            "much; take a longer --time-limit, a smaller --img-size or a smaller --model"
        )
    if not stage.trial or not context.folder.best.exists():
        keep(context, stage.method, trained)
    return trained
