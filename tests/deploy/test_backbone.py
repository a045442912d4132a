"""What timm, torchvision and segmentation_models_pytorch make of an exported backbone."""

import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from fewlabels.api import load
from fewlabels.deploy import artefact, library
from fewlabels.deploy.backbone import write_backbone
from fewlabels.errors import UserError
from fewlabels.models import catalog, structure
from fewlabels.pixels.preprocess import Preprocess
from fewlabels.torchvision_repair import repair
from fewlabels.training import checkpoint
from fewlabels.training.folder import RunFolder

CLASSES = ["żuk", "10", "2"]  # in no order that sorting would give
MEAN, STD = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
DIFFERENT = ("timm:test_convnext", "timm:test_efficientnet")  # test_features.py says in what
Exported = Callable[[str], tuple[Path, Path]]


def make_run(folder: Path, name: str, side: int = 64, **arguments: Any) -> Path:
    """A run that has just found its best model: random weights, batch norms that saw something."""
    torch.manual_seed(0)
    built = catalog.build(name, len(CLASSES), "none", arguments)
    with torch.no_grad():
        built.model.train()(torch.randn(4, 3, side, side) + 1)
    run = RunFolder.create(folder)
    run.write_config({"model": name})
    about = {
        "model": built.architecture,
        "arguments": built.arguments,
        "classes": CLASSES,
        "preprocess": Preprocess(side, MEAN, STD).to_json(),
        "tta": "none",
    }
    checkpoint.save(run.best, {"about": about, "weights": built.model.state_dict()})
    return run.path


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """By a model's name: a run, and its backbone. Nobody changes them."""

    @cache
    def export(name: str) -> tuple[Path, Path]:
        folder = tmp_path_factory.mktemp("exported")
        run = make_run(folder / "run", name)
        write_backbone(run, folder / "out")
        return run, folder / "out"

    return export


def model(run: Path) -> nn.Module:
    return artefact.read(run).built.model.eval()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def images(size: int = 64) -> Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))


def readme(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the README's code leaves behind."""
    repair()
    monkeypatch.chdir(folder)
    found: dict[str, Any] = {}
    for code in re.findall(r"```python\n(.*?)```", Path("README.md").read_text(), re.DOTALL):
        exec(compile(code, "README.md", "exec"), found)
    return found


def close(one: Tensor, two: Tensor) -> None:
    torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_timm_loads_it(tmp_path: Path) -> None:
    run, out = (
        make_run(tmp_path / "run", "timm:test_resnet(drop_rate=0.2)"),
        tmp_path / "deep" / "b",
    )
    lines = write_backbone(run, out)
    assert lines == [
        f"{out}: model.safetensors, config.json, README.md",
        "timm's test_resnet, 3 classes, 64 px: built from these files it answers as the run does",
    ]
    assert names(out) == ["README.md", "config.json", "model.safetensors"]
    assert names(out.parent) == ["b"]  # nothing is left beside it
    import timm

    theirs = timm.create_model(f"local-dir:{out}", pretrained=True).eval()
    close(theirs(images()), model(run)(images()))
    about = theirs.pretrained_cfg
    assert about["label_names"] == CLASSES
    assert about["num_classes"] == theirs.num_classes == 3
    assert tuple(about["input_size"]) == (3, 64, 64)
    assert (tuple(about["mean"]), tuple(about["std"])) == (MEAN, STD)
    assert json.loads((out / "config.json").read_text())["model_args"]["drop_rate"] == 0.2
    assert str(tmp_path) not in (out / "config.json").read_text() + (out / "README.md").read_text()


def test_timm_prepares_images_as_we_do(tmp_path: Path) -> None:
    """The whole image, in a square. The border's colour is timm's: that of `mean`."""
    run, out = make_run(tmp_path / "run", "timm:test_resnet"), tmp_path / "out"
    write_backbone(run, out)
    from timm.data import create_transform, resolve_data_config

    transform = create_transform(**resolve_data_config({}, model=library.load(_theirs(run), out)))
    pixels = np.random.default_rng(0).integers(0, 256, (5, 10, 3), np.uint8).repeat(20, 0)
    oblong = Image.fromarray(pixels.repeat(20, 1))  # 200 x 100
    classifier = load(run)
    ours = classifier.preprocess(np.stack([classifier._read(oblong)]))[0]
    theirs = transform(oblong)
    assert theirs.shape == ours.shape == (3, 64, 64)
    level = 1 / 255 / min(classifier.preprocess.std)  # our antialiased resize may round otherwise
    assert (theirs[:, 16:48] - ours[:, 16:48]).abs().max() < 1.01 * level
    assert theirs[:, :16].abs().max() < 0.01  # the mean, normalised


def _theirs(run: Path) -> library.Foreign:
    return library.foreign(artefact.read(run), run)


def test_it_comes_back_as_a_classifier_and_as_a_start(tmp_path: Path) -> None:
    run, out = make_run(tmp_path / "run", "timm:test_vit", 32), tmp_path / "out"
    write_backbone(run, out)
    again = load(f"local-dir:{out}")
    assert again.classes == tuple(CLASSES)
    assert again.preprocess == Preprocess(32, MEAN, STD)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8))
    one, two = again.predict(picture)[0], load(run).predict(picture)[0]
    np.testing.assert_allclose(one.probabilities, two.probabilities, atol=1e-5)
    started = catalog.build(f"local-dir:{out}", 7)  # other classes
    assert torch.equal(started.model.state_dict()["norm.weight"], model(run).norm.weight)


