"""The pictures of a run: what it is sure of, and over its mistakes what spoke for them."""

import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import Paint
from PIL import Image

import fewlabels as fl
from fewlabels.errors import UserError
from fewlabels.evaluate.explain import heat as home
from fewlabels.procedures.chosen import Chosen

QUICK: dict[str, Any] = {
    "method": "fixmatch",
    "steps": 4,
    "batch_size": 4,
    "img_size": 16,
    "model": "cnn_small",
    "device": "cpu",
}


@pytest.fixture
def photos(split_folders: Path, paint: Paint) -> Path:
    """Test images under the wrong label: whatever is learnt, some are mistaken."""
    for kind, name in enumerate(("left", "right")):
        paint(split_folders / "test" / name, 1 - kind, 6)
    return split_folders


def gallery(run: fl.Run) -> dict[str, list[dict[str, Any]]]:
    kinds: dict[str, list[dict[str, Any]]] = {}
    for row in pq.read_table(run.path / "gallery.parquet").to_pylist():
        kinds.setdefault(row["kind"], []).append(row)
    return kinds


def pixels(png: bytes) -> Any:
    return np.asarray(Image.open(io.BytesIO(png)))


def test_mistakes_have_a_heat_map_and_nothing_else_has(photos: Path, tmp_path: Path) -> None:
    kinds = gallery(fl.train(photos, out=tmp_path / "run", **QUICK))
    assert kinds["wrong"]
    for kind, rows in kinds.items():
        assert all((row["heat"] is not None) == (kind == "wrong") for row in rows)
    for row in kinds["wrong"]:
        assert row["label"] != row["predicted"]
        drawn = pixels(row["heat"])
        assert drawn.shape == (16, 16, 3)
        assert np.ptp(drawn.astype(int), axis=2).max() > 0  # the picture is grey, the heat is not
    sure = [row["confidence"] for row in kinds["wrong"]]
    assert sure == sorted(sure, reverse=True)


def test_without_captum_there_are_pictures_alone(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent() -> None:
        raise UserError("explain needs captum")

    monkeypatch.setattr(home, "need_captum", absent)
    kinds = gallery(fl.train(photos, out=tmp_path / "run", **QUICK))
    assert kinds["wrong"]
    assert all(row["heat"] is None for rows in kinds.values() for row in rows)


def test_a_model_without_maps_has_none(photos: Path, tmp_path: Path) -> None:
    kinds = gallery(fl.train(photos, out=tmp_path / "run", **(QUICK | {"model": "mlp"})))
    assert kinds["wrong"]
    assert all(row["heat"] is None for row in kinds["wrong"])


def test_no_heat_for_what_the_model_does_not_say(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without test images an earlier model erred; the last one has learnt those labels."""
    shutil.rmtree(photos / "test")
    for kind, name in enumerate(("left", "right")):
        for file in (photos / "train" / name).iterdir():
            file.rename(file.with_name(f"{kind}-{file.name}"))
    monkeypatch.setattr(Chosen, "said", lambda self, rows: np.tile([0.6, 0.4], (len(rows), 1)))
    kinds = gallery(fl.train(photos, out=tmp_path / "run", **(QUICK | {"steps": 2})))
    for row in kinds.get("wrong", []):
        assert (row["heat"] is not None) == (row["predicted"] == 0)


def test_calibration_is_of_the_model_that_ships(photos: Path, tmp_path: Path) -> None:
    shutil.rmtree(photos / "test")
    run = fl.train(photos, out=tmp_path / "run", **QUICK)
    assert run.result["estimate"] == "val"
    assert "ece" not in run.result["calibration"]  # that of a trial says nothing about it
