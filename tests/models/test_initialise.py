import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from fewlabels.errors import UserError
from fewlabels.models.cnn_small import CnnSmall
from fewlabels.models.initialise import Initialisation, initialise
from fewlabels.models.mlp import MLP
from fewlabels.models.wide_resnet import WideResNet


def spread(model: MLP) -> list[float]:
    """The standard deviation of the activations after each hidden layer, for white noise."""
    x = torch.randn(64, 3 * 8 * 8)
    found = []
    for layer in model.hidden:
        x = layer(x)
        if not isinstance(layer, nn.Linear):
            found.append(x.std().item())
    return found


def deep(activation: str, how: str, layers: int = 10) -> list[float]:
    torch.manual_seed(0)
    model = MLP(10, layers=layers, activation=activation, size=8)
    initialise(model, how)
    with torch.inference_mode():
        return spread(model)


# the text form


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("gaussian(0.01)", Initialisation("gaussian", 0.01)),
        ("gaussian(1e-3)", Initialisation("gaussian", 0.001)),
        ("gaussian( 2 )", Initialisation("gaussian", 2.0)),
        (" xavier ", Initialisation("xavier")),
        ("he", Initialisation("he")),
    ],
)
def test_parse(text: str, parsed: Initialisation) -> None:
    assert Initialisation.parse(text) == parsed
    assert Initialisation.parse(str(parsed)) == parsed


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("kaiming", "xavier and he"),
        ("", "xavier and he"),
        ("He", "xavier and he"),
        ("he(2)", "xavier and he"),
        ("gaussian", "gaussian(0.01)"),
        ("gaussian(0)", "greater than 0"),
        ("gaussian(-0.1)", "greater than 0"),
        ("gaussian(nan)", "greater than 0"),
        ("gaussian(inf)", "greater than 0"),
        ("gaussian()", "greater than 0"),
        ("gaussian(0.01", "gaussian(0.01)"),
    ],
)
def test_what_is_none(text: str, says: str) -> None:
    model = nn.Linear(2, 2)
    before = model.weight.clone()
    with pytest.raises(UserError) as caught:
        initialise(model, text)
    assert f"'{text}'" in str(caught.value)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert torch.equal(model.weight, before)


# the weights

LINEAR, CONV = nn.Linear(300, 100), nn.Conv2d(32, 64, 3)
GROUPED, DEPTHWISE = nn.Conv2d(64, 128, 3, groups=4), nn.Conv2d(2048, 2048, 5, groups=2048)


@pytest.mark.parametrize(
    ("layer", "inputs", "outputs"),
    [
        (LINEAR, 300, 100),
        (CONV, 9 * 32, 9 * 64),
        (GROUPED, 9 * 16, 9 * 32),
        (DEPTHWISE, 25, 25),
    ],
    ids=["linear", "convolution", "grouped", "depthwise"],
)
def test_weights(layer: nn.Linear | nn.Conv2d, inputs: int, outputs: int) -> None:
    torch.manual_seed(0)
    standard = {
        "gaussian(0.01)": 0.01,
        "xavier": math.sqrt(2 / (inputs + outputs)),
        "he": math.sqrt(2 / inputs),
    }
    for how, std in standard.items():
        initialise(layer, how)
        weight = layer.weight.detach()
        assert weight.std().item() == pytest.approx(std, rel=0.02)
        assert abs(weight.mean().item()) < 0.03 * std
        most = (weight.abs().max() / std).item()
        if how == "xavier":  # a uniform distribution ends at sqrt(3) standard deviations
            assert 0.999 * math.sqrt(3) < most <= math.sqrt(3) + 1e-5
        else:
            assert most > 3
        assert layer.bias is not None
        assert not layer.bias.any()


