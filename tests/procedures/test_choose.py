"""The choice among ways to learn, the folds that they are compared in, and the verdict."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Paint

from fewlabels.pixels.cache import fingerprint
from fewlabels.pool import Pool
from fewlabels.procedures import compare
from fewlabels.procedures.compare import Compared, Way, choose, compared, folds_of
from fewlabels.procedures.prepare import Data, prepare
from fewlabels.procedures.stage import Trained
from fewlabels.procedures.verdict import advice, verdict


def decide(**marks: list[int]) -> tuple[str, str]:
    """What is chosen when the ways, the favourite first, are right (1) or wrong (0) on n images."""
    n = len(next(iter(marks.values())))
    said = {}
    for name, its in marks.items():
        first = np.array(its, float)
        said[name] = np.stack([first, 1 - first], 1).reshape(-1, 2)
    return choose(Compared(np.arange(n), said, np.zeros(n, np.int64)), list(marks))


@pytest.mark.parametrize(
    ("favourite", "other", "winner"),
    [
        ([1, 1, 1, 0], [1, 0, 0, 0], "flexmatch"),
        ([1, 0, 1, 1], [1, 1, 1, 1], "flexmatch"),  # one image is chance
        ([0, 0, 0, 0, 1], [1, 1, 1, 1, 1], "flexmatch"),  # p = 1/16
        ([0, 0, 0, 0, 0], [1, 1, 1, 1, 1], "supervised"),  # p = 1/32
        ([1, 1], [1, 1], "flexmatch"),
    ],
)
def test_the_favourite_is_left_only_where_there_is_no_doubt(
    favourite: list[int], other: list[int], winner: str
) -> None:
    chosen, why = decide(flexmatch=favourite, supervised=other)
    assert chosen == winner
    assert f"of {len(other)} labelled images, unseen, flexmatch {sum(favourite)}" in why
    assert f"labels only {sum(other)} right" in why
    assert ("no difference that they can show" in why) == (
        winner == "flexmatch" and sum(favourite) <= sum(other)
    )


def test_without_a_favourite_what_is_right_more_often_is_taken() -> None:
    def even(first: list[int], second: list[int]) -> str:
        said = {"a": np.eye(2)[first], "b": np.eye(2)[second]}
        label = np.ones(len(first), np.int64)
        return choose(Compared(label, said, label), ["a", "b"], compare.EVEN)[0]

    assert even([0, 1, 1], [1, 1, 1]) == "b"
    assert even([1, 0, 0, 1], [0, 1, 1, 1]) == "b"
    assert even([1, 0, 1], [0, 1, 1]) == "a"
    assert even([1] * 95 + [0] * 5, [0] * 4 + [1] * 91 + [1] + [0] * 4) == "a"


def test_of_three_the_one_that_beats_the_best_so_far() -> None:
    zeros, most, every = [0] * 20, [0] * 6 + [1] * 14, [1] * 20
    assert decide(a=zeros, b=most, c=every)[0] == "c"
    assert decide(a=zeros, b=every, c=most)[0] == "b"
    assert decide(a=most, b=zeros, c=most)[0] == "a"


def data_of(root: Path) -> Data:
    pool = Pool.scan(root)
    return prepare(pool, fingerprint(pool.source), 16, 0)


def context_of(root: Path, tmp_path: Path) -> Any:
    from rich.console import Console

    from fewlabels.procedures.config import Config
    from fewlabels.procedures.stage import Context
    from fewlabels.training.events import Events
    from fewlabels.training.folder import RunFolder

    nothing: Any = None
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    ticks = iter(range(1000))
    return Context(
        Config("photos", steps=40),
        *(nothing, data_of(root), nothing, folder, Events(folder, Console(quiet=True)), nothing),
        clock=lambda: float(next(ticks)),
        deadline=100.0,
    )


def test_few_labels_are_cross_validated_and_together_the_folds_judge_all(
    split_folders: Path, tmp_path: Path
) -> None:
    context = context_of(split_folders, tmp_path)
    folds = folds_of(context)
    assert len(folds) == 3
    judged = np.concatenate([fold.judged for fold in folds])
    assert sorted(judged) == sorted(context.data.labelled)
    for fold in folds:
        assert not set(fold.train) & set(fold.judged)


def test_one_label_a_class_cannot_be_compared(tmp_path: Path, paint: Paint) -> None:
    for kind, name in enumerate(("left", "right")):
        paint(tmp_path / "photos" / "train" / name, kind, 1)
        paint(tmp_path / "photos" / "test" / name, kind, 3)
    paint(tmp_path / "photos" / "unlabelled", 0, 8)
    assert folds_of(context_of(tmp_path / "photos", tmp_path)) == ()


def test_a_class_with_one_label_does_not_keep_the_others_from_being_compared(
    split_folders: Path, tmp_path: Path, paint: Paint
) -> None:
    paint(split_folders / "train" / "rare", 2, 1)
    context = context_of(split_folders, tmp_path)
    folds = folds_of(context)
    assert len(folds) == 3
    rare = context.data.pool.classes.index("rare")
    assert all(rare in context.data.pool.label[fold.train] for fold in folds)


def test_labels_that_are_tied_together_cannot_be_compared(
    split_folders: Path, tmp_path: Path
) -> None:
    """Of each class only copies of one image."""
    for name in ("left", "right"):
        files = sorted((split_folders / "train" / name).iterdir())
        for file in files[1:]:
            file.write_bytes(files[0].read_bytes())
    assert folds_of(context_of(split_folders, tmp_path)) == ()


def test_images_of_the_pools_own_judge_what_learns_from_all_labels(
    split_folders: Path, tmp_path: Path, paint: Paint
) -> None:
    for kind, name in enumerate(("left", "right")):
        paint(split_folders / "val" / name, kind, 4)
    context = context_of(split_folders, tmp_path)
    (fold,) = folds_of(context)
    assert fold.train.tolist() == context.data.labelled.tolist()
    assert fold.judged.tolist() == context.data.val.tolist()


def test_with_many_labels_a_part_of_them_judges(
    split_folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare, "MANY", 8)
    context = context_of(split_folders, tmp_path)
    (fold,) = folds_of(context)
    assert fold.judged.tolist() == context.data.held_out.tolist()
    assert sorted([*fold.train, *fold.judged]) == sorted(context.data.labelled)


def test_a_fold_keeps_what_it_is_judged_on_from_training(
    split_folders: Path, tmp_path: Path
) -> None:
    """Also as an unlabelled copy; and no fold knows the test images."""
    before = data_of(split_folders)
    for row in before.labelled:
        name = split_folders / "unlabelled" / f"copy-{row}.png"
        name.write_bytes(before.pool.source.read(int(row)))
    context = context_of(split_folders, tmp_path)
    seen: list[tuple[Any, float]] = []

    def learn(within: Any, until: float) -> Trained:
        seen.append((within, until))
        k = np.eye(2)[within.data.pool.label[within.data.val]]
        return Trained({}, 0, 0.0, 0, k)

    ways = [Way("one", learn), Way("two", learn, 3.0), Way("free", learn, 0.0)]
    found = compared(context, ways, folds_of(context), 90.0)
    assert sorted(found.rows) == sorted(context.data.labelled)
    assert found.right("one").all()
    for within, until in seen:
        data = within.data
        judged = {data.digest[row] for row in data.val}
        for rows in (data.labelled, data.unlabelled):
            assert judged.isdisjoint(data.digest[row] for row in rows)
        assert len(data.unlabelled)
        assert not len(data.test)
        assert until <= 90.0
        assert within.config.steps == 10  # a quarter, where steps are what is limited
    assert [within.folder.path.name for within, _ in seen[::3]] == ["1", "2", "3"]


def test_time_is_shared_by_the_ways_as_they_need_it(split_folders: Path, tmp_path: Path) -> None:
    context = replace(context_of(split_folders, tmp_path), clock=lambda: 10.0)
    until: list[float] = []

    def learn(within: Any, moment: float) -> Trained:
        until.append(moment)
        return Trained({}, 0, 0.0, 0, np.zeros((len(within.data.val), 2)))

    folds = folds_of(context)[:1]
    compared(context, [Way("one", learn), Way("two", learn, 3.0)], folds, 90.0)
    assert until == [10 + 80 / 4, 90.0]


def result(gain: float, low: float, high: float) -> dict[str, Any]:
    difference = {"test": {"difference": gain, "interval": [low, high], "n": 356}}
    return {
        "estimate": "test",
        "method": "fixmatch",
        "difference": difference,
        "baseline": {"steps": 1400, "seconds": 18.2},
        "steps": 900,
        "training_seconds": 61.8,
    }


def test_the_verdict_says_what_the_interval_says() -> None:
    assert verdict(result(0.094, 0.068, 0.121)) == (
        "The unlabelled images helped: +9.4 points, 95 % interval +6.8 to +12.1, "
        "on 356 test images. Labels only trained for 1,400 steps (18 s), fixmatch for 900 (62 s)."
    )
    assert "no difference that 356 test images can show" in verdict(result(0.01, -0.01, 0.03))
    assert "did harm" in verdict(result(-0.05, -0.08, -0.02))


def advised(**more: Any) -> str:
    settings: dict[str, Any] = {
        "estimate": "test",
        "test": {"accuracy": 0.93},
        "steps": 5000,
        "method": "flexmatch",
        "weights": "none",
        "labels": 20,
        "classes": 3,
    }
    recalls = [("cat", 10, 5), ("dog", 10, 10), ("eel", 10, 9)]
    given = {"side": 32, "doubtful": [], "recalls": recalls}
    asked = {name: more.pop(name, value) for name, value in given.items()}
    return advice(settings | more, **asked)


WRONG = {"name": "a.png", "label": "cat", "predicted": "dog"}


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({}, "Label more images, of cat, eel first"),
        ({"test": {"accuracy": 0.995}}, "Use it"),
        ({"steps": 800}, "Give it more time: 800 steps are few"),
        ({"steps": 800, "method": "supervised"}, "Label more images"),
        ({"side": 224}, "Give it pretrained weights"),
        ({"side": 224, "weights": "auto"}, "Label more images"),
        ({"doubtful": [WRONG]}, "Look at the label of a.png: given as cat, it looks like dog."),
        ({"doubtful": [WRONG] * 3}, "a.png and 2 more: given as cat"),
        ({"doubtful": [WRONG], "test": {"accuracy": 0.6}}, "Label more images"),
        ({"estimate": "val", "labels": 3}, "Label more images, at least two a class"),
        ({"estimate": "val"}, "Give it labelled test images"),
    ],
)
def test_the_advice_is_the_thing_with_most_to_gain(more: dict[str, Any], says: str) -> None:
    assert says in advised(**more)
