"""Every corruption and severity against the published definition, computed a second, slow way."""

import zlib

import numpy as np
import pytest
from definitions import DEFINITIONS, MOMENTS, expected
from scenes import ALL, TABLES, many, scene, severities, sides

from fewlabels.evaluate.corruptions import corrupt, corrupted
from fewlabels.evaluate.corruptions.parameters import CIFAR, IMAGENET


def test_each_has_a_definition() -> None:
    assert set(DEFINITIONS) | set(MOMENTS) == set(ALL)


@severities
@sides
@pytest.mark.parametrize("name", DEFINITIONS)
def test_as_defined(name: str, side: int, severity: int) -> None:
    """Pixel by pixel, with the same draws; so in mean and deviation."""
    image = scene(side, side) - scene(side, side) // 10  # nothing is white
    rng = np.random.default_rng([3, zlib.crc32(name.encode()), severity, 7])
    defined = DEFINITIONS[name](image / 255, TABLES[side][name][severity - 1], rng)
    theirs = 255 * np.clip(defined, 0, 1)
    ours = corrupt(image, name, severity, seed=3, number=7)
    off = 1.0 if name == "pixelate" else 0.5  # Pillow rounds after each axis, all others at the end
    assert abs(ours - theirs).max() <= off + 0.05
    assert ours.mean() == pytest.approx(theirs.mean(), abs=0.5)
    assert ours.std() == pytest.approx(theirs.std(), abs=0.1)


@severities
@sides
@pytest.mark.parametrize("name", MOMENTS)
def test_noise_has_the_moments_that_its_formula_gives(name: str, side: int, severity: int) -> None:
    images = many(scene(side, side))
    mean, deviation = expected(images[0], name, TABLES[side][name][severity - 1])
    noisy = corrupted(images, name, severity)
    assert noisy.mean() == pytest.approx(mean, abs=0.5)
    assert noisy.std() == pytest.approx(deviation, abs=0.5)


def test_strengths_that_are_published_as_formulas() -> None:
    """Parts of the side, for ImageNet-C of 244 (which its authors note); and ranges of zooms."""
    for table, side, parts in (
        (
            IMAGENET,
            244,
            [(2, 0.7, 0.1), (2, 0.08, 0.2), *((f, 0.01, 0.02) for f in (0.05, 0.07, 0.12))],
        ),
        (
            CIFAR,
            32,
            [
                (0, 0, 0.08),
                (0.05, 0.2, 0.07),
                (0.08, 0.06, 0.06),
                (0.1, 0.04, 0.05),
                (0.1, 0.03, 0.03),
            ],
        ),
    ):
        assert np.array(table["elastic_transform"]) == pytest.approx(side * np.array(parts))
    for table, ends, steps in (
        (IMAGENET, (1.11, 1.16, 1.21, 1.26, 1.31), (0.01, 0.01, 0.02, 0.02, 0.03)),
        (CIFAR, (1.06, 1.11, 1.16, 1.21, 1.26), (0.01,) * 5),
    ):
        for given, end, step in zip(table["zoom_blur"], ends, steps, strict=True):
            assert given == (len(np.arange(1, end, step)), step)
