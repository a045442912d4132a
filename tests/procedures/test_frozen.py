"""Whole runs on frozen features: what they report, what they ship, what they never look at."""

import json
import shutil
import socket
from dataclasses import replace
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
from fewlabels import api
from fewlabels.models import from_timm
from fewlabels.models.neighbours import Neighbours
from fewlabels.pool import Pool
from fewlabels.procedures import embedding, frozen, outcome, registry
from fewlabels.procedures.config import Config
from fewlabels.procedures.probes import FROZEN

METHODS = tuple(FROZEN)


@pytest.fixture
def model(tmp_path: Path) -> str:
    return backbone(tmp_path / "model")


def state(run: fl.Run) -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = load_file(run.path / "artefact" / "weights.safetensors")
    return weights


def same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return list(one) == list(two) and all(torch.equal(value, two[k]) for k, value in one.items())


@pytest.mark.parametrize("method", METHODS)
def test_a_run_from_end_to_end(
    split_folders: Path, tmp_path: Path, model: str, method: str
) -> None:
    before = sorted(path.stat().st_mtime_ns for path in split_folders.rglob("*"))
    run = fl.train(split_folders, out=tmp_path / "run", method=method, model=model)
    result = run.result
    assert sorted(path.stat().st_mtime_ns for path in split_folders.rglob("*")) == before
    assert (result["method"], result["model"], result["steps"]) == (method, model, 0)
    assert (result["labels"], result["unlabelled"], result["img_size"]) == (8, 24, 32)
    assert (result["val"]["n"], result["test"]["n"], result["estimate"]) == (2, 12, "test")
    assert result["test"]["accuracy"] > 0.6  # bright above or below: random filters see that
    assert result["choice"]["how"] == "given"
    assert result["views"] == {}
    assert json.loads((run.path / "result.json").read_text()) == result
    page = (run.path / "report.html").read_text()
    assert method in page
    assert not (run.path / "metrics.jsonl").exists() or not (run.path / "metrics.jsonl").read_text()
    if method == "label_spreading":
        assert result["baseline"]["method"] == "linear_probe"
        assert result["difference"]["test"]["n"] == 12
        assert "linear probe on the same features" in result["verdict"]
        probe = fl.train(split_folders, out=tmp_path / "probe", method="linear_probe", model=model)
        assert result["baseline"]["test"] == probe.result["test"]
        assert result["baseline"]["val"] == probe.result["val"]
    else:
        assert "baseline" not in result
        assert result["verdict"].startswith("Labels only")

    # what is shipped is what was measured
    files = sorted((split_folders / "test").rglob("*.png"))
    shutil.copytree(run.path / "artefact", tmp_path / "copied")
    table = pq.read_table(run.path / "predictions.parquet").to_pylist()
    written = {row["name"]: row["probabilities"] for row in table if row["split"] == "test"}
    for classifier in (fl.load(run), fl.load(tmp_path / "copied")):
        said = classifier.predict(files)
        right = [p.label == file.parent.name for p, file in zip(said, files, strict=True)]
        assert round(float(np.mean(right)), 4) == result["test"]["accuracy"]
        for p, file in zip(said, files, strict=True):
            name = str(file.relative_to(split_folders))
            np.testing.assert_allclose(p.probabilities, written[name], atol=1e-4)
    assert fl.resume(run.path).result == result
    gallery = pq.read_table(run.path / "gallery.parquet").to_pylist()
    assert {"right", "pseudo"} <= {row["kind"] for row in gallery}


@pytest.mark.parametrize("method", METHODS)
def test_the_backbone_is_what_it_was(
    split_folders: Path, tmp_path: Path, model: str, method: str
) -> None:
    run = fl.train(split_folders, out=tmp_path / "run", method=method, model=model)
    theirs = load_file(tmp_path / "model" / "model.safetensors")
    ours = state(run)
    for name, value in theirs.items():
        if not name.startswith("fc."):
            assert torch.equal(ours[name], value), name
    if method == "knn":
        head = fl.load(run).model.get_submodule("fc")
        assert isinstance(head, Neighbours)
        assert (len(head.bank), head.k) == (8, 8)
        assert sorted(head.label.tolist()) == [0] * 4 + [1] * 4
    else:
        assert not torch.equal(ours["fc.weight"], theirs["fc.weight"])


