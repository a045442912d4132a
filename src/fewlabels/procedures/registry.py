"""Which procedure a run is: by what `--method` names."""

from fewlabels.procedures import auto, frozen, named, self_train
from fewlabels.procedures.chosen import Chosen
from fewlabels.procedures.config import ROUNDS
from fewlabels.procedures.probes import FROZEN
from fewlabels.procedures.stage import Context
from fewlabels.procedures.timing import timed


def run(context: Context) -> Chosen:
    """Trains, and looks at the test images when all is decided."""
    method = context.config.method
    if method in FROZEN:
        return frozen.run(context)
    context = timed(context)
    if method == "auto":
        return auto.run(context)
    return (self_train if method in ROUNDS else named).run(context)
