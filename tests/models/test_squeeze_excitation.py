import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fewlabels.errors import UserError
from fewlabels.models import catalog
from fewlabels.models.built import head
from fewlabels.models.squeeze_excitation import SqueezeExcitation, add_squeeze_excitation

PLACES = [  # places, and the sum of the squares of their channels
    ("resnet18", 8, 2 * (64**2 + 128**2 + 256**2 + 512**2)),
    ("resnet20", 9, 3 * (16**2 + 32**2 + 64**2)),
    ("vgg11", 8, 64**2 + 128**2 + 2 * 256**2 + 4 * 512**2),
    ("alexnet", 5, 64**2 + 192**2 + 384**2 + 2 * 256**2),
    ("cnn_small", 6, None),
    ("lenet5", 2, None),
    ("mobilenet_v2", 10, None),
    ("densenet121", 120, None),
    ("squeezenet1_1", 25, None),  # its head, the 26th, is left out
    ("googlenet", 57, None),
    ("timm:test_resnet", 4, None),
    ("timm:test_efficientnet", 13, None),
    ("timm:mobilenetv2_035", 10, None),
    ("timm:efficientnet_b0", 9, None),
    ("timm:test_convnext", 9, None),  # channels last
    ("timm:test_mambaout", 6, None),  # a stage has 32 channels of 32x32
]


def model_of(name: str) -> nn.Module:
    torch.manual_seed(0)
    model = catalog.build(name, 3, "none").model
    for layer in model.modules():  # timm starts the last norm of a branch at zero
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
    return model


def blocks(model: nn.Module) -> list[SqueezeExcitation]:
    return [layer for layer in model.modules() if isinstance(layer, SqueezeExcitation)]


@pytest.mark.filterwarnings("ignore:The default weight initialization")
@pytest.mark.parametrize(("name", "count", "squares"), PLACES)
def test_the_same_function(name: str, count: int, squares: int | None) -> None:
    model = model_of(name).eval()
    x = torch.randn(2, 3, 64, 64)
    top, before = head(model)[0], sum(p.numel() for p in model.parameters())
    with torch.inference_mode():
        plain = model(x)
        assert torch.equal(add_squeeze_excitation(model)(x), plain)
    added = blocks(model)
    assert len(added) == count
    weights = sum(p.numel() for p in model.parameters()) - before
    by_hand = sum(2 * b.reduce.in_features * b.reduce.out_features for b in added)
    assert weights == by_hand
    if squares is not None:
        assert weights == 2 * squares // 16
    assert head(model)[0] == top
    assert not any(layer.training for layer in model.modules())


@pytest.mark.parametrize("ratio", [1, 4, 16, 32])
@pytest.mark.parametrize("channels", [32, 64])
def test_weights(channels: int, ratio: int) -> None:
    block = SqueezeExcitation(channels, ratio)
    assert sum(p.numel() for p in block.parameters()) == 2 * channels**2 // ratio
    assert SqueezeExcitation(6).reduce.out_features == 1


@pytest.mark.parametrize("last", [False, True])
def test_by_hand(last: bool) -> None:
    torch.manual_seed(0)
    block = SqueezeExcitation(8, 4, last)
    nn.init.normal_(block.expand.weight)
    x = torch.randn(2, 8, 5, 3)
    expected = torch.empty_like(x)
    for n in range(2):
        squeezed = torch.stack([x[n, c].mean() for c in range(8)])
        hidden = (block.reduce.weight @ squeezed).clamp(min=0)
        for c in range(8):
            expected[n, c] = x[n, c] * 2 / (1 + torch.exp(-block.expand.weight[c] @ hidden))
    out = block(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2) if last else block(x)
    torch.testing.assert_close(out, expected)


def test_gates_are_of_an_image_and_know_no_places() -> None:
    torch.manual_seed(0)
    block = SqueezeExcitation(8, 2)
    nn.init.normal_(block.expand.weight)
    x = torch.randn(3, 8, 4, 4)
    torch.testing.assert_close(block(x)[1:2], block(x[1:2]))
    torch.testing.assert_close(block(x.flip(3)), block(x).flip(3))


def test_where_they_are() -> None:
    resnet = add_squeeze_excitation(model_of("resnet18"))
    assert isinstance(resnet.get_submodule("layer1.0.bn2.1"), SqueezeExcitation)
    assert isinstance(resnet.get_submodule("layer1.0.bn2.0"), nn.BatchNorm2d)
    densenet = add_squeeze_excitation(model_of("densenet121"))
    layer = densenet.get_submodule("features.denseblock1.denselayer1")
    kinds = [type(child).__name__ for child in layer.children()]
    assert kinds == ["BatchNorm2d", "ReLU", "Conv2d", "Sequential", "ReLU", "Sequential"]
    with torch.device("meta"):
        vgg = add_squeeze_excitation(catalog.build("vgg11_bn", 3, "none").model)
    assert isinstance(vgg.get_submodule("features.0"), nn.Conv2d)  # after its norm
    assert isinstance(vgg.get_submodule("features.1.1"), SqueezeExcitation)


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "cnn_small"])
def test_gradients(name: str) -> None:
    """The second matrices learn at once, the first ones when the second have moved.

    Four hidden units at least: a single one may be dead from the start, as with any ReLU.
    """
    model = add_squeeze_excitation(model_of(name), 4).train()
    optimiser = torch.optim.SGD(model.parameters(), 0.01)
    x, y = torch.randn(4, 3, 64, 64), torch.tensor([0, 1, 2, 0])
    for step in range(2):
        optimiser.zero_grad()
        F.cross_entropy(model(x), y).backward()
        for block in blocks(model):
            assert block.expand.weight.grad is not None
            assert block.reduce.weight.grad is not None
            assert block.expand.weight.grad.any()
            assert block.reduce.weight.grad.any() == (step == 1)
        optimiser.step()


def test_deepcopy_and_state() -> None:
    model = add_squeeze_excitation(model_of("timm:test_resnet"), 4).eval()
    for block in blocks(model):
        nn.init.normal_(block.expand.weight)
    other = add_squeeze_excitation(model_of("timm:test_resnet"), 4).eval()
    other.load_state_dict(model.state_dict())
    x = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(other(x), model(x))
        assert torch.equal(copy.deepcopy(model)(x), model(x))


@pytest.mark.parametrize("name", ["perceptron", "mlp", "timm:test_vit", "timm:test_vit2"])
def test_nets_without_maps(name: str) -> None:
    with pytest.raises(UserError, match="squeeze-and-excitation is for maps of convolutions"):
        add_squeeze_excitation(catalog.build(name, 3, "none").model)


def test_ratio() -> None:
    with pytest.raises(UserError, match="ratio"):
        add_squeeze_excitation(model_of("cnn_small"), 0)


def test_grey_images() -> None:
    model = catalog.build("resnet18", 3, "none", channels=1).model
    assert len(blocks(add_squeeze_excitation(model, channels=1))) == 8
