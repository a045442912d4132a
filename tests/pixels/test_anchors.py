import numpy as np
import pytest

from fewlabels.pixels import anchors as module
from fewlabels.pixels.anchors import anchors, closeness
from fewlabels.pixels.perceptual import ALIKE
from fewlabels.pool import Pool
from fewlabels.pool.source import Encoded


def pool(split: list[str], label: list[int]) -> Pool:
    names = tuple(map(str, range(len(split))))
    return Pool(
        "here", Encoded(names, (b"",) * len(split)), ("a",), np.array(label), np.array(split)
    )


def test_what_is_measured_on_is_compared_with_all() -> None:
    chosen, note = anchors(pool(["train", "train", "val", "test", "", ""], [0, -1, -1, 0, 0, -1]))
    assert chosen.tolist() == [True, False, True, True, True, False]
    assert note == ""


def test_few_images_are_all_compared_where_copies_are_asked_for() -> None:
    chosen, note = anchors(pool(["train", ""], [-1, -1]), every=True)
    assert (chosen.tolist(), note) == ([True, True], "")


@pytest.mark.parametrize(
    ("most", "every", "chosen", "left"),
    [
        (5, True, [1, 1, 1, 1, 1], ""),
        (4, True, [1, 1, 1, 0, 0], "of 5 images unlabelled ones were not compared with each other"),
        (3, False, [1, 1, 1, 0, 0], ""),
        (2, False, [0, 0, 1, 0, 0], "those of training were not compared with each other"),
        (2, True, [0, 0, 1, 0, 0], "those of training were not compared with each other"),
        (0, False, [0, 0, 0, 0, 0], "only equal ones are told"),
    ],
)
def test_what_cannot_be_afforded_is_told(
    monkeypatch: pytest.MonkeyPatch, most: int, every: bool, chosen: list[int], left: str
) -> None:
    monkeypatch.setattr(module, "ANCHORS", most)
    given = pool(["train", "train", "test", "train", "train"], [0, 0, 0, -1, -1])
    found, note = anchors(given, every)
    assert found.astype(int).tolist() == chosen
    assert note.endswith(left)
    assert bool(note) == bool(left)


def test_too_many_labels_and_no_test_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANCHORS", 2)
    found, note = anchors(pool(["", "", ""], [0, 0, 0]))
    assert not found.any()
    assert note == "near duplicates: of 3 images only equal ones are told"


def test_a_quicker_look_is_told() -> None:
    assert closeness(ALIKE[0]) == ""
    assert "cropped" in closeness(ALIKE[1])
    assert closeness(ALIKE[2]) == closeness(ALIKE[1])
    assert "only equal ones" in closeness(None)
