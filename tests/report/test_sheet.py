"""The contact sheet: everything is on it, and it shows what the engine makes."""

import numpy as np
import pytest
from conftest import picture as painted
from numpy.typing import NDArray

from fewlabels.augment.operations import OPERATIONS
from fewlabels.augment.policy import PRESETS, STAGES, Policy
from fewlabels.augment.views import picture
from fewlabels.report import sheet
from fewlabels.report.sheet import COLUMNS, SIDE, contact_sheet, strengths

POLICIES = tuple(Policy.parse(name) for name in PRESETS)
LONG = "flip+rotate(-180..180,p=0.5)+rand(3,m=5..20,among=identity|solarize|posterize|shear_x)"


@pytest.fixture
def image() -> NDArray[np.uint8]:
    return np.array(painted(0, 0))


def sections(
    monkeypatch: pytest.MonkeyPatch, image: NDArray[np.uint8], *policies: Policy, seed: int = 0
) -> dict[str, tuple[sheet.Row, ...]]:
    """What would be drawn."""
    drawn: list[sheet.Section] = []
    with monkeypatch.context() as patch:
        patch.setattr(sheet, "_drawn", drawn.extend)
        contact_sheet(image, policies, seed)
    return {section.name: section.rows for section in drawn}


@pytest.mark.parametrize("name", [n for n, o in OPERATIONS.items() if o.has_strength])
def test_strengths_rise_through_the_neutral_one(name: str) -> None:
    found, operation = strengths(OPERATIONS[name]), OPERATIONS[name]
    assert found == sorted(set(found))
    assert 5 <= len(found) <= COLUMNS
    assert found[0] == operation.low
    assert operation.neutral in found
    assert found[-1] >= operation.high
    for strength in found:
        assert Policy.parse(f"{name}({strength:g})").stages[0].value == strength


def test_strengths_of_some() -> None:
    assert strengths(OPERATIONS["brightness"]) == [0.05, 0.37, 0.68, 1, 1.3, 1.6, 1.9]
    assert strengths(OPERATIONS["posterize"]) == [4, 5, 6, 7, 8]
    assert strengths(OPERATIONS["rotate"]) == [-30, -20, -10, 0, 10, 20, 30]


def test_everything_is_on_it(monkeypatch: pytest.MonkeyPatch, image: NDArray[np.uint8]) -> None:
    custom = Policy.parse(LONG)
    found = sections(monkeypatch, image, *POLICIES, custom)
    rows = found["Operations"]
    captions = {caption for row in rows for _, caption in row.pictures}
    assert all(name in captions or name in {row.name for row in rows} for name in OPERATIONS)
    stages = {row.name.partition("(")[0] for row in found["Stages"]}
    assert stages == STAGES.keys() - OPERATIONS.keys() - {"rand"}
    policies = [(row.name, row.detail) for row in found["Policies"]]
    assert policies == [(n, str(Policy.parse(n))) for n in PRESETS] + [("", str(custom))]
    assert all(len(row.pictures) == COLUMNS for row in found["Stages"] + found["Policies"])


def test_shows_what_the_engine_makes(
    monkeypatch: pytest.MonkeyPatch, image: NDArray[np.uint8]
) -> None:
    """Of 16 pixels, seven times as large."""
    found = sections(monkeypatch, image, POLICIES[1], seed=3)

    def same(shown: NDArray[np.uint8], text: str, number: int = 0) -> bool:
        made = picture(image, Policy.parse(text), 3, number)
        return np.array_equal(shown, made.repeat(7, 0).repeat(7, 1))

    rotated = next(row for row in found["Operations"] if row.name == "rotate")
    assert same(rotated.pictures[0][0], "rotate(-30)")
    (row,) = found["Policies"]
    assert all(same(shown, "strong", i) for i, (shown, _) in enumerate(row.pictures))
    drawn = np.array(contact_sheet(image, (), 3))
    top, left = sheet.EDGE + sheet.HEADING, sheet.EDGE + sheet.LABEL
    assert same(drawn[top : top + SIDE, left : left + SIDE], "identity")


def test_large_images_shrink_whole(
    monkeypatch: pytest.MonkeyPatch, image: NDArray[np.uint8]
) -> None:
    large = image.repeat(20, 0).repeat(40, 1)
    first = sections(monkeypatch, large)["Operations"][0].pictures[0][0]
    assert first.shape == (SIDE // 2, SIDE, 3)
    assert abs(float(first.mean()) - float(image.mean())) < 2


@pytest.mark.parametrize("shape", [(1, 1), (1, 900), (900, 1), (112, 113), (50, 57)])
def test_any_shape(shape: tuple[int, int]) -> None:
    made = contact_sheet(np.full((*shape, 3), 90, np.uint8), POLICIES)
    assert made.mode == "RGB"
    assert 800 < made.width < 1200
    assert made.getpixel((0, made.height - 1)) == (255, 255, 255)


def test_same_seed_same_sheet(image: NDArray[np.uint8]) -> None:
    before = image.copy()
    first, again, other = (np.array(contact_sheet(image, POLICIES, seed)) for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.array_equal(image, before)


def test_long_labels_are_wrapped(image: NDArray[np.uint8]) -> None:
    text = str(Policy.parse(LONG))
    lines = sheet._wrapped(text)
    assert "".join(lines) == text
    assert all(sheet._font(13).getlength(line) <= sheet.LABEL - sheet.GAP for line in lines)
    assert sheet._wrapped("") == []
    # and the row is as high as they are
    flat = image[:1]
    one, two = (contact_sheet(flat, (Policy.parse(text),)) for text in ("none", LONG))
    assert two.height == one.height + (len(lines) - 1) * sheet.LINE
