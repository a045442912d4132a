import json
import os
import shutil
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import nn

from fewlabels.deploy import artefact
from fewlabels.deploy.classifier import Classifier
from fewlabels.errors import UserError
from fewlabels.evaluate.unknown import Detector, familiar, first_map, seen_in, strangeness
from fewlabels.models import catalog
from fewlabels.pixels.preprocess import Preprocess
from fewlabels.training import checkpoint
from fewlabels.training.folder import RunFolder

CLASSES = ["żuk", "10", "2"]  # in no order that sorting would give
PREPROCESS = Preprocess(32, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # catalog sets it; here it is put back


def model(name: str, seed: int) -> nn.Module:
    """Random weights, and batch norms that have seen something."""
    torch.manual_seed(seed)
    made = catalog.build(name, len(CLASSES), "none").model
    with torch.no_grad():
        made.train()(torch.randn(8, 3, 32, 32) + 1)
    return made


def save_best(run: RunFolder, made: nn.Module, name: str = "cnn_small") -> None:
    about = {"model": name, "classes": CLASSES, "preprocess": PREPROCESS.to_json(), "tta": "none"}
    checkpoint.save(run.best, {"about": about, "weights": made.state_dict()})


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """As it is when training has just found its best model."""
    folder = RunFolder.create(tmp_path / "run")
    folder.write_config({"model": "cnn_small"})
    save_best(folder, model("cnn_small", 0))
    return folder


def images() -> list[NDArray[np.uint8]]:
    rng = np.random.default_rng(0)
    return list(rng.integers(0, 256, (6, 32, 32, 3), dtype=np.uint8))


def says(classifier: Classifier, made: nn.Module) -> None:
    """It predicts what `made` does."""
    assert classifier.classes == tuple(CLASSES)
    assert classifier.preprocess == PREPROCESS
    assert not classifier.model.training
    x = torch.from_numpy(np.stack(images())).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (PREPROCESS.mean, PREPROCESS.std))
    normalised = (x - mean) / std
    with torch.inference_mode():
        expected = torch.softmax(made.eval()(normalised), 1).numpy()
    said = classifier.predict(images())
    np.testing.assert_allclose([p.probabilities for p in said], expected, atol=1e-5)
    assert [p.label for p in said] == [CLASSES[row] for row in expected.argmax(1)]


def refused(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        artefact.load(path)
    line = str(caught.value)
    assert str(path) in line
    assert "\n" not in line
    return line


def test_contents(run: RunFolder) -> None:
    assert artefact.write(run) == run.artefact == run.path / "artefact"
    assert sorted(os.listdir(run.artefact)) == ["classifier.json", "weights.safetensors"]
    weights = load_file(run.artefact / "weights.safetensors")
    state = model("cnn_small", 0).state_dict()
    assert set(weights) == set(state)
    for name, value in state.items():
        assert torch.equal(weights[name], value), name
        assert weights[name].dtype == value.dtype
    text = (run.artefact / "classifier.json").read_text(encoding="utf-8")
    assert json.loads(text) == {
        "model": "cnn_small",
        "classes": CLASSES,
        "preprocess": {"size": 32, "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]},
        "tta": "none",
        "temperature": 1.0,
        "unknown": None,
    }
    assert "żuk" in text  # a person can read it
    # nothing of a pickle: eight bytes that tell the length of a JSON header, then the header
    raw = (run.artefact / "weights.safetensors").read_bytes()
    assert set(json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])) >= set(state)


def test_temperature_and_threshold_are_shipped(run: RunFolder, tmp_path: Path) -> None:
    net = model("cnn_small", 0).eval()
    stack = np.stack(images())
    path = first_map(net, stack[:1], PREPROCESS, "cpu")
    seen = seen_in(net, path, stack, PREPROCESS, "cpu")
    of = familiar(seen[0], np.arange(6) % 2, seen[1])
    scores = strangeness(of, *seen)
    threshold = float(np.sort(scores)[3])
    shutil.copytree(artefact.write(run, 2.0, Detector(of, path, threshold)), tmp_path / "shipped")
    shipped = artefact.load(tmp_path / "shipped")
    p, again = shipped.judge(stack)
    assert again is not None
    np.testing.assert_allclose(again, scores, rtol=1e-6)
    plain = artefact.load(run.path)
    plain.temperature, plain.detector = 1.0, None
    was, nothing = plain.judge(stack)
    assert nothing is None
    np.testing.assert_allclose(p, np.sqrt(was) / np.sqrt(was).sum(1, keepdims=True), rtol=1e-6)
    assert [said.unknown for said in shipped.predict(images())] == (scores > threshold).tolist()
    assert [said.unknown for said in plain.predict(images())] == [None] * 6
    # looks at mirrored and shifted images come after the first one, and do not change the score
    shipped.tta = "flip+crop"
    np.testing.assert_allclose(shipped.judge(stack)[1], scores, rtol=1e-6)
    (tmp_path / "shipped" / "familiar.safetensors").unlink()
    assert "is damaged" in refused(tmp_path / "shipped")


