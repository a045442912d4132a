"""`auto`: labels only first, then what has most to gain, and the better of them.

1. Labels only: an answer within the first tenth of the time. With it is decided whether images may
   be mirrored and which unlabelled ones look like no class.
2. The ways that fit model, machine and images, the one with most to gain first (`candidates`).
   Where the labels and the time are enough to tell them apart they are compared, by
   cross-validation or on the pool's validation images (`procedures/compare.py`). The favourite is
   left only for one that is better beyond doubt; where nothing can be told it is taken, because it
   has won elsewhere.
3. What is chosen learns from all labels for the rest of the time.

The test images are looked at once, after everything has been decided. Every model of all labels is
kept as it is done, so that a kill leaves the best so far.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from scipy.stats import binomtest

from fewlabels.methods import Facts, create, resolve
from fewlabels.models.scaling import BASES
from fewlabels.procedures import frozen
from fewlabels.procedures.chosen import BASELINE, Chosen, keep
from fewlabels.procedures.compare import DOUBT, EVEN, MANY, Way, choose, compared, folds_of, spoken
from fewlabels.procedures.folds import Fold
from fewlabels.procedures.heads import takes_head
from fewlabels.procedures.labels_only import BASELINE_SHARE, Begun, begin, learn
from fewlabels.procedures.named import to_the_end
from fewlabels.procedures.self_train import Learnt, chosen, lacking, next_round
from fewlabels.procedures.stage import Context, Stage, Trained

SPREADING, STUDENT = "label_spreading", "self_train"
COMPARING = 0.25  # of the time after labels only, at most
USEFUL = 300  # steps after which methods can be told apart
LEAST = 100  # steps of a method that learns from unlabelled images,
LONG = 10_000  # and of one that has far to go: to teach a larger net with the second half of them,
# or from labels only that are right less often than TEACHES beyond doubt. CIFAR-10, 250 labels, 8
# minutes, one thread, development images: FlexMatch 47.1 to 50.0 % after 3,400 to 4,700 steps (four
# runs), labels only 48.2 %, and that is surer; of hand signs it knows 70 % and more, and FlexMatch
# gains 10 to 20 points in 1,100 steps
TEACHES = 0.65
# times that random weights should see every label: before that, labels alone have more to give.
# CIFAR-10, 8 minutes, one thread, one draw of development images: FlexMatch sees 250 labels 280
# times each and ends where labels only does, 4,000 labels 16 times each and ends 7.5 points below
PASSES = 40
EMBEDDING = 0.1  # of the time that is left, at most, for the features of all images
FITTING = "auto.json"
ONE_LARGER = {"rounds": 1, "grow": 1.0}


@dataclass(frozen=True, eq=False)
class Candidate:
    """A way to learn, and how it ends the run with all labels."""

    way: Way
    finish: Callable[[Begun, str], Chosen]
    images: int = 0  # that a step passes forward and back, if it has steps
    least: int = 0  # steps, without which learning from unlabelled images is no use


@dataclass(frozen=True)
class Fitting:
    """What was decided by the time there was, and holds when the run is resumed."""

    short: dict[str, str]  # by candidate, why the time is too short for it
    unfit: str  # why those that are left cannot be compared; empty where they can
    until: float  # the moment on the run's clock when comparing ends


def run(context: Context) -> Chosen:
    """Trains, chooses, and only then looks at the test images."""
    for line in plan(context):
        context.events.say(line)
    begun = begin(context, BASELINE_SHARE, guarded=len(context.data.unlabelled) > 0)
    context, folds = begun.context, folds_of(begun.context)
    ways = candidates(context)
    fitting = fits(begun, ways, folds)
    for name, reason in fitting.short.items():
        context.events.say(f"{spoken(name)}: {reason}")
    found = {one.way.name: one for one in ways if one.way.name not in fitting.short}
    names = list(found)
    if len(found) == 1:
        return found[names[0]].finish(begun, f"{spoken(names[0])}: nothing else fits")
    many = len(context.data.labelled) >= MANY
    if fitting.unfit:
        name, reason = names[0], "it has won elsewhere (docs/results.md)"
        if many:  # these alone are the safe choice
            name, reason = BASELINE, f"{len(context.data.labelled):,} labels are many"
        why = f"{spoken(name)}: {fitting.unfit}, and {reason}"
        context.events.say(why)
        return found[name].finish(begun, why)
    told = " and ".join(map(spoken, names))
    where = f"in {len(folds)} folds" if len(folds) > 1 else f"on {len(folds[0].judged):,} images"
    context.events.say(f"compares {told} {where}")
    said = compared(context, [one.way for one in found.values()], folds, fitting.until)
    name, why = choose(said, names, EVEN if many else DOUBT)
    context.events.say(why)
    return replace(found[name].finish(begun, why), compared=said)


def fits(begun: Begun, ways: list[Candidate], folds: tuple[Fold, ...]) -> Fitting:
    """Decided when labels only is done, and kept: a run that is resumed near its end has no time
    left for what it has long trained."""
    context = begun.context
    kept = context.folder.read_json(FITTING)
    if kept is None:
        short = {one.way.name: why for one in ways if (why := too_short(begun, one))}
        found = [one for one in ways if one.way.name not in short]
        if SPREADING in (one.way.name for one in found):  # once, for all folds
            frozen.embed_for(context, [SPREADING], context.data.test[:0])
        now = context.clock()
        until = now + COMPARING * ((context.deadline or now) - now)
        kept = {"short": short, "unfit": unfit(begun, found, folds), "until": until}
        context.folder.write_json(FITTING, kept)
    return Fitting(**kept)


def plan(context: Context) -> list[str]:
    """What is about to happen, in a few lines."""
    data = context.data
    names = [spoken(one.way.name) for one in candidates(context)]
    until = f", until {context.moment(BASELINE_SHARE):.0f} s" if context.deadline else ""
    then = f"{names[0]}, unless {' or '.join(names[1:])} is better" if names[1:] else "longer"
    lines = [f"plan: labels only first{until}; then {then}"]
    if len(data.test):
        lines.append(f"the {len(data.test):,} test images are looked at once, at the end")
    return lines


def candidates(context: Context) -> list[Candidate]:
    """Those that fit model and images, the one with most to gain first."""
    found = [_labels_only(context)]
    if len(context.data.unlabelled):
        found.insert(0, _method(context, context.method))
        tuned = context.config.weights != "none"
        if tuned and takes_head(context):
            found.append(_spreading())
        if not tuned and context.config.model in BASES and context.deadline is not None:
            found.append(_larger(context))
    return found


def too_short(begun: Begun, one: Candidate) -> str:
    """Why the time is too short to learn from unlabelled images in this way; empty where it is
    not."""
    context = begun.context
    labels = len(context.data.labelled)
    left = math.inf if context.deadline is None else context.deadline - context.clock()
    if one.way.name == SPREADING:
        return frozen.too_many(len(context.data.unlabelled), EMBEDDING * left, begun.rate)
    if not one.least or context.deadline is None:
        return ""
    steps = left * begun.rate / one.images
    passes = steps * context.config.batch / labels
    if steps < one.least:
        return f"there is time for {steps:.0f} steps only"
    if context.config.weights != "none":
        return ""
    if passes < PASSES:
        return f"there is time to see each of {labels:,} labels {passes:.0f} times only"
    judges = context.val_rows
    right = int((begun.judged.val.argmax(1) == context.data.pool.label[judges]).sum())
    unsure = len(judges) and binomtest(right, len(judges), TEACHES, "less").pvalue < DOUBT
    if unsure and steps < LONG:
        return (
            f"labels only has {right} of {len(judges)} unseen images right, and there is time for "
            f"{steps:.0f} steps only"
        )
    return ""


def unfit(begun: Begun, found: list[Candidate], folds: tuple[Fold, ...]) -> str:
    """Why the candidates cannot be compared; empty where they can."""
    context = begun.context
    if not folds:
        return "with one label a class nothing can be compared"
    if context.deadline is None:
        return ""
    left = COMPARING * (context.deadline - context.clock())
    each = left / len(folds) / sum(one.way.share for one in found)
    steps = each * begun.rate / max(one.images for one in found)
    if steps < USEFUL:
        return f"there is no time to compare ({steps:.0f} steps each, in {len(folds)} folds)"
    return ""


def _method(context: Context, name: str) -> Candidate:
    def learnt(within: Context, until: float) -> Trained:
        return learn(within, Stage(name, name, False, 1.0, until))

    def finish(begun: Begun, why: str) -> Chosen:
        return begun.finish(name, to_the_end(begun, name, name, BASELINE_SHARE), why)

    ratio = create(name, Facts(2, (1, 1), 2, 2), resolve(name, {})).views.ratio
    images = context.config.batch * (1 + 2 * ratio)
    return Candidate(Way(name, learnt), finish, images, LEAST)


def _labels_only(context: Context) -> Candidate:
    def learnt(within: Context, until: float) -> Trained:
        return learn(within, Stage("labels only", BASELINE, False, 1.0, until))

    return Candidate(Way(BASELINE, learnt), Begun.longer, context.config.batch)


def _larger(context: Context) -> Candidate:
    """The favourite for half of the time, then a larger student of its pseudo-labels."""
    teaches = context.method

    def as_student(within: Context) -> Context:
        return replace(within, config=replace(within.config, method=STUDENT, settings=ONE_LARGER))

    def student(within: Context, teacher: Trained, until: float) -> Learnt:
        named = as_student(within)
        taught = Learnt(teaches, within, teacher)
        found = next_round(named, 1, "round 1", taught, False, until)
        if found is None or lacking(found, taught, within.data.labelled):
            return taught
        return found

    def learnt(within: Context, until: float) -> Trained:
        half = (within.clock() + until) / 2
        teacher = learn(within, Stage(f"{teaches} teacher", teaches, False, 0.5, half))
        return student(within, teacher, until).trained

    def finish(begun: Begun, why: str) -> Chosen:
        within = begun.context
        half = (within.clock() + within.moment(1.0)) / 2
        teacher = learn(within, Stage(f"{teaches} teacher", teaches, False, 0.5, half))
        last = student(within, teacher, within.moment(1.0))
        if last.pseudo is None:  # nothing was sure enough
            return begun.finish(teaches, (teacher,), why)
        keep(last.context, STUDENT, last.trained, within.folder)
        ended = chosen(replace(begun, context=as_student(within)), [last], last, last, why)
        asked = replace(ended.context.config, method="auto", settings={})
        shipped = replace(ended.context, config=asked)
        return replace(ended, context=shipped, stages=(teacher, *ended.stages))

    return Candidate(Way(STUDENT, learnt), finish, _method(context, teaches).images, LONG)


def _spreading() -> Candidate:
    def finish(begun: Begun, why: str) -> Chosen:
        return begun.finish(SPREADING, (frozen.fitted(begun.context, SPREADING),), why)

    return Candidate(
        Way(SPREADING, lambda within, _: frozen.fitted(within, SPREADING), 0.0), finish
    )
