"""Unlabelled images that belong to no class, through a whole run: left out, told, shown."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from conftest import Paint
from PIL import Image
from safetensors.torch import load_file

import fewlabels as fl
from fewlabels.errors import UserError
from fewlabels.procedures import guard, stage
from fewlabels.training.events import Events
from fewlabels.training.lead import Pace

QUICK = {"steps": 20, "batch_size": 8, "img_size": 16, "model": "cnn_small", "device": "cpu"}
OWN, STRANGE = 60, 90


@pytest.fixture
def polluted(tmp_path: Path, paint: Paint) -> Path:
    """Squares on a dark ground, of two classes; and stripes of any colour among the unlabelled."""
    root = tmp_path / "photos"
    for kind, name in enumerate(("left", "right")):
        paint(root / "train" / name, kind, 14)
        paint(root / "test" / name, kind, 6)
        paint(root / "unlabelled", kind, OWN // 2)
    for i in range(STRANGE):
        rng = np.random.default_rng(i)
        stripes = rng.integers(90, 256, (1, 16, 3), np.uint8).repeat(16, 0)
        Image.fromarray(stripes).save(root / "unlabelled" / f"stripes-{i}.png")
    return root


def test_strangers_are_left_out_told_and_shown(
    polluted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learnt: dict[str, int] = {}
    batches = stage.batches

    def watched(data, labelled, unlabelled, *rest, **more):  # type: ignore[no-untyped-def]
        learnt[f"after {len(learnt)} stages"] = len(unlabelled)
        return batches(data, labelled, unlabelled, *rest, **more)

    monkeypatch.setattr(stage, "batches", watched)
    run = fl.train(polluted, out=tmp_path / "run", method="fixmatch", **QUICK)
    told = run.result["guard"] | json.loads((run.path / "guard.json").read_text())
    strange = [name for name in told["names"] if "stripes" in name]
    assert len(strange) >= 0.9 * STRANGE
    assert told["left_out"] - len(strange) <= 0.05 * OWN
    assert (told["scored"], told["left_out"]) == (OWN + STRANGE, len(told["names"]))
    assert told["said"] in (run.path / "train.log").read_text()
    # labels only looks at none of them; what follows has the others alone
    assert list(learnt.values())[-1] == OWN + STRANGE - told["left_out"]
    gallery = pq.read_table(run.path / "gallery.parquet").to_pydict()
    shown = {kind: set() for kind in gallery["kind"]}
    for kind, name in zip(gallery["kind"], gallery["name"], strict=True):
        shown[kind].add(name)
    assert shown["stranger"] <= set(told["names"])
    assert shown["pseudo"].isdisjoint(told["names"])
    assert "Images that look like none of the classes" in (run.path / "report.html").read_text()


def test_the_guard_can_be_turned_off(polluted: Path, tmp_path: Path) -> None:
    run = fl.train(polluted, out=tmp_path / "run", method="fixmatch", guard="off", **QUICK)
    assert "guard" not in run.result
    assert "not learnt from" not in (run.path / "report.html").read_text()


def test_a_pool_of_one_kind_loses_nothing(split_folders: Path, tmp_path: Path) -> None:
    run = fl.train(split_folders, out=tmp_path / "run", method="fixmatch", **QUICK)
    assert run.result["guard"]["left_out"] == 0
    assert "all 24 unlabelled images are kept" in run.result["guard"]["said"]


def test_the_guard_has_no_effect_on_labels_only(split_folders: Path) -> None:
    with pytest.raises(UserError, match="--guard off: has no effect in the method supervised"):
        fl.train(split_folders, method="supervised", guard="off", **QUICK)


@pytest.mark.parametrize("name", ["flexmatch", "meta_pseudo_labels"])
def test_a_run_that_is_cut_off_ends_as_if_it_had_not_been(
    polluted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """In the method's stage, after a checkpoint; the guard is not asked a second time."""
    settings = QUICK | {"method": name, "seed": 3}
    whole = fl.train(polluted, out=tmp_path / "whole", **settings)
    assert whole.result["guard"]["left_out"] > 0

    class CutOff(Exception):
        pass

    step = Events.step

    def cut(self, progress: float, number: int, rate: float, loss: float) -> None:  # type: ignore[no-untyped-def]
        if self._stage == name and number == 13:
            raise CutOff
        step(self, progress, number, rate, loss)

    with monkeypatch.context() as patch:
        patch.setattr(Events, "step", cut)
        always = partial(Pace, checkpoint_seconds=0.0, checkpoint_share=1e9)
        patch.setattr(stage, "Pace", always)
        with pytest.raises(CutOff):
            fl.train(polluted, out=tmp_path / "cut", **settings)
    monkeypatch.setattr(guard, "first_map", None)  # a call would fail
    run = fl.resume(tmp_path / "cut")
    ours, theirs = (load_file(r.path / "artefact" / "weights.safetensors") for r in (run, whole))
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert run.result["guard"] == whole.result["guard"]
    assert run.result["test"] == whole.result["test"]
