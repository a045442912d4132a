"""What `evaluate` tells of a classifier whose answers are known: it looks where the square is."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Paint
from PIL import Image
from rich.console import Console
from torch import nn

import fewlabels as fl
from fewlabels.api import evaluate
from fewlabels.deploy import imagenet_c, judges
from fewlabels.deploy.classifier import Classifier
from fewlabels.deploy.evaluate import Asked, evaluated
from fewlabels.deploy.judges import Judges, find, numbers
from fewlabels.errors import UserError
from fewlabels.evaluate import robustness
from fewlabels.evaluate.corruptions import CORRUPTIONS, NAMES
from fewlabels.evaluate.corruptions.scores import ALEXNET_ERROR
from fewlabels.evaluate.unknown import Detector, Familiar
from fewlabels.pixels.preprocess import Preprocess
from fewlabels.pool.source import content_digest
from fewlabels.pool.store import LabelStore, Mark, default_store
from fewlabels.report.evaluation import print_evaluation
from fewlabels.training.folder import RunFolder

QUICK = {"steps": 4, "batch_size": 4, "img_size": 16, "model": "cnn_small", "device": "cpu"}
EVERYTHING = Asked(corruptions=True, perturbations=True, adversarial=True, stress=True, images=8)


def silent(what: str, done: int, of: int) -> None:
    assert 0 <= done <= of


class Above(nn.Module):
    """Class 0, `left`, where it is brighter above than below."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        difference = x[:, :, :8].mean((1, 2, 3)) - x[:, :, 8:].mean((1, 2, 3))
        return torch.stack([difference, -difference], 1) / 10


def knows(
    classes: tuple[str, ...] = ("left", "right"), model: nn.Module | None = None
) -> Classifier:
    plain = Preprocess(16, (0.0, 0.0, 0.0), (1 / 255,) * 3)
    return Classifier(model or Above(), classes, plain, "cpu")


def among(data: Path | None, run: Path = Path("no run")) -> Judges:
    """The judges in these images, of the classes left and right."""
    return find(run, ("left", "right"), 16, None if data is None else str(data), silent)


def test_every_number_is_told_with_its_interval(split_folders: Path) -> None:
    found = evaluated(knows(), among(split_folders), EVERYTHING, silent)
    assert json.loads(json.dumps(found)) == found
    assert (found["images"], found["strangers"]) == (12, 0)
    assert found["accuracy"] == {"accuracy": 1.0, "interval": [0.7575, 1.0], "n": 12}
    assert [row["class"] for row in found["classes"]] == ["left", "right"]
    assert [row["recall"]["recall"] for row in found["classes"]] == [1.0, 1.0]
    assert found["confusion"] == [[6, 0], [0, 6]]
    assert sum(one["n"] for one in found["calibration"]["bins"]) == 12
    assert found["corruptions"]["n"] == 8
    assert len(found["corruptions"]["accuracy"]) == 15
    assert all(len(row) == 5 for row in found["corruptions"]["accuracy"].values())
    rows = found["corruptions"]["accuracy"].values()
    error = sum(1 - cell["accuracy"] for row in rows for cell in row) / 75
    assert found["corruptions"]["c_like_error"] == pytest.approx(error, rel=1e-3)
    low, high = found["corruptions"]["interval"]
    assert 0 <= low < error < high <= 1
    rates = [row["flip_rate"] for row in found["perturbations"]["flip_rate"].values()]
    assert len(rates) == 10
    assert found["perturbations"]["mean_flip_rate"] == pytest.approx(sum(rates) / 10, rel=1e-3)
    assert found["adversarial"]["fgsm"][0]["accuracy"] == 1.0  # ε = 0: as they are
    assert found["adversarial"]["pgd"][-1]["epsilon"] == 8.0
    causes = {row["cause"]: row for row in found["stress"]}
    assert causes["illumination, darker"]["falls_at"] is None  # half the light is still more
    assert 45 < causes["viewpoint, turned"]["falls_at"] <= 90  # on its side it is neither
    assert "learnt_from" not in found
    assert "accuracy_among_its_classes" not in found


