import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import map_coordinates
from torch import Tensor, nn

from fewlabels.errors import UserError
from fewlabels.models import catalog, deformable
from fewlabels.models.deformable import DeformableConv2d, add_deformable, deform_conv2d

SHAPES = [  # kernel, stride, padding, dilation, groups
    ((3, 3), (1, 1), (1, 1), (1, 1), 1),
    ((3, 3), (2, 2), (1, 1), (1, 1), 2),
    ((3, 3), (1, 1), (2, 2), (2, 2), 1),
    ((1, 7), (1, 1), (0, 3), (1, 1), 1),
    ((5, 3), (2, 1), (1, 0), (1, 2), 4),
]
Pair = tuple[int, int]


def drawn(
    kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, groups: int, reach: float = 2.0
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x, offset, weight and bias in double precision; offsets go beyond the edges."""
    torch.manual_seed(0)
    x = torch.randn(2, 4, 7, 6, dtype=torch.double)
    weight = torch.randn(8, 4 // groups, *kernel, dtype=torch.double)
    sides = F.conv2d(x, weight, None, stride, padding, dilation, groups).shape[2:]
    offset = torch.randn(2, 2 * kernel[0] * kernel[1], *sides, dtype=torch.double) * reach
    return x, offset, weight, torch.randn(8, dtype=torch.double)


@pytest.mark.parametrize(("kernel", "stride", "padding", "dilation", "groups"), SHAPES)
def test_by_hand(kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, groups: int) -> None:
    """Equation 2 of the paper, a position at a time; SciPy interpolates."""
    x, offset, weight, bias = drawn(kernel, stride, padding, dilation, groups)
    made = deform_conv2d(x, offset, weight, bias, stride, padding, dilation)
    edge = 20  # zeros outside of the map, between which SciPy interpolates too
    padded = F.pad(x, (edge, edge, edge, edge)).numpy()
    expected = np.zeros(made.shape)
    for n, out, row, column in np.ndindex(*made.shape):
        expected[n, out, row, column] = bias[out]
        for k in range(kernel[0] * kernel[1]):
            i, j = divmod(k, kernel[1])
            dy, dx = offset[n, 2 * k : 2 * k + 2, row, column].tolist()
            y = row * stride[0] - padding[0] + i * dilation[0] + dy
            z = column * stride[1] - padding[1] + j * dilation[1] + dx
            for c in range(weight.shape[1]):
                channel = out // (8 // groups) * weight.shape[1] + c
                at = np.array([[y + edge], [z + edge]])
                value = map_coordinates(padded[n, channel], at, order=1)[0]
                expected[n, out, row, column] += weight[out, c, i, j].item() * value
    np.testing.assert_allclose(made.numpy(), expected, atol=1e-12)


@pytest.mark.parametrize(("kernel", "stride", "padding", "dilation", "groups"), SHAPES)
def test_without_offsets(
    kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> None:
    x, offset, weight, bias = drawn(kernel, stride, padding, dilation, groups, reach=0)
    torch.testing.assert_close(
        deform_conv2d(x, offset, weight, bias, stride, padding, dilation),
        F.conv2d(x, weight, bias, stride, padding, dilation, groups),
    )


@pytest.mark.parametrize(("dy", "dx"), [(1, 0), (0, 1), (-2, 3), (20, 0)])
def test_whole_offsets(dy: int, dx: int) -> None:
    """All positions moved by the same pixels: the map is moved the other way, and zeros follow."""
    x, offset, weight, bias = drawn(*SHAPES[0])
    offset[:, 0::2], offset[:, 1::2] = dy, dx
    edge = 25
    wide = F.pad(x, (edge, edge, edge, edge)).roll((-dy, -dx), (2, 3))
    expected = F.conv2d(wide, weight, bias, padding=1)[:, :, edge:-edge, edge:-edge]
    torch.testing.assert_close(deform_conv2d(x, offset, weight, bias, padding=(1, 1)), expected)


def test_half_an_offset_is_the_mean_of_two() -> None:
    x, offset, weight, bias = drawn(*SHAPES[0])

    def at(dx: float) -> Tensor:
        offset[:, 0::2], offset[:, 1::2] = 0, dx
        return deform_conv2d(x, offset, weight, bias, padding=(1, 1))

    torch.testing.assert_close(at(0.5), (at(0) + at(1)) / 2)


@pytest.mark.parametrize(("kernel", "stride", "padding", "dilation", "groups"), SHAPES[:2])
def test_gradients(kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, groups: int) -> None:
    """In the input, the offsets, the weights and the biases."""
    x, _, weight, bias = drawn(kernel, stride, padding, dilation, groups)
    x, weight, bias = x[:1, :, :5, :4], weight[:4], bias[:4]
    sides = F.conv2d(x, weight, bias, stride, padding, dilation, weight.shape[0] // 4 * groups)
    # between pixels: at whole ones there is no derivative
    offset = torch.rand(1, 18, *sides.shape[2:], dtype=torch.double) * 0.8 + 0.1
    inputs = [t.detach().clone().requires_grad_() for t in (x, offset, weight, bias)]
    assert torch.autograd.gradcheck(
        lambda *tensors: deform_conv2d(*tensors, stride, padding, dilation), inputs
    )


@pytest.mark.skipif(deformable.compiled() is None, reason="torchvision's operator is not compiled")
@pytest.mark.parametrize(("kernel", "stride", "padding", "dilation", "groups"), SHAPES)
def test_the_operator(
    kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> None:
    operator = deformable.compiled()
    assert operator is not None
    tensors = [t.requires_grad_() for t in drawn(kernel, stride, padding, dilation, groups)]
    ours, theirs = (f(*tensors, stride, padding, dilation) for f in (deform_conv2d, operator))
    torch.testing.assert_close(ours, theirs)
    up = torch.randn_like(ours)
    for one, two in zip(
        torch.autograd.grad(ours, tensors, up),
        torch.autograd.grad(theirs, tensors, up),
        strict=True,
    ):
        torch.testing.assert_close(one, two)


def test_the_operator_is_used_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = DeformableConv2d(nn.Conv2d(3, 4, 3, padding=1))
    x = torch.randn(1, 3, 5, 5)
    monkeypatch.setattr(deformable, "compiled", lambda: lambda x, *_: x + 1)
    assert torch.equal(layer(x), x + 1)
    monkeypatch.setattr(deformable, "compiled", lambda: None)
    assert layer(x).shape == (1, 4, 5, 5)
    assert layer.to("meta")(x.to("meta")).shape == (1, 4, 5, 5)


def test_half_precision_keeps_positions() -> None:
    """A map 200 wide, where bfloat16 knows every second position at best."""
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 4, 3, padding=1)
    layer = DeformableConv2d(conv)
    x = torch.randn(1, 4, 8, 200)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        torch.testing.assert_close(layer(x), conv(x), rtol=0.02, atol=0.02)


@pytest.mark.filterwarnings("ignore:The default weight initialization")
@pytest.mark.parametrize(
    ("name", "stages", "where"),
    [
        ("cnn_small", 1, ["top.1.0"]),
        ("lenet5", 1, ["c3"]),
        ("resnet18", 1, [f"layer4.{i}.conv{j}" for i in (0, 1) for j in (1, 2)]),
        ("resnet18", 2, [f"layer{k}.{i}.conv{j}" for k in (3, 4) for i in (0, 1) for j in (1, 2)]),
        ("densenet121", 1, [f"features.denseblock4.denselayer{i}.conv2" for i in range(1, 17)]),
        ("squeezenet1_1", 1, [f"features.{i}.expand3x3" for i in (9, 10, 11, 12)]),
        ("resnext50_32x4d", 1, [f"layer4.{i}.conv2" for i in range(3)]),  # in groups
        ("timm:test_resnet", 1, ["layer4.0.conv1", "layer4.0.conv2"]),
    ],
)
def test_nets(name: str, stages: int, where: list[str]) -> None:
    torch.manual_seed(0)
    model = catalog.build(name, 3, "none").model.eval()
    x = torch.randn(2, 3, 64, 64)
    names = list(model.state_dict())
    with torch.inference_mode():
        plain = model(x)
        changed = add_deformable(model, stages)(x)
    torch.testing.assert_close(changed, plain, rtol=1e-4, atol=1e-5)
    layers = {p: m for p, m in model.named_modules() if isinstance(m, DeformableConv2d)}
    assert list(layers) == where
    assert [n for n in model.state_dict() if ".offset." not in n] == names
    for layer in layers.values():
        window = layer.kernel_size[0] * layer.kernel_size[1]
        assert layer.offset.weight.shape == (2 * window, layer.in_channels, *layer.kernel_size)
        assert not layer.offset.weight.any()
        assert not layer.training


@pytest.mark.filterwarnings("ignore:The default weight initialization")
@pytest.mark.parametrize(
    "name",
    ["perceptron", "mobilenet_v2", "convnext_tiny", "timm:test_vit", "timm:test_efficientnet"],
)
def test_nets_without_such_convolutions(name: str) -> None:
    with pytest.raises(
        UserError, match=r"deformable convolution: .* has none that could become one"
    ):
        add_deformable(catalog.build(name, 3, "none").model)


def test_stages() -> None:
    with pytest.raises(UserError, match="stages"):
        add_deformable(catalog.build("cnn_small", 3, "none").model, 0)


def test_learning() -> None:
    """Offsets move at the first step; the plain model's weights load; a copy is a copy."""
    torch.manual_seed(0)
    plain = catalog.build("cnn_small", 3, "none").model
    model = add_deformable(copy.deepcopy(plain))
    missing, unexpected = model.load_state_dict(plain.state_dict(), strict=False)
    assert (missing, unexpected) == (["top.1.0.offset.weight", "top.1.0.offset.bias"], [])
    optimiser = torch.optim.SGD(model.parameters(), 0.1)
    F.cross_entropy(model(torch.randn(4, 3, 32, 32)), torch.tensor([0, 1, 2, 0])).backward()
    optimiser.step()
    layer = model.get_submodule("top.1.0")
    assert isinstance(layer, DeformableConv2d)
    assert layer.offset.weight.all()
    assert layer.weight.grad is not None
    assert layer.weight.grad.any()
    x = torch.randn(2, 3, 32, 32)
    twin = copy.deepcopy(model).eval()
    with torch.no_grad():
        assert torch.equal(twin(x), model.eval()(x))
        layer.offset.bias.add_(1)  # type: ignore[union-attr]
        assert not torch.equal(twin(x), model(x))
