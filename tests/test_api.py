"""The main job on small folders, through the Python interface."""

import json
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from conftest import Paint

import fewlabels as fl
from fewlabels.training import process
from fewlabels.training.folder import RunFolder

QUICK = {"steps": 10, "batch_size": 4, "img_size": 16, "weights": "none"}


def test_class_folders_with_unlabelled(split_folders: Path, tmp_path: Path) -> None:
    before = sorted(path.stat().st_mtime_ns for path in split_folders.rglob("*"))
    run = fl.train(split_folders, out=tmp_path / "run", **QUICK)
    result = run.result
    assert result["labels"] == 8
    assert result["unlabelled"] == 24
    assert result["test"]["n"] == 12
    assert result["baseline"]["test"]["n"] == 12
    assert result["difference"]["test"]["n"] == 12
    assert result["method"] in ("flexmatch", "supervised")
    assert result["estimate"] == "test"
    for key in ("model", "seed", "steps", "seconds", "images_per_second", "peak_memory_mb"):
        assert result[key] is not None
    assert {c["method"] for c in result["choice"]["candidates"]} == {"supervised", "flexmatch"}
    assert sorted(path.stat().st_mtime_ns for path in split_folders.rglob("*")) == before


def test_the_run_folder_holds_what_the_design_says(split_folders: Path, tmp_path: Path) -> None:
    run = fl.train(split_folders, out=tmp_path / "run", **QUICK)
    names = {str(path.relative_to(run.path)) for path in run.path.rglob("*") if path.is_file()}
    assert names >= {
        "config.yaml",
        "classes.json",
        "splits.parquet",
        "metrics.jsonl",
        "train.log",
        "result.json",
        "report.html",
        "artefact/weights.safetensors",
        "artefact/classifier.json",
        "checkpoints/last/tensors.safetensors",
        "checkpoints/best/tensors.safetensors",
    }
    assert not [name for name in names if name.endswith((".pt", ".pth", ".pkl", ".pickle"))]
    assert json.loads((run.path / "result.json").read_text()) == run.result
    assert json.loads((run.path / "classes.json").read_text()) == ["left", "right"]
    config = yaml.safe_load((run.path / "config.yaml").read_text())
    assert config["model"] == "cnn_small"
    assert config["versions"]["torch"]
    splits = pq.read_table(run.path / "splits.parquet").to_pydict()
    uses = ("labelled", "unlabelled", "test", "held out")
    assert [splits["used"].count(use) for use in uses] == [6, 24, 12, 2]
    assert all(len(digest) == 64 for digest in splits["digest"])


def test_prediction_reproduces_the_reported_accuracy(split_folders: Path, tmp_path: Path) -> None:
    run = fl.train(split_folders, out=tmp_path / "run", **QUICK)
    files = sorted((split_folders / "test").rglob("*.png"))
    said = fl.load(run).predict(files)
    right = [p.label == file.parent.name for p, file in zip(said, files, strict=True)]
    assert round(float(np.mean(right)), 4) == run.result["test"]["accuracy"]
    table = pq.read_table(run.path / "predictions.parquet").to_pydict()
    written = {
        n: c
        for n, c, s in zip(*(table[k] for k in ("name", "confidence", "split")), strict=True)
        if s == "test"
    }
    for p, file in zip(said, files, strict=True):
        assert p.confidence == pytest.approx(
            written[str(file.relative_to(split_folders))], abs=1e-6
        )


