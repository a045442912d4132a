"""`fewlabels labels`, and that training heeds what it has written."""

import json
from pathlib import Path

import pytest
from conftest import call

import fewlabels as fl
from fewlabels.pool.store import default_store


def table(path: Path, *rows: str) -> Path:
    path.write_text("\n".join(["image,label", *rows]) + "\n")
    return path


def test_import_list_export_undo(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    split_folders: Path,
    tmp_path: Path,
) -> None:
    one, two, *_ = sorted(path.name for path in (split_folders / "unlabelled").iterdir())
    told = table(tmp_path / "new.csv", f"unlabelled/{one},left", f"unlabelled/{two},right")
    assert call(monkeypatch, "labels", split_folders, "--import", told) == 0
    said = capsys.readouterr().out
    assert "2 new labels, 0 changed, 0 as they were" in said
    assert "labels of 2 images" in said
    assert str(default_store(str(split_folders))) in said.replace("\n", "")
    assert call(monkeypatch, "labels", split_folders, "--export", tmp_path / "out.csv") == 0
    assert "out.csv: 2 labels" in capsys.readouterr().out
    assert (tmp_path / "out.csv").read_text().count("unlabelled/") == 2
    assert call(monkeypatch, "labels", split_folders, "--undo", "--json") == 0
    assert json.loads(capsys.readouterr().out)["images"] == 0
    history = ("--export", tmp_path / "all.csv", "--history")
    assert call(monkeypatch, "labels", split_folders, *history) == 0
    assert "all.csv: 4 events" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--undo",), "there are no labels beside"),
        (("--export", "x.csv"), "there are no labels beside"),
        (("--history",), "goes with --export"),
        (("--undo", "--import", "x.csv"), "not several"),
        (("--import", "missing.csv"), "missing.csv"),
    ],
)
def test_wrong_use_is_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    split_folders: Path,
    options: tuple[str, ...],
    line: str,
) -> None:
    assert call(monkeypatch, "labels", split_folders, *options) == 2
    said = capsys.readouterr().err
    assert line in said.replace("\n", " ")
    assert "Traceback" not in said
    assert not default_store(str(split_folders)).exists() or "missing" in line


def test_train_learns_from_labels_that_were_imported(
    monkeypatch: pytest.MonkeyPatch, split_folders: Path, tmp_path: Path
) -> None:
    """A pool whose folder has no label of one class; it is left as it is."""
    before = sorted(path.name for path in (split_folders / "train" / "right").iterdir())
    for path in (split_folders / "train" / "right").iterdir():
        path.rename(split_folders / "unlabelled" / f"was-right-{path.name}")
    rows = [f"unlabelled/was-right-{name},right" for name in before]
    told = table(tmp_path / "new.csv", *rows)
    assert call(monkeypatch, "labels", split_folders, "--import", told) == 0
    small = {"steps": 4, "batch_size": 4, "img_size": 16, "model": "cnn_small", "device": "cpu"}
    run = fl.train(split_folders, method="supervised", out=tmp_path / "run", **small)
    assert run.result["labels"] == 8
    assert "label store: 4 new" in (run.path / "train.log").read_text()
    assert run.result["unmeasured"] == []
