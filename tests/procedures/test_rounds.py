"""Self-training and Noisy Student as whole runs: rounds, folders, the end, going on."""

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from conftest import Paint
from safetensors.torch import load_file

import fewlabels as fl
from fewlabels.errors import UserError
from fewlabels.methods import resolve
from fewlabels.models import catalog
from fewlabels.models.regularise import DropBranch, DropFeatures
from fewlabels.procedures import labels_only, self_train

QUICK: dict[str, Any] = {
    "steps": 6,
    "batch_size": 4,
    "img_size": 16,
    "model": "cnn_small",
    "device": "cpu",
    "flip": "off",
    "rotate": "off",
    "guard": "off",
}


@pytest.fixture(autouse=True)
def none_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six steps are not enough to learn eight labels."""
    monkeypatch.setattr(self_train, "LEARNT", 0.0)


def trained(pool: Path, out: Path, **settings: Any) -> fl.Run:
    return fl.train(
        pool, out=out, **({"method": "noisy_student"} | QUICK), settings={"rounds": 2} | settings
    )


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "artefact" / "weights.safetensors")


def same(one: Path, two: Path) -> bool:
    a, b = weights(one), weights(two)
    return a.keys() == b.keys() and all(torch.equal(value, b[name]) for name, value in a.items())


def pseudo_labels(run: Path, place: str) -> dict[str, list[Any]]:
    told: dict[str, list[Any]] = pq.read_table(
        run / "rounds" / place / "pseudo_labels.parquet"
    ).to_pydict()
    return told


def test_each_round_is_a_run_and_the_last_is_what_is_kept(
    split_folders: Path, tmp_path: Path
) -> None:
    run = trained(split_folders, tmp_path / "run")
    first, second = run.result["runs"]
    assert (run.result["method"], run.result["steps"]) == ("noisy_student", 12)
    assert [r["folder"] for r in (first, second)] == ["rounds/1", "rounds/2"]
    assert [r["teacher"] for r in (first, second)] == ["labels only", "round 1"]
    assert [r["round"] for r in (first, second)] == [1, 2]
    assert run.result["test"] == second["test"]
    assert "baseline" in run.result
    assert same(run.path, run.path / "rounds" / "2")
    assert not same(run.path, run.path / "rounds" / "1")
    for place, teacher in (("1", "labels only"), ("2", "round 1")):
        told, folder = pseudo_labels(run.path, place), run.path / "rounds" / place
        assert (set(told["teacher"]), set(told["round"])) == ({teacher}, {int(place)})
        assert len(told["image"]) == run.result["unlabelled"]
        assert (folder / "report.html").exists()
        own = json.loads((folder / "result.json").read_text())
        assert own["test"] == run.result["runs"][int(place) - 1]["test"]
        by_class = {row["class"]: row for row in own["pseudo_labels"]}
        said = Counter(told["label"])
        assert {name: row["said"] for name, row in by_class.items() if row["said"]} == said


def test_a_teacher_sees_the_images_as_they_are_without_noise(
    split_folders: Path, tmp_path: Path
) -> None:
    """What round 2 learns is to the bit what the model of round 1 predicts."""
    run = trained(split_folders, tmp_path / "run")
    told = pseudo_labels(run.path, "2")
    teacher = fl.load(run.path / "rounds" / "1")
    said = teacher.predict([split_folders / name for name in told["image"]])
    assert [list(one.probabilities) for one in said] == told["probabilities"]


def test_a_run_that_was_cut_off_in_a_round_ends_as_if_it_had_not_been(
    split_folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trained(split_folders, tmp_path / "whole")
    learn = self_train.learn

    def cut(context: Any, stage: Any, *more: Any) -> Any:
        if stage.name == "round 2":
            raise KeyboardInterrupt
        return learn(context, stage, *more)

    with monkeypatch.context() as patch:
        patch.setattr(self_train, "learn", cut)
        with pytest.raises(KeyboardInterrupt):
            trained(split_folders, tmp_path / "run")
    assert fl.load(tmp_path / "run").classes == ("left", "right")  # the best so far
    with pytest.raises(UserError, match=r"is a part of .*run.*: resume that"):
        fl.resume(tmp_path / "run" / "rounds" / "1")
    done = fl.resume(tmp_path / "run")
    assert same(done.path, whole.path)
    assert done.result["test"] == whole.result["test"]
    assert pseudo_labels(done.path, "2") == pseudo_labels(whole.path, "2")


@pytest.mark.parametrize(
    ("right", "ran", "kept"),
    [((3, 4, 5), 3, "3"), ((3, 2, 5), 2, "1"), ((3, 3, 5), 2, "2"), ((0, 1, 1), 3, "3")],
)
def test_rounds_end_when_one_does_not_help_on_validation(
    split_folders: Path,
    tmp_path: Path,
    paint: Paint,
    monkeypatch: pytest.MonkeyPatch,
    right: tuple[int, ...],
    ran: int,
    kept: str,
) -> None:
    for kind, name in enumerate(("left", "right")):
        paint(split_folders / "val" / name, kind, 4)
    of = {f"round {number}": count for number, count in enumerate(right, 1)} | {"labels only": 9}
    monkeypatch.setattr(self_train.Learnt, "right", property(lambda learnt: of[learnt.name]))
    run = trained(split_folders, tmp_path / "run", rounds=3)
    assert len(run.result["runs"]) == ran
    assert same(run.path, run.path / "rounds" / kept)
    said = "all 3 rounds were run" if kept == "3" and right[1] < right[2] else "did not help"
    assert said in run.result["choice"]["why"]
    assert run.result["val"]["n"] == 8


def test_without_test_images_held_out_labels_judge_and_a_last_round_learns_from_all(
    split_folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(split_folders / "test")
    seen: dict[str, list[int]] = {}
    run_stage = labels_only.run_stage

    def watched(context: Any, stage: Any, *more: Any) -> Any:
        seen[stage.name] = context.learnt_from(stage).tolist()
        return run_stage(context, stage, *more)

    monkeypatch.setattr(labels_only, "run_stage", watched)
    run = trained(split_folders, tmp_path / "run", rounds=1)
    assert [r["folder"] for r in run.result["runs"]] == ["rounds/1", "rounds/last"]
    assert len(seen["round 1"]) == len(seen["labels only trial"]) == 6
    assert len(seen["last round"]) == 8
    assert same(run.path, run.path / "rounds" / "last")
    assert (run.result["estimate"], run.result["val"]["n"]) == ("val", 2)
    assert run.result["val"] == run.result["runs"][0]["val"]
    assert "val" not in run.result["runs"][1]  # it has learnt from these labels
    assert run.result["runs"][1]["teacher"] == "round 1"


def test_a_teacher_that_is_sure_of_nothing_leaves_labels_only(
    split_folders: Path, tmp_path: Path
) -> None:
    run = trained(split_folders, tmp_path / "run", threshold=1.0)
    assert run.result["method"] == "supervised"
    assert run.result["choice"]["why"] == "round 1 was left out"
    assert "round 1: no pseudo-label is as sure as 1" in (run.path / "train.log").read_text()
    assert "runs" not in run.result


def test_students_may_be_named_or_grow(split_folders: Path, tmp_path: Path) -> None:
    chain = trained(split_folders, tmp_path / "chain", models="cnn_small(width=1.5)")
    assert [r["model"] for r in chain.result["runs"]] == ["cnn_small(width=1.5)"] * 2
    assert chain.result["model"] == "cnn_small(width=1.5)"
    assert len(weights(chain.path)["head.weight"][0]) == 4 * 32  # 24 becomes 32
    grown = trained(split_folders, tmp_path / "grown", grow=2.0)
    told = [(r["model"], r["img_size"]) for r in grown.result["runs"]]
    assert told == [
        ("cnn_small(depth=1.44,width=1.21)", 22),
        ("cnn_small(depth=2.074,width=1.464)", 28),
    ]
    assert grown.result["img_size"] == 28
    picture = split_folders / "test" / "left" / "left-0-0.png"
    assert fl.load(grown).predict([picture])[0].label in ("left", "right")


def test_model_auto_grows() -> None:
    from fewlabels.procedures.config import Config

    def settings(**given: Any) -> dict[str, Any]:
        config = Config("photos", method="noisy_student", **given)
        return config.resolved("photos", "cnn_small", 32, tuned=False, mirror=True).settings

    assert settings() == {"grow": 1.0}
    assert settings(settings={"grow": 0.5}) == {"grow": 0.5}
    assert settings(settings={"models": "resnet20"}) == {"models": "resnet20"}
    assert settings(model="cnn_small") == {}


def noised(name: str, method: str = "noisy_student") -> tuple[list[Any], list[str]]:
    from types import SimpleNamespace

    built, said = catalog.build(name, 4), []
    within: Any = SimpleNamespace(
        start=built,
        config=SimpleNamespace(model=name, img_size=32),
        events=SimpleNamespace(say=said.append),
    )
    self_train.noise(within, resolve(method, {}))
    hooks = [
        hook
        for module in built.model.modules()
        for hook in (*module._forward_pre_hooks.values(), *module._forward_hooks.values())
    ]
    return hooks, said


def test_a_student_is_noised_and_a_plain_one_is_not() -> None:
    hooks, said = noised("cnn_small")
    assert [hook.p for hook in hooks if isinstance(hook, DropFeatures)] == [0.5]
    drops = [hook.p for hook in hooks if isinstance(hook, DropBranch)]
    assert drops
    assert max(drops) == pytest.approx(0.2)
    assert said == []
    assert noised("cnn_small", "self_train") == ([], [])


def test_a_student_without_branches_does_without_stochastic_depth() -> None:
    hooks, said = noised("lenet5")
    assert [hook.p for hook in hooks] == [0.5]
    assert said == ["lenet5 has no residual branches: without stochastic depth"]


def test_the_first_student_is_no_copy_of_its_teacher(split_folders: Path, tmp_path: Path) -> None:
    """It begins anew, from other random weights, and so does each of them."""
    run = trained(split_folders, tmp_path / "run", weight=0.0)
    filters = [weights(run.path / "rounds" / place)["stem.1.0.weight"] for place in ("1", "2")]
    assert np.abs((filters[0] - filters[1]).numpy()).max() > 0.05


def test_a_student_that_could_not_make_a_step_is_not_kept(
    split_folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learn = self_train.learn

    def late(*more: Any) -> Any:
        return replace(learn(*more), steps=0)

    monkeypatch.setattr(self_train, "learn", late)
    run = trained(split_folders, tmp_path / "run")
    assert run.result["choice"]["why"] == "round 1 was left out"
    assert run.result["method"] == "supervised"
    assert "round 1: the time was not enough for a step" in (run.path / "train.log").read_text()


def test_a_teacher_looks_at_as_many_images_as_there_is_time_for() -> None:
    from types import SimpleNamespace

    now, asked = [0.0], []

    def probabilities(_: Any, rows: Any) -> Any:
        asked.append(len(rows))
        now[0] += 0.01 * len(rows)
        return np.eye(2)[rows % 2]

    context: Any = SimpleNamespace(
        model=lambda _: None,
        probabilities=probabilities,
        clock=lambda: now[0],
        config=SimpleNamespace(time_limit=60.0),
    )
    nothing: Any = SimpleNamespace(weights={})
    teacher = self_train.Learnt("labels only", context, nothing)
    order = np.random.default_rng(0).permutation(1000)
    rows, p = self_train.label(teacher, order, 2.0)
    assert rows.tolist() == sorted(order[:200].tolist())
    assert len(p) == 200
    assert asked == [64, 64, 200]
    context.config.time_limit = None
    assert len(self_train.label(teacher, order, -1.0)[0]) == 1000


@pytest.mark.parametrize(
    ("model", "settings", "says"),
    [
        ("cnn_small", {"models": "cnn_smal"}, "no model is named 'cnn_smal'"),
        ("resnet20", {"grow": 1.0}, "grow has no effect with --model resnet20: cnn_small and"),
    ],
)
def test_students_that_cannot_be_built_are_told_before_training(
    split_folders: Path, tmp_path: Path, model: str, settings: dict[str, Any], says: str
) -> None:
    own = QUICK | {"method": "noisy_student", "model": model}
    with pytest.raises(UserError, match=says):
        fl.train(split_folders, out=tmp_path / "run", settings=settings, **own)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("recognised", "kept"),
    # labels only, the students of three rounds, of 8 labelled images
    [((8, 8, 7, 8), ["rounds/1"]), ((8, 7, 8, 8), []), ((7, 8, 8, 8), ["rounds/1", "2", "3"])],
)
def test_a_student_that_has_not_learnt_its_labels_is_left_out(
    split_folders: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    recognised: tuple[int, ...],
    kept: list[str],
) -> None:
    names = ("labels only", "round 1", "round 2", "round 3")
    told = dict(zip(names, recognised, strict=True))

    def counted(learnt: self_train.Learnt, rows: Any) -> int:
        assert len(rows) == 8
        return told[learnt.name]

    monkeypatch.setattr(self_train.Learnt, "recognises", counted)
    monkeypatch.setattr(self_train, "LEARNT", 0.9)
    run = trained(split_folders, tmp_path / "run", rounds=3)
    folders = [each["folder"] for each in run.result.get("runs", [])]
    assert [folder.removeprefix("rounds/") for folder in folders] == [
        name.removeprefix("rounds/") for name in kept
    ]
    assert run.result["method"] == ("noisy_student" if kept else "supervised")
    log = (run.path / "train.log").read_text()
    left_out = len(kept) < 3
    assert ("7 of the 8 labelled images that it was shown" in log) == left_out
    assert ("was left out" in run.result["choice"]["why"]) == left_out
    if kept:
        assert same(run.path, run.path / folders[-1])


def test_what_a_model_recognises(split_folders: Path, tmp_path: Path) -> None:
    label = np.array([0, 1, 1, -1])
    said = np.eye(2)[[0, 1, 0]]
    context: Any = SimpleNamespace(
        data=SimpleNamespace(pool=SimpleNamespace(label=label)),
        model=lambda weights: weights,
        probabilities=lambda model, rows: said[rows],
    )
    nothing: Any = SimpleNamespace(weights={})
    assert self_train.Learnt("a", context, nothing).recognises(np.array([0, 1, 2])) == 2


@pytest.mark.parametrize(
    ("learns", "untils", "kept"),
    [
        ([True, True, True], [40.0, 70.0, 100.0], "round 3"),
        ([False, True], [40.0, 100.0], "round 2"),  # the second has the time of two
        ([True, False, True], [40.0, 70.0, 100.0], "round 3"),
        ([False, False], [40.0, 100.0], "labels only"),
    ],
)
def test_after_a_student_that_learnt_too_little_the_next_has_all_the_time(
    learns: list[bool], untils: list[float], kept: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[float] = []

    def student(*given: Any) -> Any:
        said.append(given[-1])
        return SimpleNamespace(name=given[2], context=None, trained=None, right=0, pseudo=None)

    monkeypatch.setattr(self_train, "next_round", student)
    lacks = {f"round {i}": "" if learnt else "much" for i, learnt in enumerate(learns, 1)}
    monkeypatch.setattr(self_train, "lacking", lambda learnt, *_: lacks[learnt.name])
    monkeypatch.setattr(self_train, "keep", lambda *_: None)
    monkeypatch.setattr(self_train, "chosen", lambda begun, done, best, *_: best.name)
    empty = np.zeros(0, np.int64)
    context: Any = SimpleNamespace(
        own_settings=resolve("noisy_student", {}),
        config=SimpleNamespace(method="noisy_student", time_limit=100.0),
        data=SimpleNamespace(
            unlabelled=np.arange(3), held_out=empty, val=empty, test=empty, labelled=np.arange(2)
        ),
        moment=lambda part: round(100 * part, 6),
        folder=None,
        events=SimpleNamespace(say=lambda _: None),
    )
    begun: Any = SimpleNamespace(context=context, finish=lambda *_: "labels only")
    teacher: Any = SimpleNamespace(name="labels only", pseudo=None, right=0)
    assert self_train.rounds(begun, 0.1, teacher) == kept
    assert said == untils