def test_a_flat_tree_is_split_and_broken_files_are_named(tmp_path: Path, paint: Paint) -> None:
    root = tmp_path / "flat"
    paint(root / "left", 0, 12)
    paint(root / "right", 1, 12)
    paint(root, 0, 5)  # loose images beside class folders
    (root / "left" / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    notes = {f"notes{n}.txt" for n in range(5)}
    for name in notes:
        (root / name).write_text("mine")
    run = fl.train(root, out=tmp_path / "run", **QUICK)
    assert run.result["unlabelled"] == 5
    assert run.result["test"]["n"] == 4
    assert run.result["labels"] == 20
    assert {item["name"] for item in run.result["skipped"]} == notes | {"left/broken.jpg"}
    told = re.findall(r"left out: (\S+)", (run.path / "train.log").read_text())
    assert told == ["left/broken.jpg", *(f"notes{n}.txt" for n in range(4)), "1"]
    assert "left/broken.jpg" in (run.path / "report.html").read_text()


def test_without_test_images_the_estimate_is_validations(tmp_path: Path, paint: Paint) -> None:
    root = tmp_path / "few"
    for kind, name in enumerate(("left", "right")):
        paint(root / name, kind, 3)
        paint(root / "unlabelled", kind, 6)
    run = fl.train(root, out=tmp_path / "run", **QUICK)
    assert run.result["estimate"] == "val"
    assert "test" not in run.result
    assert run.result["val"]["n"] == 2
    assert "validation estimate" in (run.path / "report.html").read_text().lower()


def test_one_label_a_class_is_said_and_trained(tmp_path: Path, paint: Paint) -> None:
    root = tmp_path / "one"
    for kind, name in enumerate(("left", "right")):
        paint(root / name, kind, 1)
        paint(root / "unlabelled", kind, 6)
    run = fl.train(root, out=tmp_path / "run", **QUICK)
    assert "val" not in run.result
    assert "cannot be said" in run.result["verdict"]
    assert "one label a class" in (run.path / "train.log").read_text()
    assert fl.load(run).predict(next((root / "left").iterdir()))[0].error == ""


def test_own_validation_images_need_no_trial(
    split_folders: Path, tmp_path: Path, paint: Paint
) -> None:
    for kind, name in enumerate(("left", "right")):
        paint(split_folders / "val" / name, kind, 5)
    run = fl.train(split_folders, out=tmp_path / "run", method="fixmatch", **QUICK)
    assert run.result["val"]["n"] == 10
    stages = {json.loads(line)["stage"] for line in (run.path / "metrics.jsonl").open()}
    assert stages == {"labels only, first part", "labels only", "fixmatch"}
    assert run.result["steps"] == run.result["baseline"]["steps"] == 10
    own = QUICK | {"method": "fixmatch", "flip": "on", "rotate": "off"}
    decided = fl.train(split_folders, out=tmp_path / "two", **own)
    stages = {json.loads(line)["stage"] for line in (decided.path / "metrics.jsonl").open()}
    assert stages == {"labels only", "fixmatch"}
    assert decided.result["decisions"] == []
    assert all(text.startswith("flip(0.5)+") for text in decided.result["views"].values())


def test_the_same_seed_gives_the_same_run(split_folders: Path, tmp_path: Path) -> None:
    runs = [
        fl.train(split_folders, out=tmp_path / str(i), workers=1 + i, seed=seed, **QUICK)
        for i, seed in enumerate((0, 0, 1))
    ]
    tables = [
        pq.read_table(run.path / "predictions.parquet")["confidence"].to_pylist() for run in runs
    ]
    assert tables[0] == tables[1]
    assert tables[0] != tables[2]


def test_supervised_has_no_baseline_beside_it(split_folders: Path, tmp_path: Path) -> None:
    run = fl.train(split_folders, out=tmp_path / "run", method="supervised", **QUICK)
    assert "baseline" not in run.result
    assert run.result["verdict"].startswith("Labels only")


def test_a_finished_run_is_resumed_to_itself(split_folders: Path, tmp_path: Path) -> None:
    run = fl.train(split_folders, out=tmp_path / "run", **QUICK)
    assert fl.resume(run.path).result == run.result


def test_labels_that_changed_are_not_resumed(split_folders: Path, tmp_path: Path) -> None:
    run = fl.train(split_folders, out=tmp_path / "run", **QUICK)
    (run.path / "result.json").unlink()
    moved = next((split_folders / "train" / "left").iterdir())
    moved.rename(split_folders / "train" / "right" / moved.name)
    with pytest.raises(fl.UserError, match="have changed"):
        fl.resume(run.path)


def test_a_run_is_resumed_from_another_directory(
    split_folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(split_folders.parent)
    run = fl.train(split_folders.name, out=tmp_path / "run", **QUICK)
    before = run.result["test"]
    (run.path / "result.json").unlink()
    monkeypatch.chdir("/")
    assert fl.resume(tmp_path / "run").result["test"] == before


def test_test_labels_change_nothing_but_the_test_accuracy(
    split_folders: Path, tmp_path: Path
) -> None:
    """Nothing is selected on test: with test labels turned round, the same model comes out."""
    one = fl.train(split_folders, out=tmp_path / "one", **QUICK)
    test = split_folders / "test"
    (test / "left").rename(test / "other")
    (test / "right").rename(test / "left")
    (test / "other").rename(test / "right")
    two = fl.train(split_folders, out=tmp_path / "two", **QUICK)
    weights = [(run.path / "artefact" / "weights.safetensors").read_bytes() for run in (one, two)]
    assert weights[0] == weights[1]
    assert one.result["choice"] == two.result["choice"]
    total = one.result["test"]["accuracy"] + two.result["test"]["accuracy"]
    assert total == pytest.approx(1.0)


def test_bad_input_leaves_no_run_folder(split_folders: Path, tmp_path: Path) -> None:
    with pytest.raises(fl.UserError, match="not 100"):
        fl.train(split_folders, out=tmp_path / "run", labels_per_class=100, **QUICK)
    assert not (tmp_path / "run").exists()


def test_a_method_for_unlabelled_images_needs_some(tmp_path: Path, paint: Paint) -> None:
    for kind, name in enumerate(("left", "right")):
        paint(tmp_path / "photos" / name, kind, 6)
    with pytest.raises(fl.UserError, match="no unlabelled images"):
        fl.train(tmp_path / "photos", out=tmp_path / "a", method="fixmatch", **QUICK)
    run = fl.train(tmp_path / "photos", out=tmp_path / "b", **QUICK)
    assert run.result["method"] == "supervised"


def test_epochs_give_both_methods_the_same_steps(split_folders: Path, tmp_path: Path) -> None:
    settings = QUICK | {"epochs": 6}
    del settings["steps"]
    run = fl.train(split_folders, out=tmp_path / "run", method="fixmatch", **settings)
    assert run.result["steps"] == run.result["baseline"]["steps"] == 6 * 32 // (4 * 4)


def test_a_time_limit_is_used_and_kept(split_folders: Path, tmp_path: Path) -> None:
    settings = {"img_size": 16, "weights": "none"}
    run = fl.train(split_folders, out=tmp_path / "run", time_limit="8s", **settings)
    assert 5 < run.result["seconds"] < 8.4
    assert run.result["training_seconds"] > 1


def test_a_run_inside_the_data_folder_is_no_data(
    split_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(split_folders)
    one = fl.train(".", **QUICK)
    two = fl.train(".", **QUICK)
    assert str(two.path) == "runs/2"
    assert two.result["skipped"] == one.result["skipped"] == []
    assert two.result["unlabelled"] == 24


def test_images_that_changed_are_not_resumed(
    split_folders: Path, tmp_path: Path, paint: Paint
) -> None:
    run = fl.train(split_folders, out=tmp_path / "run", **QUICK)
    (run.path / "result.json").unlink()
    paint(split_folders / "unlabelled", 0, 13)
    with pytest.raises(fl.UserError, match="have changed"):
        fl.resume(run.path)


def test_models_of_torchvision_and_timm_train(split_folders: Path, tmp_path: Path) -> None:
    for name in ("torchvision:squeezenet1_1", "timm:test_resnet"):
        run = fl.train(
            split_folders,
            out=tmp_path / name.replace(":", "-"),
            model=name,
            **QUICK | {"steps": 2, "img_size": 32},
        )
        assert run.result["model"] == name
        assert len(fl.load(run).predict(sorted(split_folders.glob("test/*/*.png")))) == 12


def test_images_that_vanish_at_the_end_lose_no_run(
    split_folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fewlabels.procedures import gallery

    def gone(data: bytes) -> None:
        raise OSError("gone")

    monkeypatch.setattr(gallery, "decode", gone)
    run = fl.train(split_folders, out=tmp_path / "run", **QUICK)
    assert pq.read_table(run.path / "gallery.parquet").num_rows > 0


def test_the_gallery_shows_every_class_that_is_right(split_folders: Path, tmp_path: Path) -> None:
    run = fl.train(split_folders, out=tmp_path / "run", **QUICK | {"steps": 60})
    shown = pq.read_table(run.path / "gallery.parquet").to_pydict()
    kinds = list(zip(shown["kind"], shown["label"], shown["predicted"], strict=True))
    right = [label for kind, label, predicted in kinds if kind == "right" and label == predicted]
    assert len(right) == round(12 * run.result["test"]["accuracy"])
    assert {kind for kind, _, _ in kinds} >= {"right", "pseudo"}
    assert all(label != predicted for kind, label, predicted in kinds if kind == "wrong")


def test_what_was_decided_is_kept_and_used(
    split_folders: Path, tmp_path: Path, paint: Paint
) -> None:
    run = fl.train(split_folders, out=tmp_path / "run", **QUICK)
    flip, rotate = run.result["decisions"]
    for decision, stage in ((flip, "flip"), (rotate, "turn")):
        used = all(stage in text for text in run.result["views"].values())
        assert used == ("auto: on" in decision), decision
    assert flip in (run.path / "train.log").read_text()


def test_predictions_are_averaged_as_they_were_measured(
    split_folders: Path, tmp_path: Path
) -> None:
    import pyarrow.parquet as pq

    run = fl.train(split_folders, out=tmp_path / "run", tta="flip+crop", **QUICK)
    classifier = fl.load(run)
    assert classifier.tta == "flip+crop"
    rows = pq.read_table(run.path / "predictions.parquet").to_pylist()
    rows = [row for row in rows if row["split"] == "test"]
    found = classifier.predict([split_folders / row["name"] for row in rows])
    assert [list(p.probabilities) for p in found] == [row["probabilities"] for row in rows]


def test_mixing_reaches_training(split_folders: Path, tmp_path: Path) -> None:
    losses = []
    for mix in ("none", "cutmix"):
        run = fl.train(split_folders, out=tmp_path / mix, method="supervised", mix=mix, **QUICK)
        losses.append([json.loads(line)["loss"] for line in (run.path / "metrics.jsonl").open()])
    assert losses[0] != losses[1]


def test_patience_needs_validation_images_of_the_pools_own(
    split_folders: Path, tmp_path: Path, paint: Paint
) -> None:
    """Those that are held out of few labels are too few to stop by; and the place can be used."""
    out = tmp_path / "run"
    with pytest.raises(fl.UserError, match=r"--patience 3: needs validation images.*val/"):
        fl.train(split_folders, out=out, patience=3, **QUICK)
    assert not out.exists()
    for kind, name in enumerate(("left", "right")):
        paint(split_folders / "val" / name, kind, 3)
    fl.train(split_folders, out=out, patience=1, **QUICK | {"steps": 60})
    assert "ended at step" in (out / "train.log").read_text()


def test_a_run_that_is_at_work_is_begun_by_no_other(split_folders: Path, tmp_path: Path) -> None:
    """Also in the moment before it says which process it is."""
    folder = RunFolder.create(tmp_path / "run")
    with process.locked(folder):
        with pytest.raises(fl.UserError, match="another process works on it"):
            fl.train(split_folders, out=folder.path, **QUICK)
        assert folder.path.exists()
    fl.train(split_folders, out=folder.path, **QUICK)
    (folder.path / "result.json").unlink()
    with process.locked(folder), pytest.raises(fl.UserError, match="another process works on it"):
        fl.resume(folder.path)
    assert fl.resume(folder.path).result["test"]["n"] == 12
