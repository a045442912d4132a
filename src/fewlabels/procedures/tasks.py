"""Runs whose labels are several classes an image (multi) or numbers (regression).

They go the way of a named method: labels only, then the method; `auto` names the one that has won
elsewhere. What is made for one class an image is refused in a line, before anything is trained.
"""

import math
from dataclasses import replace

from fewlabels.errors import UserError
from fewlabels.methods import METHODS
from fewlabels.pool.pool import REGRESSION, SINGLE, Pool
from fewlabels.procedures import named
from fewlabels.procedures.auto import FITTING, LEAST
from fewlabels.procedures.chosen import BASELINE, Chosen
from fewlabels.procedures.config import EARLIER, ROUNDS, TUNED_SUPERVISED, Config
from fewlabels.procedures.labels_only import BASELINE_SHARE, Begun, begin
from fewlabels.procedures.stage import Context

# settings that weigh, mix or count classes of which an image has one
ONE_CLASS = ("balance", "mix", "patience")
ELSEWHERE = "it has won elsewhere (docs/tasks.md)"
ALONE = "labels only, because no method is known yet that helps where labels are numbers"
NO_OTHERS = "labels only, because there are no unlabelled images"


def methods(task: str) -> tuple[str, ...]:
    """Those that `--method` takes with such labels."""
    several = (*ROUNDS, *EARLIER)  # runs
    return tuple(
        name
        for name, entry in METHODS.items()
        if task in entry.method.tasks and name not in several
    )


def need_meaning(config: Config, pool: Pool) -> None:
    """UserError where `config` asks for what has no meaning for the pool's labels."""
    if config.task is not None and config.task != pool.task:
        raise UserError(
            f"--task {config.task}: the labels of {pool.origin} are read as {pool.task}"
        )
    if pool.task == SINGLE:
        return
    fitting = methods(pool.task)
    if config.method not in ("auto", *fitting):
        raise UserError(
            f"--method {config.method}: has no meaning for the task {pool.task}; take auto, "
            f"{', '.join(fitting)}"
        )
    for name in ONE_CLASS + (("labels_per_class",) if pool.task == REGRESSION else ()):
        if (value := getattr(config, name)) != getattr(Config, name):
            option = name.replace("_", "-")
            raise UserError(f"--{option} {value}: has no meaning for the task {pool.task}")


def suited(config: Config, task: str) -> Config:
    """The settings with the task. The guard is off: an image of none of several classes is an
    example as any other, and on numbers it was never tried. Numbers are learnt from weak views,
    unless a policy is named: a strong one may change what is counted or measured."""
    if task == SINGLE:
        return replace(config, task=task)
    alone = config.method == BASELINE  # which knows no guard
    own = config.settings
    if alone and task == REGRESSION and config.augment is None:
        own = TUNED_SUPERVISED | own
    return replace(config, task=task, settings=own, guard=config.guard if alone else "off")


def run(context: Context) -> Chosen:
    """Trains, and only then looks at the test images."""
    if context.config.method != "auto":
        return named.run(context)
    method = context.method
    if method != BASELINE:
        why = f"{method}: {ELSEWHERE}"
        context.events.say(f"auto: labels only, then {why}")
        begun = begin(context, BASELINE_SHARE, guarded=False)
        if short := _too_short(begun):
            context.events.say(f"{method}: {short}")
            return begun.longer(f"labels only: {short}, too few for {method}")
        stages = named.to_the_end(begun, method, method, BASELINE_SHARE)
        return begun.finish(method, stages, why)
    why = ALONE if len(context.data.unlabelled) else NO_OTHERS
    context.events.say(f"auto: {why}")
    return begin(context, 1.0, guarded=False).finish(BASELINE, (), why)


def _too_short(begun: Begun) -> str:
    """Why the time is too short for the run's method; "" where it is not. Decided once: a run that
    is resumed near its end has no time left for what it has long trained."""
    context = begun.context
    kept = context.folder.read_json(FITTING)
    if kept is None:
        left = math.inf if context.deadline is None else context.deadline - context.clock()
        images = context.config.batch * (1 + 2 * context.own_settings.ratio)
        steps = left * begun.rate / images
        short = f"there is time for {steps:.0f} steps only" if steps < LEAST else ""
        kept = {"short": short}
        context.folder.write_json(FITTING, kept)
    return str(kept["short"])