def test_settings_reach_the_method(split_folders: Path, tmp_path: Path, model: str) -> None:
    about: dict[str, Any] = {"method": "knn", "model": model, "settings": {"k": 3}}
    head = fl.load(fl.train(split_folders, out=tmp_path / "knn", **about)).model.get_submodule("fc")
    assert isinstance(head, Neighbours)
    assert head.k == 3
    about["method"] = "label_spreading"
    runs = [
        fl.train(split_folders, out=tmp_path / str(k), **(about | {"settings": {"k": k}}))
        for k in (2, 30)
    ]
    assert not same(state(runs[0]), state(runs[1]))


@pytest.mark.parametrize("method", METHODS)
def test_test_labels_change_nothing_but_the_test_accuracy(
    split_folders: Path, tmp_path: Path, model: str, method: str
) -> None:
    one = fl.train(split_folders, out=tmp_path / "one", method=method, model=model)
    test = split_folders / "test"
    (test / "left").rename(test / "other")
    (test / "right").rename(test / "left")
    (test / "other").rename(test / "right")
    two = fl.train(split_folders, out=tmp_path / "two", method=method, model=model)
    assert same(state(one), state(two))
    assert one.result["val"] == two.result["val"]
    total = one.result["test"]["accuracy"] + two.result["test"]["accuracy"]
    assert total == pytest.approx(1.0, abs=1e-4)  # rounded