def test_images_that_the_run_has_learnt_from_are_told(split_folders: Path, tmp_path: Path) -> None:
    run = fl.train(split_folders, out=tmp_path / "run", method="supervised", **QUICK)
    found = evaluated(knows(), among(split_folders / "train", run.path), Asked(), silent)
    assert found["learnt_from"] == {"images": 8}
    mixed = tmp_path / "mixed"
    shutil.copytree(split_folders / "train", mixed)
    for file in (split_folders / "test").rglob("*.png"):
        shutil.copy(file, mixed / file.parent.name / f"new-{file.name}")
    found = evaluated(knows(), among(mixed, run.path), Asked(), silent)
    assert found["images"] == 20
    assert found["learnt_from"]["images"] == 8
    assert found["learnt_from"]["others"]["n"] == 12


def test_without_data_the_runs_own_test_images_are_asked_about(
    split_folders: Path, tmp_path: Path
) -> None:
    run = fl.train(split_folders, out=tmp_path / "run", method="supervised", **QUICK)
    judges = among(None, run.path)
    assert sorted(judges.label.tolist()) == [0] * 6 + [1] * 6
    assert not judges.learnt.any()
    shutil.rmtree(split_folders / "test")
    bare = fl.train(split_folders, out=tmp_path / "bare", method="supervised", **QUICK)
    with pytest.raises(UserError, match="has no test images; name labelled DATA"):
        among(None, bare.path)


def test_images_of_other_classes_are_strangers(split_folders: Path, paint: Paint) -> None:
    test = split_folders / "test"
    paint(test / "middle", 2, 5)
    found = evaluated(knows(), among(test), Asked(), silent)
    assert (found["images"], found["strangers"]) == (17, 5)
    assert found["accuracy"]["n"] == 12
    assert "unknown" not in found  # this classifier cannot tell
    shutil.rmtree(test / "left")
    shutil.rmtree(test / "right")
    with pytest.raises(UserError, match=r"of the classifier's \(left, right\)$"):
        evaluated(knows(), among(test), Asked(), silent)


def test_labels_go_by_name_and_some_classes_are_told_among_themselves(
    split_folders: Path, tmp_path: Path
) -> None:
    """A classifier of three classes in another order, one of which does not occur: ImageNet-A."""

    class Three(Above):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            left, right = super().forward(x).T
            return torch.stack([right, torch.full_like(left, 99.0), left], 1)

    classes = ("right", "middle", "left")
    judges = find(tmp_path, classes, 16, str(split_folders), silent)
    found = evaluated(knows(classes, Three()), judges, Asked(), silent)
    assert found["accuracy"]["accuracy"] == 0.0
    told = found["accuracy_among_its_classes"]
    assert told["accuracy_among_its_classes"] == 1.0


def test_broken_files_are_named(split_folders: Path) -> None:
    (split_folders / "test" / "left" / "broken.png").write_bytes(b"no picture")
    found = evaluated(knows(), among(split_folders), Asked(), silent)
    assert found["images"] == 12
    assert [item["name"] for item in found["skipped"]] == ["test/left/broken.png"]


