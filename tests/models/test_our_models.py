import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

from fewlabels.errors import UserError
from fewlabels.models import resnet_cifar, wide_resnet
from fewlabels.models.cnn_small import CnnSmall
from fewlabels.models.lenet5 import LeNet5
from fewlabels.models.mlp import MLP, Perceptron
from fewlabels.models.resnet_cifar import ResNetCifar
from fewlabels.models.wide_resnet import WideResNet

SIZES: dict[type[nn.Module], tuple[int, ...]] = {
    CnnSmall: (8, 16, 18, 32, 64, 100),
    LeNet5: (16, 32, 33, 64, 100),
    Perceptron: (8, 33, 64),
    MLP: (8, 33, 64),
    ResNetCifar: (4, 32, 33, 64),
    WideResNet: (4, 32, 33, 64),
}
CONVOLUTIONAL = [CnnSmall, LeNet5, ResNetCifar, WideResNet]


def made(kind: type[nn.Module], classes: int, size: int, **more: Any) -> nn.Module:
    """For images of `size`, where the kind wants to know it."""
    sized = {"size": size} if "size" in inspect.signature(kind).parameters else {}
    return kind(classes, **sized, **more)


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def without_gradient(model: nn.Module) -> list[str]:
    return [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]


def stirred(model: nn.Module) -> nn.Module:
    """With batch norms that do something: fresh ones are nearly the identity."""
    generator = torch.Generator().manual_seed(5)
    for path, layer in model.named_modules():
        if isinstance(layer, nn.BatchNorm2d):
            for name in ("weight", "running_var", "bias", "running_mean"):
                values = model.state_dict()[f"{path}.{name}"]
                values.copy_(torch.rand(values.shape, generator=generator) + 0.5)
    return model


@pytest.mark.parametrize(
    ("kind", "size"), [(kind, size) for kind, sizes in SIZES.items() for size in sizes]
)
def test_shapes(kind: type[nn.Module], size: int) -> None:
    torch.manual_seed(0)
    model = made(kind, 7, size)
    x = torch.randn(3, 3, size, size)
    logits = model(x)
    assert logits.shape == (3, 7)
    assert logits.isfinite().all()
    assert (logits.std(0) > 0).all()  # it looks at the image
    logits.square().sum().backward()
    assert without_gradient(model) == []


@pytest.mark.parametrize("kind", CONVOLUTIONAL)
def test_shapes_at_224(kind: type[nn.Module]) -> None:
    with torch.device("meta"):
        assert kind(7)(torch.zeros(2, 3, 224, 224)).shape == (2, 7)


@pytest.mark.parametrize("kind", SIZES)
def test_the_seed_decides(kind: type[nn.Module]) -> None:
    def logits(seed: int) -> Tensor:
        torch.manual_seed(seed)
        found: Tensor = made(kind, 4, 16).eval()(x)
        return found

    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(9))
    with torch.inference_mode():
        assert torch.equal(logits(0), logits(0))
        assert not torch.equal(logits(0), logits(1))


def test_parameters() -> None:
    convolutions = 9 * (12 * 24 + 24 * 24 + 24 * 48 + 48 * 48 + 48 * 48 + 48 * 96)
    norms = 2 * (24 + 24 + 48 + 48 + 48 + 96)
    assert count(CnnSmall(10)) == convolutions + norms + 96 * 10 + 10 == 102_634
    assert count(CnnSmall(2)) == convolutions + norms + 96 * 2 + 2
    # as runs have saved them
    places = ("stem.1", "stem.2", "middle.1", "residual.0", "residual.1", "top.1")
    saved = {name.rpartition(".")[0] for name in CnnSmall(10).state_dict()}
    assert saved == {"head"} | {f"{place}.{i}" for place in places for i in (0, 1)}
    # the paper's figure 2, with three input channels and full connections from S2 to C3
    lenet = (75 * 6 + 6) + (150 * 16 + 16) + (400 * 120 + 120) + (120 * 84 + 84) + (84 * 10 + 10)
    assert count(LeNet5(10)) == lenet == 62_006
    assert count(Perceptron(10)) == 3 * 32 * 32 * 10 + 10
    assert count(Perceptron(3, size=8)) == 192 * 3 + 3
    mlp = (192 * 50 + 50) + 9 * (50 * 50 + 50) + (50 * 3 + 3)
    assert count(MLP(3, layers=10, width=50, activation="tanh", size=8)) == mlp


