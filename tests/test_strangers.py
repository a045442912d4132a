"""Unlabelled images that belong to no class, through a whole run: left out, told, shown."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import Paint
from PIL import Image

import fewlabels as fl
from fewlabels.errors import UserError
from fewlabels.procedures import stage

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
    told = run.result["guard"]
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
    assert "Images that were not learnt from" in (run.path / "report.html").read_text()


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
