"""What `evaluate` tells of a classifier whose answers are known: it looks where the square is."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from conftest import Paint
from torch import nn

import fewlabels as fl
from fewlabels.deploy import evaluate
from fewlabels.deploy.artefact import Saved
from fewlabels.deploy.evaluate import Asked, evaluated, find
from fewlabels.errors import UserError
from fewlabels.models.built import Built
from fewlabels.pixels.preprocess import Preprocess

QUICK = {"steps": 4, "batch_size": 4, "img_size": 16, "model": "cnn_small", "device": "cpu"}
EVERYTHING = Asked(corruptions=True, perturbations=True, adversarial=True, stress=True, images=8)


def silent(what: str, done: int, of: int) -> None:
    assert 0 <= done <= of


class Above(nn.Module):
    """Class 0, `left`, where it is brighter above than below."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        difference = x[:, :, :8].mean((1, 2, 3)) - x[:, :, 8:].mean((1, 2, 3))
        return torch.stack([difference, -difference], 1) / 10


def knows(classes: tuple[str, ...] = ("left", "right")) -> Saved:
    plain = Preprocess(16, (0.0, 0.0, 0.0), (1 / 255,) * 3)
    return Saved(Built(Above(), "above"), classes, plain, "none")


def test_every_number_is_told_with_its_interval(split_folders: Path, tmp_path: Path) -> None:
    judges = find(tmp_path, knows(), str(split_folders), silent)
    found = evaluated(knows(), judges, EVERYTHING, "cpu", silent)
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
    assert len(found["perturbations"]["flip_rate"]) == 10
    assert found["adversarial"]["pgd"][-1]["epsilon"] == 8.0
    causes = {row["cause"]: row for row in found["stress"]}
    assert causes["illumination, darker"]["falls_at"] is None  # half the light is still more
    assert 45 < causes["viewpoint, turned"]["falls_at"] <= 90  # on its side it is neither
    assert "learnt_from" not in found
    assert "accuracy_among_its_classes" not in found


def test_images_that_the_run_has_learnt_from_are_told(split_folders: Path, tmp_path: Path) -> None:
    run = fl.train(split_folders, out=tmp_path / "run", method="supervised", **QUICK)
    train = str(split_folders / "train")
    found = evaluated(knows(), find(run.path, knows(), train, silent), Asked(), "cpu", silent)
    assert found["learnt_from"] == {"images": 8}
    mixed = tmp_path / "mixed"
    shutil.copytree(split_folders / "train", mixed)
    for file in (split_folders / "test").rglob("*.png"):
        shutil.copy(file, mixed / file.parent.name / f"new-{file.name}")
    found = evaluated(knows(), find(run.path, knows(), str(mixed), silent), Asked(), "cpu", silent)
    assert found["images"] == 20
    assert found["learnt_from"]["images"] == 8
    assert found["learnt_from"]["others"]["n"] == 12


def test_without_data_the_runs_own_test_images_are_asked_about(
    split_folders: Path, tmp_path: Path
) -> None:
    run = fl.train(split_folders, out=tmp_path / "run", method="supervised", **QUICK)
    judges = find(run.path, knows(), None, silent)
    assert sorted(Path(name).parts[0] for name in judges.names) == ["test"] * 12
    assert not judges.learnt.any()
    shutil.rmtree(split_folders / "test")
    bare = fl.train(split_folders, out=tmp_path / "bare", method="supervised", **QUICK)
    with pytest.raises(UserError, match="has no test images; name labelled DATA"):
        find(bare.path, knows(), None, silent)


def test_images_of_other_classes_are_strangers(
    split_folders: Path, tmp_path: Path, paint: Paint
) -> None:
    test = split_folders / "test"
    paint(test / "middle", 2, 5)
    judges = find(tmp_path, knows(), str(test), silent)
    found = evaluated(knows(), judges, Asked(), "cpu", silent)
    assert (found["images"], found["strangers"]) == (17, 5)
    assert found["accuracy"]["n"] == 12
    pets = knows(("cat", "dog"))
    with pytest.raises(UserError, match="none of its classes is one of the classifier's"):
        evaluated(pets, find(tmp_path, pets, str(test), silent), Asked(), "cpu", silent)


def test_labels_go_by_name_and_some_classes_are_told_among_themselves(
    split_folders: Path, tmp_path: Path
) -> None:
    """A classifier of three classes in another order, one of which does not occur: ImageNet-A."""

    class Three(Above):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            left, right = super().forward(x).T
            return torch.stack([right, torch.full_like(left, 99.0), left], 1)

    saved = knows(("right", "middle", "left"))
    saved = evaluate.Saved(Built(Three(), "three"), saved.classes, saved.preprocess, "none")
    judges = find(tmp_path, saved, str(split_folders), silent)
    found = evaluated(saved, judges, Asked(), "cpu", silent)
    assert found["accuracy"]["accuracy"] == 0.0
    among = found["accuracy_among_its_classes"]
    assert among["accuracy_among_its_classes"] == 1.0


def test_broken_files_are_named(split_folders: Path, tmp_path: Path) -> None:
    (split_folders / "test" / "left" / "broken.png").write_bytes(b"no picture")
    judges = find(tmp_path, knows(), str(split_folders), silent)
    found = evaluated(knows(), judges, Asked(), "cpu", silent)
    assert found["images"] == 12
    assert [item["name"] for item in found["skipped"]] == ["test/left/broken.png"]