@pytest.mark.parametrize(
    ("depth", "paper", "exactly"),
    [
        (20, 0.27, 269_722),
        (32, 0.46, 464_154),
        (44, 0.66, 658_586),
        (56, 0.85, 853_018),
        (110, 1.7, 1_727_962),
    ],
)
def test_parameters_of_resnets(depth: int, paper: float, exactly: int) -> None:
    """Millions as in the paper's table 6; exactly: by hand, with no shortcut's."""
    n = (depth - 2) // 6
    convolutions = 9 * (3 * 16 + 2 * n * 16**2)
    convolutions += 9 * (16 * 32 + (2 * n - 1) * 32**2 + 32 * 64 + (2 * n - 1) * 64**2)
    norms = 2 * (16 + 2 * n * (16 + 32 + 64))
    with torch.device("meta"):
        model = ResNetCifar(10, depth)
    assert count(model) == convolutions + norms + 64 * 10 + 10 == exactly
    assert exactly / 1e6 == pytest.approx(paper, rel=0.02)
    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(layers) == depth


@pytest.mark.parametrize(
    ("depth", "k", "classes", "millions"),
    [  # WRN-28-2: MixMatch and its followers; the others: the paper's tables, 10 and 100 classes
        (28, 2, 10, 1.47),
        (40, 1, 10, 0.6),
        (40, 2, 10, 2.2),
        (28, 10, 10, 36.5),
        (28, 10, 100, 36.5),
        (16, 8, 10, 11.0),
    ],
)
def test_parameters_of_wide_resnets(depth: int, k: int, classes: int, millions: float) -> None:
    with torch.device("meta"):
        model = WideResNet(classes, depth, k)
    assert count(model) / 1e6 == pytest.approx(millions, abs=0.06 if millions != 1.47 else 0.005)
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert sum(m.kernel_size == (3, 3) for m in convolutions) == depth - 3  # and 3 shortcuts
    assert sum(m.kernel_size == (1, 1) for m in convolutions) == (3 if k > 1 else 2)


def test_parameters_of_other_widths() -> None:
    assert [CnnSmall(10, width=w).head.in_features for w in (0.1, 8 / 24, 0.5, 1.16, 1.41, 2)] == [
        32,
        32,
        64,
        96,
        128,
        192,
    ]
    assert ResNetCifar(10, width=2).head.in_features == 128
    assert ResNetCifar(10, width=0.5).head.in_features == 32


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (partial(ResNetCifar, depth=18), "6n+2"),
        (partial(ResNetCifar, depth=2), "6n+2"),
        (partial(ResNetCifar, width=0), "width 0"),
        (partial(WideResNet, depth=30), "6n+4"),
        (partial(WideResNet, depth=4), "6n+4"),
        (partial(WideResNet, k=0), "k 0"),
        (partial(WideResNet, dropout=1), "dropout 1"),
        (partial(CnnSmall, depth=0.9), "depth 0.9"),
        (partial(CnnSmall, width=float("nan")), "width nan"),
        (partial(MLP, layers=0), "layers 0"),
        (partial(MLP, width=0), "width 0"),
        (partial(MLP, size=0), "size 0"),
        (partial(MLP, activation="step"), "one of relu, tanh, sigmoid"),
        (partial(Perceptron, size=0), "size 0"),
    ],
)
def test_what_cannot_be(make: Callable[[int], nn.Module], says: str) -> None:
    with pytest.raises(UserError) as caught:
        make(3)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size", [8, 20, 32])
def test_cnn_small_by_hand(size: int) -> None:
    torch.manual_seed(0)
    model = stirred(CnnSmall(5)).eval()
    state = model.state_dict()

    def conv(x: Tensor, path: str) -> Tensor:
        x = F.conv2d(x, state[f"{path}.0.weight"], padding=1)
        names = ("running_mean", "running_var", "weight", "bias")
        return F.relu(F.batch_norm(x, *(state[f"{path}.1.{name}"] for name in names)))

    def pool(x: Tensor) -> Tensor:
        """2x2 maxima; a last odd row or column is kept."""
        x = F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2), value=float("-inf"))
        corners = [x[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)]
        return torch.stack(corners).amax(0)

    image = torch.randn(2, 3, size, size)
    # channel 4 c + 2 i + j holds the pixels of colour c in the corner (i, j) of each 2x2 square
    x = torch.stack(
        [image[:, c, i::2, j::2] for c in range(3) for i in (0, 1) for j in (0, 1)], dim=1
    )
    x = conv(conv(x, "stem.1"), "stem.2")
    x = conv(pool(x), "middle.1")
    x = x + conv(conv(x, "residual.0"), "residual.1")
    x = conv(pool(x), "top.1")
    expected = x.flatten(2).amax(2) @ state["head.weight"].T + state["head.bias"]
    with torch.inference_mode():
        torch.testing.assert_close(model(image), expected, rtol=1e-4, atol=1e-5)


