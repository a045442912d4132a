import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fewlabels.errors import UserError
from fewlabels.models import catalog
from fewlabels.models.branches import branches


def shape_of(name: str) -> nn.Module:
    """Without numbers: most of the time would go into drawing them."""
    with torch.device("meta"):
        return catalog.build(name, 3, "none").model


@pytest.mark.filterwarnings("ignore:The default weight initialization")
@pytest.mark.parametrize(
    ("name", "count", "first", "last"),
    [
        ("resnet18", 8, "layer1.0.bn2", "layer4.1.bn2"),
        ("resnet50", 16, "layer1.0.bn3", "layer4.2.bn3"),
        ("mobilenet_v2", 10, "features.3.conv.3", "features.16.conv.3"),
        ("efficientnet_b0", 9, "features.2.1.block.3.1", "features.6.3.block.3.1"),
        ("convnext_tiny", 18, "features.1.0.block.5", "features.7.2.block.5"),
        ("swin_t", 24, "features.1.0.attn", "features.7.1.mlp.3"),
        ("resnet20", 9, "stages.0.0.norm2", "stages.2.2.norm2"),
        ("cnn_small", 1, "residual.1.1", "residual.1.1"),
        ("timm:test_resnet", 4, "layer1.0.bn2", "layer4.0.bn2"),
        ("timm:test_vit", 12, "blocks.0.attn.proj", "blocks.5.mlp.fc2"),
        ("timm:test_vit2", 16, "blocks.0.ls1", "blocks.7.ls2"),
        ("timm:resnetv2_50", 16, None, "stages.3.blocks.2.conv3"),  # norms come first
        ("timm:test_nfnet", 4, None, "stages.3.0.attn_last"),
        ("timm:seresnet18", 8, "layer1.0.se", "layer4.1.se"),
        ("timm:mobilenetv2_035", 10, "blocks.1.1.bn3", "blocks.5.2.bn3"),
        ("timm:efficientnet_b0", 9, "blocks.1.1.bn3", "blocks.5.3.bn3"),
        ("timm:res2net50_26w_4s", 16, "layer1.0.bn3", "layer4.2.bn3"),  # sums within branches
    ],
)
def test_residual_nets(name: str, count: int, first: str | None, last: str | None) -> None:
    found = branches(shape_of(name), 64)
    assert len(found) == count
    assert first in (None, found[0])
    assert last in (None, found[-1])


@pytest.mark.filterwarnings("ignore:The default weight initialization")
@pytest.mark.parametrize(
    "name",
    [
        "lenet5",
        "alexnet",
        "vgg11_bn",
        "densenet121",
        "squeezenet1_1",
        "googlenet",
        "timm:repvgg_a0",
    ],
)
def test_other_nets(name: str) -> None:
    assert branches(shape_of(name), 64) == ()


def test_a_vision_transformer_has_two_a_block() -> None:
    """At the size that it was made for, whatever is asked."""
    found = branches(shape_of("vit_b_16"), 64)
    block = "encoder.layers.encoder_layer_"
    assert found[:2] == (f"{block}0.self_attention", f"{block}0.mlp.3")
    assert len(found) == 24


def test_shortcuts_on_the_left() -> None:
    found = branches(catalog.build("regnet_x_400mf", 3, "none").model, 32)  # not on meta
    assert found[0] == "trunk_output.block1.block1-0.f.c.1"
    assert len(found) == 22


class Ways(nn.Module):
    """One block, written in each of the usual ways."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.one, self.two = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.gate = nn.Conv2d(4, 4, 1)
        self.project = nn.Conv2d(4, 4, 1)
        self.scale = nn.Parameter(torch.ones(4, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        x = self.stem(image)
        y: Tensor = self.two(F.relu(self.one(x)))
        match self.way:
            case "left":
                return x + y
            case "right":
                return y + x
            case "torch.add":
                return torch.add(x, y)
            case "in place":
                y += x
                return F.relu_(y)
            case "projected":
                return self.project(x) + y
            case "activated":
                return F.silu(y) + x
            case "gated":
                return x + y * torch.sigmoid(self.gate(y.mean((2, 3), keepdim=True)))
            case "scaled":
                return x + self.scale * y
            case "twice":
                x = x + y
                return x + self.two(F.relu(self.one(x)))
            case "equals":
                return self.one(x) + self.project(x)
            case "constant":
                return x + torch.ones_like(x)
            case _:
                return torch.cat([x, y], 1)


@pytest.mark.parametrize(
    ("way", "found"),
    [
        *((way, ("two",)) for way in ("left", "right", "torch.add", "in place", "projected")),
        *((way, ("two",)) for way in ("activated", "scaled", "twice")),
        *((way, ()) for way in ("equals", "constant", "concatenated")),
    ],
)
def test_ways_to_add(way: str, found: tuple[str, ...]) -> None:
    assert branches(Ways(way), 16) == found


def test_a_gate_is_of_the_module_that_computes_it() -> None:
    class Gate(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.excite = nn.Conv2d(4, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return x * torch.sigmoid(self.excite(x.mean((2, 3), keepdim=True)))

    model = Ways("left")
    model.two = nn.Sequential(model.two, Gate())  # type: ignore[assignment]
    assert branches(model, 16) == ("two.1",)


def test_the_model_is_left_as_it_was() -> None:
    model = catalog.build("resnet18", 3, "none").model.train()
    model.layer1.eval()  # as a frozen stage
    modes = [module.training for module in model.modules()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(3)
    drawn = torch.rand(1)
    torch.manual_seed(3)
    branches(model, 32)
    assert torch.equal(torch.rand(1), drawn)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    hooks = [h for m in model.modules() for h in (*m._forward_hooks, *m._forward_pre_hooks)]
    assert hooks == []


def test_sizes_and_channels() -> None:
    assert len(branches(catalog.build("cnn_small", 3, "none", channels=1).model, 32, 1)) == 1
    with pytest.raises(UserError, match="LeNet5 cannot take images of 8 px"):
        branches(catalog.build("lenet5", 3, "none").model, 8, 5)