@torch.no_grad()
@pytest.mark.parametrize("name", ["shufflenet_v2_x0_5", "mobilenet_v3_small(dropout=0.1)"])
def test_torchvision_loads_it(name: str, tmp_path: Path) -> None:
    run, out = make_run(tmp_path / "run", name), tmp_path / "run" / "backbone"
    write_backbone(run, out)
    assert names(out) == ["README.md", "about.json", "model.safetensors"]
    from torchvision.models import get_model

    about = json.loads((out / "about.json").read_text(encoding="utf-8"))
    assert about["classes"] == CLASSES
    assert about["preprocess"] == {"size": 64, "mean": list(MEAN), "std": list(STD)}
    theirs = get_model(about["architecture"], num_classes=3, **about["arguments"])
    theirs.load_state_dict(load_file(out / "model.safetensors"))
    close(theirs.eval()(images()), model(run)(images()))


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "maps"),
    [
        ("resnet18", 4),
        ("mobilenet_v3_small", 4),
        ("squeezenet1_1", 3),
        ("timm:test_resnet", 4),
        ("timm:test_convnext", 4),
        ("timm:test_efficientnet", 4),
        ("timm:test_vit", 0),
    ],
)
def test_the_readme_loads_it(
    name: str, maps: int, exported: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Alone, and as a detector's backbone: torchvision's pyramid on the maps of `features`."""
    run, out = exported(name)
    found = readme(out, monkeypatch)
    x = images(128)
    theirs = found.get("small", found["model"])  # SqueezeNet's without the ReLU behind its head
    close(theirs(x if maps else images()), model(run)(x if maps else images()))
    assert ("backbone" in found) is (maps > 0)
    if not maps:
        return
    backbone = found["backbone"].eval()
    pyramid = backbone(x)
    assert list(pyramid) == [*map(str, range(maps)), "pool"]
    assert {image.shape[1] for image in pyramid.values()} == {backbone.out_channels} == {256}
    body = backbone.body(x)
    body = list(body.values()) if isinstance(body, dict) else body
    ours = structure.features(model(run), x)[-maps:]
    assert len(body) == maps
    for theirs, image in zip(body, ours, strict=True):
        assert theirs.shape[2:] == image.shape[2:]
    if name not in DIFFERENT:
        for theirs, image in zip(body, ours, strict=True):
            close(theirs, image)


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("mobilenet_v3_small", "features.0.0, features.1.block.0.0"),
        ("timm:test_resnet", "conv1.0, maxpool"),
    ],
)
def test_strides_that_were_undone_are_told(
    name: str, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path / "run", name, 32, size=32)
    lines = write_backbone(run, tmp_path / "out")
    assert f"at 32 px without the stride of {where}" in lines[2]
    found = readme(tmp_path / "out", monkeypatch)
    expected = model(run)(images(32))
    assert not torch.allclose(found["model"](images(32)), expected, rtol=1e-2)
    close(found["small"](images(32)), expected)


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "head"), [("mobilenet_v3_small", "classifier.3."), ("timm:test_resnet", "fc.")]
)
def test_a_head_that_remembers_is_left_out(
    name: str, head: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path / "run", name, neighbours=6, nearest=3)
    assert "without its head" in write_backbone(run, tmp_path / "out")[1]
    weights = load_file(tmp_path / "out" / "model.safetensors")
    assert not [name for name in weights if name.startswith(head)]
    theirs = readme(tmp_path / "out", monkeypatch)["model"]
    seen = theirs(images()) if name.startswith("timm") else structure.embed(theirs, images())
    close(seen, structure.embed(model(run), images()))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("cnn_small", "its model is cnn_small, which is ours"),
        ("squeezenet1_1(se=16)", "squeezenet1_1 with se=16, blocks that torchvision cannot build"),
        ("timm:test_resnet(deformable=1)", "test_resnet with deformable=1, blocks that timm"),
    ],
)
def test_what_no_library_builds_is_not_written(name: str, says: str, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", name, 32)
    with pytest.raises(UserError, match=re.escape(says)) as caught:
        write_backbone(run, tmp_path / "out")
    assert f"use fewlabels.load('{run}').features" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == ["run"]


def test_nothing_is_written_that_answers_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path / "run", "timm:test_resnet")
    right = library.load

    def wrong(*arguments: Any) -> nn.Module:
        theirs = right(*arguments)
        with torch.no_grad():
            theirs.fc.bias += 0.1  # type: ignore[operator, union-attr]
        return theirs

    monkeypatch.setattr(library, "load", wrong)
    with pytest.raises(UserError, match="builds another test_resnet than this run has"):
        write_backbone(run, tmp_path / "out")
    assert names(tmp_path) == ["run"]


def test_an_earlier_export_is_replaced_and_other_files_are_not(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_backbone(make_run(tmp_path / "one", "timm:test_resnet"), out)
    run = make_run(tmp_path / "two", "squeezenet1_1")
    write_backbone(run, out)
    assert names(out) == ["README.md", "about.json", "model.safetensors"]
    before = (out / "README.md").read_bytes()
    (out / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"holds other files \(notes.txt\)"):
        write_backbone(run, out)
    assert (out / "README.md").read_bytes() == before
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="is a file"):
        write_backbone(run, tmp_path / "file")
    with pytest.raises(UserError, match="cannot be written"):
        write_backbone(run, tmp_path / "file" / "below")
    assert (tmp_path / "file").read_text() == "mine"


def test_the_artefact_alone_is_enough(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", "timm:test_resnet")
    shipped = artefact.write(RunFolder(run)).rename(tmp_path / "shipped")
    write_backbone(shipped, tmp_path / "out")
    weights = load_file(tmp_path / "out" / "model.safetensors")
    for name, value in model(run).state_dict().items():
        assert torch.equal(weights[name], value), name


def squares(count: int, side: int = 32) -> tuple[Tensor, Tensor]:
    """Noise with a bright square each, and the masks of the squares."""
    rng = np.random.default_rng(2)
    x, y = rng.uniform(-1, 0, (count, 3, side, side)), np.zeros((count, 1, side, side))
    for image, mask, (top, left) in zip(x, y, rng.integers(0, side - 12, (count, 2)), strict=True):
        image[:, top : top + 12, left : left + 12] += 1.5
        mask[:, top : top + 12, left : left + 12] = 1
    return torch.from_numpy(x).float(), torch.from_numpy(y).float()


def learn(net: nn.Module, steps: int = 8) -> tuple[float, float]:
    """The loss before and after a few steps on all of the net."""
    x, y = squares(8)
    optimiser = torch.optim.Adam(net.parameters(), 2e-3)
    losses = []
    for _ in range(steps):
        loss = F.binary_cross_entropy_with_logits(net.train()(x), y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses[0], losses[-1]


@pytest.mark.parametrize("how", ["resnet18", "tu-local-dir", "tu-test_resnet"])
def test_a_segmentation_model_learns_on_it(
    how: str, exported: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    """segmentation_models_pytorch: its own ResNet, timm's from the folder, timm's by name."""
    repair()
    import segmentation_models_pytorch as smp

    run, out = exported("resnet18" if how == "resnet18" else "timm:test_resnet")
    monkeypatch.chdir(out)
    narrow: dict[str, Any] = {"decoder_channels": (32, 16, 16, 8, 8), "classes": 1}
    if how == "tu-local-dir":
        net = smp.Unet("tu-local-dir:.", encoder_weights=True, **narrow)
    else:
        net = smp.Unet(how, encoder_weights=None, **narrow)
        encoder, weights = net.encoder, load_file("model.safetensors")
        if how == "resnet18":
            encoder.load_state_dict(weights)
        else:
            left = encoder.model.load_state_dict(weights, strict=False)
            assert not left.missing_keys
            assert set(left.unexpected_keys) == {"fc.weight", "fc.bias"}
    ours = model(run).state_dict()
    held = {k.removeprefix("model."): v for k, v in net.encoder.state_dict().items()}
    assert set(held) == {name for name in ours if not name.startswith("fc.")}
    for name, value in held.items():
        assert torch.equal(value, ours[name]), name
    before, after = learn(net)
    assert after < 0.7 * before
    assert not torch.equal(next(iter(held.values())), next(iter(ours.values())))  # it learns, too
