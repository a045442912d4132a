from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from pictures import scene
from PIL import Image
from sklearn.datasets import load_digits

from fewlabels.pixels import anchors as affordable
from fewlabels.pixels import perceptual
from fewlabels.pixels.cache import Cache
from fewlabels.pool import Pool
from fewlabels.pool.source import Encoded
from fewlabels.procedures.near_duplicates import near_duplicates

SIDE = 48
Squares = NDArray[np.uint8]


def square(seed: int, crop: int = 0, side: int = SIDE) -> Squares:
    """A scene without its leftmost `crop` 64ths."""
    return np.asarray(scene(seed).crop((crop, 0, 64, 64)).resize((side, side)))


def pool_of(label: list[int], split: str = "") -> Pool:
    names = tuple(map(str, range(len(label))))
    return Pool(
        "here",
        Encoded(names, (b"",) * len(label)),
        ("a", "b"),
        np.array(label),
        np.full(len(label), split, "U5"),
    )


def seen(images: Squares, boxes: NDArray[np.int64] | None = None, note: str = "") -> Cache:
    count, side = images.shape[:2]
    whole = np.tile([0, 0, side, side], (count, 1)) if boxes is None else boxes
    return Cache(images, whole, np.ones(count, np.bool_), ("",) * count, ("",) * count, side, note)


def groups(numbers: NDArray[np.int64]) -> list[list[int]]:
    """The rows of each number that several have."""
    found = [np.flatnonzero(numbers == number).tolist() for number in np.unique(numbers)]
    return [group for group in found if len(group) > 1]


def test_squares_of_few_pixels_are_copies_only_where_they_are_equal() -> None:
    images = (load_digits().images * 15).astype(np.uint8)[:300, :, :, None].repeat(3, -1)
    assert len(np.unique(images, axis=0)) == 300
    near = near_duplicates(pool_of([0] * 350), seen(np.concatenate([images, images[:50]])))
    assert groups(near.known) == [[row, 300 + row] for row in range(50)]
    for side, tied in ((8, []), (16, [[0, 1]])):
        brighter = np.stack([square(0, side=side), square(0, side=side) // 2 + 90])
        assert groups(near_duplicates(pool_of([0, 0]), seen(brighter)).known) == tied


def test_the_picture_is_compared_and_not_what_is_around_it() -> None:
    squares = np.full((30, 64, 64, 3), 104, np.uint8)
    boxes = np.tile([0, 16, 64, 32], (30, 1))
    for row in range(28):
        squares[row, 16:48] = np.asarray(scene(row).resize((64, 32)))
    squares[28] = np.asarray(scene(5))  # the same picture, in another shape
    boxes[28] = 0, 0, 64, 64
    squares[29] = squares[7]
    near = near_duplicates(pool_of([0] * 30), seen(squares, boxes))
    assert groups(near.known) == [[5, 28], [7, 29]]
    assert near.notes == ()


def test_copies_of_what_is_measured_on_are_tied_and_no_others() -> None:
    """Labelled or unlabelled, and cropped; but not two unlabelled ones of training."""
    images = np.stack([square(0), square(0, 3), square(1, 3), square(1), square(2), square(2, 3)])
    pool = pool_of([0, -1, -1, -1, -1, -1])
    assert groups(near_duplicates(pool, seen(images)).known) == [[0, 1]]
    split = np.array(["", "", "", "", "", "test"], "U5")
    assert groups(near_duplicates(replace(pool, split=split), seen(images)).known) == [
        [0, 1],
        [4, 5],
    ]


def test_of_equal_squares_it_does_not_matter_which_one_has_the_label() -> None:
    images = np.stack([square(0), square(0), square(0, 3)])
    assert groups(near_duplicates(pool_of([-1, 0, -1]), seen(images)).known) == [[0, 1, 2]]


def test_labels_that_came_later_do_not_change_what_is_drawn() -> None:
    """Four pictures, each like the next one alone; the label of the third links the first and the
    last."""
    images = np.stack([square(0, crop) for crop in (0, 4, 8, 12)])
    own = pool_of([0, -1, -1, 0])
    before = near_duplicates(own, seen(images))
    assert groups(before.known) == [[0, 1], [2, 3]]
    later = replace(own, label=np.array([0, -1, 0, 0]), drawn_by=own.label)
    after = near_duplicates(later, seen(images))
    assert after.drawn.tolist() == before.drawn.tolist()
    assert groups(after.known) == [[0, 1, 2, 3]]


def test_of_images_that_are_not_cached_those_with_a_label_are_read() -> None:
    class Asked:
        def __init__(self, images: Squares) -> None:
            self.images, self.shape, self.rows = images, images.shape, set[int]()

        def __len__(self) -> int:
            return len(self.images)

        def __getitem__(self, row: int) -> Squares:
            self.rows.add(row)
            return self.images[row]

    images = Asked(np.stack([square(0), square(0, 3), square(0, 3), square(1)]))
    near = near_duplicates(
        pool_of([0, 0, -1, 1]), replace(seen(images.images, note="no room"), images=images)
    )
    assert images.rows == {0, 1, 3}
    assert groups(near.known) == [[0, 1]]
    assert near.notes == ("near duplicates: images without a label were not compared",)


def test_more_labels_than_can_be_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(affordable, "ANCHORS", 2)
    images = np.stack([square(0), square(0, 3), square(1)])
    near = near_duplicates(pool_of([0, 0, 1]), seen(images))
    assert groups(near.known) == []
    assert near.notes == ("near duplicates: of 3 images only equal ones are told",)


def test_where_nearly_all_are_alike_only_equal_ones_are_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(perceptual, "LOOKS", 0)
    images = np.stack([square(0), square(0, 1), square(0)])
    near = near_duplicates(pool_of([0, 0, 0]), seen(images))
    assert groups(near.known) == [[0, 2]]
    assert near.notes == (
        "near duplicates: so many images look alike that only equal ones are told",
    )


def test_many_of_a_kind_and_several_labels_are_no_copies_but_equal_ones_are() -> None:
    images = np.stack([square(0, crop % 3) for crop in range(9)] + [square(1), square(1, 2)])
    near = near_duplicates(pool_of([0] * 9 + [0, 1]), seen(images))
    assert groups(near.known) == [[0, 3, 6], [1, 4, 7], [2, 5, 8]]
    equal = near_duplicates(pool_of([0, 1]), seen(np.stack([square(1), square(1)])))
    assert groups(equal.known) == [[0, 1]]
    fewer = near_duplicates(pool_of([0] * 8 + [0, -1]), seen(images[1:]))
    assert groups(fewer.known) == [[*range(8)], [8, 9]]


def test_a_picture_that_cannot_be_read_is_like_no_other() -> None:
    images = np.stack([square(0), square(0)])
    cache = replace(seen(images), readable=np.array([True, False]))
    assert groups(near_duplicates(pool_of([0, 0]), cache).known) == []


def test_the_picture_of_a_mirror_may_be_another() -> None:
    images = np.stack([square(0), np.asarray(Image.fromarray(square(0)[:, ::-1]))])
    assert groups(near_duplicates(pool_of([0, 0]), seen(images)).known) == [[0, 1]]
    other = replace(pool_of([0, 0]), mirror=False)
    assert groups(near_duplicates(other, seen(images)).known) == []
