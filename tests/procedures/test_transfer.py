"""Training on from pretrained weights: where it starts, what it keeps, where weights come from."""

import json
from pathlib import Path
from typing import Any

import backbones
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import nn

import fewlabels as fl
from fewlabels.errors import UserError
from fewlabels.models import catalog, weights_file
from fewlabels.models.built import restore
from fewlabels.procedures import auto
from fewlabels.procedures.stage import Context

STILL = {"steps": 2, "lr": 1e-9, "batch_size": 4, "img_size": 32, "flip": "off", "rotate": "off"}


@pytest.fixture
def backbone(tmp_path: Path) -> str:
    return backbones.backbone(tmp_path / "backbone")


def said(run: fl.Run) -> np.ndarray:
    """Probabilities of the validation images."""
    table = pq.read_table(run.path / "predictions.parquet").to_pydict()
    chosen = [p for p, s in zip(table["probabilities"], table["split"], strict=True) if s == "val"]
    return np.array(chosen)


def settings(run: fl.Run) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((run.path / "config.yaml").read_text())
    return config


def weights(run: fl.Run) -> dict[str, torch.Tensor]:
    return load_file(run.path / "artefact" / "weights.safetensors")


def test_training_starts_from_a_linear_probe(
    split_folders: Path, tmp_path: Path, backbone: str
) -> None:
    probe = fl.train(
        split_folders, model=backbone, method="linear_probe", img_size=32, out=tmp_path / "probe"
    )
    tuned = fl.train(
        split_folders, model=backbone, method="supervised", out=tmp_path / "tuned", **STILL
    )
    np.testing.assert_allclose(said(tuned), said(probe), atol=1e-3)
    assert np.abs(said(probe) - 0.5).max() > 0.02


def test_the_probe_has_not_seen_what_it_is_validated_on(
    split_folders: Path, tmp_path: Path, backbone: str
) -> None:
    """The same split with the held-out labels turned round: their images are judged as before."""
    from fewlabels.procedures import heads

    seen: list[set[int]] = []
    found = heads.linear_probe

    def watched(features: Any, label: Any, *rest: Any) -> nn.Linear:
        seen.append(set(range(len(label))))
        return found(features, label, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(heads, "linear_probe", watched)
        run = fl.train(
            split_folders, model=backbone, method="fixmatch", out=tmp_path / "run", **STILL
        )
    labelled = run.result["labels"]
    # the trial of labels only; what is named has no trial where there are test images
    assert [len(rows) for rows in seen] == [labelled - 2, labelled]


@pytest.mark.parametrize(("norms", "kept"), [("auto", True), ("keep", True), ("learn", False)])
def test_pretrained_norms_keep_their_statistics(
    split_folders: Path, tmp_path: Path, backbone: str, norms: str, kept: bool
) -> None:
    run = fl.train(
        split_folders, model=backbone, method="supervised", norms=norms, out=tmp_path / "r", **STILL
    )
    before = load_file(Path(backbone.removeprefix("local-dir:")) / "model.safetensors")
    same = [torch.equal(weights(run)[name], before[name]) for name in before if "running" in name]
    assert len(same) > 10
    assert all(same) if kept else not any(same)
    assert settings(run)["norms"] == ("keep" if kept else "learn")


def test_norms_of_random_weights_learn(split_folders: Path, tmp_path: Path) -> None:
    run = fl.train(split_folders, method="supervised", out=tmp_path / "run", **STILL)
    assert settings(run)["norms"] == "learn"
    assert weights(run)["stem.1.1.running_mean"].any()


def test_labelled_images_of_pretrained_nets_are_seen_weakly_unless_told_otherwise(
    split_folders: Path, tmp_path: Path, backbone: str
) -> None:
    for more, view in (
        ({}, "weak"),
        ({"augment": "none"}, None),
        ({"settings": {"view": "strong"}}, "strong"),
        ({"model": "cnn_small"}, None),
    ):
        given = {"model": backbone, "method": "supervised", **STILL, **more}
        run = fl.train(split_folders, out=tmp_path / f"{len(more)}{view}{more.keys()}", **given)
        config = settings(run)
        assert config["settings"].get("view") == view
        assert (config["augment"] is None) == (view == "weak")
        assert (config["weak"] is None) == (view != "weak")


@pytest.mark.slow
def test_a_run_is_trained_on_with_its_model_size_and_preprocessing(
    split_folders: Path, tmp_path: Path
) -> None:
    first = fl.train(
        split_folders,
        model="resnet18",
        weights="none",
        method="supervised",
        out=tmp_path / "first",
        **(STILL | {"steps": 1}),
    )
    assert (
        "size" in json.loads((first.path / "artefact" / "classifier.json").read_text())["arguments"]
    )
    rest = {key: value for key, value in STILL.items() if key != "img_size"}
    for path in (first.path, first.path / "artefact"):
        run = fl.train(
            split_folders,
            method="supervised",
            weights=str(path),
            out=tmp_path / f"next-{path.name}",
            **(rest | {"steps": 1}),
        )
        config = settings(run)
        assert config["model"] == "torchvision:resnet18"
        assert (config["img_size"], config["lr"], config["norms"]) == (32, 1e-9, "keep")
        about = json.loads((run.path / "artefact" / "classifier.json").read_text())
        before = json.loads((first.path / "artefact" / "classifier.json").read_text())
        assert about["preprocess"] == before["preprocess"]
        assert about["arguments"] == before["arguments"]  # the strides too
        name = "layer4.1.conv2.weight"
        torch.testing.assert_close(weights(run)[name], weights(first)[name], atol=1e-6, rtol=0)


def test_a_folder_without_weights_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds none of artefact"):
        catalog.build("cnn_small", 2, str(tmp_path))
    assert weights_file.origin(tmp_path) is None


def test_layers_that_ask_for_versions_are_loaded_from_files(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = catalog.build("mnasnet0_5", 3, "none").model
    save_file(model.state_dict(), tmp_path / "mnasnet.safetensors")
    again = catalog.build("mnasnet0_5", 3, "none").model
    restore(again, load_file(tmp_path / "mnasnet.safetensors"))
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True)
    )
    built = catalog.build("mnasnet0_5", 3, str(tmp_path / "mnasnet.safetensors"))
    assert torch.equal(built.model.layers[0].weight, model.layers[0].weight)


