"""The rows of `metrics.jsonl` as TensorBoard event files, in `tensorboard/<stage>` of a run.

A stage is what TensorBoard calls a run: steps begin anew in each, and their curves lie over one
another.
"""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fewlabels.errors import UserError

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

TENSORBOARD = "tensorboard"
NAMED = ("stage", "step")  # of a row: what says where it belongs


def need_tensorboard() -> None:
    """UserError where it is not installed."""
    try:
        import tensorboard  # noqa: F401
    except ImportError:
        raise UserError(
            "--log tensorboard needs tensorboard: pip install 'fewlabels[tensorboard]'"
        ) from None


def opened(home: Path, stage: str, after: int = -1) -> "SummaryWriter":
    """What writes rows of the stage into `home`; to be closed at the stage's end.

    What event files there hold of steps beyond `after` is void: these steps are done anew.
    """
    from torch.utils.tensorboard import SummaryWriter

    folder = home / stage.replace(" ", "-")
    return SummaryWriter(str(folder), purge_step=after + 1 if folder.exists() else None)


def write_row(board: "SummaryWriter", row: dict[str, Any]) -> None:
    """Each finite number of the row as a point, at once."""
    for name, value in row.items():
        if name not in NAMED and isinstance(value, int | float) and math.isfinite(value):
            board.add_scalar(name, value, row["step"])
    board.flush()
