import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

from fewlabels.models.cnn_small import CnnSmall
from fewlabels.models.lenet5 import LeNet5

SIZES: dict[type[nn.Module], tuple[int, ...]] = {
    CnnSmall: (8, 16, 18, 32, 64, 100),
    LeNet5: (16, 32, 33, 64, 100),
}


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
    model = kind(7)
    x = torch.randn(3, 3, size, size)
    logits = model(x)
    assert logits.shape == (3, 7)
    assert logits.isfinite().all()
    assert (logits.std(0) > 0).all()  # it looks at the image
    logits.square().sum().backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


def test_parameters() -> None:
    def count(model: nn.Module) -> int:
        return sum(p.numel() for p in model.parameters())

    convolutions = 9 * (12 * 24 + 24 * 24 + 24 * 48 + 48 * 48 + 48 * 48 + 48 * 96)
    norms = 2 * (24 + 24 + 48 + 48 + 48 + 96)
    assert count(CnnSmall(10)) == convolutions + norms + 96 * 10 + 10 == 102_634
    assert count(CnnSmall(2)) == convolutions + norms + 96 * 2 + 2
    assert CnnSmall(10, width=8).head.in_features == 32
    # the paper's figure 2, with three input channels and full connections from S2 to C3
    lenet = (75 * 6 + 6) + (150 * 16 + 16) + (400 * 120 + 120) + (120 * 84 + 84) + (84 * 10 + 10)
    assert count(LeNet5(10)) == lenet == 62_006


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


@pytest.mark.parametrize("kind", [CnnSmall, LeNet5])
def test_learns_digits(kind: type[nn.Module]) -> None:
    digits = load_digits()
    pixels = np.kron(digits.images[:600] / 16 - 0.5, np.ones((1, 2, 2)))  # 16 px
    x = torch.from_numpy(pixels).float()[:, None].expand(-1, 3, -1, -1)
    y = torch.from_numpy(digits.target[:600])
    torch.manual_seed(0)
    model = kind(10)
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
