"""The choice between a method and labels only, on validation."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fewlabels.procedures.auto import choose
from fewlabels.procedures.outcome import verdict


def decide(right: list[int], base: list[int]) -> tuple[str, str]:
    """What is chosen when the method and the baseline are right (1) or wrong (0) on n images."""
    label = np.zeros(len(right), np.int64)
    rows = np.arange(len(right))
    context: Any = SimpleNamespace(
        data=SimpleNamespace(pool=SimpleNamespace(label=label)), val_rows=rows
    )

    def trained(marks: list[int]) -> Any:
        first = np.array(marks, float)
        return SimpleNamespace(val=np.stack([first, 1 - first], 1).reshape(-1, 2))

    return choose(context, "fixmatch", trained(right), trained(base))


@pytest.mark.parametrize(
    ("right", "base", "winner"),
    [
        ([1, 1, 1, 0], [1, 0, 0, 0], "fixmatch"),
        ([1, 0, 1, 1], [1, 1, 1, 1], "fixmatch"),  # one image is chance
        ([0, 0, 0, 0, 1], [1, 1, 1, 1, 1], "supervised"),  # four of four are not
        ([1, 1], [1, 1], "fixmatch"),
        ([], [], "fixmatch"),
    ],
)
def test_the_better_is_kept_and_chance_is_not_evidence(
    right: list[int], base: list[int], winner: str
) -> None:
    chosen, why = decide(right, base)
    assert chosen == winner
    assert why


def test_the_reason_counts_images() -> None:
    assert "3 of 4 validation images right against 1" in decide([1, 1, 1, 0], [1, 0, 0, 0])[1]


def result(gain: float, low: float, high: float) -> dict[str, Any]:
    difference = {"test": {"difference": gain, "interval": [low, high], "n": 356}}
    return {
        "estimate": "test",
        "method": "fixmatch",
        "difference": difference,
        "baseline": {"steps": 1400, "seconds": 18.2},
        "steps": 900,
        "training_seconds": 61.8,
    }


def test_the_verdict_says_what_the_interval_says() -> None:
    assert verdict(result(0.094, 0.068, 0.121)) == (
        "The unlabelled images helped: +9.4 points, 95 % interval +6.8 to +12.1, "
        "on 356 test images. Labels only trained for 1,400 steps (18 s), fixmatch for 900 (62 s)."
    )
    assert "no difference that 356 test images can show" in verdict(result(0.01, -0.01, 0.03))
    assert "did harm" in verdict(result(-0.05, -0.08, -0.02))
