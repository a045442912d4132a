"""Self-training in rounds, and Noisy Student, which is the same with noise.

    labels only -> teacher -> pseudo-labels -> student -> teacher -> …

The first teacher is the labels-only model. A teacher sees the unlabelled images as they are, in
eval mode; what it says of them lies in `rounds/<n>/pseudo_labels.parquet`, and the student that
learns from it, and from the labels, is a run of its own in that folder. It begins anew, perhaps as
a larger model. Then it is the teacher.

Rounds end when one is not better than the last on validation images; the later of equals is kept.
Those are the pool's own, or labels held out of all rounds, if they are at least STOPS, or there are
no test images; a last student then learns from all labels what the best round's says. With fewer
every round is run: ten images cannot tell whether one helped.

What can be told of a student at any time is whether it has learnt at all. One that recognises
fewer than 9 in 10 of the labelled images that its teacher does, although it was shown them, is left
out, its teacher kept, and the next student has all the time that is left. Of 50 labelled hand signs
45 students of 840 to 2,550 steps recognised 49 or 50. Of 23 Noisy Students of 150 to 590 steps, on
20 and 50 labels, 15 recognised all and the others 10 to 85 %; their own students fewer still.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fewlabels.errors import UserError
from fewlabels.methods import resolve
from fewlabels.models import catalog
from fewlabels.models.regularise import drops_branches, set_dropout, set_stochastic_depth
from fewlabels.models.scaling import BASES, scale
from fewlabels.procedures.chosen import BASELINE, Chosen, keep
from fewlabels.procedures.config import Config
from fewlabels.procedures.inside import inside
from fewlabels.procedures.labels_only import BASELINE_SHARE, Begun, begin, learn
from fewlabels.procedures.named import NONE_LEFT, need_unlabelled
from fewlabels.procedures.prepare import Rows
from fewlabels.procedures.pseudo_labels import PseudoLabels, read, select
from fewlabels.procedures.stage import Context, Stage, Trained
from fewlabels.procedures.timing import SOME, seconds_an_image

VALIDATION = "validation images right"
LABELLING = 0.25  # of a round's time, at most, for the teacher
STOPS = 30  # held-out images that can tell whether a round helped
LEARNT = 0.9  # of the labelled images that its teacher recognises a student must, too;
LOOKS = 300  # so many are looked at, at most


@dataclass(frozen=True, eq=False)
class Learnt:
    """A teacher, or the student of a round."""

    name: str
    context: Context  # with its model, and images of its size
    trained: Trained
    pseudo: PseudoLabels | None = None  # what it learnt from, but the first teacher

    @property
    def right(self) -> int:
        """How many validation images it has right."""
        label = self.context.data.pool.label[self.context.val_rows]
        return int((self.trained.val.argmax(1) == label).sum())

    def recognises(self, rows: Rows) -> int:
        """How many of these labelled images it has right, as it sees them without noise."""
        p = self.context.probabilities(self.context.model(self.trained.weights), rows)
        return int((p.argmax(1) == self.context.data.pool.label[rows]).sum())


def run(context: Context) -> Chosen:
    """Trains, and only then looks at the test images."""
    need_unlabelled(context)
    begun = begin(context, BASELINE_SHARE, guarded=True)
    return rounds(begun, BASELINE_SHARE, Learnt("labels only", begun.context, begun.stages[-1]))


def rounds(begun: Begun, share: float, teacher: Learnt) -> Chosen:
    """Rounds from `share` of the time to its end. `teacher` has learnt from all labels."""
    context, settings = begun.context, begun.context.own_settings
    if not len(context.data.unlabelled):
        return begun.finish(BASELINE, (), NONE_LEFT)
    data, held, method = context.data, len(context.data.held_out), context.config.method
    tells = len(data.val) > 0 or held >= STOPS or (held > 0 and not len(data.test))
    trial = tells and held > 0
    if trial:  # nobody may have seen what the students are validated on
        teacher = replace(teacher, trained=begun.judged)
    shown = np.setdiff1d(data.labelled, data.held_out) if trial else data.labelled
    count = settings.rounds + trial
    done: list[Learnt] = []
    why = f"all {settings.rounds} rounds were run"
    alone = False  # whether the next student has all the time that is left
    for number in range(1, settings.rounds + 1):
        part = (settings.rounds if alone else number) / count
        until = context.moment(share + (1 - share) * part)
        student = next_round(context, number, f"round {number}", teacher, trial, until)
        if student is None:
            why = f"round {number} was left out"
            break
        if lacks := lacking(student, teacher, shown):
            context.events.say(f"round {number}: {lacks}")
            why = f"round {number} was left out, its student had not learnt enough"
            if alone or context.config.time_limit is None:
                break
            alone = True
            continue
        done.append(student)
        # the first round is kept: who asks for it sees labels only beside it
        more = student.right - teacher.right if tells and len(done) > 1 else 1
        if more >= 0:
            teacher = student
            keep(student.context, method, student.trained, context.folder)
        if more <= 0:
            why = f"round {number} did not help: {more:+} of {len(context.val_rows)} {VALIDATION}"
        if more <= 0 or alone:
            break
    if not done:
        return begun.finish(BASELINE, (), why)
    best = judged = teacher  # what learns from all labels has seen those that judge
    if trial and teacher.pseudo is not None:
        number = teacher.pseudo.round
        last = next_round(context, number, "last round", best, False, context.moment(1.0))
        if last is not None and not lacking(last, best, data.labelled):
            done.append(last)
            best = last
            keep(last.context, method, last.trained, context.folder)
    context.events.say(f"{why}; the student of {best.name} is kept")
    return chosen(begun, done, best, judged, f"{method}, as asked; {why}")


def next_round(
    context: Context, number: int, name: str, teacher: Learnt, trial: bool, until: float
) -> Learnt | None:
    """The student of `rounds/<name>`, which has the model of round `number`; None, and a line that
    says so, where the teacher is sure of nothing, or the time is over."""
    settings, method = context.own_settings, context.config.method
    model, size = student_model(context.config, settings, number)
    folder = f"rounds/{name.replace('round', '').strip()}"
    within = inside(context, folder, model=model, img_size=size)
    noise(within, settings)
    path = within.folder.path / "pseudo_labels.parquet"
    order = np.random.default_rng(context.config.seed).permutation(context.data.unlabelled)
    if path.exists():
        p = read(path)
        rows = np.sort(order[: len(p)])
    else:
        with within.events.stage(f"{teacher.name} labels the pool"):
            rows, p = label(teacher, order, LABELLING * (until - context.clock()))
    times = select(p, settings.threshold, settings.even)
    pseudo = PseudoLabels(rows, p, times, settings.threshold, teacher.name, number)
    pseudo.write(path, context.data.pool)
    if not times.any():
        context.events.say(f"{name}: no pseudo-label is as sure as {settings.threshold:g}")
        return None
    shown = int((times > 0).sum())
    context.events.say(
        f"{name}: {teacher.name} is sure enough of {shown:,} of {len(rows):,} unlabelled "
        f"images; the student is {model} at {size} px"
    )
    learning = replace(within, data=replace(within.data, given=pseudo.given(settings.soft)))
    trained = learn(learning, Stage(name, method, trial, 1.0, until))
    if not trained.steps:
        context.events.say(f"{name}: the time was not enough for a step")
        return None
    if trial:
        keep(within, method, trained)  # it is a run, with a model of its own
    return Learnt(name, within, trained, pseudo)


def lacking(student: Learnt, teacher: Learnt, rows: Rows) -> str:
    """What a student has not learnt: empty where it recognises nearly as many of these labelled
    images, which it was shown, as its teacher does."""
    rows = rows[:: -(-len(rows) // LOOKS)]
    mine, theirs = student.recognises(rows), teacher.recognises(rows)
    if mine >= LEARNT * theirs:
        return ""
    return (
        f"the student recognises {mine} of the {len(rows):,} labelled images that it was shown, "
        f"{teacher.name} {theirs}: {student.trained.steps:,} steps were not enough"
    )


def label(teacher: Learnt, order: Rows, seconds: float) -> tuple[Rows, NDArray[np.float64]]:
    """What the teacher says of the first images of `order`, [U, K]: of all, or of as many as it can
    look at in that time, where time is what is limited; and which these are, ascending."""
    context = teacher.context
    model = context.model(teacher.trained.weights)
    if context.config.time_limit is not None:
        an_image = seconds_an_image(context, model, order[:SOME])
        order = order[: max(SOME, int(seconds / an_image))]
    rows = np.sort(order)
    return rows, context.probabilities(model, rows)


def need_students(config: Config, classes: int) -> None:
    """UserError for students that cannot be built, before anything is trained."""
    settings = resolve(config.method, config.settings)
    if settings.grow and config.model not in BASES:
        raise UserError(
            f"grow has no effect with --model {config.model}: {' and '.join(BASES)} are scaled; "
            "name the students with --set models"
        )
    with torch.device("meta"):  # without the memory
        for name in settings.models.split():
            catalog.build(name, classes, "none")


def student_model(config: Config, settings: Any, number: int) -> tuple[str, int]:
    """The name of a round's model, and the side of its images in pixels."""
    size = config.img_size or 0
    if chain := settings.models.split():
        return chain[min(number, len(chain)) - 1], size
    if settings.grow and config.model in BASES:
        scaled = scale(config.model, settings.grow * number, size=size)
        return scaled.name, scaled.size
    return config.model, size


