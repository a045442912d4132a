"""Stress by cause: what is done to the images, and where accuracy has fallen."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from fewlabels.evaluate.stress import CAUSES, changed, falls_at, stressed

GREY = np.full(3, 128.0)


def photographs(n: int, size: int = 32) -> np.ndarray:
    return np.random.default_rng(0).integers(60, 120, (n, size, size, 3)).astype(np.uint8)


def under(cause: str, level: float, images: np.ndarray, rows: list[int]) -> np.ndarray:
    return changed(images, np.array(rows), CAUSES[cause], level, GREY, 0)


@pytest.mark.parametrize("cause", [name for name, cause in CAUSES.items() if cause.policies])
def test_nothing_changes_at_the_level_of_nothing(cause: str) -> None:
    images = photographs(4)
    same = under(cause, CAUSES[cause].nothing, images, [0, 1, 2, 3])
    assert np.abs(same.astype(int) - images).max() <= 1


@pytest.mark.parametrize("cause", CAUSES)
def test_images_differ_ever_more(cause: str) -> None:
    """A smooth picture, which moves little by little."""
    y, x = np.mgrid[:32, :32] / 31
    picture = 40 + 60 * np.stack([x, y, 1 - x], -1)
    images = np.broadcast_to(picture.astype(np.uint8), (8, 32, 32, 3)).copy()
    levels = (CAUSES[cause].nothing, *CAUSES[cause].levels)
    moved = [
        np.abs(under(cause, level, images, list(range(8))).astype(int) - images).mean()
        for level in levels[1:]
    ]
    assert moved[0] > 0
    assert all(after > before for before, after in pairwise(moved))
    assert levels in (tuple(sorted(levels)), tuple(sorted(levels, reverse=True)))


def test_every_other_image_goes_to_the_other_side() -> None:
    images = np.zeros((2, 33, 33, 3), np.uint8)
    images[:, :16, 16] = 255  # a hand that points up
    left, right = under("viewpoint, turned", 90, images, [0, 1])
    assert (left[16, :15].mean() > 200) != (right[16, :15].mean() > 200)
    assert (left[16, 18:].mean() > 200) != (right[16, 18:].mean() > 200)
    assert (left[16, :15].mean() > 200) == (right[16, 18:].mean() > 200)


def test_the_light_is_multiplied() -> None:
    images = photographs(2)
    darker = under("illumination, darker", 0.4, images, [0, 1])
    assert np.abs(darker - 0.4 * images).max() <= 1


@pytest.mark.parametrize("area", CAUSES["occlusion"].levels)
def test_a_square_of_that_area_is_hidden(area: float) -> None:
    images = photographs(6)
    hidden = under("occlusion", area, images, list(range(6)))
    filled = (hidden == 128).all(-1)
    assert np.abs(filled.mean((1, 2)) - area).max() < 0.03
    assert (filled == (hidden != images).any(-1)).all()
    assert len({tuple(np.argwhere(mask)[0]) for mask in filled}) > 1


@pytest.mark.parametrize("cause", ["viewpoint, tilted", "occlusion", "deformation, bent"])
def test_an_image_changes_alike_in_any_company(cause: str) -> None:
    images, level = photographs(300), CAUSES[cause].levels[1]
    alone = under(cause, level, images, [7])
    among = under(cause, level, images, list(range(300)))
    assert (alone[0] == among[7]).all()
    other = changed(images, np.array([7]), CAUSES[cause], level, GREY, 1)
    assert (other != alone).any()


@pytest.mark.parametrize("cause", CAUSES)
def test_the_page_states_the_levels(cause: str) -> None:
    page = (Path(__file__).parents[2] / "docs" / "robustness.md").read_text(encoding="utf-8")
    levels = " · ".join(f"{level:g}" for level in CAUSES[cause].levels)
    assert f"| {cause} | {levels} | " in page


def test_where_it_falls_is_read_off_a_straight_line() -> None:
    turned = CAUSES["viewpoint, turned"]
    assert falls_at(turned, [0.89, 0.88, 0.80, 0.7, 0.6, 0.5, 0.4, 0.3], 0.9) == pytest.approx(
        10 + 5 * (0.05 - 0.02) / (0.10 - 0.02)
    )
    assert falls_at(turned, [0.8] + [0.1] * 7, 0.9) == pytest.approx(2.5)
    assert falls_at(turned, [0.9] * 8, 0.9) is None
    farther = CAUSES["scale, farther"]
    assert falls_at(farther, [0.9, 0.8, 0.5, 0.4, 0.3, 0.2, 0.1], 0.9) == pytest.approx(0.85)


def test_every_cause_and_level_is_asked_about_all_images() -> None:
    """Told by the brightness of the whole: only light, and what hides it, matter."""
    images = np.zeros((300, 16, 16, 3), np.uint8)
    label = np.arange(300) % 2
    images[:] = (60 + 100 * label)[:, None, None, None]

    def ask(some: np.ndarray) -> np.ndarray:
        return (some.mean((1, 2, 3)) > 110).astype(np.int64)

    found = list(stressed(ask, images, label, 0))
    assert [(name, level) for name, level, _ in found] == [
        (name, level) for name, cause in CAUSES.items() for level in cause.levels
    ]
    right = {(name, level): its for name, level, its in found}
    assert all(len(its) == 300 for its in right.values())
    assert right["illumination, brighter", 1.25].all()
    assert right["illumination, brighter", 2].mean() == 0.5  # all are bright
    assert right["illumination, darker", 0.1].mean() == 0.5
