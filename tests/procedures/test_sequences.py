"""Sequences of runs, from end to end: pretrain, fixres, ensemble, baseline, distill."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from backbones import backbone
from conftest import Paint
from safetensors.torch import load_file

import fewlabels as fl
from fewlabels.errors import UserError
from fewlabels.training.freeze import FIXRES, Freeze, Freezer

QUICK: dict[str, Any] = {
    "steps": 6,
    "batch_size": 4,
    "img_size": 16,
    "model": "cnn_small",
    "device": "cpu",
    "flip": "off",
    "rotate": "off",
}
UNTRAINED = {"device": "cpu"}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "weights.safetensors")


def plain(run: fl.Run) -> dict[str, Any]:
    """Its accuracy on the test images, without what else is told of them."""
    return {name: run.result["test"][name] for name in ("accuracy", "interval", "n")}


@pytest.fixture
def run(split_folders: Path, tmp_path: Path) -> fl.Run:
    return fl.train(split_folders, out=tmp_path / "first", method="supervised", **QUICK)


def other(split_folders: Path, tmp_path: Path, **settings: Any) -> fl.Run:
    own = QUICK | {"seed": 0, "img_size": 24} | settings
    return fl.train(split_folders, out=tmp_path / "second", method="supervised", **own)


def table(photos: Path, exchanged: bool) -> Path:
    """The pool as a table, its images in one order, the training labels right or exchanged."""
    other = {"left": "right", "right": "left"}
    lines = ["image,label,split"]
    for file in sorted(photos.rglob("*.png")):
        split, *inner = file.relative_to(photos).parts
        label = inner[0] if split in ("train", "test") else ""
        if exchanged and split == "train":
            label = other[label]
        lines.append(f"{file.relative_to(photos)},{label},{split if label else 'train'}")
    made = photos / f"exchanged-{exchanged}.csv"
    made.write_text("\n".join(lines))
    return made


def test_an_ensemble_is_the_mean_of_its_members(
    split_folders: Path, tmp_path: Path, run: fl.Run
) -> None:
    second = other(split_folders, tmp_path, img_size=16, lr=0.01)
    runs = [str(run.path), str(second.path)]
    both = fl.train(split_folders, out=tmp_path / "both", method="ensemble", runs=runs, **UNTRAINED)
    pictures = sorted((split_folders / "test").rglob("*.png"))
    said = [
        np.array([one.probabilities for one in fl.load(each).predict(pictures)])
        for each in (run, second, both)
    ]
    np.testing.assert_allclose(said[2], (said[0] + said[1]) / 2, atol=1e-6)
    assert (both.result["method"], both.result["steps"]) == ("ensemble", 0)
    assert [one["run"] for one in both.result["members"]] == runs
    assert [one["test"] for one in both.result["members"]] == [plain(run), plain(second)]
    assert "The ensemble of 2 runs and the best of them" in both.result["verdict"]


def test_members_may_see_images_of_other_sizes(
    split_folders: Path, tmp_path: Path, run: fl.Run
) -> None:
    second = other(split_folders, tmp_path)
    runs = [str(run.path), str(second.path)]
    both = fl.train(split_folders, out=tmp_path / "both", method="ensemble", runs=runs, **UNTRAINED)
    assert both.result["img_size"] == 24
    moved = tmp_path / "moved"
    shutil.copytree(both.path / "artefact", moved)  # whole, without the runs
    for each in runs:
        shutil.rmtree(each)
    assert fl.load(moved).predict([split_folders / "test" / "left" / "left-0-0.png"])[0].label


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"method": "ensemble"}, "name at least two runs"),
        ({"method": "fixres"}, "name one run with --run"),
        ({"method": "flexmatch", "runs": ["runs/1"]}, "'runs' has no effect in the method flexm"),
        ({"method": "ensemble", "runs": ["nowhere", "x"]}, "nowhere: no such run folder"),
        ({"method": "ensemble", "lr": 0.1}, "'lr' has no effect in the method ensemble"),
        ({"method": "pretrain", "settings": {"task": "colour"}}, "task colour: must be one of"),
        ({"method": "pretrain", "settings": {"tasks": "x"}}, "it takes task, share"),
        (
            {"method": "pretrain", "settings": {"share": 0.5}, "steps": 4},
            "'share' is a part of --time-limit: no effect with --steps",
        ),
        ({"method": "ensemble", "weights": "none"}, "--weights none: has no effect in the method"),
        ({"method": "fixres", "weights": "none"}, "--weights none: has no effect in the method"),
        ({"method": "baseline", "settings": {"k": 3}}, "it takes none"),
        ({"method": "supervised", "images": "more"}, "'images' has no effect"),
    ],
)
def test_what_cannot_be_is_one_line(
    split_folders: Path, tmp_path: Path, settings: dict[str, Any], line: str
) -> None:
    with pytest.raises(UserError, match=line):
        fl.train(split_folders, out=tmp_path / "run", **settings)
    assert not (tmp_path / "run").exists()


def test_other_classes_are_told(
    split_folders: Path, tmp_path: Path, paint: Paint, run: fl.Run
) -> None:
    for kind, name in enumerate(("up", "down")):
        paint(tmp_path / "more" / "train" / name, kind, 3)
    paint(tmp_path / "more" / "unlabelled", 0, 4)
    with pytest.raises(UserError, match=r"has other classes than the data \(down, left, right"):
        fl.distill(run, model="lenet5", data=tmp_path / "more", out=tmp_path / "run", steps=2)


def test_pretraining_is_kept_for_other_runs(split_folders: Path, tmp_path: Path) -> None:
    run = fl.train(
        split_folders,
        out=tmp_path / "run",
        method="pretrain",
        settings={"task": "rotation"},
        **QUICK,
    )
    assert (run.result["method"], run.result["steps"]) == ("pretrain", 12)
    assert "baseline" in run.result
    about = json.loads((run.path / "pretrained" / "classifier.json").read_text())
    assert about["method"] == "rotation"
    task, tuned = weights(run.path / "pretrained"), weights(run.path / "artefact")
    assert task.keys() == tuned.keys()
    again = fl.train(
        split_folders,
        out=tmp_path / "again",
        method="supervised",
        weights=str(run.path / "pretrained"),
        **{**QUICK, "model": "auto", "img_size": None, "lr": 1e-9, "norms": "keep"},
    )
    filters = weights(again.path / "artefact")["stem.1.0.weight"]
    torch.testing.assert_close(filters, task["stem.1.0.weight"], atol=1e-5, rtol=0)


def test_labels_are_not_looked_at_in_pretraining(split_folders: Path, tmp_path: Path) -> None:
    """The same images with their labels exchanged: the same weights."""
    found = []
    for exchanged in (False, True):
        pool = table(split_folders, exchanged)
        run = fl.train(pool, out=tmp_path / f"{exchanged}", method="pretrain", guard="off", **QUICK)
        found.append(run.path)
    one, two = (weights(path / "pretrained") for path in found)
    assert all(torch.equal(value, two[name]) for name, value in one.items())
    one, two = (weights(path / "artefact") for path in found)
    assert not all(torch.equal(value, two[name]) for name, value in one.items())


def test_fixres_tunes_the_head_and_the_last_norm_at_a_larger_size(
    split_folders: Path, tmp_path: Path, run: fl.Run
) -> None:
    tuned = fl.train(
        split_folders,
        out=tmp_path / "tuned",
        method="fixres",
        runs=[str(run.path)],
        steps=6,
        batch_size=4,
        device="cpu",
        settings={"larger": 1.5},
    )
    assert (tuned.result["method"], tuned.result["img_size"]) == ("fixres", 24)
    assert tuned.result["baseline"]["method"] == "before"
    assert tuned.result["baseline"]["test"] == run.result["test"]
    assert tuned.result["views"] == {"weak": "none"}
    before, after = weights(run.path / "artefact"), weights(tuned.path / "artefact")
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed == {
        "head.weight",
        "head.bias",
        "top.1.1.weight",
        "top.1.1.bias",
        "top.1.1.running_mean",
        "top.1.1.running_var",
        "top.1.1.num_batches_tracked",
    }


def test_fixres_is_not_held_to_what_a_cpu_has_time_for(split_folders: Path, tmp_path: Path) -> None:
    own = QUICK | {"method": "supervised", "img_size": 120, "steps": 1}
    first = fl.train(split_folders, out=tmp_path / "first", **own)
    own = {"method": "fixres", "runs": [str(first.path)], "steps": 1, "batch_size": 4}
    tuned = fl.train(split_folders, out=tmp_path / "tuned", settings={"larger": 1.2}, **own)
    assert tuned.result["img_size"] == 144


def test_fixres_keeps_the_run_where_it_is_better_on_validation(
    split_folders: Path, tmp_path: Path, paint: Paint, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fewlabels.procedures import fixres

    for kind, name in enumerate(("left", "right")):
        paint(split_folders / "val" / name, kind, 4)
    run = fl.train(split_folders, out=tmp_path / "first", method="supervised", tta="flip", **QUICK)
    monkeypatch.setattr(fixres, "choose", lambda _, order, *__: (order[1], "the run is better"))
    kept = fl.train(
        split_folders,
        out=tmp_path / "kept",
        method="fixres",
        runs=[str(run.path)],
        steps=4,
        batch_size=4,
    )
    assert (kept.result["method"], kept.result["img_size"]) == ("before", 16)
    assert kept.result["test"] == run.result["test"]
    before, after = weights(run.path / "artefact"), weights(kept.path / "artefact")
    assert all(torch.equal(value, before[name]) for name, value in after.items())
    # asked as it was: at its size, with its test-time augmentation
    said = [pq.read_table(one.path / "predictions.parquet")["probabilities"] for one in (run, kept)]
    assert said[0].to_pylist() == said[1].to_pylist()


def test_the_last_norm_learns_among_what_is_frozen() -> None:
    from fewlabels.models import catalog

    model = catalog.build("cnn_small", 4).model
    freezer = Freezer(model, Freeze(FIXRES), 32)
    model.train()
    freezer(0.0)
    learns = {name for name, p in model.named_parameters() if p.requires_grad}
    assert learns == {"head.weight", "head.bias", "top.1.1.weight", "top.1.1.bias"}
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert [norm.training for norm in norms] == [False] * (len(norms) - 1) + [True]
    with pytest.raises(UserError, match="--unfreeze has no effect with --freeze fixres"):
        Freeze(FIXRES, 0.5)


def test_baselines_stand_side_by_side(split_folders: Path, tmp_path: Path) -> None:
    model = backbone(tmp_path / "model")
    own = QUICK | {"model": model, "img_size": 32}
    run = fl.train(split_folders, out=tmp_path / "run", method="baseline", **own)
    names = ["linear_probe", "knn", "label_spreading", "fine-tune"]
    told = run.result["choice"]["candidates"]
    assert [one["method"] for one in told] == names
    assert {one["val"]["n"] for one in told} == {8}  # all labels, each unseen
    assert run.result["method"] in names
    assert fl.load(run).predict([split_folders / "test" / "left" / "left-0-0.png"])[0].label


@pytest.mark.slow
def test_labels_are_not_spread_to_more_images_than_there_is_time_for(
    split_folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fewlabels.procedures import frozen

    monkeypatch.setattr(frozen, "FORWARD", 0.0)
    own = {"model": backbone(tmp_path / "model"), "img_size": 32, "batch_size": 4, "device": "cpu"}
    own |= {"flip": "off", "rotate": "off", "time_limit": 20.0}
    run = fl.train(split_folders, out=tmp_path / "run", method="baseline", **own)
    told = [one["method"] for one in run.result["choice"]["candidates"]]
    assert told == ["linear_probe", "knn", "fine-tune"]
    said = "label_spreading: there is no time for the features of 24 images"
    assert said in (run.path / "train.log").read_text()


@pytest.mark.parametrize("winner", ["knn", "label_spreading", "fine-tune"])
def test_what_is_shipped_is_what_was_measured(
    split_folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, winner: str
) -> None:
    from fewlabels.procedures import baseline

    monkeypatch.setattr(baseline, "choose", lambda *_, **__: (winner, "so it is"))
    own = QUICK | {"model": backbone(tmp_path / "model"), "img_size": 32}
    run = fl.train(split_folders, out=tmp_path / "run", method="baseline", **own)
    table = pq.read_table(run.path / "predictions.parquet").to_pydict()
    rows = [i for i, split in enumerate(table["split"]) if split == "test"]
    pictures = [split_folders / table["name"][i] for i in rows]
    said = [one.probabilities for one in fl.load(run).predict(pictures)]
    np.testing.assert_allclose(said, [table["probabilities"][i] for i in rows], atol=1e-5)


def test_a_student_is_distilled_and_what_it_kept_is_told(
    split_folders: Path, tmp_path: Path, run: fl.Run
) -> None:
    own = {"steps": 6, "batch_size": 4, "img_size": 16, "device": "cpu", "flip": "off"}
    student = fl.distill(run, model="mlp", out=tmp_path / "student", rotate="off", **own)
    kept = student.result["kept"]
    assert kept["teacher"]["runs"] == [str(run.path)]
    assert kept["teacher"]["test"] == plain(run)
    assert kept["student"]["test"] == plain(student)
    assert (kept["teacher"]["model"], kept["student"]["model"]) == ("cnn_small", "mlp")
    model = fl.load(student).model
    assert kept["student"]["parameters"] == sum(p.numel() for p in model.parameters())
    assert min(kept[who]["images_per_second"] for who in ("teacher", "student")) > 0
    assert "The student has" in student.result["verdict"]
    assert "baseline" in student.result


def test_several_runs_teach_together_and_without_labels_none_is_looked_at(
    split_folders: Path, tmp_path: Path, paint: Paint, run: fl.Run
) -> None:
    second = other(split_folders, tmp_path)
    paint(tmp_path / "others" / "deep", 2, 5)
    own = {"steps": 6, "batch_size": 4, "img_size": 16, "device": "cpu"}

    def student(exchanged: bool) -> fl.Run:
        return fl.distill(
            [run, second.path],
            model="lenet5",
            data=table(split_folders, exchanged),
            labels=False,
            images=str(tmp_path / "others"),
            out=tmp_path / f"{exchanged}",
            **own,
        )

    one = student(False)
    assert one.result["kept"]["teacher"]["model"] == "cnn_small + cnn_small"
    assert "baseline" not in one.result
    assert one.result["unlabelled"] == 5  # the others, in the place of the pool's own
    splits = pq.read_table(one.path / "splits.parquet").to_pydict()
    assert sum(used == "unlabelled" for used in splits["used"]) == 5
    two = student(True)
    a, b = (weights(each.path / "artefact") for each in (one, two))
    assert all(torch.equal(value, b[name]) for name, value in a.items())


def test_a_student_learns_what_its_teacher_says(split_folders: Path, tmp_path: Path) -> None:
    """Given time, it agrees with a teacher that it could not have become by itself: one whose
    labels were exchanged."""
    own, pool = QUICK | {"steps": 60}, table(split_folders, True)
    wrong = fl.train(pool, out=tmp_path / "wrong", method="supervised", **own)
    assert wrong.result["test"]["accuracy"] < 0.2
    student = fl.distill(
        wrong, model="cnn_small", labels=False, data=split_folders, out=tmp_path / "student",
        steps=60, batch_size=4, img_size=16, device="cpu", flip="off", rotate="off",
    )  # fmt: skip
    assert student.result["kept"]["agreement"] > 0.8
    assert student.result["test"]["accuracy"] < 0.2


def test_a_run_that_has_seen_the_test_images_is_refused(tmp_path: Path, paint: Paint) -> None:
    """One tree is split by the seed."""
    for kind, name in enumerate(("left", "right")):
        paint(tmp_path / "photos" / name, kind, 12)
    own = QUICK | {"method": "supervised", "steps": 1}
    first = fl.train(tmp_path / "photos", out=tmp_path / "first", seed=1, **own)
    for method in ("fixres", "distill"):
        asked = {"method": method, "runs": [first], "steps": 1, "batch_size": 4, "device": "cpu"}
        with pytest.raises(UserError, match=r"has learnt from \d+ of the \d+ images that this run"):
            fl.train(tmp_path / "photos", out=tmp_path / "run", **asked)
        assert not (tmp_path / "run").exists()
    asked |= {"method": "fixres", "seed": 1}
    assert fl.train(tmp_path / "photos", out=tmp_path / "run", **asked).result["test"]["n"] > 0


def test_copies_across_the_pools_own_splits_are_no_reason_to_refuse_a_run(
    split_folders: Path, tmp_path: Path
) -> None:
    picture = split_folders / "test" / "left" / "left-0-0.png"
    (split_folders / "unlabelled" / "copy.png").write_bytes(picture.read_bytes())
    first = fl.train(split_folders, out=tmp_path / "one", **QUICK | {"method": "supervised"})
    own = {"method": "fixres", "runs": [first], "steps": 1, "batch_size": 4, "device": "cpu"}
    assert fl.train(split_folders, out=tmp_path / "tuned", **own).result["test"]["n"] == 12


def test_fixres_is_of_one_net_with_the_same_classes(
    split_folders: Path, tmp_path: Path, paint: Paint, run: fl.Run
) -> None:
    for kind, name in enumerate(("up", "down", "left")):
        paint(tmp_path / "others" / "train" / name, kind, 4)
    own = {"method": "fixres", "out": tmp_path / "run", "steps": 1, "device": "cpu"}
    with pytest.raises(UserError, match="has other classes than the data"):
        fl.train(tmp_path / "others", runs=[run], **own)
    asked = {"method": "ensemble", "out": tmp_path / "both", **UNTRAINED}
    both = fl.train(split_folders, runs=[run, run], **asked)
    with pytest.raises(UserError, match="is an ensemble; tune its members"):
        fl.train(split_folders, runs=[both], **own)


def test_a_pretrained_student_without_labels_begins_without_a_probe(
    split_folders: Path, tmp_path: Path, run: fl.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fewlabels.procedures import labels_only

    def looked(*_: Any) -> Any:
        raise AssertionError("it looks at labels")

    monkeypatch.setattr(labels_only, "probed", looked)
    own = {"model": backbone(tmp_path / "model"), "img_size": 32, "steps": 2, "batch_size": 4}
    student = fl.distill(run, labels=False, out=tmp_path / "student", device="cpu", **own)
    assert student.result["method"] == "distill"


def test_other_images_take_the_place_of_all_unlabelled_ones(
    split_folders: Path, tmp_path: Path, paint: Paint
) -> None:
    """Also of those whose labels are not kept."""
    paint(tmp_path / "more", 0, 5)
    own = QUICK | {"method": "supervised", "labels_per_class": 2}
    first = fl.train(split_folders, out=tmp_path / "first", **own)
    own = {"model": "mlp", "steps": 1, "batch_size": 4, "img_size": 16, "device": "cpu"}
    student = fl.distill(first, images=str(tmp_path / "more"), out=tmp_path / "student", **own)
    assert (student.result["labels"], student.result["unlabelled"]) == (4, 5)


def test_a_slow_teacher_is_not_timed_as_often_as_a_fast_student() -> None:
    import time

    from fewlabels.procedures.distil import SECONDS, speeds

    class Waits(torch.nn.Module):
        def __init__(self, seconds: float) -> None:
            super().__init__()
            self.seconds, self.asked = seconds, 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.asked += 1
            time.sleep(self.seconds)
            return x

    slow, fast = Waits(SECONDS), Waits(SECONDS / 20)
    rates = speeds([(slow, 8), (fast, 8)], torch.device("cpu"))
    assert slow.asked == 2  # the first pays for set-up
    assert 2 < fast.asked <= 21
    assert rates[1] > 5 * rates[0]
