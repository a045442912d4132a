"""`fewlabels labels`, and that training heeds what it has written."""

import json
from pathlib import Path

import pytest
from conftest import call

import fewlabels as fl
from fewlabels.deploy import judges
from fewlabels.pixels.cache import fingerprint
from fewlabels.pool.overlay import with_stored_labels
from fewlabels.pool.source import content_digest
from fewlabels.pool.store import LabelStore, Mark, default_store


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


def test_a_renamed_folder_finds_its_labels(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    split_folders: Path,
    tmp_path: Path,
) -> None:
    one, *_ = sorted(path.name for path in (split_folders / "unlabelled").iterdir())
    told = table(tmp_path / "new.csv", f"unlabelled/{one},left")
    assert call(monkeypatch, "labels", split_folders, "--import", told) == 0
    before, moved = default_store(str(split_folders)), tmp_path / "moved"
    split_folders.rename(moved)
    capsys.readouterr()
    assert call(monkeypatch, "labels", moved) == 0
    take_over = f"fewlabels labels {moved} --import {before}"
    line = f"{before} also has labels of 1 of these images (take them over: {take_over})"
    assert line in capsys.readouterr().out
    assert call(monkeypatch, "check", moved) == 0
    assert f"Note: {line}.\n" in capsys.readouterr().out
    small = {"steps": 1, "batch_size": 4, "img_size": 16, "model": "cnn_small", "device": "cpu"}
    run = fl.train(moved, method="supervised", out=tmp_path / "run", **small)
    assert line in (run.path / "train.log").read_text()
    assert call(monkeypatch, "labels", moved, "--import", before) == 0
    assert "1 new labels, 0 changed" in capsys.readouterr().out
    assert call(monkeypatch, "check", moved) == 0
    assert "also has labels" not in capsys.readouterr().out
    with LabelStore(default_store(str(moved)), read_only=True) as store:
        (event,) = store.current()
    assert (event.label, event.source, event.image) == ("left", "import", f"unlabelled/{one}")
    # and the old name's labels can still be had
    assert call(monkeypatch, "labels", split_folders, "--export", tmp_path / "out.csv") == 0
    assert call(monkeypatch, "labels", split_folders, "--undo") == 0
    assert call(monkeypatch, "labels", split_folders) == 0
    assert call(monkeypatch, "labels", tmp_path / "nowhere") == 2


def test_a_table_is_read_as_data_is(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    split_folders: Path,
    tmp_path: Path,
) -> None:
    """However the images' paths are written, in a table that lies elsewhere."""
    names = sorted(path.name for path in (split_folders / "unlabelled").iterdir())
    at = Path(split_folders.name) / "unlabelled"
    written = (
        f"./unlabelled/{names[0]}",
        f"unlabelled\\{names[1]}",
        str(split_folders / "unlabelled" / names[2]),
        str(at / names[3]),  # as in a table of DATA, which lies beside the folder
    )
    for suffix, separator in ((".csv", ";"), (".csv", "\t"), (".tsv", "\t"), (".csv", ",")):
        rows = [("File Name", "class", "weather"), *((path, "up", "fine") for path in written)]
        rows.append((f"unlabelled/{names[5]}", "", ""))
        told = tmp_path / f"new{suffix}"
        told.write_text("\n".join(separator.join(row) for row in rows))
        assert call(monkeypatch, "labels", split_folders, "--import", told) == 0
        said = capsys.readouterr().out
        assert "the column 'File Name' is read as image\n" in said
        assert "the column 'class' is read as label\n" in said
        assert "not used: column 'weather'\n" in said
        assert "4 new labels, 0 changed, 0 as they were, 1 without a label\n" in said
        with LabelStore(default_store(str(split_folders))) as store:
            assert len(store.labels()) == 4
            store.undo("Ada")


def test_joined_pools_heed_the_labels_of_each_and_of_the_whole(split_folders: Path) -> None:
    """In whatever order they are named."""
    parts = [split_folders / "train", split_folders / "unlabelled"]
    pool = fl.Pool.scan(parts)
    digest = fingerprint(pool.source)
    names = [pool.source.name(row) for row in range(len(pool))]
    free = [row for row in range(len(pool)) if pool.label[row] < 0]
    rows = [(free[0], "left", parts[1:]), (free[1], "left", parts[1:]), (free[1], "up", parts)]
    for row, label, place in rows:
        with LabelStore(default_store(*map(str, place))) as store:
            store.add([Mark(digest[row], label, "Ada", "page")])
    for order in (parts, parts[::-1]):
        read = with_stored_labels(fl.Pool.scan(order), fingerprint)
        found = {read.source.name(row): read.label_text(row) for row in range(len(read))}
        assert (found[names[free[0]]], found[names[free[1]]]) == ("left", "up")
        assert sorted(read.digest or ()) == sorted(digest)


def test_images_are_read_once_for_their_labels(
    split_folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = fl.Pool.scan(split_folders)
    with LabelStore(default_store(pool.origin)) as store:
        store.add([Mark(fingerprint(pool.source)[-1], "left", "Ada", "page")])
    asked: list[int] = []
    monkeypatch.setattr(
        "fewlabels.pixels.cache.content_digest",
        lambda data: asked.append(len(data)) or content_digest(data),
    )
    small = {"steps": 1, "batch_size": 4, "img_size": 16, "model": "cnn_small", "device": "cpu"}
    run = fl.train(split_folders, method="supervised", out=tmp_path / "run", **small)
    assert len(asked) == len(pool)
    asked.clear()
    told: list[str] = []
    judges.find(run.path, pool.classes, 16, split_folders, lambda what, *_: told.append(what))
    assert len(asked) == len(pool)
    assert told.count("reading") == len(pool)


def test_labels_are_found_after_an_import_that_failed(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    split_folders: Path,
    tmp_path: Path,
) -> None:
    one, *_ = sorted(path.name for path in (split_folders / "unlabelled").iterdir())
    told = table(tmp_path / "new.csv", f"unlabelled/{one},left")
    assert call(monkeypatch, "labels", split_folders, "--import", told) == 0
    before, moved = default_store(str(split_folders)), tmp_path / "moved"
    split_folders.rename(moved)
    assert call(monkeypatch, "labels", moved, "--import", tmp_path / "mistyped.sqlite") == 2
    capsys.readouterr()
    assert call(monkeypatch, "labels", moved, "--json") == 0
    found = json.loads(capsys.readouterr().out)["elsewhere"]
    assert found == [{"store": str(before), "images": 1}]


def test_the_stores_of_joined_pools_are_not_offered(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], split_folders: Path
) -> None:
    """They are heeded as they are."""
    parts = [split_folders / "train", split_folders / "unlabelled"]
    pool = fl.Pool.scan(parts[1], to_train=False)
    with LabelStore(default_store(str(parts[1]))) as store:
        store.add([Mark(fingerprint(pool.source)[0], "left", "Ada", "page")])
    assert call(monkeypatch, "labels", *parts, "--json") == 0
    assert json.loads(capsys.readouterr().out)["elsewhere"] == []
