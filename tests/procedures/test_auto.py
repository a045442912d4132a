"""`auto` as whole runs: its plan, what it compares, what it keeps, how it ends."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from backbones import backbone
from conftest import Paint
from rich.console import Console
from safetensors.torch import load_file

import fewlabels as fl
from fewlabels.procedures import auto, compare
from fewlabels.procedures.stage import Context

QUICK: dict[str, Any] = {
    "steps": 8,
    "batch_size": 4,
    "img_size": 16,
    "model": "cnn_small",
    "device": "cpu",
    "flip": "off",
    "rotate": "off",
    "guard": "off",
}


def weights(run: fl.Run) -> dict[str, torch.Tensor]:
    return load_file(run.path / "artefact" / "weights.safetensors")


def same(one: fl.Run, two: fl.Run) -> bool:
    a, b = weights(one), weights(two)
    return a.keys() == b.keys() and all(torch.equal(value, b[name]) for name, value in a.items())


def test_the_plan_is_told_then_labels_only_then_what_is_compared(
    split_folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = fl.train(split_folders, out=tmp_path / "run", console=Console(width=300), **QUICK)
    told = capsys.readouterr().out
    plan = told.index("plan: labels only first; then flexmatch, unless labels only is better")
    assert plan < told.index("the 12 test images are looked at once, at the end")
    assert plan < told.index("compares flexmatch and labels only in 3 folds")
    candidates = run.result["choice"]["candidates"]
    assert [one["method"] for one in candidates] == ["flexmatch", "supervised"]
    assert [one["val"]["n"] for one in candidates] == [8, 8]
    assert run.result["choice"]["how"] == "auto"
    assert run.result["next"]
    assert (run.path / "folds" / "3" / "stages" / "flexmatch").is_dir()


@pytest.mark.parametrize("winner", ["flexmatch", "supervised"])
def test_the_winner_learns_from_all_labels(
    split_folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, winner: str
) -> None:
    monkeypatch.setattr(auto, "choose", lambda found, order, doubt: (winner, "so it is"))
    run = fl.train(split_folders, out=tmp_path / "run", **QUICK)
    assert run.result["method"] == winner
    assert ("baseline" in run.result) == (winner == "flexmatch")
    last = "flexmatch" if winner == "flexmatch" else "labels-only-longer"
    assert (run.path / "stages" / last).is_dir()
    assert run.result["choice"]["why"] == "so it is"
    if winner == "supervised":
        assert "did not help" in run.result["verdict"]
        assert run.result["steps"] == 16  # as long again


def test_a_run_that_was_cut_off_in_a_fold_ends_as_if_it_had_not_been(
    split_folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = fl.train(split_folders, out=tmp_path / "whole", **QUICK)
    learn = auto.learn

    def cut(context: Context, stage: Any, *more: Any) -> Any:
        if context.folder.path.name == "2" and stage.name == "flexmatch":
            raise KeyboardInterrupt
        return learn(context, stage, *more)

    monkeypatch.setattr(auto, "learn", cut)
    with pytest.raises(KeyboardInterrupt):
        fl.train(split_folders, out=tmp_path / "run", **QUICK)
    assert fl.load(tmp_path / "run").classes == ("left", "right")  # labels only, the best so far
    monkeypatch.undo()
    done = fl.resume(tmp_path / "run")
    assert same(done, whole)
    assert done.result["choice"] == whole.result["choice"]


def test_what_was_decided_by_the_time_there_was_holds_when_no_time_is_left(
    split_folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = fl.train(split_folders, out=tmp_path / "whole", **QUICK)
    learn = auto.learn

    def cut(context: Context, stage: Any, *more: Any) -> Any:
        trained = learn(context, stage, *more)
        if context.folder.path.name == "1":
            raise KeyboardInterrupt
        return trained

    monkeypatch.setattr(auto, "learn", cut)
    with pytest.raises(KeyboardInterrupt):
        fl.train(split_folders, out=tmp_path / "run", **QUICK)
    monkeypatch.undo()
    monkeypatch.setattr(auto, "too_short", lambda *_: "there is time for 0 steps only")
    monkeypatch.setattr(auto, "unfit", lambda *_: "there is no time to compare")
    done = fl.resume(tmp_path / "run")
    assert done.result["choice"] == whole.result["choice"]
    assert same(done, whole)


@pytest.mark.parametrize(
    ("unlabelled", "left", "told"),
    [
        (1000, 100.0, ""),
        (5000, 100.0, "there is no time for the features of 5,000 images"),
        (5000, None, ""),
        (30000, None, "30,000 images are too many to compare each with each"),
    ],
)
def test_label_spreading_fits_where_there_is_time_for_features(
    unlabelled: int, left: float | None, told: str
) -> None:
    """200 images a second are learnt, and twice as many looked at, in a tenth of the time."""
    begun = begun_at(1000, 5.0, 0.0, unlabelled=unlabelled)
    begun.context.deadline = left
    assert auto.too_short(begun, candidate("label_spreading", 0, 0)) == told


def test_where_time_is_too_short_to_compare_the_favourite_is_taken(
    split_folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auto, "unfit", lambda *_: "to compare would take 90 s")
    run = fl.train(split_folders, out=tmp_path / "run", **QUICK)
    assert run.result["method"] == "flexmatch"
    assert run.result["choice"]["why"].startswith("flexmatch: to compare would take 90 s, and it")
    assert not (run.path / "folds").exists()


def begun_at(
    images: int,
    seconds: float,
    left: float,
    labels: int = 20,
    unlabelled: int = 100,
    right: int = 0,
    of: int = 0,
    **config: Any,
) -> Any:
    """Labels only has passed so many images in so many seconds, and there is so much time left; it
    has so many unseen ones right."""
    own = SimpleNamespace(**{"weights": "none", "batch": 16, **config})
    data = SimpleNamespace(
        labelled=np.arange(labels),
        unlabelled=np.arange(unlabelled),
        pool=SimpleNamespace(label=np.zeros(of, int)),
    )
    context = SimpleNamespace(
        deadline=left, clock=lambda: 0.0, data=data, config=own, val_rows=np.arange(of)
    )
    judged = SimpleNamespace(val=np.eye(2)[(np.arange(of) >= right).astype(int)])
    return SimpleNamespace(context=context, rate=images / seconds, judged=judged)


def candidate(name: str, images: int, least: int = 100) -> Any:
    nothing: Any = None
    return auto.Candidate(compare.Way(name, nothing), nothing, images, least)


@pytest.mark.parametrize(("seconds", "fits"), [(1000.0, False), (4000.0, True)])
def test_whether_the_time_is_enough_is_told_by_the_speed_of_labels_only(
    seconds: float, fits: bool
) -> None:
    """A quarter of the time, six trainings, 200 images a second: of 100 images a step."""
    found = [candidate("flexmatch", 100), candidate("supervised", 0)]
    folds: Any = (None, None, None)
    said = auto.unfit(begun_at(1000, 5.0, seconds), found, folds)
    assert (said == "") == fits
    assert fits or said == "there is no time to compare (83 steps each, in 3 folds)"
    assert "one label a class" in auto.unfit(begun_at(1000, 5.0, seconds), found, ())


def test_what_would_make_a_few_steps_only_does_not_fit() -> None:
    begun = begun_at(1000, 5.0, 40.0)
    told = "there is time for 80 steps only"
    assert auto.too_short(begun, candidate("flexmatch", 100)) == told
    assert auto.too_short(begun, candidate("flexmatch", 50)) == ""
    assert auto.too_short(begun, candidate("flexmatch", 50, 200)) == (
        "there is time for 160 steps only"
    )
    assert auto.too_short(begun, candidate("supervised", 100, 0)) == ""


@pytest.mark.parametrize(("labels", "seen"), [(320, ""), (640, "25 times")])
def test_many_labels_are_learnt_before_images_without(labels: int, seen: str) -> None:
    """1,000 steps of 16 labels: by random weights, 40 times each at least."""
    told = auto.too_short(begun_at(1000, 5.0, 500.0, labels), candidate("flexmatch", 100))
    assert told == (seen and f"there is time to see each of {labels} labels {seen} only")
    tuned = begun_at(1000, 5.0, 500.0, labels, weights="some")
    assert auto.too_short(tuned, candidate("flexmatch", 100)) == ""


@pytest.mark.parametrize(
    ("right", "of", "steps", "teaches"),
    [(25, 50, 4000, False), (25, 50, 11000, True), (40, 50, 4000, True), (4, 10, 4000, True)],
)
def test_a_poor_teacher_needs_more_steps(right: int, of: int, steps: int, teaches: bool) -> None:
    """Ten images are not enough to say that it is one."""
    begun = begun_at(1000, 5.0, steps / 2, right=right, of=of)
    told = auto.too_short(begun, candidate("flexmatch", 100))
    why = (
        f"labels only has {right} of {of} unseen images right, and there is time for {steps} steps"
    )
    assert told == ("" if teaches else f"{why} only")
    tuned = begun_at(1000, 5.0, steps / 2, right=right, of=of, weights="some")
    assert auto.too_short(tuned, candidate("flexmatch", 100)) == ""


def test_without_unlabelled_images_labels_only_has_all_the_time(
    tmp_path: Path, paint: Paint
) -> None:
    for kind, name in enumerate(("left", "right")):
        paint(tmp_path / "photos" / "train" / name, kind, 6)
        paint(tmp_path / "photos" / "test" / name, kind, 3)
    run = fl.train(tmp_path / "photos", out=tmp_path / "run", **QUICK)
    assert (run.result["method"], run.result["steps"]) == ("supervised", 16)
    assert run.result["verdict"] == "Labels only: no unlabelled images were learnt from."


@pytest.mark.parametrize("winner", ["freematch", "label_spreading", "supervised"])
def test_what_is_shipped_is_what_was_measured(
    split_folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, winner: str
) -> None:
    monkeypatch.setattr(auto, "choose", lambda found, order, doubt: (winner, "so it is"))
    own = QUICK | {"model": backbone(tmp_path / "model"), "img_size": 32}
    run = fl.train(split_folders, out=tmp_path / "run", **own)
    table = pq.read_table(run.path / "predictions.parquet").to_pydict()
    rows = [i for i, split in enumerate(table["split"]) if split == "test"]
    pictures = [split_folders / table["name"][i] for i in rows]
    said = [one.probabilities for one in fl.load(run).predict(pictures)]
    np.testing.assert_allclose(said, [table["probabilities"][i] for i in rows], atol=1e-5)


def test_without_test_images_the_estimate_is_of_models_that_had_not_seen_the_labels(
    split_folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Label spreading has no trial: the folds tell how good it is."""
    import shutil

    shutil.rmtree(split_folders / "test")
    monkeypatch.setattr(auto, "choose", lambda found, order, doubt: ("label_spreading", "so it is"))
    own = QUICK | {"model": backbone(tmp_path / "model"), "img_size": 32}
    run = fl.train(split_folders, out=tmp_path / "run", **own)
    by_name = {one["method"]: one["val"] for one in run.result["choice"]["candidates"]}
    score = {name: run.result["val"][name] for name in ("accuracy", "interval", "n")}
    assert (run.result["estimate"], score) == ("val", by_name["label_spreading"])
    assert score["n"] == 8
    table = pq.read_table(run.path / "predictions.parquet").to_pydict()
    assert len(table["name"]) == 8


