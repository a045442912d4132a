"""FixRes: a run's classifier and last batch norm, tuned for larger images as they are at test time.

The run's own model, at its own size, stands beside it, and is kept where it is better on the pool's
validation images. Labels that the run held out it has learnt in the end, so they cannot tell.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fewlabels.errors import UserError
from fewlabels.evaluate.intervals import gain
from fewlabels.models.built import Built
from fewlabels.models.catalog import ENSEMBLE
from fewlabels.procedures.chosen import BASELINE, Chosen, keep
from fewlabels.procedures.compare import EVEN, Compared, choose
from fewlabels.procedures.config import Config
from fewlabels.procedures.earlier import Earlier
from fewlabels.procedures.sequences import resolve
from fewlabels.procedures.stage import Context, Stage, Trained, run_stage
from fewlabels.procedures.verdict import difference
from fewlabels.training.freeze import FIXRES

METHOD, BEFORE = "fixres", "before"
STEP = 4  # sides go in steps of so many pixels


def begun_from(
    earlier: tuple[Earlier, ...], config: Config, classes: tuple[str, ...]
) -> tuple[str, Built]:
    """The name of the run's model, and the model as the run left it, for larger images. UserError
    for several runs, for one of other classes, and for an ensemble, which has no last norm."""
    if len(earlier) != 1:
        raise UserError("--method fixres: name one run with --run")
    run = earlier[0]
    if run.built.architecture == ENSEMBLE:
        raise UserError(f"--run {run.name}: is an ensemble; tune its members one by one")
    if run.classes != classes:
        run.need_same(classes)
        raise UserError(f"--run {run.name}: has the classes of the data in another order")
    settings = resolve(METHOD, config.settings)
    size = STEP * round(settings.larger * run.preprocess.size / STEP)
    own = replace(run.built, size=size, mean=run.preprocess.mean, std=run.preprocess.std)
    return run.built.architecture, replace(own, weights=run.name)


def run(context: Context) -> Chosen:
    """Tunes, and only then looks at the test images."""
    data, earlier = context.data, context.earlier[0]
    before = context.asked_as(earlier.preprocess, earlier.tta)
    weights = context.start.model.state_dict()
    begun = Trained(weights, 0, 0.0, 0, before.probabilities(context.model(), data.val))
    keep(before, BEFORE, begun)
    tuned = replace(context, config=replace(context.config, freeze=FIXRES, norms="learn"))
    stage = Stage(METHOD, BASELINE, False, 1.0, context.moment(1.0))
    done = run_stage(tuned, stage, weights)
    ends = {METHOD: (context, done), BEFORE: (before, begun)}
    name, why, found = METHOD, "fixres, as asked", None
    if len(data.val):
        said = {name: trained.val for name, (_, trained) in ends.items()}
        found = Compared(data.val, said, data.pool.label[data.val])
        name, why = choose(found, (METHOD, BEFORE), EVEN, "it was asked for")
    if name == METHOD:
        keep(context, METHOD, done)
    test = {
        name: asked.probabilities(asked.model(trained.weights), data.test)
        for name, (asked, trained) in ends.items()
    }
    return Chosen(
        context=ends[name][0],
        method=name,
        stages=(ends[name][1],),
        baseline=(begun,) if name == METHOD else (),
        val={name: trained.val for name, (_, trained) in ends.items() if len(trained.val)},
        test=test,
        why=why,
        beside=BEFORE,
        compared=found,
        verdict=_verdict(context, test, name),
    )


def _verdict(context: Context, test: dict[str, NDArray[np.float64]], name: str) -> str:
    sides = f"{context.earlier[0].preprocess.size} to {context.preprocess.size} px"
    label = context.data.pool.label[context.data.test]
    if not len(label):
        return f"From {sides}; without test images the two cannot be compared."
    right = [test[one].argmax(1) == label for one in (METHOD, BEFORE)]
    group = context.data.pool.group
    group = None if group is None else group[context.data.test]
    about = difference(gain(right[0], right[1], group))
    kept = "the tuned model" if name == METHOD else "the run as it was"
    return f"From {sides}: {about}, on {len(label):,} test images; {kept} is kept."
