import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fewlabels.models import catalog, stem

RESNET = {
    16: "conv1, maxpool, layer2.0.conv1, layer2.0.downsample.0",
    32: "conv1, maxpool",
    64: "conv1",
    96: "",
    224: "",
}


def strides(model: nn.Module) -> list[int]:
    found = []
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d) and max(layer.kernel_size) > 1:
            found.append(layer.stride[0])
        elif isinstance(layer, nn.MaxPool2d | nn.AvgPool2d):
            found.append(int(layer.stride))
    return found


@pytest.mark.parametrize("size", RESNET)
def test_which_strides_of_a_resnet_go(size: int) -> None:
    model = catalog.build("resnet18", 3, "none").model
    names = list(model.state_dict())
    said = stem.suit(model, size)
    assert said == (f"at {size} px without the stride of {RESNET[size]}" if RESNET[size] else "")
    assert strides(model).count(2) == {16: 2, 32: 3, 64: 4}.get(size, 5)
    assert list(model.state_dict()) == names  # a file of weights still fits
    assert stem.suit(model, size) == ""  # nothing is left to do


@pytest.mark.parametrize(
    ("name", "size", "gone"),
    [
        ("vgg11_bn", 32, "features.3"),  # a pooling
        ("squeezenet1_1", 32, "features.0"),
        ("squeezenet1_1", 64, ""),
        ("densenet121", 64, "features.conv0"),
        ("densenet121", 32, "features.conv0, features.pool0"),
        ("mobilenet_v2", 32, "features.0.0, features.2.conv.1.0"),
        ("timm:convnext_atto", 64, "stem.0"),  # of 4, two are left
    ],
)
def test_which_strides_of_others_go(name: str, size: int, gone: str) -> None:
    model = catalog.build(name, 3, "none").model
    assert stem.suit(model, size) == (f"at {size} px without the stride of {gone}" if gone else "")


@pytest.mark.parametrize("size", [32, 64, 96])
def test_a_resnet_with_its_strides_undone_by_hand(size: int) -> None:
    torch.manual_seed(0)
    model = catalog.build("resnet18", 3, "none").model
    stem.suit(model, size)
    model.eval()
    parts = dict(model.named_children())
    x = torch.randn(2, 3, size, size)
    with torch.inference_mode():
        y = F.conv2d(x, parts["conv1"].weight, padding=3, stride=2 if size > 64 else 1)
        y = F.relu(parts["bn1"](y))
        y = F.max_pool2d(y, 3, 2, 1) if size > 32 else y
        for name in ("layer1", "layer2", "layer3", "layer4"):
            y = parts[name](y)
        assert y.shape[2] == {32: 4, 64: 4, 96: 3}[size]
        torch.testing.assert_close(model(x), parts["fc"](y.mean((2, 3))))


def test_a_stride_of_four_is_halved_first() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 2, 4))
    assert stem.suit(model, 12) == ""  # 3 px are enough
    assert stem.suit(model, 8) == "at 8 px without the stride of 0"
    assert model[0].stride == (2, 2)
    assert stem.suit(model, 4) == "at 4 px without the stride of 0"
    assert model[0].stride == (1, 1)


def test_images_that_stay_too_small_change_nothing() -> None:
    """`accepts` tells."""
    model = catalog.build("squeezenet1_1", 3, "none").model
    before = strides(model)
    assert stem.suit(model, 2) == ""
    assert strides(model) == before


def test_it_leaves_no_trace() -> None:
    model = catalog.build("resnet18", 3, "none").model.train()
    model.layer1.eval()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    drawn = torch.get_rng_state()
    stem.suit(model, 32)
    assert model.training
    assert not model.layer1.training
    assert model.layer2.training
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), drawn)
    assert not any(module._forward_hooks for module in model.modules())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
