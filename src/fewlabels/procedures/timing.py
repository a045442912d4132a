"""When training begins and must end, so that the whole command keeps its time limit."""

from dataclasses import replace

import numpy as np
import torch
from torch import nn

from fewlabels.procedures.certainty import JUDGES, LABELLED
from fewlabels.procedures.config import ROUNDS
from fewlabels.procedures.earlier import Earlier
from fewlabels.procedures.gallery import PICTURES, PSEUDO_LABELLED
from fewlabels.procedures.prepare import Rows
from fewlabels.procedures.probes import FROZEN
from fewlabels.procedures.stage import Context
from fewlabels.training.budget import Clock
from fewlabels.training.folder import RunFolder

LEAST = 2.0  # seconds of training, however short the time is
DISK = 200.0  # megabytes a second, for a slow one
CLOCK = "clock.json"
SOME = 64  # images that a model's speed is measured on
WRITING = 2.5  # seconds for what is written after the last prediction,
WRITING_INSIDE = 0.7  # and of each run inside
HEAT = 4  # times as long as a look takes a heat map of what was seen


def timed(context: Context) -> Context:
    """The context with `began` and `deadline`, decided once for all processes of a run."""
    schedule = context.folder.read_json("schedule.json")
    if schedule is None:
        limit = context.config.time_limit
        began = context.clock()
        deadline = None if limit is None else limit - _closing_seconds(context)
        if limit is not None and deadline is not None and deadline < began + LEAST:
            # late with a model is better than in time without one
            context.events.say(
                f"--time-limit {limit:g}s is too short: {began:.0f} s went into reading the images "
                f"and {limit - deadline:.0f} s are needed at the end; it trains for {LEAST:g} s"
            )
            deadline = began + LEAST
        schedule = {"began": began, "deadline": deadline}
        context.folder.write_json("schedule.json", schedule)
    return replace(context, **schedule)


def resumed(folder: RunFolder) -> Clock:
    """A clock that stands where the run stood when it last kept something."""
    spent = folder.read_json(CLOCK)
    return Clock(0.0 if spent is None else spent["seconds"])


def mark(folder: RunFolder, clock: Clock) -> None:
    """Keeps where the clock stands."""
    folder.write_json(CLOCK, {"seconds": round(clock(), 3)})


def _closing_seconds(context: Context) -> float:
    """What predicting and writing at the end will take, from the speed of one batch."""
    data, model = context.data, context.model()
    an_image = seconds_an_image(context, model, np.resize(data.labelled, SOME))
    # the best model is written four times: last, its stage, best, artefact
    megabytes = sum(p.nbytes for p in model.parameters()) / 1e6
    # the rounds, and a last one on all labels
    inside = context.own_settings.rounds + 1 if context.method in ROUNDS else 0
    # the baseline is asked as well, and so is each run inside
    models = inside + (1 if context.method == "supervised" else 2)
    if context.config.method == "baseline":
        models = len(FROZEN) + 1
    judges = len(data.test) + len(context.val_rows)
    rows_to_ask = models * judges + min(len(data.unlabelled), PSEUDO_LABELLED)
    # and what is unknown is found out
    known = min(len(data.labelled), LABELLED)
    rows_to_ask += (inside + 1) * (known + min(len(data.pool), JUDGES)) + HEAT * PICTURES
    rows_to_ask += 2 * inside * known  # what each student has learnt is asked of its teacher too
    earlier = sum(_seconds_an_image_of(context, run) for run in context.earlier) * judges
    writing = WRITING + inside * WRITING_INSIDE + 4 * megabytes / DISK
    return writing + an_image * rows_to_ask + earlier


def seconds_an_image(context: Context, model: nn.Module, rows: Rows) -> float:
    """In which `model` looks at one; these are a batch of them."""
    context.probabilities(model, rows)  # the first call pays for set-up
    began = context.clock()
    context.probabilities(model, rows)
    return (context.clock() - began) / len(rows)


@torch.inference_mode()
def _seconds_an_image_of(context: Context, earlier: Earlier) -> float:
    """In which the model of an earlier run looks at one, at its own size."""
    side, device = earlier.preprocess.size, context.fabric.device
    x, model = torch.zeros(16, 3, side, side, device=device), earlier.built.model.to(device).eval()
    model(x)
    clock = Clock()  # the deadline comes from it, so it must not count a pause
    model(x)
    return clock() / len(x)