def test_a_deeper_cnn_small_starts_as_the_default_one() -> None:
    torch.manual_seed(0)
    model, deeper = stirred(CnnSmall(5)).eval(), CnnSmall(5, depth=2).eval()
    own = deeper.state_dict()
    assert set(model.state_dict()) < set(own)
    deeper.load_state_dict(own | model.state_dict())
    x = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(deeper(x), model(x))

    added = [
        name for name in own if name not in model.state_dict() and name.endswith("conv.weight")
    ]
    assert [name.partition(".")[0] for name in added] == ["middle", "middle", "top", "top"]
    state = stirred(deeper).state_dict()
    x = torch.randn(2, 48, 4, 4).relu()
    expected = x  # the pool has been passed
    for place in ("middle.2", "middle.3"):
        y = F.conv2d(expected, state[f"{place}.conv.weight"], padding=1)
        names = ("running_mean", "running_var", "weight", "bias")
        y = F.batch_norm(y, *(state[f"{place}.norm.{name}"] for name in names))
        expected = F.relu(expected + y)
    torch.testing.assert_close(deeper.middle[2:](x), expected, rtol=1e-4, atol=1e-5)
    deeper.train()(torch.randn(3, 3, 32, 32)).square().sum().backward()
    assert without_gradient(deeper) == []


@pytest.mark.parametrize(
    ("depth", "middle", "top"), [(1, 0, 0), (1.1, 0, 0), (1.2, 0, 1), (1.44, 1, 1), (2, 2, 2)]
)
def test_where_cnn_small_gets_deeper(depth: float, middle: int, top: int) -> None:
    model = CnnSmall(3, depth=depth)
    assert (len(model.middle) - 2, len(model.top) - 2) == (middle, top)


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid"])
def test_mlp_by_hand(activation: str) -> None:
    torch.manual_seed(0)
    model = MLP(4, layers=2, width=20, activation=activation, size=8)
    state, act = model.state_dict(), getattr(torch, activation)
    images = torch.randn(5, 3, 8, 8)
    x = images.reshape(5, -1)
    for place in ("hidden.0", "hidden.2"):
        x = act(x @ state[f"{place}.weight"].T + state[f"{place}.bias"])
    expected = x @ state["head.weight"].T + state["head.bias"]
    torch.testing.assert_close(model(images), expected)


def test_perceptron_is_linear() -> None:
    torch.manual_seed(0)
    model = Perceptron(4, size=8)
    x, y = torch.randn(5, 3, 8, 8), torch.randn(5, 3, 8, 8)
    torch.testing.assert_close(model(2 * x - y), 2 * model(x) - model(y))


def test_option_a_by_hand() -> None:
    block = resnet_cifar.Block(2, 4, stride=2)
    nn.init.zeros_(block.norm2.weight)  # then the block is its shortcut
    x = torch.arange(2 * 4 * 4.0).reshape(1, 2, 4, 4) + 1
    expected = torch.tensor([[[1.0, 3], [9, 11]], [[17, 19], [25, 27]]])
    y = block(x)
    assert torch.equal(y[0, :2], expected)
    assert y.shape == (1, 4, 2, 2)
    assert not y[0, 2:].any()
    same = resnet_cifar.Block(2, 2, stride=1)
    nn.init.zeros_(same.norm2.weight)
    assert torch.equal(same(x - 9), F.relu(x - 9))  # the ReLU comes after the sum


def norm(x: Tensor, state: dict[str, Tensor], path: str) -> Tensor:
    names = ("running_mean", "running_var", "weight", "bias")
    return F.batch_norm(x, *(state[f"{path}.{name}"] for name in names))


def test_resnet_by_hand() -> None:
    torch.manual_seed(0)
    model = stirred(ResNetCifar(5, depth=8)).eval()
    state = model.state_dict()
    image = torch.randn(2, 3, 12, 12)
    x = F.relu(norm(F.conv2d(image, state["stem.0.weight"], padding=1), state, "stem.1"))
    for stage, stride in ((0, 1), (1, 2), (2, 2)):
        path = f"stages.{stage}.0"
        y = F.conv2d(x, state[f"{path}.conv1.weight"], stride=stride, padding=1)
        y = F.relu(norm(y, state, f"{path}.norm1"))
        y = norm(F.conv2d(y, state[f"{path}.conv2.weight"], padding=1), state, f"{path}.norm2")
        beside = torch.zeros_like(y)
        beside[:, : x.shape[1]] = x[:, :, ::stride, ::stride]
        x = F.relu(y + beside)
    assert x.shape == (2, 64, 3, 3)
    expected = x.flatten(2).mean(2) @ state["head.weight"].T + state["head.bias"]
    with torch.inference_mode():
        torch.testing.assert_close(model(image), expected, rtol=1e-4, atol=1e-5)