@pytest.fixture
def considered(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the ways that `auto` has thought of."""
    names: list[str] = []
    candidates = auto.candidates

    def watched(context: Context) -> list[auto.Candidate]:
        found = candidates(context)
        names[:] = [one.way.name for one in found]
        return found

    monkeypatch.setattr(auto, "candidates", watched)
    return names


def test_pretrained_features_are_worth_label_spreading(
    split_folders: Path, tmp_path: Path, backbone: str, considered: list[str]
) -> None:
    run = fl.train(
        split_folders,
        model=backbone,
        time_limit="12s",
        img_size=32,
        device="cpu",
        out=tmp_path / "run",
    )
    assert considered == ["freematch", "supervised", "label_spreading"]
    assert run.result["method"] in considered
    named = fl.train(
        split_folders, model=backbone, method="fixmatch", out=tmp_path / "named", **STILL
    )
    assert named.result["method"] == "fixmatch"


def test_a_small_net_of_ones_own_still_learns_from_the_unlabelled_images(
    split_folders: Path, tmp_path: Path, considered: list[str]
) -> None:
    first = fl.train(split_folders, method="supervised", out=tmp_path / "first", **STILL)
    fl.train(
        split_folders,
        weights=str(first.path),
        time_limit="12s",
        device="cpu",
        out=tmp_path / "run",
    )
    assert considered == ["freematch", "supervised", "label_spreading"]


def test_a_damaged_run_is_told(split_folders: Path, tmp_path: Path) -> None:
    run = fl.train(split_folders, method="supervised", out=tmp_path / "run", **STILL)
    about = run.path / "artefact" / "classifier.json"
    for text in ("{", "[]", "{}"):
        about.write_text(text)
        with pytest.raises(UserError, match=r"classifier\.json is damaged"):
            weights_file.origin(run.path)