def test_load_finished(run: RunFolder) -> None:
    artefact.write(run)
    shutil.move(run.best, run.path / "elsewhere")  # the artefact needs nothing else of the run
    (run.path / "config.yaml").unlink()
    says(artefact.load(run.path), model("cnn_small", 0))
    says(artefact.load(run.artefact), model("cnn_small", 0))


def test_load_copied(run: RunFolder, tmp_path: Path) -> None:
    shutil.copytree(artefact.write(run), tmp_path / "shipped")
    run.path.rename(tmp_path / "away")
    says(artefact.load(tmp_path / "shipped"), model("cnn_small", 0))


def test_load_unfinished(run: RunFolder) -> None:
    says(artefact.load(run.path), model("cnn_small", 0))
    save_best(run, model("cnn_small", 1))  # training goes on
    says(artefact.load(run.path), model("cnn_small", 1))
    assert not run.artefact.exists()  # loading writes nothing


def test_half_written(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed before its last file is there, the artefact does not count."""

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "write_text", killed)
    with pytest.raises(KeyboardInterrupt):
        artefact.write(run)
    assert os.listdir(run.artefact) == ["weights.safetensors"]
    says(artefact.load(run.path), model("cnn_small", 0))


def test_written_again(run: RunFolder) -> None:
    artefact.write(run)
    save_best(run, model("cnn_small", 1))
    artefact.write(run)
    assert sorted(os.listdir(run.artefact)) == ["classifier.json", "weights.safetensors"]
    says(artefact.load(run.path), model("cnn_small", 1))


@pytest.mark.parametrize("name", ["lenet5", "squeezenet1_1", "timm:test_resnet"])
def test_models(name: str, run: RunFolder, tmp_path: Path) -> None:
    """Without a network, whatever the catalog calls the model."""
    save_best(run, model(name, 2), name)
    shutil.copytree(artefact.write(run), tmp_path / "shipped")
    says(artefact.load(tmp_path / "shipped"), model(name, 2))


def test_errors(tmp_path: Path) -> None:
    assert "no such run folder" in refused(tmp_path / "absent")
    (tmp_path / "file").write_text("no folder")
    assert "no such run folder" in refused(tmp_path / "file")
    (tmp_path / "photos").mkdir()
    assert "no config.yaml" in refused(tmp_path / "photos")


def test_no_model_yet(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run")
    folder.write_config({"model": "cnn_small"})
    assert f"fewlabels train --resume {folder.path}" in refused(folder.path)
    with pytest.raises(UserError, match="no finished model yet"):
        artefact.write(folder)
    assert not folder.artefact.exists()


@pytest.mark.parametrize("damage", ["json", "weights", "absent", "other"])
def test_damaged(damage: str, run: RunFolder) -> None:
    weights = artefact.write(run) / "weights.safetensors"
    if damage == "json":
        (run.artefact / "classifier.json").write_text("{")
    elif damage == "weights":
        weights.write_bytes(b"x")
    elif damage == "absent":
        weights.unlink()
    else:
        save_file(model("lenet5", 0).state_dict(), weights)
    assert "damaged" in refused(run.artefact)


def test_killed_while_written_again(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    artefact.write(run)

    def torn(_: Any, path: Path) -> None:
        Path(path).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save_file", torn)
    with pytest.raises(KeyboardInterrupt):
        artefact.write(run)
    says(artefact.load(run.path), model("cnn_small", 0))


def test_a_device_that_is_not_there_is_told(run: RunFolder) -> None:
    for device in ("nonsense", "cuda:99"):
        with pytest.raises(UserError, match="--device"):
            artefact.load(run.path, device)