def test_wide_resnet_by_hand() -> None:
    torch.manual_seed(0)
    model = stirred(WideResNet(5, depth=16, k=2, dropout=0.5)).eval()
    state = model.state_dict()
    image = torch.randn(2, 3, 12, 12)
    x = F.conv2d(image, state["stem.weight"], padding=1)
    for stage, stride in ((0, 1), (1, 2), (2, 2)):
        for block in (0, 1):
            path, step = f"stages.{stage}.{block}", stride if block == 0 else 1
            before = F.relu(norm(x, state, f"{path}.norm1"))
            y = F.conv2d(before, state[f"{path}.conv1.weight"], stride=step, padding=1)
            y = F.relu(norm(y, state, f"{path}.norm2"))
            y = F.conv2d(y, state[f"{path}.conv2.weight"], padding=1)
            if block == 0:  # the channels change
                x = F.conv2d(before, state[f"{path}.shortcut.weight"], stride=step)
            x = x + y
    x = F.relu(norm(x, state, "norm"))
    expected = x.mean((2, 3)) @ state["head.weight"].T + state["head.bias"]
    with torch.inference_mode():
        torch.testing.assert_close(model(image), expected, rtol=1e-4, atol=1e-4)


def test_dropout_lies_between_the_convolutions() -> None:
    torch.manual_seed(0)
    layers = WideResNet(3, depth=16, dropout=0.3).modules()
    assert [layer.p for layer in layers if isinstance(layer, nn.Dropout)] == 6 * [0.3]
    block = wide_resnet.Block(16, 16, 1, dropout=0.5)
    zeros = {}

    def note(name: str) -> Callable[[nn.Module, tuple[Tensor]], None]:
        def hook(_: nn.Module, inputs: tuple[Tensor]) -> None:
            zeros[name] = (inputs[0] == 0).float().mean().item()

        return hook

    for name in ("conv1", "conv2"):
        block.get_submodule(name).register_forward_pre_hook(note(name))
    block(torch.randn(8, 16, 16, 16))  # a ReLU leaves half of them, dropout half of those
    assert zeros == pytest.approx({"conv1": 0.5, "conv2": 0.75}, abs=0.03)
    block.eval()(torch.randn(8, 16, 16, 16))
    assert zeros == pytest.approx({"conv1": 0.5, "conv2": 0.5}, abs=0.03)


def test_lenet5_by_hand() -> None:
    """At 32 px: convolution and 2x2 pooling twice, as in the paper, then three layers."""
    torch.manual_seed(0)
    model = LeNet5(10).eval()
    x = torch.randn(2, 3, 32, 32)
    s2 = F.max_pool2d(F.relu(model.c1(x)), 2)
    assert s2.shape == (2, 6, 14, 14)
    s4 = F.max_pool2d(F.relu(model.c3(s2)), 2)
    assert s4.shape == (2, 16, 5, 5)
    expected = model.head(F.relu(model.f6(F.relu(model.c5(s4.flatten(1))))))
    torch.testing.assert_close(model(x), expected)


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        (CnnSmall, {}),
        (CnnSmall, {"depth": 1.5}),
        (LeNet5, {}),
        (Perceptron, {}),
        (MLP, {}),
        (ResNetCifar, {"depth": 8}),
    ],
)
def test_learns_digits(kind: type[nn.Module], more: dict[str, Any]) -> None:
    digits = load_digits()
    pixels = np.kron(digits.images[:600] / 16 - 0.5, np.ones((1, 2, 2)))  # 16 px
    x = torch.from_numpy(pixels).float()[:, None].expand(-1, 3, -1, -1)
    y = torch.from_numpy(digits.target[:600])
    torch.manual_seed(0)
    model = made(kind, 10, 16, **more)
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    for step in range(80):
        rows = torch.arange(step * 32, step * 32 + 32) % 300
        optimiser.zero_grad()
        F.cross_entropy(model(x[rows]), y[rows]).backward()
        optimiser.step()
    model.eval()
    with torch.inference_mode():
        accuracy = (model(x[300:]).argmax(1) == y[300:]).float().mean().item()
    assert accuracy > 0.7
