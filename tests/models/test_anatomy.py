"""Layers and totals: counted by hand, and as the libraries publish them."""

import pytest
import torch
from torch import Tensor, nn

from fewlabels.errors import UserError
from fewlabels.models import anatomy, catalog
from fewlabels.models.anatomy import Layer, Totals
from fewlabels.models.lenet5 import LeNet5


def test_a_small_net_by_hand() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),  # 8·3·9 + 8 parameters, 8·3·9 multiply-adds at 16·16 places
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3, groups=4, bias=False),  # each output channel sees 2 of 8
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    )
    assert anatomy.layers(model, 16) == (
        Layer("0", "Conv2d", (8, 16, 16), 224, 216 * 256, 3, 1),
        Layer("1", "ReLU", (8, 16, 16), 0, 0, 3, 1),
        Layer("2", "MaxPool2d", (8, 8, 8), 0, 0, 4, 2),
        Layer("3", "Conv2d", (8, 6, 6), 144, 144 * 36, 8, 2),
        Layer("4", "AdaptiveAvgPool2d", (8, 1, 1), 0, 0, None, None),
        Layer("5", "Flatten", (8,), 0, 0, None, None),
        Layer("6", "Linear", (5,), 45, 40, None, None),
    )
    assert anatomy.totals(model, 16) == Totals(224 + 144 + 45, 216 * 256 + 144 * 36 + 40)


def test_lenet_by_hand() -> None:
    """LeCun et al. 1998, with a colour image: C1 sees 5 px, C3 14."""
    rows = {row.path: row for row in anatomy.layers(LeNet5(10), 32)}
    assert rows["c1"].parameters == 6 * (3 * 25 + 1)
    assert rows["c3"].parameters == 16 * (6 * 25 + 1)
    assert (rows["c1"].field, rows["c3"].field) == (5, 14)
    assert rows["c1"].flops == 6 * 75 * 28 * 28
    assert rows["c3"].flops == 16 * 150 * 10 * 10
    assert (rows["c5"].parameters, rows["c5"].flops) == (48120, 48000)


def test_channels() -> None:
    model = nn.Conv2d(1, 2, 3)
    assert anatomy.totals(model, 5, channels=1) == Totals(20, 2 * 9 * 9)
    assert anatomy.layers(model, 5, channels=1)[0].shape == (2, 3, 3)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("cnn_small", 32),
        ("resnet18", 224),
        ("googlenet(aux_logits=False)", 224),
        ("densenet121", 224),
        ("shufflenet_v2_x0_5", 224),
        ("timm:efficientnet_b0", 224),
        ("timm:convnextv2_atto", 224),
        ("timm:test_vit", 160),  # attention's products are a row of their own
        ("vit_b_16", 224),
        ("timm:mixer_s32_224", 224),
    ],
)
def test_the_rows_add_up(name: str, size: int) -> None:
    with torch.device("meta"):
        model = catalog.build(name, 10, "none").model
    rows = anatomy.layers(model, size)
    total = anatomy.totals(model, size)
    assert sum(row.parameters for row in rows) == total.parameters
    assert sum(row.flops for row in rows) == total.flops
    assert total.parameters == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    "name",
    ["alexnet", "vgg16", "resnet50", "resnext50_32x4d", "mobilenet_v2", "swin_t", "vit_b_16"],
)
def test_totals_are_those_that_torchvision_publishes(name: str) -> None:
    from torchvision.models import get_model_weights

    meta = get_model_weights(name).DEFAULT.meta
    with torch.device("meta"):
        total = anatomy.totals(catalog.build(name, 1000, "none").model, 224)
    assert total.parameters == meta["num_params"]
    assert total.flops / 1e9 == pytest.approx(meta["_ops"], abs=0.0006)


def test_auxiliary_classifiers_have_no_row() -> None:
    """They count among the parameters; evaluation does not run them."""
    with torch.device("meta"):
        model = catalog.build("googlenet(aux_logits=True)", 1000, "none").model
    rows = anatomy.layers(model, 224)
    assert not [row for row in rows if row.path.startswith("aux")]
    assert sum(row.parameters for row in rows) == 6_624_904
    assert anatomy.totals(model, 224).parameters == 13_004_888


def test_a_layer_that_is_called_twice() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(3, 3, 3)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.layer(self.layer(x))
            return out

    one, two = anatomy.layers(Twice(), 8)
    assert (one.parameters, two.parameters) == (84, 0)
    assert (one.flops, two.flops) == (81 * 36, 81 * 16)
    assert (one.field, two.field) == (3, 5)


def test_a_model_that_looks_at_its_numbers() -> None:
    """It cannot run on shapes alone, and so runs on an image."""

    class Looking(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3 * 16, 2)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.layer(x.flatten(1) if x.sum().item() == 0 else x)
            return out

    assert anatomy.totals(Looking(), 4) == Totals(98, 96)
    (row,) = anatomy.layers(Looking(), 4)
    assert (row.flops, row.parameters, row.field) == (96, 98, None)


def test_the_model_is_as_before() -> None:
    model = catalog.build("resnet18", 3, "none").model.train()
    frozen = model.get_submodule("bn1").eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(4)
    state = torch.get_rng_state()
    anatomy.layers(model, 64)
    anatomy.totals(model, 64)
    assert model.training
    assert not frozen.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_a_size_that_a_model_cannot_take_is_told() -> None:
    model = catalog.build("lenet5", 3, "none").model
    for count in (anatomy.layers, anatomy.totals):
        with pytest.raises(UserError, match="LeNet5 cannot take images of 8 px; name another"):
            count(model, 8)


def test_memory_is_not_needed() -> None:
    """480 million parameters at 800 px, with shapes alone."""
    with torch.device("meta"):
        model = catalog.build("efficientnet_l2", 1000, "none").model
    total = anatomy.totals(model, 800)
    assert total.parameters == pytest.approx(480e6, rel=0.01)
