import json
import math
import os
import socket
import subprocess
import sys
import time
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from fewlabels.errors import UserError
from fewlabels.models import catalog, from_timm
from fewlabels.models.built import reachable
from fewlabels.models.cnn_small import CnnSmall
from fewlabels.torchvision_repair import repair

LOOK_UP = socket.getaddrinfo


class Network:
    """What was asked of a network that is not there."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def refuse(self, host: str, *_: Any, **__: Any) -> None:
        self.asked.append(host)
        raise socket.gaierror(-2, "Name or service not known")


@pytest.fixture(autouse=True)
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Network:
    """No test reaches the network or the user's caches, and all say so at once."""
    repair()
    from huggingface_hub import constants  # asks the environment only when it is imported

    missing = Network()
    monkeypatch.setattr(socket, "getaddrinfo", missing.refuse)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # catalog sets it; here it is put back
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    return missing


def refused(name: str, weights: str = "none") -> str:
    """The one line in which `name` is refused."""
    with pytest.raises(UserError) as caught:
        catalog.build(name, 3, weights)
    line = str(caught.value)
    assert line
    assert "\n" not in line
    return line


def different(one: nn.Module, two: dict[str, torch.Tensor]) -> list[str]:
    """The names of the weights that differ, in shape or in value."""
    own = one.state_dict()
    assert list(own) == list(two)
    return [name for name, value in own.items() if not torch.equal(value, two[name])]


# names


@pytest.mark.parametrize(
    ("name", "home"),
    [
        ("cnn_small", "fewlabels.models.cnn_small"),
        ("lenet5", "fewlabels.models.lenet5"),
        ("resnet18", "torchvision.models.resnet"),  # both have it
        ("torchvision:resnet18", "torchvision.models.resnet"),
        ("timm:resnet18", "timm.models.resnet"),
        ("test_resnet", "timm.models.resnet"),  # timm alone has it
        ("timm:test_resnet.r160_in1k", "timm.models.resnet"),
    ],
)
def test_where_a_name_leads(name: str, home: str) -> None:
    assert type(catalog.build(name, 3, "none").model).__module__ == home


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("resnt18", "resnet18"),
        ("cnn_smal", "cnn_small"),
        ("timm:mobilnetv2_035", "mobilenetv2_035"),
        ("torchvision:squeezenet1_2", "squeezenet1_0"),
    ],
)
def test_unknown_names(name: str, near: str) -> None:
    line = refused(name)
    assert name.removeprefix("timm:") in line
    assert "did you mean" in line
    assert near in line.split("did you mean")[1]


@pytest.mark.parametrize(
    "name",
    [
        "q7",
        "timm:q7",
        "",
        "timm:cnn_small",
        "torchvision:cnn_small",
        "torchvision:test_resnet",
        "fcn_resnet50",  # torchvision's, but it segments
        "fasterrcnn_resnet50_fpn",
    ],
)
def test_no_such_classifier(name: str) -> None:
    line = refused(name)
    assert name.removeprefix("timm:") in line
    assert ("did you mean" in line) == (name not in ("q7", "timm:q7", ""))


# models


@pytest.mark.filterwarnings("ignore:The default weight initialization")
@pytest.mark.parametrize(
    ("name", "side", "path"),
    [
        ("cnn_small", 32, "head"),
        ("lenet5", 32, "head"),
        ("alexnet", 64, "classifier.6"),
        ("densenet121", 32, "classifier"),
        ("googlenet", 64, "fc"),  # in training it would return three logits
        ("mobilenet_v3_small", 64, "classifier.3"),
        ("resnet18", 32, "fc"),
        ("shufflenet_v2_x0_5", 32, "fc"),
        ("squeezenet1_0", 64, "classifier.1"),  # a convolution
        ("timm:mobilenetv2_035", 32, "classifier"),
        ("timm:resnet18", 32, "fc"),
        ("timm:test_vit", 160, "head"),
        ("timm:vit_tiny_patch16_224", 224, "head"),
    ],
)
def test_head(name: str, side: int, path: str) -> None:
    torch.manual_seed(0)
    model = catalog.build(name, 7, "none").model
    found, layer = catalog.head(model)
    assert found == path
    assert layer is model.get_submodule(path)
    x = torch.randn(2, 3, side, side)
    made: list[torch.Tensor] = []
    layer.register_forward_hook(lambda _, __, output: made.append(output))
    for training in (False, True):
        model.train(training)
        with torch.no_grad():
            logits = model(x)
        assert isinstance(logits, torch.Tensor)
        assert logits.shape == (2, 7)
        assert logits.isfinite().all()
        assert made.pop().shape[:2] == (2, 7)


