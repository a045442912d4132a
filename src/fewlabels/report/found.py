"""Settings that were `auto`: which learning rate and batch size were found, and what was seen."""

import math
from typing import Any

from markupsafe import Markup

from fewlabels.report import plots
from fewlabels.report.read import Row, Run


def told(run: Run) -> dict[str, Any]:
    """What is said of each, the plot of the range test, and the batch sizes that were tried."""
    rate, batch = run.found.get("learning_rate", {}), run.found.get("batch_size", {})
    return {
        "rate": rate,
        "chart": _chart(rate) if rate.get("rates") else None,
        "batch": batch,
    }


def _chart(test: Row) -> Markup:
    """The loss over the logarithm of the rate, with a line where the rate was chosen."""
    first = math.log10(test["rates"][0])
    high = 1.2 * max(test["smoothed"])  # a loss beyond says no more than that it is high
    x = [math.log10(rate) - first for rate in test["rates"]]
    at = math.log10(test["chosen"]) - first
    lines = [
        plots.Curve(
            "after each step",
            [(a, min(y, high)) for a, y in zip(x, test["losses"], strict=True)],
            "s1",
        ),
        plots.Curve("smoothed", list(zip(x, test["smoothed"], strict=True)), "s0"),
        plots.Curve("chosen", [(at, 0.0), (at, high)], "s2 trial"),
    ]
    return plots.curves(
        lines,
        text=f"The loss over the learning rate; {test['said']}.",
        x_tick=lambda a: f"{10 ** (a + first):.2g}",
        y_tick=lambda y: f"{y:.3g}",
        y_low=0.0,
        x_marks=range(math.floor(x[-1] + 1e-6) + 1),
    )
