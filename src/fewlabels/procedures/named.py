"""A run of one method that the user names, labels only beside it.

It is compared with nothing, and learns from all labels in one stage. Only where there are no test
images a *trial*, with a part of the labels held out, gives the estimate; then the method *goes on*
from its own weights with all labels, its ramps and averages begun anew.
"""

from fewlabels.errors import UserError
from fewlabels.procedures.chosen import BASELINE, Chosen
from fewlabels.procedures.labels_only import BASELINE_SHARE, TRIAL_SHARE, Begun, begin
from fewlabels.procedures.stage import Context, Stage, Trained

NONE_LEFT = "all unlabelled images look like none of the classes"


def run(context: Context) -> Chosen:
    """Trains, and only then looks at the test images."""
    method = context.config.method
    if method == BASELINE:
        return begin(context, 1.0, guarded=False).finish(BASELINE, (), "labels only, as asked")
    need_unlabelled(context)
    begun = begin(context, BASELINE_SHARE, guarded=True)
    if not len(begun.context.data.unlabelled):
        return begun.finish(BASELINE, (), NONE_LEFT)
    stages = to_the_end(begun, method, method, BASELINE_SHARE)
    return begun.finish(method, stages, f"{method}, as asked")


def to_the_end(
    begun: Begun, method: str, name: str, share: float, start: Trained | None = None
) -> tuple[Trained, ...]:
    """The stages of a method from `share` of the time to its end, from the weights of `start`; the
    last has learnt from all labels."""
    context, stages = begun.context, () if start is None else (start,)
    first = 0.0
    if len(context.data.held_out) and not len(context.data.test):
        first = TRIAL_SHARE
        until = context.moment(share + (1 - share) * first)
        stages = (*stages, begun.learn(Stage(f"{name} trial", method, True, first, until), stages))
    last = Stage(name, method, False, 1 - first, context.moment(1.0))
    stages = (*stages, begun.learn(last, stages))
    return stages if start is None else stages[1:]


def need_unlabelled(context: Context) -> None:
    """UserError where there is nothing to learn from but the labels."""
    if not len(context.data.unlabelled):
        raise UserError(
            f"--method {context.config.method}: {context.data.pool.origin} has no unlabelled "
            "images; add some, keep fewer labels (--labels-per-class), or take --method supervised"
        )
