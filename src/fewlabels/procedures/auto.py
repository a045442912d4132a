"""`auto`: labels only first, then the unlabelled images too, and the better of the two.

Without validation images in the pool a method runs in two stages. In its *trial* a stratified part
of the labels is held out, and what it says of them is the only thing that methods are compared on.
Then it *goes on* from its own weights with all the labels, so that no label is lost and no training
thrown away. A pool with validation images of its own needs no trial.

    labels only: trial, goes on  ->  the other method: trial  ->  choice  ->  the chosen one goes on

The test images are looked at once, after everything has been decided.
"""

from dataclasses import replace

from scipy.stats import binomtest

from fewlabels.procedures.chosen import BASELINE, Chosen, keep
from fewlabels.procedures.labels_only import BASELINE_SHARE, TRIAL_SHARE, begin, learn
from fewlabels.procedures.stage import Context, Stage, Trained

DOUBT = 0.2  # labels only must be better with a one-sided p below this


def run(context: Context) -> Chosen:
    """Trains, chooses, and only then looks at the test images."""
    method, trial = context.method, len(context.data.held_out) > 0
    if method == BASELINE:
        why = "there are no unlabelled images"
        if len(context.data.unlabelled):
            why = (
                "labels only: on a CPU a pretrained net is too slow to learn from the unlabelled "
                "images in this time; compare --model cnn_small and --method label_spreading"
            )
        return begin(context, 1.0, guarded=False).finish(BASELINE, (), why)
    begun = begin(context, BASELINE_SHARE, guarded=True)
    first = TRIAL_SHARE if trial else 1.0
    until = context.moment(BASELINE_SHARE + (1 - BASELINE_SHARE) * first)
    name = f"{method} trial" if trial else method
    tried = begun.learn(Stage(name, method, trial, first, until))
    chosen, why = choose(context, method, tried, begun.judged)
    rest = Stage(method, method, False, 1 - first, context.moment(1.0))
    if chosen == method:
        stages = (tried, begun.learn(rest, (tried,))) if trial else (tried,)
        return begun.finish(method, stages, why)
    only = begun.stages[-1]
    if trial:
        longer = replace(rest, name="labels only longer", method=BASELINE)
        only = learn(begun.context, longer, only.weights)
        begun = replace(begun, stages=(*begun.stages, only))
    else:
        keep(begun.context, BASELINE, only)
    return begun.finish(BASELINE, (), why, {method: tried.val})


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
