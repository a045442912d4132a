"""Pre-training: a pretext task on all images, then the labels, labels only beside it.

What the task leaves is kept in `pretrained/` in the form that `--weights` takes, so that other runs
can begin there too.
"""

from dataclasses import replace

from fewlabels.procedures import sequences
from fewlabels.procedures.chosen import BASELINE, Chosen, described
from fewlabels.procedures.inside import inside
from fewlabels.procedures.labels_only import BASELINE_SHARE, begin
from fewlabels.procedures.named import need_unlabelled, to_the_end
from fewlabels.procedures.stage import Context, Stage, run_stage
from fewlabels.training import checkpoint

METHOD = "pretrain"
ALONE = {"labelled": 0.0}  # no label is looked at


def run(context: Context) -> Chosen:
    """Trains, and only then looks at the test images."""
    need_unlabelled(context)
    settings = sequences.resolve(METHOD, context.config.settings)
    begun = begin(context, BASELINE_SHARE, guarded=True)
    share = BASELINE_SHARE + (1 - BASELINE_SHARE) * settings.share
    within = inside(begun.context, "pretrained", method=settings.task, settings=ALONE)
    stage = Stage(settings.task, settings.task, False, 1.0, context.moment(share))
    task = run_stage(within, stage, None)
    checkpoint.write_weights(within.folder.path, described(within, settings.task), task.weights)
    stages = to_the_end(begun, BASELINE, METHOD, share, task)
    chosen = begun.finish(METHOD, stages, f"{settings.task} on all images, then the labels")
    return replace(chosen, stages=(task, *stages))