def test_how_well_strangers_are_noticed(split_folders: Path, paint: Paint) -> None:
    """The score is 0 where above and below differ, and 10 where they are alike."""

    class Sides(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(2, 2, bias=False)
            nn.init.eye_(self.head.weight)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            difference = Above()(x)[:, 0]
            seen = torch.stack([difference > 0.1, difference < -0.1], 1).float()
            logits: torch.Tensor = self.head(seen)
            return logits

    net = knows(model=Sides())
    directions = torch.eye(2).double().numpy()
    blank = torch.zeros(0).numpy()
    net.detector = Detector(Familiar(directions, blank, blank.reshape(0, 0)), "", 5.0)
    found = evaluated(net, among(split_folders / "test"), Asked(), silent)
    assert found["unknown"] == {
        "threshold": 5.0,
        "known_flagged": {"known_flagged": 0.0, "interval": [0.0, 0.2425], "n": 12},
    }
    paint(split_folders / "test" / "grey", 2, 5)
    for file in (split_folders / "test" / "grey").iterdir():
        Image.new("RGB", (16, 16), (90, 90, 90)).save(file)
    told = evaluated(net, among(split_folders / "test"), Asked(), silent)["unknown"]
    assert told["auroc"]["auroc"] == 1.0
    assert told["strangers_flagged"]["strangers_flagged"] == 1.0
    assert told["known_flagged"]["known_flagged"] == 0.0
    assert [said.unknown for said in net.predict([Image.new("RGB", (16, 16))])] == [True]


def test_images_that_nothing_can_be_trained_from(split_folders: Path) -> None:
    """One class, and labels in test alone: enough to be asked about."""
    shutil.rmtree(split_folders / "train")
    assert len(among(split_folders).label) == 12
    shutil.rmtree(split_folders / "test" / "left")
    assert len(among(split_folders).label) == 6
    with pytest.raises(UserError, match="no labelled training image"):
        fl.Pool.scan(split_folders)
    shutil.move(split_folders / "test" / "right", split_folders / "unlabelled" / "right")
    shutil.rmtree(split_folders / "test")
    with pytest.raises(UserError, match="has no labelled images"):
        among(split_folders)


def test_imagenet_is_asked_by_its_wordnet_numbers() -> None:
    classes = tuple(f"name {number}" for number in range(1000))
    theirs = ("n01440764", "n15075141", "n00000000")
    assert numbers(theirs, classes).tolist() == [0, 999, -1]
    assert numbers(theirs, ("background", *classes)).tolist() == [1, 1000, -1]
    assert numbers(theirs, ("n15075141", "n01440764")).tolist() == [1, 0, -1]
    assert numbers(theirs, ("cat", "dog")).tolist() == [-1, -1, -1]


def test_what_was_found_is_kept_and_reported(split_folders: Path, tmp_path: Path) -> None:
    run = fl.train(split_folders, out=tmp_path / "run", method="supervised", **QUICK)
    first = evaluate(run)
    second = evaluate(run, split_folders / "train", stress=True, images=4)
    assert [one.path for one in (first, second)] == [
        run.path / "evaluations" / name for name in ("1.json", "2.json")
    ]
    assert second.path is not None
    assert json.loads(second.path.read_text()) == second.result
    assert first.result["accuracy"]["accuracy"] == run.result["test"]["accuracy"]
    assert first.result["calibration"]["ece"] == run.result["calibration"]["ece"]
    assert "viewpoint, turned" in (run.path / "report.html").read_text()
    shutil.move(run.path / "artefact", tmp_path / "shipped")
    alone = evaluate(tmp_path / "shipped", split_folders)
    assert alone.path is None
    assert alone.result["accuracy"] == first.result["accuracy"]
    with pytest.raises(UserError, match="has no test images"):
        evaluate(tmp_path / "shipped")


def test_imagenet_c_is_asked_about_as_it_lies_there(tmp_path: Path, paint: Paint) -> None:
    """Of 15 corruptions one is wrong throughout: a C-like error of 1/15. Two classes are no mCE."""
    for group, names in CORRUPTIONS.items():
        for name in names:
            for severity in range(1, 6):
                home = tmp_path / "c" / group / name / str(severity)
                paint(home / "left", int(name == "fog"), 1)
                paint(home / "right", int(name != "fog"), 1)
    folders = imagenet_c.found_in(tmp_path / "c")
    assert set(folders) == set(NAMES)
    asked = knows(), tmp_path / "c", folders, silent
    found = imagenet_c.evaluated(*asked)
    told = found["corruptions"]
    assert told["c_like_error"] == pytest.approx(1 / 15, abs=1e-4)
    assert [cell["accuracy"] for cell in told["accuracy"]["fog"]] == [0.0] * 5
    assert told["n"] == 2
    assert "mce" not in told
    paint(tmp_path / "c" / "weather" / "snow" / "2" / "cat", 0, 1)
    with pytest.raises(UserError, match="snow/2: has classes that the classifier does not know"):
        imagenet_c.evaluated(*asked)
    shutil.rmtree(tmp_path / "c" / "blur" / "glass_blur" / "3")
    assert set(imagenet_c.found_in(tmp_path / "c")) == set(NAMES) - {"glass_blur"}
    assert imagenet_c.found_in(tmp_path / "c" / "weather" / "snow" / "2") == {}


def test_all_of_imagenet_c_has_an_mce(
    tmp_path: Path, paint: Paint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judges, "IMAGENET", 2)
    for name in NAMES:
        for severity in range(1, 6):
            for kind, label in enumerate(("left", "right")):
                paint(tmp_path / name / str(severity) / label, 1 - kind, 1)
    folders = imagenet_c.found_in(tmp_path)
    told = imagenet_c.evaluated(knows(), tmp_path, folders, silent)["corruptions"]
    assert told["c_like_error"] == 1.0
    expected = sum(1 / error for error in ALEXNET_ERROR.values()) / 15
    assert told["mce"] == pytest.approx(expected, abs=1e-4)


def test_a_number_of_images_is_about_robustness() -> None:
    with pytest.raises(UserError, match="--images has no effect without --corruptions"):
        Asked(images=5)
    with pytest.raises(UserError, match="--images 0: must be at least 1"):
        Asked(images=0, stress=True)


def test_extra_corruptions_are_shown_and_not_counted(tmp_path: Path, paint: Paint) -> None:
    """Settings may be chosen on them."""
    for name in ("fog", "spatter"):
        for severity in range(1, 6):
            paint(tmp_path / name / str(severity) / "left", int(name == "spatter"), 2)
    (tmp_path / "fog" / "2" / "left" / "broken.png").write_bytes(b"no picture")
    folders = imagenet_c.found_in(tmp_path)
    found = imagenet_c.evaluated(knows(), tmp_path, folders, silent)
    told = found["corruptions"]
    assert set(told["accuracy"]) == {"fog", "spatter"}
    assert (told["c_like_error"], told["of"]) == (0.0, 1)
    assert [item["name"] for item in found["skipped"]] == [f"{tmp_path}/fog/2/broken.png"] or [
        item["name"] for item in found["skipped"]
    ] == [f"{tmp_path}/fog/2/left/broken.png"]
    shutil.rmtree(tmp_path / "fog")
    alone = imagenet_c.evaluated(knows(), tmp_path, imagenet_c.found_in(tmp_path), silent)
    assert "c_like_error" not in alone["corruptions"]


def test_a_run_is_asked_about_imagenet_c(
    split_folders: Path, tmp_path: Path, paint: Paint, capsys: pytest.CaptureFixture[str]
) -> None:
    run = fl.train(split_folders, out=tmp_path / "run", method="supervised", **QUICK)
    for severity in range(1, 6):
        paint(tmp_path / "c" / "snow" / str(severity) / "left", 0, 1)
    found = evaluate(run, tmp_path / "c")
    assert found.result["published"]
    assert found.path == run.path / "evaluations" / "1.json"
    print_evaluation(found.result, found.path, Console())
    assert "ImageNet-C's own files" in capsys.readouterr().out
    assert "on ImageNet-C's own images" in (run.path / "report.html").read_text()
    with pytest.raises(UserError, match="is ImageNet-C itself"):
        evaluate(run, tmp_path / "c", stress=True)


def test_test_images_that_are_gone_or_changed_are_named(
    split_folders: Path, tmp_path: Path, paint: Paint
) -> None:
    run = fl.train(split_folders, out=tmp_path / "run", method="supervised", **QUICK)
    gone, changed = sorted((split_folders / "test" / "left").iterdir())[:2]
    gone.unlink()
    Image.new("RGB", (16, 16)).save(changed)
    judges = among(None, run.path)
    assert len(judges.label) == 10
    assert {(Path(item.name).name, item.reason) for item in judges.skipped} == {
        (gone.name, "is gone since the run"),
        (changed.name, "has changed since the run"),
    }
    unlabelled = sorted((split_folders / "test" / "left").iterdir())[-1]
    with LabelStore(default_store(str(split_folders))) as store:
        store.add([Mark(content_digest(unlabelled.read_bytes()), "", "Ada", "page")])
    judges = among(None, run.path)
    assert len(judges.label) == 9
    (taken_back,) = (item for item in judges.skipped if Path(item.name).name == unlabelled.name)
    assert taken_back.reason == "has no label any more"
    assert len(judges.skipped) == 3
    (run.path / "splits.parquet").write_bytes(b"torn")
    for data in (None, split_folders / "test"):
        with pytest.raises(UserError, match=r"splits\.parquet: is damaged"):
            among(data, run.path)


def test_images_that_chose_are_no_new_ones_and_new_ones_tell_how_it_breaks(
    split_folders: Path, tmp_path: Path, paint: Paint
) -> None:
    for kind, name in enumerate(("left", "right")):
        paint(split_folders / "val" / name, kind, 3)
    run = fl.train(split_folders, out=tmp_path / "run", method="supervised", **QUICK)
    assert among(split_folders / "val", run.path).learnt.all()
    mixed = tmp_path / "mixed"
    shutil.copytree(split_folders / "train", mixed)
    for file in (split_folders / "test").rglob("*.png"):
        shutil.copy(file, mixed / file.parent.name / f"new-{file.name}")
    asked = among(mixed, run.path)
    found = evaluated(knows(), asked, Asked(stress=True, images=500), silent)
    assert found["images"] == 20
    assert found["stress"][0]["levels"][0]["n"] == 12
    learnt = evaluated(knows(), among(split_folders / "train", run.path), EVERYTHING, silent)
    assert learnt["stress"][0]["levels"][0]["n"] == 8  # there are no others
    evaluate(run, split_folders / "train", stress=True, images=4)
    assert "that the run has learnt from</b>" in (run.path / "report.html").read_text()


def test_one_class_is_not_told_among_itself(split_folders: Path) -> None:
    shutil.rmtree(split_folders / "test" / "left")
    found = evaluated(knows(), among(split_folders / "test"), Asked(), silent)
    assert "accuracy_among_its_classes" not in found


def test_images_of_one_group_count_as_fewer_in_all_that_is_told(
    split_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judges = among(split_folders / "test")
    group = np.arange(12) // 4
    asked: list[object] = []

    def watched(name: str) -> None:
        own = getattr(robustness, name)

        def call(*given: object) -> object:
            asked.append(given[-1] if name != "mean" else given[1])
            return own(*given)

        monkeypatch.setattr(robustness, name, call)

    for name in ("share", "gain", "mean"):
        watched(name)
    found = evaluated(knows(), replace(judges, group=group), EVERYTHING, silent)
    assert len(asked) > 75
    assert all(isinstance(one, np.ndarray) and set(one) <= {0, 1, 2} for one in asked)
    assert found["calibration"]["by_chance"] is None
    told = evaluated(knows(), judges, Asked(), silent)["accuracy"]["interval"]
    assert found["accuracy"]["interval"] != told


def test_what_cannot_be_kept_is_told_all_the_same(
    split_folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = fl.train(split_folders, out=tmp_path / "run", method="supervised", **QUICK)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(RunFolder, "write_json", full)
    found = evaluate(run)
    assert found.path is None
    assert "No space left" in found.result["not_kept"]
    assert found.result["accuracy"]["n"] == 12
