"""Which procedure a run is: by what `--method` names."""

from collections.abc import Callable

from fewlabels.pool.pool import SINGLE
from fewlabels.procedures import (
    auto,
    baseline,
    distil,
    ensemble,
    fixres,
    frozen,
    named,
    pretrain,
    self_train,
    tasks,
)
from fewlabels.procedures.chosen import Chosen
from fewlabels.procedures.config import ROUNDS, UNTRAINED
from fewlabels.procedures.probes import FROZEN
from fewlabels.procedures.stage import Context
from fewlabels.procedures.timing import timed

# every other method is one stage, labels only beside it
PROCEDURES: dict[str, Callable[[Context], Chosen]] = {
    "auto": auto.run,
    "distill": distil.run,
    "pretrain": pretrain.run,
    "fixres": fixres.run,
    "ensemble": ensemble.run,
    "baseline": baseline.run,
    **dict.fromkeys(ROUNDS, self_train.run),
    **dict.fromkeys(FROZEN, frozen.run),
}


def run(context: Context) -> Chosen:
    """Trains, and looks at the test images when all is decided."""
    method = context.config.method
    if method not in UNTRAINED:
        context = timed(context)
    if context.data.pool.task != SINGLE:
        return tasks.run(context)
    return PROCEDURES.get(method, named.run)(context)
