"""The page of a search for a scaling: curves against multiply-adds, and what each trial cost."""

import re
from typing import Any

import pytest

from fewlabels.report import search, search_scaling


def row(
    by: tuple[float, float, float],
    accuracy: float | None,
    flops: int,
    phi: int = 1,
    state: str = "complete",
) -> dict[str, Any]:
    return {
        "phi": phi,
        **dict(zip(("alpha", "beta", "gamma"), by, strict=True)),
        "model": f"cnn_small(depth={by[0]:g})",
        "img_size": 32,
        "parameters": flops // 50,
        "flops": flops,
        "state": state,
        "folds": [] if accuracy is None else [accuracy, accuracy],
        "accuracy": accuracy,
        "spread": None if accuracy is None else 0.0,
        "seconds": 2.0,
    }


BASE = {"number": 0, **row((1.0, 1.0, 1.0), 0.8, 6_000_000, phi=0)}
NO_CURVES: dict[str, list[dict[str, Any]]] = {
    name: [] for name in ("depth", "width", "resolution", "compound")
}
CURVES = {
    "depth": [row((2.0, 1.0, 1.0), 0.81, 12_000_000), row((2.0, 1.0, 1.0), 0.82, 24_000_000, 2)],
    "width": [row((1.0, 1.4, 1.0), None, 11_000_000, state="failed")],
    "resolution": [row((1.0, 1.0, 1.4), 0.7, 13_000_000)],
    "compound": [row((1.2, 1.1, 1.17), 0.9, 12_600_000)],
}


def result(
    *trials: dict[str, Any],
    curves: dict[str, list[dict[str, Any]]] = NO_CURVES,
    improved: bool = False,
) -> dict[str, Any]:
    winner = trials[0] if improved else BASE
    less = [a - b for a, b in zip(winner["folds"], BASE["folds"], strict=True)]
    return {
        "data": "photos & <more>",
        "what": "scaling",
        "phi": 2,
        "folds": 2,
        "judged_on": "folds",
        "judged": 20,
        "labels": 20,
        "classes": 2,
        "steps": 400,
        "model": "cnn_small",
        "img_size": 32,
        "seed": 0,
        "default": BASE,
        "winner": winner,
        "improved": improved,
        "difference": {"mean": sum(less) / 2, "spread": 0.0, "folds": less},
        "trials": list(trials),
        "curves": curves,
        "use": "fewlabels train photos --model 'cnn_small(depth=1.2)' --img-size 32",
    }


FIRST = {"number": 1, **row((1.2, 1.1, 1.174), 0.9, 12_600_000)}
PRUNED = {"number": 2, **row((1.5, 1.1, 1.05), 0.7, 10_800_000, state="pruned")}
WHOLE = result(FIRST, PRUNED, curves=CURVES, improved=True)


def words(page: str) -> str:
    """What is read: without tags, and with single spaces."""
    return " ".join(re.sub(r"<[^>]*>", " ", page.split("</style>")[1]).split())


@pytest.mark.parametrize(
    "found",
    [
        result(),
        result({"number": 1, **row((2.0, 1.0, 1.0), None, 12_000_000, state="failed")}),
        result({**FIRST, "accuracy": 0.7}, curves=CURVES),
        WHOLE,
    ],
    ids=["no trials", "failed", "not improved", "improved"],
)
def test_the_page_loads_nothing_and_runs_no_script(found: dict[str, Any]) -> None:
    page = search.render(found)
    assert "<script" not in page
    assert "http://" not in page
    assert "https://" not in page
    assert "photos &amp; &lt;more&gt;" in page
    assert "<more>" not in page
    assert "nan" not in re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL).lower()
    assert "None" not in words(page)
    assert page.count('<svg class="plot') == 1 + any(found["curves"].values())


def test_it_says_what_was_found_and_what_it_costs() -> None:
    text = words(search.render(WHOLE))
    assert "Scaling cnn_small for photos" in text
    assert (
        "Trial 1 (α = 1.20, β = 1.10, γ = 1.17) is 10.0 points above the base model "  # noqa: RUF001
        "(by fold: +10.0, +10.0), at 2.10 times its multiply-adds."
    ) in text
    assert "costs 1.8 to 2.1 times as much" in text
    # trial, accuracy, to the base, α, β, γ, multiply-adds, parameters, model
    assert (
        "1 90.0 % ± 0.0 +10.0 1.200 1.100 1.174 12.6 M 2.10 times 252 k cnn_small(depth=1.2) at"
    ) in text
    assert "2 70.0 % cut off after 2 1.500 1.100 1.050 10.8 M 1.80 times" in text
    assert "depth 2 82.0 % ± 0.0 +2.0 24.0 M 4.00 times" in text
    assert "width 1 \N{EN DASH} failed after 0 11.0 M" in text
    assert "--model &#39;cnn_small(depth=1.2)&#39; --img-size 32" in text


def test_every_curve_begins_at_the_base_on_the_left() -> None:
    figure = search_scaling.figure(WHOLE)
    assert figure is not None
    lines = re.findall(r'<polyline class="(\w+)" points="([\d., ]+)"', figure)
    places = {style: points.split() for style, points in lines}
    assert set(places) == {"s2", "s4", "s0"}  # nothing is known of width
    assert {points[0] for points in places.values()} == {"0.0,33.33"}  # 80 of 60 to 90 %
    assert places["s2"][1].startswith("50.0,")  # twice the multiply-adds of four times
    assert "depth, 12.0 M: 81 %" in figure
    assert search_scaling.figure(result()) is None


def test_it_says_when_the_base_was_not_beaten() -> None:
    assert "No scaling of 1 beat the base model" in search_scaling.verdict(
        result({**FIRST, "accuracy": 0.7})
    )
    assert "no time for any trial" in search_scaling.verdict(result())
