"""What it makes of the unlabelled images: pictures, and counts by class."""

from typing import Any

from fewlabels.report.pictures import shown
from fewlabels.report.read import Run
from fewlabels.report.tried import rounds


def told(run: Run) -> dict[str, Any]:
    """Pseudo-labelled pictures, and the counts of the last round where there were rounds."""
    last = rounds(run)[-1:]
    return {
        "pictures": [shown(row, run) for row in run.gallery.get("pseudo", [])],
        "classes": last[0]["pseudo_labels"] if last else [],
        "sums": last[0]["sums"] if last else {},
    }
