"""`--lr auto`: the learning rate by a range test (`training/range_test.py`), before any stage.

It learns from the labels only, as the first stage of every run does, with the run's own optimiser,
from what that stage starts from; labels that are held out are not looked at. All stages take the
rate that is found, and so does the run when it is resumed.
"""

import math
import zlib
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from fewlabels.procedures.chosen import BASELINE
from fewlabels.procedures.config import AUTO
from fewlabels.procedures.heads import probed
from fewlabels.procedures.stage import Context, ingredients, train_settings
from fewlabels.training.freeze import FIXRES
from fewlabels.training.range_test import chosen, range_test

FOUND = "learning_rate.json"
SHARE = 0.03  # of the time limit


def with_rate(context: Context) -> Context:
    """The context with the learning rate, where it is to be found: once in a run."""
    if context.config.lr != AUTO:
        return context
    found = context.found_once(FOUND, _found)
    return replace(context, config=replace(context.config, lr=found["chosen"]))


def _found(context: Context) -> dict[str, Any]:
    config, data = context.config, context.data
    rows = np.setdiff1d(data.labelled, data.held_out)
    seed = zlib.crc32(f"{config.seed} learning rate".encode())
    method, make_batch = ingredients(context, BASELINE, rows, seed)
    before = None
    if config.method == FIXRES:  # which goes on with a run's own weights
        config = replace(config, freeze=FIXRES, norms="learn")
    else:
        before = probed(context, rows)
    with context.events.stage("learning rate"):
        test = range_test(
            context.model(before),
            method,
            make_batch,
            train_settings(config),
            context.fabric,
            context.preprocess.size,
            seed,
            SHARE * config.time_limit if config.time_limit else math.inf,
        )
    usual = replace(config, lr=None).rate
    rate = chosen(test)
    if rate is not None:
        said = f"learning rate {rate:.2g}, found in {len(test.rates)} steps (usual: {usual:g})"
    elif test.rates:
        said = f"learning rate {usual:g}, the usual one: the loss did not fall and rise"
    else:
        said = f"learning rate {usual:g}, the usual one: there is no time to look for another"
    return asdict(test) | {"chosen": rate or usual, "usual": usual, "said": said}