@pytest.mark.parametrize("how", ["gaussian(0.01)", "xavier", "he"])
def test_a_model_starts_anew(how: str) -> None:
    """Nothing of what it was is left, but what is neither a weight, a bias nor a norm."""

    class Token(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.token = nn.Parameter(torch.full((4,), 7.0))

    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.GroupNorm(2, 4), nn.LayerNorm(4), Token()]
    bare = [
        nn.Conv2d(4, 4, 1, bias=False),
        nn.BatchNorm2d(4, affine=False),
        nn.LayerNorm(4, bias=False),
    ]
    model = nn.Sequential(*layers, *bare, nn.Linear(4, 2))
    with torch.no_grad():
        for value in model.state_dict().values():
            value.fill_(7)
    initialise(model, how)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d | nn.GroupNorm | nn.LayerNorm):
            assert layer.weight is None or (layer.weight == 1).all()
            assert layer.bias is None or (layer.bias == 0).all()
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            assert (layer.running_mean == 0).all()
            assert (layer.running_var == 1).all()
        if isinstance(layer, nn.Linear | nn.Conv2d):
            assert layer.bias is None or (layer.bias == 0).all()
            assert (layer.weight.abs() < 7).all()
        if isinstance(layer, Token):
            assert (layer.token == 7).all()


@pytest.mark.parametrize("how", ["gaussian(0.01)", "xavier", "he"])
def test_what_starts_at_zero_stays_there(how: str) -> None:
    """Else deformable convolutions would begin with wild offsets, deep nets with noisy branches."""
    offsets, plain = nn.Conv2d(4, 18, 3), nn.Conv2d(4, 4, 3)
    for parameter in offsets.parameters():
        nn.init.zeros_(parameter)
    before = plain.weight.detach().clone()
    initialise(nn.Sequential(offsets, plain), how)
    assert not any(parameter.any() for parameter in offsets.parameters())
    assert (plain.weight != before).all()

    deeper = CnnSmall(3, depth=2)
    initialise(deeper, how)
    zero = [
        name for name, p in deeper.named_parameters() if name.endswith("weight") and not p.any()
    ]
    assert zero == [f"{place}.norm.weight" for place in ("middle.2", "middle.3", "top.2", "top.3")]


@pytest.mark.parametrize("how", ["gaussian(0.01)", "xavier", "he"])
def test_the_seed_decides(how: str) -> None:
    def drawn(seed: int) -> Tensor:
        torch.manual_seed(seed)
        initialise(model, how)
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    model = WideResNet(3, depth=10, k=1)
    first = drawn(0)
    assert torch.equal(first, drawn(0))
    assert not torch.equal(first, drawn(1))


# what they do to a deep net


def test_gaussian_dies_in_ten_tanh_layers_and_xavier_lives() -> None:
    gaussian, xavier = deep("tanh", "gaussian(0.01)"), deep("tanh", "xavier")
    assert len(gaussian) == 10
    ratios = [later / earlier for earlier, later in pairwise(gaussian)]
    assert all(ratio == pytest.approx(0.16, rel=0.1) for ratio in ratios)  # 0.01 * sqrt(256)
    assert gaussian[-1] < 1e-6
    assert min(xavier) > 0.05
    assert max(xavier) < 0.9  # not saturated either


def test_he_keeps_the_variance_through_relu() -> None:
    he, xavier = deep("relu", "he", layers=20), deep("relu", "xavier", layers=20)
    assert 1 / 3 < he[-1] / he[0] < 3
    assert 1 / 3 < he[0] < 3
    # Xavier's halve the variance at each ReLU
    assert xavier[-1] / xavier[0] == pytest.approx(2**-9.5, rel=0.7)


def test_gradients_reach_the_first_layer() -> None:
    def first(activation: str, how: str) -> float:
        torch.manual_seed(0)
        model = MLP(10, layers=10, activation=activation, size=8)
        initialise(model, how)
        model(torch.randn(64, 3, 8, 8)).square().mean().backward()
        gradient = model.hidden.get_parameter("0.weight").grad
        assert gradient is not None
        return gradient.std().item()

    assert first("tanh", "xavier") > 1e6 * first("tanh", "gaussian(0.01)")
    assert first("relu", "he") > 1e6 * first("relu", "gaussian(0.01)")


@pytest.mark.parametrize(("activation", "how"), [("relu", "he"), ("tanh", "xavier")])
def test_the_mlp_starts_with_what_suits_it(activation: str, how: str) -> None:
    torch.manual_seed(0)
    with torch.inference_mode():
        own = spread(MLP(10, layers=10, activation=activation, size=8))
    assert own[-1] == pytest.approx(deep(activation, how)[-1], rel=0.5)
