import pytest
import torch
from torch import nn

from fewlabels.errors import UserError
from fewlabels.models.cnn_small import CnnSmall
from fewlabels.models.scaling import BASES, Scaled, cost, scale


@pytest.mark.parametrize(
    ("model", "phi", "scaled"),
    [
        ("cnn_small", 0, Scaled("cnn_small", 32, 1.0, 1.0)),
        ("cnn_small", 1, Scaled("cnn_small(depth=1.2,width=1.1)", 36, 1.2, 1.1)),  # 36.8
        ("cnn_small", 2, Scaled("cnn_small(depth=1.44,width=1.21)", 42, 1.44, 1.21)),  # 42.32
        ("cnn_small", 0.5, Scaled("cnn_small(depth=1.095,width=1.049)", 34, 1.095, 1.049)),
        ("efficientnet_b0", 0, Scaled("efficientnet_b0", 224, 1.0, 1.0)),
        # 257.6, 296.24
        ("efficientnet_b0", 1, Scaled("efficientnet_b0(depth=1.2,width=1.1)", 256, 1.2, 1.1)),
        ("efficientnet_b0", 2, Scaled("efficientnet_b0(depth=1.44,width=1.21)", 296, 1.44, 1.21)),
    ],
)
def test_equation_3(model: str, phi: float, scaled: Scaled) -> None:
    assert scale(model, phi) == scaled


def test_other_coefficients() -> None:
    assert scale("cnn_small", 1, 2, 1, 1).name == "cnn_small(depth=2)"
    assert scale("cnn_small", 1, 1, 1.41, 1).name == "cnn_small(width=1.41)"
    assert scale("cnn_small", 2, 1, 1, 1.5) == Scaled("cnn_small", 72, 1, 1)
    assert scale("cnn_small", 3, 1.2345678, 1, 1).depth == 1.882  # 1.88167
    assert scale("cnn_small", 1, size=64).size == 74  # 73.6
    assert scale("efficientnet_b0", 1, size=64).size == 72


@pytest.mark.parametrize("model", BASES)
def test_sides_that_the_net_takes(model: str) -> None:
    for phi in range(6):
        for side in (1, 8, 30, 32, 100, 224):
            size = scale(model, phi, size=side).size
            assert size % BASES[model].step == 0
            assert size >= BASES[model].least
            wanted = max(side * 1.15**phi, BASES[model].least)
            assert abs(size - wanted) <= BASES[model].step / 2


@pytest.mark.parametrize(
    ("model", "phi", "more", "says"),
    [
        ("resnet18", 1, {}, "cnn_small and efficientnet_b0"),
        ("cnn_small(depth=2)", 1, {}, "cnn_small and efficientnet_b0"),
        ("cnn_small", -1, {}, "phi -1: must be between 0 and 20"),
        ("cnn_small", float("nan"), {}, "phi nan"),
        ("cnn_small", 1, {"alpha": 0.9}, "alpha 0.9"),
        ("cnn_small", 1, {"beta": 0.9}, "beta 0.9"),
        ("cnn_small", 1, {"gamma": 0.9}, "gamma 0.9"),
        ("cnn_small", 1, {"size": 0}, "size 0"),
    ],
)
def test_what_cannot_be(model: str, phi: float, more: dict[str, float], says: str) -> None:
    with pytest.raises(UserError) as caught:
        scale(model, phi, **more)  # type: ignore[arg-type]
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_cost() -> None:
    assert cost(1, 1, 1) == 1
    assert cost(2, 3, 5) == 450
    assert cost(1.2, 1.1, 1.15) == pytest.approx(1.92, abs=0.001)  # the paper's, about 2


def multiply_adds(width: float, depth: float, side: int) -> int:
    """Of the convolutions, counted while an image passes."""
    total = 0

    def count(layer: nn.Module, _: object, output: torch.Tensor) -> None:
        nonlocal total
        assert isinstance(layer, nn.Conv2d)
        total += output[0].numel() * layer.weight[0].numel()

    with torch.device("meta"):
        model = CnnSmall(10, width, depth)
        for layer in model.modules():
            if isinstance(layer, nn.Conv2d):
                layer.register_forward_hook(count)
        model(torch.zeros(2, 3, side, side))
    return total


def test_each_multiplier_costs_cnn_small_what_it_should() -> None:
    """As far as whole convolutions and channels in eights allow."""
    base = multiply_adds(1, 1, 32)
    assert base == 9 * 12 * 24 * 256 * 9  # nine times its first convolution
    for depth in (1.2, 1.44, 1.728, 2, 3, 4):
        assert multiply_adds(1, depth, 32) / base == pytest.approx(depth, abs=1 / 9 + 1e-9)
    assert multiply_adds(1.41, 1, 32) / base == pytest.approx(2, rel=0.15)
    assert multiply_adds(2, 1, 32) / base == pytest.approx(4, rel=0.15)
    assert multiply_adds(1, 1, 64) / base == 4


def test_each_phi_about_doubles_cnn_small() -> None:
    base = multiply_adds(1, 1, 32)
    for phi in (1, 2, 3, 4):
        scaled = scale("cnn_small", phi)
        assert 0.7 < multiply_adds(scaled.width, scaled.depth, scaled.size) / base / 1.92**phi < 1.4