def test_where_there_is_much_time_a_larger_student_is_a_way(
    split_folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def found(context: Context) -> list[auto.Candidate]:
        return [auto._method(context, "flexmatch"), auto._larger(context)]

    monkeypatch.setattr(auto, "candidates", found)
    monkeypatch.setattr(auto, "choose", lambda found, order, doubt: ("self_train", "so it is"))
    monkeypatch.setattr(auto, "lacking", lambda student, teacher, rows: "")  # 8 steps teach little
    run = fl.train(split_folders, out=tmp_path / "run", **QUICK)
    assert (run.result["method"], run.result["choice"]["how"]) == ("self_train", "auto")
    assert run.result["steps"] == 12  # half of a run, and a student's whole
    # in a fold its teacher has its own half of the time, beside the favourite
    assert (run.path / "folds" / "1" / "stages" / "flexmatch-teacher").is_dir()
    (student,) = run.result["runs"]
    assert (student["folder"], student["model"]) == ("rounds/1", "cnn_small(depth=1.2,width=1.1)")
    assert student["test"] == run.result["test"]
    told = pq.read_table(run.path / "rounds" / "1" / "pseudo_labels.parquet").to_pydict()
    assert set(told["teacher"]) == {"flexmatch"}
    pictures = sorted((split_folders / "test").rglob("*.png"))
    table = pq.read_table(run.path / "predictions.parquet").to_pydict()
    by_name = dict(zip(table["name"], table["probabilities"], strict=True))
    said = [one.probabilities for one in fl.load(run).predict(pictures)]
    told = [by_name[path.relative_to(split_folders).as_posix()] for path in pictures]
    np.testing.assert_allclose(said, told, atol=1e-5)


def test_one_label_a_class_cannot_be_compared_and_is_learnt_from(
    split_folders: Path, tmp_path: Path
) -> None:
    run = fl.train(split_folders, out=tmp_path / "run", labels_per_class=1, **QUICK)
    assert run.result["method"] == "flexmatch"
    assert "one label a class" in run.result["choice"]["why"]


def test_folds_are_the_same_for_all_ways(
    split_folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, list[list[int]]] = {}
    learn = auto.learn

    def watched(context: Context, stage: Any, *more: Any) -> Any:
        if context.folder.path.parent.name == "folds":
            seen.setdefault(stage.name, []).append(context.learnt_from(stage).tolist())
        return learn(context, stage, *more)

    monkeypatch.setattr(auto, "learn", watched)
    fl.train(split_folders, out=tmp_path / "run", **QUICK)
    assert seen["flexmatch"] == seen["labels only"]
    assert len(seen["flexmatch"]) == compare.FOLDS


def test_a_time_that_is_too_short_still_gives_a_model(split_folders: Path, tmp_path: Path) -> None:
    own = {name: value for name, value in QUICK.items() if name != "steps"}
    run = fl.train(split_folders, out=tmp_path / "run", time_limit="0.1s", **own)
    assert run.result["test"]["n"] == 12
    assert "--time-limit 0.1s is too short: " in (run.path / "train.log").read_text()
    assert fl.load(run).predict([split_folders / "test" / "left" / "left-0-0.png"])[0].label
