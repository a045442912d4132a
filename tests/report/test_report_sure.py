"""How sure it is, as the page says it: by hand, and with parts missing."""

import json
from pathlib import Path
from typing import Any

import pytest
from full_run import calibration, make_full, share
from test_html import make, page, words


def section(text: str, name: str) -> str:
    """What is read in one section."""
    found = text.split(f'<section id="{name}">')[1].split("</section>")[0]
    return words("</style>" + found)


def sure(folder: Path, **more: Any) -> str:
    make_full(folder, **more)
    return section(page(folder), "sure")


def test_the_interval_in_words_and_other_accuracies(tmp_path: Path) -> None:
    read = sure(tmp_path)
    assert "Of 30 test images 90.0 % were right." in read
    assert "between 74.4 % and 96.5 %" in read
    assert "balanced accuracy 88.5 % 72.1 to 95.8 30" in read
    assert "top-5 accuracy 98.1 % 90.0 to 99.9 30" in read


def test_calibration_before_and_after(tmp_path: Path) -> None:
    read = sure(tmp_path)
    # (10 * 0.90 + 20 * 0.98) / 30, and 27 of 30
    assert "Its mean confidence is 95.3 %, and 90.0 % of its answers are right." in read
    assert "are 5.3 points apart on average" in read
    assert "0.8 to 11.9, n = 30" in read
    assert "up to 7.4 points" in read
    assert "no more than chance is seen here" in read
    assert "a temperature of 1.31, fitted to 50 validation images, which makes it less sure" in read
    assert "Without it the gap is 8.7 points" in read
    assert "looks a little too small" not in read


@pytest.mark.parametrize(
    ("accuracy", "says"), [(17, "too sure of itself"), (20, "less sure than it could be")]
)
def test_more_than_chance_is_named(tmp_path: Path, accuracy: int, says: str) -> None:
    found = calibration() | {"by_chance": 0.03}
    found["bins"][13]["accuracy"] = share(10, 10)
    found["bins"][14]["accuracy"] = share(accuracy, 20)
    read = sure(tmp_path, calibration=found)
    assert f"this is more than chance, and it is {says}" in read


def test_a_temperature_of_one_has_a_reason(tmp_path: Path) -> None:
    found = calibration()
    found["temperature"] = {"value": 1.0, "n": 9, "why": "9 validation images are too few"}
    del found["as_trained"]
    read = sure(tmp_path, calibration=found)
    assert "no temperature was fitted, for 9 validation images are too few" in read
    assert "Without it" not in read


def test_what_was_fitted_to_the_same_images_is_said(tmp_path: Path) -> None:
    result = make(tmp_path, ["heron", "stork", "ibis"], split="val")
    (tmp_path / "result.json").write_text(json.dumps(result | {"calibration": calibration()}))
    assert "looks a little too small" in section(page(tmp_path), "sure")


def test_abstaining_is_told_near_four_fifths_of_the_answers(tmp_path: Path) -> None:
    read = sure(tmp_path)
    # 23 of 30 is nearer to 80 % than 26 of 30
    assert "If it may abstain below a confidence of 97.0 %, it answers 76.7 %" in read
    assert "and is right in 95.7 %" in read
    assert "never 100.0 %" in read  # the table's last row always answers


def test_one_confidence_for_all_says_nothing_of_abstaining(tmp_path: Path) -> None:
    found = calibration()
    found["coverage"] = found["coverage"][-1:]
    assert "abstain" not in sure(tmp_path, calibration=found)


def test_the_reliability_diagram_shows_the_bins(tmp_path: Path) -> None:
    make_full(tmp_path)
    text = page(tmp_path)
    plot = text.split('<svg class="plot reliability"')[1].split("</svg>")[0]
    assert plot.count('<g class="bin">') == 2
    # confidence 0.9; 8 of 10 right: a fifth of the square from its top; half as many as the most
    assert '<circle cx="90.0%" cy="15.6%"' in plot
    assert 'x1="90.0%" x2="90.0%" y1="92.0%" y2="100%"' in plot
    assert "5.3 points" in plot  # in the text alternative
    assert "86.7 % to 93.3 % 90.0 % 80.0 %" in section(text, "sure")  # and in the table


def test_unknown_images(tmp_path: Path) -> None:
    read = sure(tmp_path)
    assert "score of strangeness is above 3.14" in read
    assert "this flags 6.0 %" in read
    assert "set on 50 validation images" in read


def test_no_threshold_has_a_reason(tmp_path: Path) -> None:
    read = sure(tmp_path, unknown={"threshold": None, "why": "3 images are too few"})
    assert "it has no threshold for unknown images, for 3 images are too few" in read


def test_a_calibration_without_images_shows_its_reason(tmp_path: Path) -> None:
    read = sure(tmp_path, calibration={"temperature": {"value": 1.0, "n": 0, "why": "none"}})
    assert "no temperature was fitted, for none" in read
    assert "<svg" not in read


def test_older_results_have_the_interval_alone(tmp_path: Path) -> None:
    make(tmp_path, ["heron", "stork", "ibis"])
    read = section(page(tmp_path), "sure")
    assert "between 74.4 % and 96.5 %" in read
    assert "confidence can be believed" not in read
    assert "unknown" not in read
