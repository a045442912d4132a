"""A run is resumed as it was begun, or not at all: settings and images."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from conftest import Paint, call

import fewlabels as fl
from fewlabels.pool.source import content_digest
from fewlabels.pool.store import LabelStore, Mark, default_store

ASKED = ["--method", "fixmatch", "--set", "threshold=0.9", "--augment", "strong", "--lr", "0.01"]
QUICK = ["--steps", "2", "--img-size", "16", "--batch-size", "4", "--weights", "none"]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, split_folders: Path, tmp_path: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, "train", "photos", *ASKED, *QUICK, "--out", "run") == 0
    return tmp_path / "run"


def refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object
) -> str:
    capsys.readouterr()
    assert call(monkeypatch, "train", "--resume", *arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("fewlabels: ")
    return line


def test_a_repeated_command_goes_on_and_a_changed_one_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], run: Path
) -> None:
    before = (run / "result.json").read_bytes()
    recipe = run.parent / "recipe.yaml"
    recipe.write_text("method: fixmatch\nlr: 0.01\nsettings: {threshold: 0.9}\n")
    same = [
        ["run", "photos", *ASKED, *QUICK, "--out", "run"],  # as it was typed
        ["run", "--model", "auto"],
        ["run", "--model", "cnn_small"],  # what it was resolved to
        ["run", run.parent / "photos", "--lr", "1e-2"],
        ["run", "-c", recipe],
    ]
    for arguments in same:
        assert call(monkeypatch, "train", "--resume", *arguments) == 0
    recipe.write_text("method: fixmatch\nbatch_size: 8\n")
    changed = [
        (["run", "--lr", "0.1"], "--lr 0.1", "0.01"),
        (["run", *ASKED, "--seed", "1"], "--seed 1", "0"),
        (["run", "--method", "flexmatch"], "--method flexmatch", "fixmatch"),
        (["run", "--set", "threshold=0.8"], "--set threshold=0.8", "0.9"),
        (["run", "--set", "weight=2"], "--set weight=2", "nothing"),
        (["run", "--time-limit", "10m"], "--time-limit 600.0", "nothing"),
        (["run", "--steps", "3"], "--steps 3", "2"),
        (["run", "digits"], "DATA digits", "photos"),
        (["run", "--out", "other"], "--out other", "its own folder"),
        (["run", "-c", recipe], "--batch-size 8", "4"),
    ]
    for arguments, given, begun in changed:
        line = refused(monkeypatch, capsys, *arguments)
        assert given in line, line
        assert begun in line.partition(given)[2], line
    assert (run / "result.json").read_bytes() == before
    with pytest.raises(fl.UserError, match=r"--lr 0\.1: the run was begun with 0\.01"):
        fl.resume(run, lr=0.1)


def test_an_edited_config_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], run: Path
) -> None:
    (run / "result.json").unlink()
    config = run / "config.yaml"
    text = config.read_text()
    for wrong, named in (
        (text.replace("lr: 0.01\n", "lr: 0.02\n"), "lr is 0.02"),
        (text.replace("threshold: 0.9", "threshold: 0.8"), "settings is {'threshold': 0.8}"),
        (text.replace("batch_size: 4\n", ""), "batch_size is 16"),
    ):
        assert wrong != text
        config.write_text(wrong)
        line = refused(monkeypatch, capsys, "run")
        assert f"run/config.yaml: {named}, but the run was begun with" in line
    # the same settings in another order are the same
    config.write_text(yaml.safe_dump(dict(reversed(yaml.safe_load(text).items()))))
    assert call(monkeypatch, "train", "--resume", "run") == 0


def test_images_that_were_added_removed_or_changed_are_named(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    run: Path,
    split_folders: Path,
) -> None:
    (run / "result.json").unlink()
    weights = (run / "checkpoints" / "best" / "tensors.safetensors").read_bytes()
    one, two, *_ = sorted((split_folders / "unlabelled").iterdir())
    kept = one.read_bytes()
    labelled = next((split_folders / "train" / "left").iterdir())
    moved = split_folders / "train" / "right" / labelled.name

    one.write_bytes(two.read_bytes())
    assert f"1 changed (unlabelled/{one.name})" in refused(monkeypatch, capsys, "run")
    one.write_bytes(b"no picture")
    assert f"1 changed (unlabelled/{one.name})" in refused(monkeypatch, capsys, "run")
    one.unlink()
    line = refused(monkeypatch, capsys, "run")
    assert f"1 removed (unlabelled/{one.name})" in line
    assert "put that back, or start a new run" in line
    one.write_bytes(kept)
    (split_folders / "unlabelled" / "new.png").write_bytes(kept)
    assert "1 added (unlabelled/new.png)" in refused(monkeypatch, capsys, "run")
    (split_folders / "unlabelled" / "new.png").unlink()
    labelled.rename(moved)
    line = refused(monkeypatch, capsys, "run")
    assert f"1 added (train/right/{moved.name}), 1 removed (train/left/{labelled.name})" in line
    moved.rename(labelled)
    assert (run / "checkpoints" / "best" / "tensors.safetensors").read_bytes() == weights
    assert call(monkeypatch, "train", "--resume", "run") == 0


TABLE = {"steps": 2, "img_size": 16, "batch_size": 4, "method": "fixmatch"}


@pytest.fixture
def table(tmp_path: Path, paint: Paint) -> Path:
    """Six labelled images of each of two classes, and four without a label."""
    for kind, count in ((0, 8), (1, 8)):
        paint(tmp_path / "all", kind, count)
    names = sorted(path.name for path in (tmp_path / "all").iterdir())
    rows = [
        f"all/{name},{label if n < 6 else ''}"
        for label, some in (("above", names[:8]), ("below", names[8:]))
        for n, name in enumerate(some)
    ]
    (tmp_path / "images.csv").write_text("\n".join(["image,label", *rows]))
    return tmp_path / "images.csv"


def test_labels_given_meanwhile_are_for_the_next_run(table: Path, tmp_path: Path) -> None:
    """A run goes on with the labels, classes and splits that it began with, and says so."""
    run = fl.train(table, out=tmp_path / "run", **TABLE)
    splits = (run.path / "splits.parquet").read_bytes()
    (run.path / "result.json").unlink()
    header, *rows = table.read_text().splitlines()
    rows[0] = rows[0].replace("above", "askew")  # a new class, the first by name
    rows[1] = rows[1].replace("above", "")
    rows[6] += "above"
    table.write_text("\n".join([header, *reversed(rows)]))  # in another order too
    again = fl.resume(run.path)
    assert (run.path / "splits.parquet").read_bytes() == splits
    log = (run.path / "train.log").read_text()
    name, new = rows[0].split(",")[0], rows[6].split(",")[0]
    assert f"2 labelled otherwise ({name}, …), 1 newly labelled ({new}); it goes on with" in log
    times = ("seconds", "training_seconds", "images_per_second", "peak_memory_mb", "verdict")
    for result in (run.result, again.result):
        for about in (result, result.get("baseline", {})):
            for time in times:
                about.pop(time, None)
    assert again.result == run.result


def test_labels_of_the_store_are_for_the_next_run(table: Path, tmp_path: Path) -> None:
    run = fl.train(table, out=tmp_path / "run", labels_per_class=2, **TABLE)
    (run.path / "result.json").unlink()
    pool = fl.Pool.scan(table)
    digest = content_digest(pool.source.read(0))
    with LabelStore(default_store(pool.origin)) as store:
        store.add([Mark(digest, "below", "Ada", "page")])
    labels = pq.read_table(run.path / "splits.parquet").to_pydict()["label"]
    fl.resume(run.path)
    assert pq.read_table(run.path / "splits.parquet").to_pydict()["label"] == labels
    log = (run.path / "train.log").read_text()
    # most labels were forgotten, so that it cannot be told which are new
    assert "newly labelled" not in log
    assert ("1 labelled otherwise" in log) == (labels[0] >= 0)


def test_the_split_is_not_drawn_again(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = fl.train(table, out=tmp_path / "run", **TABLE)
    (run.path / "result.json").unlink()

    def never(*_: object, **__: object) -> None:
        raise AssertionError("drawn again")

    for name in ("assign", "holdout", "tied", "keep_labels"):
        monkeypatch.setattr(f"fewlabels.procedures.prepare.split.{name}", never)
    fl.resume(run.path)


def test_a_run_that_was_killed_at_once_is_begun_anew(
    monkeypatch: pytest.MonkeyPatch, run: Path, split_folders: Path
) -> None:
    for name in ("result.json", "checkpoints/settings.json"):
        (run / name).unlink()
    assert call(monkeypatch, "train", "--resume", "run") == 0
    assert json.loads((run / "checkpoints/settings.json").read_text())["resolved"]["lr"] == 0.01
    left = run.parent / "left"
    left.mkdir()
    (left / ".config.yaml-0123abcd").write_text("data: pho")
    assert call(monkeypatch, "train", "photos", *ASKED, *QUICK, "--out", "left") == 0
