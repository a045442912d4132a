"""Snow, frost, fog and spatter against their definitions, by hand or by another way."""

import math

import numpy as np
import pytest
from scenes import TABLES, distance, grey, severities, sides
from scipy.stats import norm

from fewlabels.evaluate.corruptions import (
    corrupt,
    corrupted,
    spatter,
    weather,
)
from fewlabels.evaluate.corruptions.frost import COLOURS, ice


def test_flakes_are_the_noise_over_the_threshold() -> None:
    layer = weather.flakes((200, 300), 0.1, 0.2, 1, 0.5, np.random.default_rng(1))
    share = norm.sf((0.5 - 0.1) / 0.2)
    assert (layer > 0).mean() == pytest.approx(share, abs=4 * math.sqrt(share / 60_000))
    assert layer[layer > 0].min() >= 0.5
    assert layer.max() <= 1


def test_flakes_are_enlarged_linearly() -> None:
    weights = weather._between(10, 3, 28)
    assert weights.sum(1) == pytest.approx(1)
    at = weights @ np.arange(10)  # a ramp stays one: of 30 points from 0 to 9, the middle 28
    assert at == pytest.approx((np.arange(28) + 1) * 9 / 29)
    assert weather._between(12, 1, 12) == pytest.approx(np.eye(12))


def test_snow_by_hand() -> None:
    x = np.full((4, 6, 3), 0.2, np.float32)
    falling = np.zeros((4, 6), np.float32)
    # grey 0.2: 0.7 of it and 0.3 of max(0.2, 1.5 * 0.2 + 0.5)
    assert weather.snowed(x, falling, 0.7) == pytest.approx(0.7 * 0.2 + 0.3 * 0.8)
    falling[0, 1] = 0.25
    white = weather.snowed(x, falling, 1.0)
    assert white[0, 1] == pytest.approx(0.45)
    assert white[3, 4] == pytest.approx(0.45)  # the same, turned by half a circle
    assert white.sum() == pytest.approx(x.sum() + 3 * 2 * 0.25)
    red = weather.snowed(np.array([[[1.0, 0, 0]]], np.float32), np.zeros((1, 1), np.float32), 0.5)
    assert red.ravel() == pytest.approx([1, 0.5 * 0.9485, 0.5 * 0.9485])


@severities
@sides
def test_frost_adds_ice(side: int, severity: int) -> None:
    own, of_ice = TABLES[side]["frost"][severity - 1]
    black = corrupt(grey(side, 0), "frost", severity).astype(float)
    lit = corrupt(grey(side, 50), "frost", severity).astype(float)
    rose = (black > 0) & (lit < 255)
    assert (lit - black)[rose].mean() == pytest.approx(50 * own, abs=0.6)
    means = [of_ice * np.mean(mean) for mean, _ in COLOURS]
    assert min(abs(black.mean() - m) for m in means) < 20 * of_ice


@pytest.mark.parametrize("small", [False, True])
@pytest.mark.parametrize("which", range(5))
def test_ice_has_the_colours_of_the_photographs(which: int, small: bool) -> None:
    picture = 255 * ice(which, small)
    mean, deviation = COLOURS[which]
    assert picture.mean((0, 1)) == pytest.approx(mean, abs=1)
    assert picture.std((0, 1)) == pytest.approx(deviation, abs=1.5)  # white cuts a little off
    others = [ice(other, small) for other in range(5) if other != which]
    assert all(distance(255 * other, picture) > 5 for other in others)


@severities
@sides
def test_fog_lies_between_its_bounds(side: int, severity: int) -> None:
    thickness, _ = TABLES[side]["fog"][severity - 1]
    v = 102 / 255
    foggy = corrupt(grey(side, 102), "fog", severity) / 255
    clear, thick = v * v / (v + thickness), v
    assert foggy.min() >= clear - 0.5 / 255
    assert foggy.max() <= thick + 0.5 / 255
    assert foggy.max() - foggy.min() > 0.6 * (thick - clear)
    assert corrupt(grey(side, 0), "fog", severity).max() == 0


# ---- spatter ----


def test_drops_in_relief() -> None:
    drops = np.zeros((40, 40), np.float32)
    drops[8:30, 8:30] = 0.8
    seen = spatter.thickness(drops)
    assert seen.max() == 1
    assert seen.min() == 0
    assert (seen[drops == 0] == 0).all()
    assert seen[10:14, 10:14].mean() != pytest.approx(seen[24:28, 24:28].mean(), abs=0.05)
    assert (spatter.thickness(np.zeros((9, 9), np.float32)) == 0).all()
    assert np.isfinite(spatter.thickness(np.ones((9, 9), np.float32))).all()


def test_equalising_by_hand() -> None:
    values = np.array([[3.9, 3.0, 7.2, 7.9], [7.0, 7.0, 20.0, 3.2]])
    # three 3s, four 7s and a 20: of the five that follow the first kind, four up to 7
    expected = np.array([[0, 0, 204, 204], [204, 204, 255, 0]])
    assert np.array_equal(spatter._equalised(values), expected)


@severities
@sides
def test_water_brightens_and_mud_covers(side: int, severity: int) -> None:
    image = grey(side, 0)
    result = corrupted(np.stack([image] * 6), "spatter", severity).reshape(-1, 3).astype(float)
    wet = result[result.any(-1)]
    assert 0 < len(wet) < 0.6 * len(result)
    colour = np.array([63, 42, 20] if severity >= 4 else [175, 238, 238])
    strong = wet[wet.max(1) > 0.5 * wet.max()]
    assert abs(strong / strong.max(1, keepdims=True) - colour / colour.max()).max() < 0.03
    if severity >= 4:  # an opacity under 0.8 is none
        assert wet[:, 0].min() >= 0.79 * 63
