"""The page of a model: self-contained, with what the terminal shows."""

import math
import re
from dataclasses import replace

import pytest

from fewlabels.models.anatomy import Layer, Totals
from fewlabels.models.examine import Examined
from fewlabels.models.signals import Signal
from fewlabels.report import anatomy
from fewlabels.report.listing import short


def signal(path: str, std: float, gradient: float) -> Signal:
    return Signal(path, "Linear", True, 0.0, std, 0.5, 0.0, gradient)


MODEL = Examined(
    name="a<b>(c=1)",
    size=32,
    classes=10,
    entry=None,
    layers=(
        Layer("one", "Conv2d", (8, 16, 16), 224, 55296, 3, 1),
        Layer("two", "Linear", (10,), 90, 80, None, None),
    ),
    totals=Totals(314, 55376),
    field=3,
    stem="",
    init="",
    signals=(),
    warnings=(),
)
SIGNALS = (signal("one", 1.0, 1e-5), signal("two", 1e-3, 1.0), signal("head", 2.0, 3.0))


@pytest.mark.parametrize(
    "model",
    [
        MODEL,
        replace(MODEL, signals=SIGNALS),
        replace(MODEL, signals=SIGNALS, init="he", warnings=("the signal <vanishes>",)),
        replace(MODEL, signals=(signal("one", 0.0, math.nan), signal("two", math.inf, 0.0))),
        replace(MODEL, field=None, stem="another"),
    ],
    ids=["layers", "signals", "warning", "not finite", "whole image"],
)
def test_the_page_loads_nothing_and_runs_no_script(model: Examined) -> None:
    page = anatomy.render(model)
    assert "<script" not in page
    assert "http://" not in page
    assert "https://" not in page
    assert "a&lt;b&gt;(c=1)" in page
    assert "<b>(c=1)" not in page
    assert "<vanishes>" not in page
    assert page.count("<figure>") == 2 * any(math.isfinite(s.gradient) for s in model.signals[:1])
    for layer in model.layers:
        assert f"<th>{layer.path}</th>" in page


def test_a_warning_is_the_verdict() -> None:
    page = anatomy.render(replace(MODEL, signals=SIGNALS, warnings=("the signal vanishes",)))
    assert '<p class="verdict notice">The signal vanishes</p>' in page
    page = anatomy.render(replace(MODEL, signals=SIGNALS))
    assert "Activations and gradients stay within a factor of 1,000" in page
    assert "factor of 1,000" not in anatomy.render(MODEL)


def test_the_axis_is_logarithmic() -> None:
    chart = anatomy.chart("Gradient", [1.0, 0.1, 0.0, 1e-4, math.inf])
    assert chart is not None
    heights = [float(y) for y in re.findall(r'<circle[^>]* cy="([\d.]+)%"', chart)]
    assert len(heights) == 3  # what has no logarithm has no place
    assert heights[0] == 0.0
    assert heights[1] == pytest.approx(25.0)
    assert heights[2] == pytest.approx(100.0)
    assert ">0.01</text>" in chart
    assert "Gradient of 3 layers in order, from 1.0e-04 to 1." in chart
    assert anatomy.chart("Gradient", [0.0, math.nan]) is None


def test_bars() -> None:
    assert anatomy.bar(1.0, 1e-4, 1.0) == "█" * 8
    assert anatomy.bar(1e-2, 1e-4, 1.0) == "█" * 4
    assert anatomy.bar(1e-4, 1e-4, 1.0) == "▏"
    assert anatomy.bar(0.0, 1e-4, 1.0) == anatomy.bar(math.inf, 1e-4, 1.0) == ""


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (25557032, "25.6 M"),
        (4.09e9, "4.09 G"),
        (999_600, "1.00 M"),
        (99_960, "100 k"),
        (9_996, "10.0 k"),
        (850, "850"),
        (0, "0"),
        (None, "·"),
    ],
)
def test_short_numbers(value: float | None, text: str) -> None:
    assert short(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.000312, "3.1e-04"), (0.31, "0.31"), (0, "0"), (-7, "-7"), (100, "100"), (12345, "1.2e+04")],
)
def test_scientific(value: float, text: str) -> None:
    assert anatomy.scientific(value) == text