@pytest.mark.parametrize("method", METHODS)
def test_what_judges_has_not_seen_the_held_out_labels(
    split_folders: Path, tmp_path: Path, model: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With these labels turned round it says the same of their images; what is shipped does not."""

    def probabilities(run: fl.Run) -> list[list[float]]:
        rows = pq.read_table(run.path / "predictions.parquet").to_pylist()
        return [row["probabilities"] for row in rows if row["split"] == "val"]

    one = fl.train(split_folders, out=tmp_path / "one", method=method, model=model)
    real = frozen.run

    def turned(context: Any) -> Any:
        label = context.data.pool.label.copy()
        label[context.data.held_out] = 1 - label[context.data.held_out]
        data = replace(context.data, pool=replace(context.data.pool, label=label))
        return real(replace(context, data=data))

    monkeypatch.setitem(registry.PROCEDURES, method, turned)
    two = fl.train(split_folders, out=tmp_path / "two", method=method, model=model)
    assert len(probabilities(one)) == 2
    assert probabilities(one) == probabilities(two)
    assert not same(state(one), state(two))


def test_validation_images_of_the_pool_are_judged_and_not_learnt_from(
    split_folders: Path, tmp_path: Path, model: str, paint: Paint
) -> None:
    for kind, name in enumerate(("left", "right")):
        paint(split_folders / "val" / name, kind, 5)
    one = fl.train(split_folders, out=tmp_path / "one", method="linear_probe", model=model)
    assert (one.result["val"]["n"], one.result["labels"]) == (10, 8)
    (split_folders / "val" / "left").rename(split_folders / "val" / "other")
    (split_folders / "val" / "right").rename(split_folders / "val" / "left")
    (split_folders / "val" / "other").rename(split_folders / "val" / "right")
    two = fl.train(split_folders, out=tmp_path / "two", method="linear_probe", model=model)
    assert same(state(one), state(two))
    assert one.result["val"]["accuracy"] + two.result["val"]["accuracy"] == pytest.approx(1.0)


@pytest.mark.parametrize("method", METHODS)
def test_one_label_a_class(tmp_path: Path, paint: Paint, model: str, method: str) -> None:
    root = tmp_path / "one"
    for kind, name in enumerate(("left", "right")):
        paint(root / name, kind, 1)
        paint(root / "unlabelled", kind, 6)
    run = fl.train(root, out=tmp_path / "run", method=method, model=model)
    assert "val" not in run.result
    assert "test" not in run.result
    assert fl.load(run).predict(next((root / "left").iterdir()))[0].label == "left"


@pytest.mark.parametrize("where", ["features", "result"])
def test_a_killed_run_goes_on(
    split_folders: Path,
    tmp_path: Path,
    model: str,
    where: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    about: dict[str, Any] = {"method": "label_spreading", "model": model}
    whole = fl.train(split_folders, out=tmp_path / "whole", **about)
    monkeypatch.setenv("FEWLABELS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(embedding, "PART", 10)
    computed: list[int] = []
    real = embedding._compute

    def compute(context: Any, its: Any, rows: list[int], *rest: Any) -> Any:
        if where == "features" and len(computed) == 20:
            raise KeyboardInterrupt
        computed.extend(rows)
        return real(context, its, rows, *rest)

    def killed(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(embedding, "_compute", compute)
    with monkeypatch.context() as patch:
        if where == "result":
            patch.setattr(outcome, "result", killed)
        with pytest.raises(KeyboardInterrupt):
            fl.train(split_folders, out=tmp_path / "run", **about)
    assert not (tmp_path / "run" / "result.json").exists()
    where = "nowhere"
    run = fl.resume(tmp_path / "run")
    assert sorted(computed) == list(range(44))  # none twice
    assert run.result["test"] == whole.result["test"]
    for name, value in state(whole).items():
        torch.testing.assert_close(state(run)[name], value, rtol=1e-3, atol=1e-3)


def test_features_are_shared_by_methods(
    split_folders: Path, tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fl.train(split_folders, out=tmp_path / "one", method="label_spreading", model=model)

    def never(*_: Any) -> Any:
        raise AssertionError("computed again")

    monkeypatch.setattr(embedding, "_compute", never)
    for method in METHODS:  # their pictures of pseudo-labels too
        fl.train(split_folders, out=tmp_path / method, method=method, model=model, seed=1)


def test_what_cannot_be_frozen_leaves_no_run_folder(tmp_path: Path, paint: Paint) -> None:
    root, out = tmp_path / "photos", tmp_path / "run"
    for kind, name in enumerate(("left", "right")):
        paint(root / name, kind, 6)
    with pytest.raises(fl.UserError, match="no unlabelled images; take linear_probe"):
        fl.train(root, out=out, method="label_spreading", weights="none", model="cnn_small")
    about: dict[str, Any] = {"method": "linear_probe", "weights": "none", "img_size": 32}
    for model in ("squeezenet1_1", "timm:deit_tiny_distilled_patch16_224"):  # the latter has two
        with pytest.raises(fl.UserError, match="no linear head"):
            fl.train(root, out=out, model=model, **about)
    for name, value in (("steps", 5), ("lr", 0.1), ("tta", "flip"), ("augment", "weak")):
        with pytest.raises(
            fl.UserError, match=f"'{name}' has no effect in the method linear_probe"
        ):
            fl.train(root, out=out, model="cnn_small", **(about | {name: value}))
    assert not out.exists()
    run = fl.train(root, out=out, model="cnn_small", **about)
    assert run.result["method"] == "linear_probe"


# models with their own classes


def test_a_backbone_with_its_own_head_predicts(
    split_folders: Path, tmp_path: Path, model: str
) -> None:
    image = next((split_folders / "test" / "left").iterdir())
    with pytest.raises(fl.UserError, match="nothing tells the names of its classes"):
        fl.load(model)
    (tmp_path / "model" / "labels.txt").write_text("above\nbelow\n")
    classifier = fl.load(model)
    assert classifier.classes == ("above", "below")
    assert (classifier.preprocess.size, classifier.tta) == (32, "none")
    assert classifier.preprocess.mean == (0.3, 0.3, 0.3)
    said = classifier.predict(image)[0]
    assert said.label in classifier.classes
    assert sum(said.probabilities) == pytest.approx(1)
    assert classifier.embed(image).shape == (1, 96)
    theirs = load_file(tmp_path / "model" / "model.safetensors")
    assert same(
        dict(classifier.model.state_dict()), {k: theirs[k] for k in classifier.model.state_dict()}
    )
    with pytest.raises(fl.UserError, match="no config"):
        fl.load(f"local-dir:{tmp_path / 'absent'}")


# the start of a run


@pytest.mark.parametrize(
    "name", ["timm:test_resnet", "shufflenet_v2_x0_5", "auto", "mlp", "resnet18"]
)
def test_a_run_that_goes_on_starts_from_the_same_weights(
    split_folders: Path,
    tmp_path: Path,
    paint: Paint,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where pretrained ones were looked for in vain, which draws numbers."""
    from huggingface_hub import constants

    def away(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", away)
    monkeypatch.setattr(from_timm, "reachable", lambda url: False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(api, "typical_side", lambda pool: 224)  # so that `auto` wants weights
    pool = Pool.scan(split_folders)
    asked = Config(str(split_folders), model=name, img_size=32, steps=1)
    started = api._start(asked, pool)
    config, one = started.config, started.built
    again = api._start(config, pool)
    two = again.built
    assert again.config == config
    assert same(dict(one.model.state_dict()), dict(two.model.state_dict()))
    assert ("no pretrained weights" in one.note) == (name != "mlp")
    assert two.note == ""