@pytest.mark.parametrize("name", ["efficientnet_b0", "timm:mobilenetv2_050"])
def test_a_random_head_does_not_shout(name: str) -> None:
    """Drawn for a thousand classes, of which there are ten: the loss would begin above ln 10."""
    torch.manual_seed(0)
    model = catalog.build(name, 10, "none").model.train()
    with torch.no_grad():
        loss = nn.functional.cross_entropy(model(torch.randn(8, 3, 64, 64)), torch.arange(8))
    assert float(loss) == pytest.approx(math.log(10), abs=0.4)


def test_a_calm_head_is_left_as_it_was_drawn() -> None:
    torch.manual_seed(0)
    ours = catalog.head(catalog.build("cnn_small", 10, "none").model)[1].weight
    torch.manual_seed(0)
    assert torch.equal(ours, catalog.head(CnnSmall(10))[1].weight)


def test_no_head() -> None:
    with pytest.raises(UserError, match="Sequential has no linear layer"):
        catalog.head(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()))


def test_size_without_weights() -> None:
    """Only what cannot take another size has one; mean and std belong to weights."""
    for name, size in (
        ("cnn_small", None),
        ("resnet18", None),
        ("timm:test_resnet", None),
        ("timm:test_vit", 160),
    ):
        built = catalog.build(name, 3, "none")
        assert (built.size, built.mean, built.std) == (size, None, None)
        assert (built.weights, built.note) == ("none", "")


@pytest.mark.parametrize("name", ["cnn_small", "lenet5", "shufflenet_v2_x0_5", "timm:test_resnet"])
def test_random_weights(name: str) -> None:
    def drawn(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return catalog.build(name, 3, "none").model

    one = drawn(1)
    assert different(one, drawn(1).state_dict()) == []
    assert catalog.head(one)[0] + ".weight" in different(one, drawn(2).state_dict())
    assert len(different(one, drawn(2).state_dict())) >= 4


def test_no_weights_no_network(network: Network) -> None:
    for name in ("cnn_small", "resnet18", "timm:test_resnet"):
        catalog.build(name, 3, "none")
    assert catalog.build("cnn_small", 3, "auto").note == ""  # there are none to be had
    assert network.asked == []


# pretrained weights


@pytest.mark.parametrize("name", ["shufflenet_v2_x0_5", "squeezenet1_1"])
def test_torchvision_weights(name: str, tmp_path: Path, network: Network) -> None:
    """From torch's cache, with the head of ImageNet replaced."""
    from torchvision.models import get_model, get_model_weights

    torch.manual_seed(0)
    state = get_model(name, weights=None).state_dict()
    entry = get_model_weights(name).DEFAULT
    file = tmp_path / "torch" / "hub" / "checkpoints" / entry.url.rsplit("/", 1)[1]
    file.parent.mkdir(parents=True)
    torch.save(state, file)
    built = catalog.build(name, 7)
    assert built.note == ""
    assert built.weights == str(entry)
    assert (built.size, built.mean) == (224, (0.485, 0.456, 0.406))
    assert built.std == (0.229, 0.224, 0.225)
    path = catalog.head(built.model)[0]
    assert different(built.model, state) == [f"{path}.weight", f"{path}.bias"]
    assert built.model.train()(torch.zeros(2, 3, 64, 64)).shape == (2, 7)
    assert network.asked == []


@pytest.mark.parametrize("name", ["shufflenet_v2_x0_5", "timm:test_resnet"])
def test_offline(name: str, network: Network) -> None:
    began = time.monotonic()
    built = catalog.build(name, 7)
    assert time.monotonic() - began < 10
    assert network.asked  # it has tried
    assert built.note.removeprefix("timm:") == (
        f"{name.removeprefix('timm:')}: no pretrained weights (no network, and they are not in "
        "the cache); it starts from random ones"
    )
    assert (built.size, built.mean, built.std, built.weights) == (None, None, None, "none")
    assert built.model(torch.zeros(2, 3, 32, 32)).shape == (2, 7)


@pytest.mark.parametrize("name", ["timm:test_resnet", "test_resnet"])
def test_offline_for_good(name: str) -> None:
    """Without the stand-ins above: a hub that refuses connections costs no minute of retries."""
    code = """
import time
import sys
from fewlabels.models import catalog, from_timm
from fewlabels.models.built import reachable
from fewlabels.torchvision_repair import repair
repair()
began = time.monotonic()
print(catalog.build(sys.argv[1], 3).note)
print(time.monotonic() - began)
"""
    with socket.create_server(("127.0.0.1", 0)) as server:
        closed = server.getsockname()[1]
    away = {"HF_ENDPOINT": f"http://127.0.0.1:{closed}", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, "-c", code, name],
        capture_output=True,
        text=True,
        timeout=100,
        env={key: value for key, value in os.environ.items() if key != "HF_HUB_OFFLINE"} | away,
    )
    note, seconds = done.stdout.splitlines()
    assert "no network" in note
    assert float(seconds) < 15
    assert done.stderr == ""


