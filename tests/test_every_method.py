"""Every method through the whole of a run: on a pool, beside labels only, resumed, with errors."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import fewlabels as fl
from fewlabels.errors import UserError
from fewlabels.methods import METHODS
from fewlabels.procedures import self_train
from fewlabels.procedures.config import ROUNDS

QUICK = {"steps": 6, "batch_size": 4, "img_size": 16, "model": "cnn_small", "device": "cpu"}


@pytest.fixture(autouse=True)
def none_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six steps are not enough for a student to learn eight labels."""
    monkeypatch.setattr(self_train, "LEARNT", 0.0)


@pytest.mark.parametrize("name", METHODS)
def test_a_run_ends_with_a_classifier(split_folders: Path, tmp_path: Path, name: str) -> None:
    run = fl.train(split_folders, out=tmp_path / "run", method=name, **QUICK)
    assert run.result["method"] == name
    assert run.result["steps"] == (3 * 6 if name in ROUNDS else 6)
    assert 0 <= run.result["test"]["balanced_accuracy"] <= 1
    assert ("baseline" in run.result) == (name != "supervised")
    labels = fl.load(run).predict([split_folders / "test" / "left" / "left-0-0.png"])
    assert labels[0].label in ("left", "right")


@pytest.mark.parametrize("name", [name for name in METHODS if name != "supervised"])
def test_a_pool_without_unlabelled_images_is_told(tmp_path: Path, name: str) -> None:
    from conftest import picture

    for kind, label in enumerate(("left", "right")):
        for split in ("train", "test"):
            (tmp_path / "photos" / split / label).mkdir(parents=True)
            for i in range(4):
                file = tmp_path / "photos" / split / label / f"{i}.png"
                picture(kind, i + 10 * (split == "test")).save(file)
    with pytest.raises(UserError, match=rf"--method {name}.*no unlabelled images"):
        fl.train(tmp_path / "photos", out=tmp_path / "run", method=name, **QUICK)


@pytest.mark.parametrize("tested", [True, False])
def test_a_distilled_student_is_taught_by_labels_only(
    split_folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tested: bool
) -> None:
    """With test images a named method needs no trial. A trial's teacher has not seen the held-out
    labels; the last one has learnt from all."""
    from fewlabels.procedures import labels_only

    taught: dict[str, list[dict[str, torch.Tensor]]] = {}
    trained: dict[str, dict[str, torch.Tensor]] = {}
    run_stage = labels_only.run_stage

    def watched(context, stage, before, teachers=()):  # type: ignore[no-untyped-def]
        taught[stage.name] = [teacher.state_dict() for teacher in teachers]
        done = run_stage(context, stage, before, teachers)
        trained[stage.name] = done.weights
        return done

    monkeypatch.setattr(labels_only, "run_stage", watched)
    if not tested:
        shutil.rmtree(split_folders / "test")
        names = ("unlabelled", "train")  # not a pool that is split for a test
        assert sorted(path.name for path in split_folders.iterdir()) == sorted(names)
    run = fl.train(split_folders, out=tmp_path / "run", method="distill", **QUICK)
    assert taught["labels only trial"] == taught["labels only"] == []

    def same(name: str, teacher: str) -> bool:
        (found,) = taught[name]
        return all(torch.equal(value, found[key]) for key, value in trained[teacher].items())

    assert same("distill", "labels only")
    assert ("distill trial" in taught) == (not tested)
    assert tested or same("distill trial", "labels only trial")
    assert ("val" in run.result) == (not tested)
    assert run.result["steps"] == QUICK["steps"]


@pytest.mark.parametrize("how", ["none", "sampling", "logits"])
def test_rare_classes_count_as_much_when_they_are_to(
    tmp_path: Path, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from conftest import picture
    from rich.console import Console

    for kind, (label, count) in enumerate((("often", 12), ("rare", 2))):
        for split, some in (("train", count), ("test", 3)):
            (tmp_path / "photos" / split / label).mkdir(parents=True)
            for i in range(some):
                file = tmp_path / "photos" / split / label / f"{i}.png"
                picture(kind, i + 100 * (split == "test")).save(file)
    run = fl.train(
        tmp_path / "photos",
        out=tmp_path / "run",
        method="supervised",
        balance=how,
        console=Console(width=200),
        **QUICK,
    )
    told = capsys.readouterr().out
    assert ("range from 2 to 12" in told) == (how == "none")
    predicted = pq.read_table(run.path / "predictions.parquet").to_pydict()
    test = np.array(predicted["split"]) == "test"
    right = np.array(predicted["label"])[test] == np.array(predicted["predicted"])[test]
    label = np.array(predicted["label"])[test]
    by_hand = np.mean([right[label == c].mean() for c in (0, 1)])
    assert run.result["test"]["balanced_accuracy"] == pytest.approx(by_hand, abs=1e-4)


def test_an_unknown_way_to_balance_is_told(split_folders: Path) -> None:
    with pytest.raises(UserError, match="--balance equal: must be one of none, sampling, logits"):
        fl.train(split_folders, balance="equal", **QUICK)
