"""Baselines side by side: what frozen features and the labels alone give.

Each is cross-validated, or asked about the pool's validation images; the best is kept, fitted to
all labels. The test images are looked at once, for all of them: they choose nothing.
"""

import math

from fewlabels.procedures import frozen
from fewlabels.procedures.chosen import BASELINE, Chosen, keep
from fewlabels.procedures.compare import Way, choose, compared, folds_of
from fewlabels.procedures.labels_only import BASELINE_SHARE, begin, learn
from fewlabels.procedures.probes import FROZEN, SPREADS
from fewlabels.procedures.stage import Context, Stage, Trained

METHOD, TUNED = "baseline", "fine-tune"
FOLDS_SHARE = 0.5  # of the time, for cross-validation


def fine_tune(context: Context, until: float) -> Trained:
    """Labels only, from a linear probe."""
    return learn(context, Stage(TUNED, BASELINE, False, 1.0, until))


def run(context: Context) -> Chosen:
    """Fits and trains all, chooses, and only then looks at the test images."""
    frozen.need_head(context)
    begun = begin(context, BASELINE_SHARE, guarded=len(context.data.unlabelled) > 0)
    context, data = begun.context, begun.context.data
    names = [name for name in FROZEN if name not in SPREADS or len(data.unlabelled)]
    # from moments, not from the clock: a run that is resumed comes to the same
    seconds = context.moment(FOLDS_SHARE) - context.moment(BASELINE_SHARE)
    spent = seconds if context.deadline is not None else math.inf
    if why := frozen.too_many(len(data.unlabelled), spent, begun.rate):
        names = [name for name in names if name not in SPREADS]
        context.events.say(f"{', '.join(SPREADS)}: {why}")
    ways = [
        Way(name, lambda within, _, name=name: frozen.fitted(within, name), 0.0)  # type: ignore[misc]
        for name in names
    ]
    ways.append(Way(TUNED, fine_tune))
    folds = folds_of(context)
    ends = {way.name: way.learn(context, context.moment(0.2)) for way in ways if not way.share}
    for name, trained in ends.items():  # an answer at once
        keep(frozen.shipped(context, name), name, trained)
    found = None
    name, why = TUNED, "one label a class: none is left to compare on"
    if folds:
        found = compared(context, ways, folds, context.moment(FOLDS_SHARE))
        scores = {way.name: int(found.right(way.name).sum()) for way in ways}
        order = sorted(scores, key=lambda way: -scores[way])
        name, why = choose(found, order, otherwise="it comes first in the list")
    ends[TUNED] = fine_tune(context, context.moment(1.0))
    asked = {name: frozen.shipped(context, name) for name in ends}
    keep(asked[name], name, ends[name])
    return Chosen(
        context=asked[name],
        method=name,
        stages=(ends[name],),
        baseline=(),
        val={name: trained.val for name, trained in ends.items() if len(trained.val)},
        test={
            name: asked[name].probabilities(asked[name].model(trained.weights), data.test)
            for name, trained in ends.items()
        },
        why=why,
        decisions=begun.decisions,
        guarded=begun.guarded,
        compared=found,
        verdict="Labels only, but for label_spreading: what other methods are compared with.",
    )
