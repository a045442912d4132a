"""The page of a search: self-contained, and as honest as the numbers."""

import re
from typing import Any

import pytest

from fewlabels.report import search, search_augmentation


def trial(number: int, accuracy: float | None, state: str = "complete") -> dict[str, Any]:
    return {
        "number": number,
        "policy": f"weak+rotate(-{number}..{number})",
        "state": state,
        "folds": [] if accuracy is None else [accuracy, accuracy],
        "accuracy": accuracy,
        "spread": None if accuracy is None else 0.0,
        "seconds": 2.0,
    }


def result(*trials: dict[str, Any], improved: bool = False) -> dict[str, Any]:
    default = trial(0, 0.8)
    winner = trials[0] if improved else default
    less = [a - b for a, b in zip(winner["folds"], default["folds"], strict=True)]
    return {
        "data": "photos & <more>",
        "what": "augmentation",
        "operations": 2,
        "folds": 2,
        "judged_on": "folds",
        "judged": 20,
        "labels": 20,
        "classes": 2,
        "steps": 400,
        "model": "cnn_small",
        "img_size": 32,
        "seed": 0,
        "default": default,
        "winner": winner,
        "improved": improved,
        "difference": {"mean": sum(less) / 2, "spread": 0.0, "folds": less},
        "trials": list(trials),
        "use": "fewlabels train photos --augment searches/1/policy.txt",
    }


@pytest.mark.parametrize(
    "found",
    [
        result(),
        result(trial(1, 0.8)),
        result(trial(1, None, "failed")),
        result(trial(1, 0.9), trial(2, 0.7, "pruned"), improved=True),
    ],
    ids=["no trials", "all the same", "failed", "improved"],
)
def test_the_page_loads_nothing_and_runs_no_script(found: dict[str, Any]) -> None:
    page = search.render(found)
    assert "<script" not in page
    assert "http://" not in page
    assert "https://" not in page
    assert "photos &amp; &lt;more&gt;" in page
    assert "<more>" not in page
    assert "nan" not in re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL).lower()
    for one in found["trials"]:
        assert one["policy"] in page


def test_it_says_how_far_the_winner_is_ahead_and_that_it_was_chosen() -> None:
    found = result(trial(1, 0.9), trial(2, 0.7, "pruned"), improved=True)
    assert "Trial 1 is 10.0 points above the default policy (by fold: +10.0, +10.0)" in (
        search_augmentation.verdict(found)
    )
    page = search.render(found)
    assert "best of 2, chosen on these very images" in page
    assert "cut off after 2" in page
    assert page.count("circle class") == 2
    assert 'class="s1 only-dots hollow"' in page


def test_it_says_when_the_default_was_not_beaten() -> None:
    found = result(trial(1, 0.7))
    assert "No policy of 1 beat the default one" in search.render(found)
    assert "no time for any trial" in search_augmentation.verdict(result())
