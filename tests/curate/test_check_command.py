import json
from pathlib import Path

import pytest
from conftest import call
from pictures import scene


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, name in enumerate(("cat", "dog")):
        for split in ("train", "test"):
            place = tmp_path / "photos" / split / name
            place.mkdir(parents=True)
            scene(10 * number + (split == "test")).save(place / "0.png")
    return tmp_path / "photos"


def test_strict_is_about_leaks_near_ones_too(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    assert call(monkeypatch, "check", folder, "--strict") == 0
    scene(0).save(folder / "train" / "dog" / "doubt.png")  # another label, but the same split
    assert call(monkeypatch, "check", folder, "--strict") == 0
    scene(0).resize((50, 50)).save(folder / "test" / "cat" / "leak.jpg")
    assert call(monkeypatch, "check", folder, "--strict") == 1
    assert call(monkeypatch, "check", folder) == 0


def test_strict_is_about_groups_in_several_splits_too(
    monkeypatch: pytest.MonkeyPatch, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """But not about a group whose image in training has no label: `train` leaves it out."""
    rows = ["train/cat/0.png,cat,train,a", "train/dog/0.png,dog,train,b"]
    rows += ["test/cat/0.png,cat,test,c", "test/dog/0.png,,train,c"]
    table = folder / "images.csv"
    table.write_text("\n".join(["image,label,split,group", *rows]))
    assert call(monkeypatch, "check", table, "--strict") == 0
    table.write_text(
        table.read_text().replace("test/dog/0.png,,train,c", "test/dog/0.png,dog,test,b")
    )
    capsys.readouterr()
    assert call(monkeypatch, "check", table, "--strict", "--json") == 1
    told = json.loads(capsys.readouterr().out)
    (group,) = told["divided"]
    assert [copy["name"] for copy in group] == ["train/dog/0.png", "test/dog/0.png"]
    assert [copy["split"] for copy in group] == ["train", "test"]
    assert call(monkeypatch, "check", table) == 0
    said = capsys.readouterr().out
    assert "Groups stand in several splits" in said
    assert "train/dog/0.png (train, dog), test/dog/0.png (test, dog)" in said


def test_page_and_json(
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    page = tmp_path / "page.html"
    assert call(monkeypatch, "check", folder, "-o", page, "--json") == 0
    assert json.loads(capsys.readouterr().out)["images"] == 4
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert call(monkeypatch, "check", folder, "-o", page) == 0
    assert str(page) in capsys.readouterr().out.replace("\n", "")


def test_a_wrong_page_is_told_before_images_are_read(
    monkeypatch: pytest.MonkeyPatch, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "check", folder, "-o", folder / "page.txt") == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_what_no_classifier_can_be_trained_from_can_be_checked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scene(0).save(tmp_path / "a.png")
    assert call(monkeypatch, "check", tmp_path) == 0
    assert "No classifier can be trained" in capsys.readouterr().out
