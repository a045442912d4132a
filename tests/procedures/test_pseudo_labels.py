"""Filter, balance and file of pseudo-labels."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import Paint

from fewlabels.pool import Pool
from fewlabels.procedures.pseudo_labels import PseudoLabels, read, select

P = np.array(
    [
        [0.90, 0.05, 0.05],
        [0.80, 0.10, 0.10],
        [0.70, 0.20, 0.10],
        [0.60, 0.30, 0.10],
        [0.20, 0.65, 0.15],
        [0.20, 0.55, 0.25],
        [0.30, 0.32, 0.38],  # 6: not sure enough
    ]
)


def test_what_the_teacher_is_unsure_of_is_left_out() -> None:
    assert select(P, 0.5, even=False).tolist() == [1, 1, 1, 1, 1, 1, 0]
    assert select(P, 0.38, even=False).tolist() == [1] * 7  # as sure as the threshold is sure
    assert select(P, 0.95, even=True).tolist() == [0] * 7


def test_classes_are_learnt_alike_by_hand() -> None:
    """Four of the first class and two of the second: three of each, the surest."""
    assert select(P, 0.5, even=True).tolist() == [1, 1, 1, 0, 2, 1, 0]


@pytest.mark.parametrize("seed", range(5))
def test_an_epoch_shows_every_class_that_is_said_equally_often(seed: int) -> None:
    p = np.random.default_rng(seed).dirichlet([0.2, 0.4, 0.8, 0.01], 200)
    times, label, sure = select(p, 0.4, even=True), p.argmax(1), p.max(1)
    shown = np.bincount(label, times, 4)
    said = np.bincount(label[sure >= 0.4], minlength=4)
    assert set(shown[said > 0]) == {round(said.sum() / (said > 0).sum())}
    assert (times[sure < 0.4] == 0).all()
    for c in np.flatnonzero(said):  # a surer image is never shown less often
        own = times[(label == c) & (sure >= 0.4)]
        order = np.argsort(-sure[(label == c) & (sure >= 0.4)], kind="stable")
        assert (np.diff(own[order]) <= 0).all()


def test_the_order_of_the_images_does_not_matter() -> None:
    p = np.random.default_rng(0).dirichlet([0.3] * 4, 100)
    turn = np.random.default_rng(1).permutation(100)
    assert (select(p[turn], 0.3, True) == select(p, 0.3, True)[turn]).all()


def made(even: bool = True) -> PseudoLabels:
    rows = np.array([3, 4, 7, 8, 9, 12, 15])
    return PseudoLabels(rows, P, select(P, 0.5, even), 0.5, "labels only", 1)


def test_what_is_given_to_training() -> None:
    given = made().given(soft=True)
    assert given.order.tolist() == [3, 4, 7, 9, 9, 12]
    assert given.of(np.array([9, 3])).numpy() == pytest.approx(P[[4, 0]], rel=1e-6)
    hard = made().given(soft=False)
    assert hard.of(np.array([9, 3])).tolist() == [[0, 1, 0], [1, 0, 0]]


def test_classes_are_reported() -> None:
    assert made().by_class(("a", "b", "c")) == [
        {"class": "a", "said": 4, "sure": 4, "learnt": 3, "shown": 3},
        {"class": "b", "said": 2, "sure": 2, "learnt": 2, "shown": 3},
        {"class": "c", "said": 1, "sure": 0, "learnt": 0, "shown": 0},
    ]


def test_the_file_has_a_line_an_image(tmp_path: Path, paint: Paint) -> None:
    for kind, name in enumerate(("a", "b", "c")):
        paint(tmp_path / "train" / name, kind, 3)
    paint(tmp_path / "unlabelled", 0, 7)
    pool = Pool.scan(tmp_path)
    made().write(tmp_path / "p.parquet", pool)
    told = pq.read_table(tmp_path / "p.parquet").to_pydict()
    assert told["image"] == [pool.source.name(row) for row in (3, 4, 7, 8, 9, 12, 15)]
    assert told["label"] == ["a", "a", "a", "a", "b", "b", "c"]
    assert told["confidence"] == P.max(1).tolist()
    assert told["times"] == [1, 1, 1, 0, 2, 1, 0]
    assert (set(told["teacher"]), set(told["round"])) == ({"labels only"}, {1})
    assert (read(tmp_path / "p.parquet") == P).all()
