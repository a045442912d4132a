"""The stages `zoom` and `light`: values by hand, ranges, and what they leave alone."""

import numpy as np
import pytest
from rendering import Bytes, Levels, rendered

from fewlabels.augment import operations as op
from fewlabels.augment.policy import Policy
from fewlabels.augment.sampler import sample


def executed(image: Bytes, code: int, *values: float) -> Levels:
    """The pixels [S, S, 3] of one instruction, not normalised; the fill is 7."""
    return rendered(image, (code, *values), fill=(7.0, 7.0, 7.0))


def test_gain_multiplies_each_channel_and_clips() -> None:
    image = np.full((8, 8, 3), 100, np.uint8)
    pixels = executed(image, op.GAIN, 0.5, 1.0, 3.0)
    assert pixels[4, 4].tolist() == [50, 100, 255]


def test_zooming_out_fills_around_and_zooming_in_crops() -> None:
    image = np.zeros((9, 9, 3), np.uint8)
    image[3:6, 3:6] = 200  # nine pixels in the middle
    smaller, larger = executed(image, op.SCALE, 1 / 3), executed(image, op.SCALE, 3.0)
    assert smaller[4, 4, 0] == 200  # the middle stays
    assert smaller[4, 5, 0] == 0
    assert smaller[4, 6, 0] == 7  # beyond the edge
    assert (larger[1:8, 1:8] == 200).all()


def test_a_factor_of_one_changes_nothing() -> None:
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    assert np.array_equal(executed(image, op.SCALE, 1.0), image)
    assert np.array_equal(executed(image, op.GAIN, 1.0, 1.0, 1.0), image)


def test_what_is_drawn_is_in_range_and_even_on_a_logarithmic_scale() -> None:
    rows = np.arange(4000)
    for name, code in (("zoom", op.SCALE), ("light", op.GAIN)):
        program = sample(Policy.parse(f"{name}(0.2)"), 0, rows * 0, rows, 1, 32, 32)
        assert (program.code == code).all()
        factor = program.operand[:, 0, : 1 if name == "zoom" else 3].astype(np.float64)
        most = 1.25 if name == "zoom" else 1.25**2
        assert factor.min() >= 1 / most - 1e-6
        assert factor.max() <= most + 1e-6
        assert np.log(factor).mean() == pytest.approx(0, abs=0.01)
        assert (factor > 1.2).any()
        assert (factor < 0.85).any()


def test_the_channels_of_light_differ() -> None:
    rows = np.arange(10)
    program = sample(Policy.parse("light"), 0, rows * 0, rows, 1, 32, 32)
    assert all(len(set(gains)) == 3 for gains in program.operand[:, 0, :3].tolist())