def test_weights_that_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a network the note tells the hub's own reason, in one line."""
    import timm

    create = timm.create_model

    def broken(name: str, pretrained: bool = False, **rest: Any) -> nn.Module:
        if pretrained:
            raise OSError("the file is\n   damaged " + "x" * 500)
        model: nn.Module = create(name, pretrained=False, **rest)
        return model

    monkeypatch.setattr(timm, "create_model", broken)
    monkeypatch.setattr(from_timm, "reachable", lambda url: True)
    built = catalog.build("timm:test_resnet", 3)
    assert "(the file is damaged xxx" in built.note
    assert len(built.note) < 300
    assert built.weights == "none"


# the network


@pytest.fixture
def local(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The port of a server on this machine."""
    monkeypatch.setattr(socket, "getaddrinfo", LOOK_UP)
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_reachable(local: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert reachable(f"http://127.0.0.1:{local}/models")
    with socket.create_server(("127.0.0.1", 0)) as server:
        closed = server.getsockname()[1]
    assert not reachable(f"http://127.0.0.1:{closed}/models")
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    assert reachable(f"http://127.0.0.1:{closed}/models")  # the proxy knows


def test_mirror_is_asked(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog.build("timm:test_resnet", 3)
    assert network.asked[0] == "huggingface.co"
    network.asked.clear()
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.example:8443")
    catalog.build("timm:test_resnet", 3)
    assert network.asked[0] == "hub.example"


def test_hub_model_offline() -> None:
    assert "hf-hub:nobody/nothing" in refused("hf-hub:nobody/nothing", "auto")


# local-dir


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model for two classes in timm's form, as `timm.models.save_for_hf` leaves it."""
    import timm

    torch.manual_seed(3)
    state = timm.create_model("test_resnet", num_classes=2).state_dict()
    for name, value in state.items():
        if name.endswith("running_mean"):  # a buffer that random weights have at zero
            value.normal_()
    path = tmp_path / "with space"
    path.mkdir()
    save_file(state, path / "model.safetensors")
    pretrained = {
        "input_size": [3, 48, 48],
        "mean": [0.1, 0.2, 0.3],
        "std": [0.4, 0.5, 0.6],
        "num_classes": 2,
        "classifier": "fc",
        "first_conv": "conv1.0",
        "pool_size": [2, 2],
    }
    config = {"architecture": "test_resnet", "num_classes": 2, "pretrained_cfg": pretrained}
    (path / "config.json").write_text(json.dumps(config))
    return path


@pytest.mark.parametrize("prefix", ["local-dir:"])
def test_local_dir(prefix: str, folder: Path, network: Network) -> None:
    from safetensors.torch import load_file

    state = load_file(folder / "model.safetensors")
    built = catalog.build(f"{prefix}{folder}", 5)
    state_in_order = OrderedDict((key, state[key]) for key in built.model.state_dict())
    assert different(built.model, state_in_order) == ["fc.weight", "fc.bias"]
    assert built.model.get_parameter("fc.weight").shape == (5, 96)
    assert (built.size, built.mean, built.std) == (48, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert built.weights == f"local-dir:{folder}"
    assert built.note == ""
    assert built.model(torch.zeros(2, 3, 48, 48)).shape == (2, 5)
    # with as many classes the head, too, is what it was
    assert different(catalog.build(f"{prefix}{folder}", 2).model, state_in_order) == []
    assert network.asked == []


def test_local_dir_without_weights(folder: Path) -> None:
    built = catalog.build(f"local-dir:{folder}", 5, "none")
    assert not built.model.state_dict()["bn1.running_mean"].any()
    assert (built.size, built.mean, built.weights) == (None, None, "none")


def test_local_dir_errors(folder: Path, tmp_path: Path) -> None:
    for weights in ("auto", "none"):
        assert "no config.json" in refused(f"local-dir:{tmp_path / 'absent'}", weights)
        assert "no config.json" in refused(f"local-dir:{tmp_path}", weights)
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(text.replace("test_resnet", "q7"))
    assert f"local-dir:{folder}: cannot be loaded: Unknown model" in refused(
        f"local-dir:{folder}", "auto"
    )
    (folder / "config.json").write_text("{")
    assert "cannot be loaded" in refused(f"local-dir:{folder}", "auto")
    (folder / "config.json").write_text(text)
    (folder / "model.safetensors").write_bytes(b"junk")
    assert "cannot be loaded" in refused(f"local-dir:{folder}", "auto")
    (folder / "model.safetensors").unlink()
    assert "cannot be loaded" in refused(f"local-dir:{folder}", "auto")


# weights from a file


def weights_of(name: str, classes: int, file: Path) -> dict[str, torch.Tensor]:
    """Random ones, written to `file`."""
    torch.manual_seed(11)
    state = catalog.build(name, classes, "none").model.state_dict()
    if file.suffix == ".safetensors":
        save_file(state, file)
    else:
        torch.save(state, file)
    torch.manual_seed(12)  # what is not loaded is random, and differs
    return state


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("name", ["cnn_small", "squeezenet1_1", "timm:test_vit"])
def test_file(name: str, suffix: str, tmp_path: Path, network: Network) -> None:
    file = tmp_path / f"some{suffix}"
    state = weights_of(name, 4, file)
    built = catalog.build(name, 4, str(file))
    assert different(built.model, state) == []
    assert (built.weights, built.note) == (str(file), "")
    assert built.size == (160 if name == "timm:test_vit" else None)
    assert network.asked == []  # no others are fetched to be thrown away


@pytest.mark.parametrize("name", ["lenet5", "squeezenet1_1", "timm:test_resnet"])
def test_file_with_another_head(name: str, tmp_path: Path) -> None:
    file = tmp_path / "some.pth"
    state = weights_of(name, 4, file)
    built = catalog.build(name, 5, str(file))
    path = catalog.head(built.model)[0]
    assert different(built.model, state) == [f"{path}.weight", f"{path}.bias"]
    assert built.note == f"the head of {file} has other classes and starts anew"
    assert built.weights == str(file)
    model = built.model.eval()
    assert model(torch.zeros(2, 3, 64, 64)).shape == (2, 5)


def test_wrong_file(tmp_path: Path, network: Network) -> None:
    absent = tmp_path / "absent.pth"
    assert refused("cnn_small", str(absent)) == f"--weights {absent}: no such file"
    assert "holds none of artefact/weights.safetensors" in refused("cnn_small", str(tmp_path))
    for suffix in (".pth", ".safetensors"):
        junk = tmp_path / f"junk{suffix}"
        junk.write_bytes(b"no weights at all")
        assert refused("cnn_small", str(junk)).startswith(f"--weights {junk}: cannot be read: ")
        lenet = tmp_path / f"lenet{suffix}"
        state = weights_of("lenet5", 3, lenet)
        assert refused("cnn_small", str(lenet)) == (
            f"--weights {lenet}: is of another model: it has no fitting 'stem.1.0.weight'"
        )
    # the head fits, a layer before it is missing
    del state["c3.bias"]
    torch.save(state, tmp_path / "part.pth")
    assert "no fitting 'c3.bias'" in refused("lenet5", str(tmp_path / "part.pth"))
    assert network.asked == []


def test_malicious_pickle(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "owned",)

    state = weights_of("cnn_small", 3, tmp_path / "evil.pth")
    torch.save(state | {"more": Evil()}, tmp_path / "evil.pth")
    torch.load(tmp_path / "evil.pth", weights_only=False)  # it would have worked
    assert (tmp_path / "owned").exists()
    (tmp_path / "owned").unlink()
    for name in ("evil.pth", "evil.bin"):
        (tmp_path / "evil.pth").rename(tmp_path / name)
        assert "could run code" in refused("cnn_small", str(tmp_path / name))
        (tmp_path / name).rename(tmp_path / "evil.pth")
    assert not (tmp_path / "owned").exists()


def test_files_as_training_scripts_save_them(tmp_path: Path) -> None:
    state = weights_of("cnn_small", 3, tmp_path / "plain.pth")
    prefixed = {f"module.{name}": value for name, value in state.items()}
    torch.save({"state_dict": prefixed, "epoch": 3}, tmp_path / "nested.pth")
    built = catalog.build("cnn_small", 3, str(tmp_path / "nested.pth"))
    assert different(built.model, state) == []
    assert built.note == ""


@pytest.mark.parametrize("form", ["empty", "half", "list", "numbers"])
def test_file_of_which_nothing_fits(form: str, tmp_path: Path) -> None:
    state = weights_of("cnn_small", 3, tmp_path / "sound.pth")
    forms: dict[str, Any] = {
        "empty": {},
        "half": {k: v for k, v in state.items() if not k.startswith(("top.", "head."))},
        "list": list(state.values()),
        "numbers": {"epoch": 3},
    }
    torch.save(forms[form], tmp_path / "odd.pth")
    assert "--weights" in refused("cnn_small", str(tmp_path / "odd.pth"))


@pytest.mark.filterwarnings("ignore:The default weight initialization")
@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_inception_family(name: str, tmp_path: Path) -> None:
    """With weights and without, the artefact rebuilds the model from its arguments."""
    from torchvision.models import get_model, get_model_weights

    state = get_model(name, weights=None, init_weights=False).state_dict()
    entry = get_model_weights(name).DEFAULT
    file = tmp_path / "torch" / "hub" / "checkpoints" / entry.url.rsplit("/", 1)[1]
    file.parent.mkdir(parents=True)
    torch.save(state, file)
    built = catalog.build(name, 7)
    file.unlink()
    assert (built.note, built.weights) == ("", str(entry))
    assert (built.mean, built.std) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    plain = catalog.build(built.architecture, 7, "none", built.arguments).model.eval()
    plain.load_state_dict(built.model.state_dict())
    x = torch.randn(2, 3, 96, 96)
    with torch.inference_mode():
        torch.testing.assert_close(plain(x), built.model.eval()(x))


@pytest.mark.parametrize("name", ["timm:test_resnet.nope", "hf-hub:nobody/nothing"])
def test_no_traceback(name: str) -> None:
    refused(name, "none")


def test_suggested_once() -> None:
    assert refused("resnt18").count("resnet18 ") == 1


def test_a_local_model_is_rebuilt_without_its_folder(folder: Path, tmp_path: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["model_args"] = {"act_layer": "gelu"}  # another function, the same weights
    (folder / "config.json").write_text(json.dumps(config))
    built = catalog.build(f"local-dir:{folder}", 5)
    folder.rename(tmp_path / "away")
    again = catalog.build(built.architecture, 5, "none", built.arguments).model
    again.load_state_dict(built.model.state_dict())
    x = torch.randn(2, 3, 48, 48)
    with torch.inference_mode():
        torch.testing.assert_close(again.eval()(x), built.model.eval()(x))


def test_a_size_that_a_model_cannot_take_is_told() -> None:
    for name, size in (("cnn_small", 33), ("lenet5", 8), ("timm:vit_tiny_patch16_224", 32)):
        with pytest.raises(UserError, match=f"{size} px; name another --img-size"):
            catalog.accepts(catalog.build(name, 3, "none").model, name, size)
    model = catalog.build("cnn_small", 3, "none").model.train()
    frozen = model.get_submodule("stem.1.1").eval()
    catalog.accepts(model, "cnn_small", 100)
    assert model.training
    assert not frozen.training  # it stays as it was


# arguments in names


@pytest.mark.parametrize(
    ("name", "bare", "arguments"),
    [
        ("resnet18", "resnet18", {}),
        ("wrn_28_2(k=4,dropout=0.3)", "wrn_28_2", {"k": 4, "dropout": 0.3}),
        ("wrn_28_2( k = 4, dropout=0.3 )", "wrn_28_2", {"k": 4, "dropout": 0.3}),
        ("timm:test_vit(act_layer=gelu)", "timm:test_vit", {"act_layer": "gelu"}),
        ("googlenet(aux_logits=false)", "googlenet", {"aux_logits": False}),
        ("local-dir:my models (old)", "local-dir:my models (old)", {}),
        ("local-dir:my models (old)(se=4)", "local-dir:my models (old)", {"se": 4}),
        ("resnet18()", "resnet18()", {}),
    ],
)
def test_parse(name: str, bare: str, arguments: dict[str, Any]) -> None:
    assert catalog.parse(name) == (bare, arguments)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("resnet18(depth=3)", "unexpected keyword argument 'depth'"),
        ("timm:test_vit(colour=3)", "unexpected keyword argument 'colour'"),
        ("lenet5(k=2)", "lenet5: takes no arguments, not 'k'"),
        ("resnet20(k=2)", "not 'k'"),
        ("mlp(layers=two)", "mlp"),
        ("mlp(layers=[)", "cannot be read"),
        ("mlp(size=big)", "size=big must be a whole number"),
        ("resnet18(size=0)", "size=0 must be a whole number"),
        ("resnet18(se=0)", "se=0 must be a whole number"),
        ("resnet18(se=true)", "se=True must be a whole number"),
        ("resnet18(deformable=1.5)", "deformable=1.5 must be a whole number"),
        ("mlp(se=16)", "MLP"),
        ("perceptron(deformable=1)", "Perceptron"),
        ("resnet18(se=16", "no model is named"),
    ],
)
def test_wrong_arguments(name: str, says: str) -> None:
    assert says in refused(name)


def test_arguments_reach_the_model() -> None:
    def count(name: str) -> int:
        return sum(p.numel() for p in catalog.build(name, 3, "none").model.parameters())

    assert count("wrn_28_2(k=4)") == count("wrn_28_4")
    assert count("resnet20(depth=32)") == count("resnet32")
    channels = [64] * 2 + [128] * 2 + [256] * 2 + [512] * 2  # of the branches' ends
    more = sum(2 * c * c // 16 for c in channels)  # 2C²/r weights a block
    assert more <= count("resnet18(se=16)") - count("resnet18") <= more + 2 * sum(channels)
    offsets = (9 * 512 + 1) * 18  # of a 3x3 convolution of 512 channels
    assert count("resnet18(deformable=1)") - count("resnet18") == 3 * offsets + (9 * 256 + 1) * 18


@torch.inference_mode()
def test_blocks_that_are_added_to_a_model_change_nothing_at_first(tmp_path: Path) -> None:
    state = weights_of("resnet18", 4, tmp_path / "some.pth")
    plain = catalog.build("resnet18", 4, str(tmp_path / "some.pth")).model.eval()
    assert different(plain, state) == []
    both = catalog.build("resnet18(se=8,deformable=1)", 4, str(tmp_path / "some.pth"))
    assert both.arguments == {"se": 8, "deformable": 1}
    x = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(both.model.eval()(x), plain(x), rtol=1e-3, atol=1e-4)


# sizes


def test_sized_leaves_alone_what_needs_nothing(folder: Path) -> None:
    for name, weights, size in (
        ("cnn_small", "none", 32),
        ("resnet20", "none", 64),
        ("resnet18", "none", 128),
        ("timm:test_vit", "none", 160),
        (f"local-dir:{folder}", "auto", 32),  # its filters were learnt with their strides
    ):
        built = catalog.build(name, 3, weights)
        assert catalog.sized(built, size, 3) is built


def test_a_transformer_with_weights_keeps_its_patches(folder: Path) -> None:
    """Its positions are resampled, and the rest of the weights is what it was."""
    import timm

    torch.manual_seed(4)
    state = timm.create_model("test_vit", num_classes=2).state_dict()
    save_file(state, folder / "model.safetensors")
    text = (folder / "config.json").read_text().replace("test_resnet", "test_vit")
    config = json.loads(text)
    config["pretrained_cfg"] |= {
        "input_size": [3, 160, 160],
        "fixed_input_size": True,
        "classifier": "head",
        "first_conv": "patch_embed.proj",
    }
    (folder / "config.json").write_text(json.dumps(config))
    built = catalog.sized(catalog.build(f"local-dir:{folder}", 2), 64, 2)
    assert (built.size, built.weights, built.stem) == (64, f"local-dir:{folder}", "")
    assert (built.mean, built.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    ordered = {name: state[name] for name in built.model.state_dict()}
    assert different(built.model, ordered) == ["pos_embed"]
    assert built.model.get_parameter("pos_embed").shape == (1, 1 + 16, 64)
    again = catalog.build(built.architecture, 2, "none", built.arguments).model.eval()
    again.load_state_dict(built.model.state_dict())
    x = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(again(x), built.model.eval()(x))


@pytest.mark.parametrize("name", ["mlp", "perceptron"])
def test_weights_for_images_of_one_size(name: str, tmp_path: Path) -> None:
    state = weights_of(name, 3, tmp_path / "some.pth")
    file = str(tmp_path / "some.pth")
    built = catalog.sized(catalog.build(name, 3, file), 32, 3)
    assert different(built.model, state) == []
    assert built.weights == file
    with pytest.raises(UserError, match="images of 32 px"):
        catalog.sized(catalog.build(name, 3, file), 64, 3)
    small = weights_of(f"{name}(size=16)", 3, tmp_path / "small.pth")
    built = catalog.sized(catalog.build(f"{name}(size=16)", 3, str(tmp_path / "small.pth")), 16, 3)
    assert different(built.model, small) == []


# channels


@pytest.mark.parametrize(
    "name", ["cnn_small", "lenet5", "resnet18", "timm:test_vit", "squeezenet1_1"]
)
@torch.inference_mode()
def test_other_channels(name: str) -> None:
    size = 160 if name == "timm:test_vit" else 64

    def model(channels: int) -> nn.Module:
        torch.manual_seed(0)
        return catalog.build(name, 4, "none", channels=channels).model.eval()

    torch.manual_seed(1)
    grey, colour = torch.randn(2, 1, size, size), torch.randn(2, 3, size, size)
    three, close = model(3), {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(model(1)(grey), three(grey.expand(-1, 3, -1, -1)), **close)
    torch.testing.assert_close(model(6)(colour.repeat(1, 2, 1, 1)), three(colour), **close)
    four = model(4)
    first = next(m for m in four.modules() if isinstance(m, nn.Conv2d))
    assert first.weight.shape[1] == first.in_channels
    assert four(torch.randn(2, 4, size, size)).isfinite().all()


def test_channels_of_what_has_no_convolution() -> None:
    with pytest.raises(UserError, match="first layer cannot be changed to 4 channels"):
        catalog.build("mlp", 3, "none", channels=4)


def test_channels_and_strides_that_are_undone() -> None:
    built = catalog.build("resnet18", 3, "none", {"size": 32}, channels=1)
    assert built.stem.endswith("conv1, maxpool")
    assert built.model(torch.zeros(2, 1, 32, 32)).shape == (2, 3)


# new heads and old ones


@pytest.mark.parametrize("name", ["squeezenet1_1", "timm:test_resnet", "cnn_small"])
def test_a_new_head_has_no_opinion_and_learns(name: str, tmp_path: Path) -> None:
    """Also where a ReLU comes after it, which lets no gradient through at zero."""
    weights_of(name, 4, tmp_path / "some.pth")
    model = catalog.build(name, 5, str(tmp_path / "some.pth")).model.train()
    logits = model(torch.randn(6, 3, 64, 64))
    assert torch.equal(logits, logits[:1, :1].expand(6, 5))
    nn.functional.cross_entropy(logits, torch.tensor([0, 1, 2, 3, 4, 0])).backward()
    gradient = catalog.head(model)[1].weight.grad
    assert isinstance(gradient, torch.Tensor)
    assert gradient.flatten(1).any(1).all()


def test_the_names_of_the_weights_classes(folder: Path) -> None:
    name = f"local-dir:{folder}"
    assert catalog.build(name, None).classes == ()
    (folder / "labels.txt").write_text("Käfer\nWanze\n", encoding="utf-8")
    built = catalog.build(name, None)
    assert built.classes == ("Käfer", "Wanze")
    assert built.model(torch.zeros(2, 3, 48, 48)).shape == (2, 2)
    (folder / "labels.txt").write_text("one\ntwo\nthree\n")
    assert catalog.build(name, None).classes == ()  # of another model
    config = json.loads((folder / "config.json").read_text())
    config["pretrained_cfg"]["label_names"] = ["n1", "n2"]
    (folder / "config.json").write_text(json.dumps(config))
    assert catalog.build(name, None).classes == ("n1", "n2")
    config["pretrained_cfg"]["label_descriptions"] = {"n2": "bug"}
    (folder / "config.json").write_text(json.dumps(config))
    assert catalog.build(name, None).classes == ("n1", "bug")
    assert catalog.build(name, 5, "none").classes == ()


def test_our_models_have_no_classes_of_their_own() -> None:
    with pytest.raises(UserError, match="no weights"):
        catalog.build("cnn_small", None)
