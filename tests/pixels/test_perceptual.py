import io
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from pictures import scene
from PIL import Image, ImageEnhance
from sklearn.datasets import load_digits

from fewlabels.pixels import perceptual
from fewlabels.pixels.perceptual import blank, clusters, pairs, small

OTHERS = 120


def jpeg(picture: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return Image.open(io.BytesIO(file.getvalue()))


def mirrored(picture: Image.Image) -> Image.Image:
    return picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "jpeg 95": lambda p: jpeg(p, 95),
    "jpeg 30": lambda p: jpeg(p, 30),
    "half": lambda p: p.resize((p.width // 2, p.height // 2)),
    "double": lambda p: p.resize((2 * p.width, 2 * p.height)),
    "cropped": lambda p: p.crop((0, 3, p.width - 3, p.height)),
    "brighter": lambda p: ImageEnhance.Brightness(p).enhance(1.3),
    "flat": lambda p: ImageEnhance.Contrast(p).enhance(0.5),
    "grey": lambda p: p.convert("L"),
    "mirrored": mirrored,
    "mirrored, cropped, jpeg": lambda p: jpeg(mirrored(p).crop((3, 0, p.width, p.height - 3)), 75),
}


def greys(pictures: list[Image.Image]) -> NDArray[np.uint8]:
    return np.stack([small(picture) for picture in pictures])


@pytest.fixture(scope="module")
def others() -> list[Image.Image]:
    return [scene(seed) for seed in range(OTHERS)]


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_found_and_nothing_else(change: str, others: list[Image.Image]) -> None:
    copies = [CHANGES[change](others[row]) for row in (3, 50, 111)]
    found, likeness, _ = pairs(greys([*others, *copies]))
    assert sorted(map(tuple, found.tolist())) == [(3, 120), (50, 121), (111, 122)]
    assert (likeness >= perceptual.DETAILS).all()


def test_a_mirrored_picture_may_be_another(others: list[Image.Image]) -> None:
    both = greys([*others, mirrored(others[0]), jpeg(others[1], 75)])
    assert pairs(both, mirror=False)[0].tolist() == [[1, OTHERS + 1]]


def test_a_negative_is_another_picture(others: list[Image.Image]) -> None:
    grey = greys(others[:40])
    assert len(pairs(np.concatenate([grey, 255 - grey]))[0]) == 0


def test_few_pictures_and_none() -> None:
    assert len(pairs(np.zeros((0, 32, 32), np.uint8))[0]) == 0
    assert len(pairs(greys([scene(0)]))[0]) == 0


def test_pictures_that_show_nothing_are_not_alike() -> None:
    paper = np.asarray(scene(0, 32).convert("L")).astype(np.int64) // 11 + 230  # its faint stains
    white = (paper + np.arange(4).reshape(4, 1, 1)).astype(np.uint8)
    assert blank(white).all()
    assert len(pairs(white)[0]) == 0
    assert not blank(greys([scene(0)])).any()


def test_handwritten_digits_are_look_alikes_and_not_copies() -> None:
    """Two ones in the same hand are as alike as a photograph and its copy of half the size."""
    digits = [Image.fromarray((image * 15).astype(np.uint8)) for image in load_digits().images]
    large = [digit.resize((28, 28), Image.Resampling.BICUBIC) for digit in digits[:900]]
    copies = [jpeg(large[row], 95) for row in range(0, 900, 90)]
    found, *_ = pairs(greys([*large, *copies]), mirror=False)
    right = {(row, 900 + row // 90) for row in range(0, 900, 90)}
    assert right <= set(map(tuple, found.tolist()))
    assert len(found) <= len(right) + 9  # one image in a hundred


def test_a_scene_taken_often_is_one_cluster_without_all_its_pairs() -> None:
    rng = np.random.default_rng(0)
    base = greys([scene(0)]).astype(np.int64)
    often = np.clip(base + rng.integers(-2, 3, (300, 32, 32)), 0, 255).astype(np.uint8)
    found, *_ = pairs(often)
    assert len(set(clusters(300, found).tolist())) == 1
    assert len(found) == 299  # not 44,850


def test_all_pairs_within_the_hash_distance_are_looked_at() -> None:
    """Of more pictures than are compared at a time."""
    rng = np.random.default_rng(1)
    count = 2 * perceptual._TILE + 90
    near = rng.random(count) < 0.02
    near[:90] = near[perceptual._TILE : perceptual._TILE + 90] = True
    hashes = rng.integers(0, 2**64, count, np.uint64)
    flips = [rng.choice(64, rng.integers(0, 40), replace=False) for _ in range(near.sum())]
    hashes[near] = [hashes[0] ^ np.bitwise_or.reduce(perceptual._BIT[f]) for f in flips]
    waves = np.full((count, 64), 0.125, np.float32)  # all alike: the hash alone decides
    found = perceptual._candidates(hashes, waves, 10, 60, False, 0.65)
    apart = np.bitwise_count(hashes[10:60, None] ^ hashes)
    near_rows, others = np.nonzero(apart <= perceptual.BITS)
    wanted = {
        (10 + i, j) for i, j in zip(near_rows.tolist(), others.tolist(), strict=True) if 10 + i < j
    }
    assert {(int(i), int(j)) for i, j, _ in found} == wanted
    assert len(found) == len(wanted) > 1000


def test_clusters_are_what_hangs_together() -> None:
    number = clusters(6, np.array([[0, 4], [4, 2], [1, 5]])).tolist()
    assert number[0] == number[4] == number[2]
    assert number[1] == number[5]
    assert len(set(number)) == 3


def test_faint_pictures_on_white_are_found_though_they_moved() -> None:
    """Their deviation is a fiftieth of their mean."""

    def faint(seed: int, left: int) -> NDArray[np.uint8]:
        grey = np.asarray(scene(seed).convert("L").crop((left, 0, 60 + left, 60)).resize((32, 32)))
        return (235 + 4 * (grey - grey.mean()) / grey.std()).round().astype(np.uint8)

    found = pairs(np.stack([faint(seed, left) for left in (0, 3) for seed in range(20)]))
    assert sorted(map(tuple, found.pairs.tolist())) == [(seed, 20 + seed) for seed in range(20)]


def test_pairs_without_an_anchor_are_not_sought(others: list[Image.Image]) -> None:
    """Whichever of the two is one; anchors are more than are compared in one block."""
    copies = [jpeg(others[row], 75) for row in (3, 50, 111, 112)]
    grey = greys([*others, *copies])
    anchors = np.zeros(len(grey), np.bool_)
    anchors[20:111] = True
    anchors[[OTHERS, OTHERS + 3]] = True
    found = pairs(grey, anchors=anchors).pairs.tolist()
    assert sorted(found) == [[3, OTHERS], [50, OTHERS + 1], [112, OTHERS + 3]]
    among = np.ones(len(grey), np.bool_)
    among[50] = False
    assert sorted(pairs(grey, among, anchors).pairs.tolist()) == [[3, OTHERS], [112, OTHERS + 3]]


def test_where_many_are_alike_fewer_get_a_closer_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Written digits: with fewer looks the same encoded again is still found."""
    digits = [Image.fromarray((image * 15).astype(np.uint8)) for image in load_digits().images]
    large = [digit.resize((28, 28), Image.Resampling.BICUBIC) for digit in digits[:300]]
    grey = greys([*large, *(jpeg(picture, 95) for picture in large[:5])])
    right = {(row, 300 + row) for row in range(5)}
    for looks, alike in ((100_000, 0.65), (300, 0.9)):
        monkeypatch.setattr(perceptual, "LOOKS", looks)
        found = pairs(grey, mirror=False)
        assert found.alike == alike
        assert right <= set(map(tuple, found.pairs.tolist()))
    found = pairs(grey, most=0, mirror=False)
    assert (found.alike, len(found.pairs)) == (None, 0)