def noise(within: Context, settings: Any) -> None:
    """Dropout and stochastic depth of the student, as far as it has places for them."""
    model = within.start.model
    if settings.dropout:
        set_dropout(model, settings.dropout)
    if settings.survival < 1:
        size = within.config.img_size or 0
        if drops_branches(model, size):
            set_stochastic_depth(model, 1 - settings.survival, size)
        else:
            within.events.say(
                f"{within.config.model} has no residual branches: without stochastic depth"
            )


def chosen(begun: Begun, done: list[Learnt], best: Learnt, judged: Learnt, why: str) -> Chosen:
    """The end of the run, with a run inside it for each student.

    best: what is shipped; judged: what has not seen the labels of the validation images.
    """
    context, method = begun.context, begun.context.config.method
    test = context.data.test
    plain = context.probabilities(context.model(begun.stages[-1].weights), test)

    def run_of(learnt: Learnt, stages: tuple[Trained, ...], judged: Learnt, **more: Any) -> Chosen:
        said = {BASELINE: begun.judged.val, method: judged.trained.val}
        asked = learnt.context.probabilities(learnt.context.model(learnt.trained.weights), test)
        return Chosen(
            context=learnt.context,
            method=method,
            stages=stages,
            baseline=begun.stages,
            val={name: p for name, p in said.items() if len(p)},
            test={BASELINE: plain, method: asked},
            decisions=begun.decisions,
            guarded=begun.guarded,
            **more,
        )

    students = []
    for learnt in done:
        assert learnt.pseudo is not None
        about = {
            "round": learnt.pseudo.round,
            "teacher": learnt.pseudo.teacher,
            "pseudo_labels": learnt.pseudo.by_class(context.data.pool.classes),
        }
        students.append(run_of(learnt, (learnt.trained,), learnt, why=learnt.name, more=about))
    stages = tuple(learnt.trained for learnt in done[: done.index(best) + 1])
    whole = run_of(best, stages, judged, why=why, inside=tuple(students))
    here = replace(best.context, folder=context.folder, events=context.events)
    return replace(whole, context=here)
