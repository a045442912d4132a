"""Receptive fields: by hand, from the papers, and as the gradient of one unit sees them."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from fewlabels.models import anatomy, catalog
from fewlabels.models.cnn_small import CnnSmall
from fewlabels.models.field import Follow, Reach


def conv(kernel: int = 3, stride: int = 1, padding: int = 0, dilation: int = 1) -> nn.Conv2d:
    return nn.Conv2d(3, 3, kernel, stride, padding, dilation)


class Through(nn.Module):
    """A function as a layer."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Branches(nn.Module):
    """A 3x3 and a 5x5 convolution, joined by a function of both."""

    def __init__(self, join: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.b, self.join = conv(3, padding=1), conv(5, padding=2), join

    def forward(self, x: Tensor) -> Tensor:
        return self.join(self.a(x), self.b(x))


def reach(model: nn.Module, size: int = 64) -> Reach:
    """Of the model's output."""
    x = torch.zeros(1, 3, size, size)
    with torch.no_grad(), Follow(x) as follow:
        found = follow.reach(model.eval()(x))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("model", "field", "jump"),
    [
        (nn.Sequential(conv(), conv()), 5, 1),  # (3 - 1)·1 + 3
        (nn.Sequential(conv(), conv(), conv()), 7, 1),
        (nn.Sequential(conv(3, 2), conv()), 7, 2),  # 3 + 2·2
        (nn.Sequential(conv(3, dilation=4), conv(3)), 11, 1),
        (nn.Sequential(conv(1), nn.ReLU(inplace=True), nn.BatchNorm2d(3), conv(1)), 1, 1),
        (nn.Sequential(nn.MaxPool2d(2), conv(3), nn.AvgPool2d(2)), 8, 4),
        (nn.Sequential(nn.MaxPool2d(3, 2, 1, ceil_mode=True), conv(3)), 7, 2),
        (nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(12, 3, 3)), 6, 2),
        (nn.Sequential(nn.Conv2d(3, 3, (1, 7)), nn.Conv2d(3, 3, (3, 1))), 7, 1),  # the longer side
        (Branches(lambda a, b: a + b), 5, 1),
        (Branches(lambda a, b: torch.cat([a, b], 1).relu()), 5, 1),
        (Branches(lambda a, b: torch.maximum(b, a)), 5, 1),
        (nn.Sequential(conv(), nn.Upsample(scale_factor=2)), 4, 1),
        (nn.Sequential(conv(3, 2), Through(lambda x: x[:, :, ::2, 1::2])), 3, 4),
        (nn.Sequential(Through(lambda x: x.permute(0, 2, 3, 1)), nn.LayerNorm(3)), 1, 1),
        (nn.Sequential(conv(4, 4), nn.Flatten(2), Through(lambda x: x.mT), nn.Linear(3, 5)), 4, 4),
    ],
    ids=str,
)
def test_by_hand(model: nn.Module, field: int, jump: int) -> None:
    found = reach(model)
    assert (found.field, found.jump) == (field, jump)


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(conv(), nn.AdaptiveAvgPool2d(1)),
        nn.Sequential(conv(), nn.AdaptiveMaxPool2d(1)),
        nn.Sequential(conv(), Through(lambda x: x.mean((2, 3)))),
        nn.Sequential(conv(), Through(lambda x: torch.amax(x, dim=(2, 3)))),
        nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 2)),
        nn.Sequential(conv(), nn.Flatten(2), nn.Softmax(2)),
        nn.Sequential(nn.Flatten(2), nn.Linear(64 * 64, 4)),  # mixes places, as MLP-Mixer does
    ],
    ids=str,
)
def test_the_whole_image(model: nn.Module) -> None:
    assert reach(model).field is None


def test_attention_sees_the_whole_image() -> None:
    built = catalog.build("timm:test_vit", 3, "none")
    rows = {row.path: row for row in anatomy.layers(built.model, 160)}
    assert (rows["patch_embed.proj"].field, rows["patch_embed.proj"].jump) == (16, 16)
    assert rows["blocks.0.attn.qkv"].field == 16
    assert rows["blocks.0.attn.proj"].field is None


def test_space_to_depth_by_views() -> None:
    """As some stems write it: squares of 4x4 pixels go into channels."""

    def squares(x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        x = x.view(b, c, h // 4, 4, w // 4, 4).permute(0, 3, 5, 1, 2, 4).contiguous()
        return x.view(b, c * 16, h // 4, w // 4)

    found = reach(nn.Sequential(Through(squares), nn.Conv2d(48, 8, 3, padding=1)))
    assert (found.field, found.jump) == (12, 4)
    assert found.spans == ((-4, 7), (-4, 7))


def test_a_gate_is_left_out() -> None:
    """Squeeze-and-excitation looks at the whole image and moves nothing."""

    def gated(x: Tensor) -> Tensor:
        return x * x.mean((2, 3), keepdim=True).sigmoid()

    found = reach(nn.Sequential(conv(), Through(gated), conv()))
    assert found.field == 5


@pytest.mark.parametrize(
    ("name", "path", "field"),
    [  # Araujo, Norris and Sim 2019, table 1, where the layers are the same
        ("alexnet", "features.12", 195),
        ("vgg16", "features.30", 212),
        ("densenet121", "features.norm5", 2071),
    ],
)
def test_the_papers_figures(name: str, path: str, field: int) -> None:
    rows = anatomy.layers(catalog.build(name, 10, "none").model, 224)
    assert next(row for row in rows if row.path == path).field == field


def positive(model: nn.Module) -> nn.Module:
    """Nothing cancels and nothing is picked: the gradient reaches all that a unit sees."""
    for path, module in list(model.named_modules()):
        if isinstance(module, nn.MaxPool2d):
            mean = nn.AvgPool2d(module.kernel_size, module.stride, module.padding, module.ceil_mode)
            parent, _, child = path.rpartition(".")
            setattr(model.get_submodule(parent), child, mean)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
        elif isinstance(module, nn.Conv2d):
            nn.init.constant_(module.weight, 1 / module.weight[0].numel())
    return model.eval().double()


def vgg_like() -> nn.Module:
    """Its features; random weights of the real classifier would take 400 MB."""
    return catalog.build("vgg11_bn", 10, "none").model.get_submodule("features")


@pytest.mark.parametrize(
    ("make", "path", "size"),
    [
        (lambda: CnnSmall(3, width=4), "top", 96),
        (vgg_like, "16", 96),
        (lambda: catalog.build("resnet18", 3, "none").model, "layer2", 128),
        (lambda: catalog.build("resnet18", 3, "none").model, "layer3.0", 192),
        (lambda: catalog.build("timm:mobilenetv2_035", 3, "none").model, "blocks.3", 192),
        (lambda: catalog.build("googlenet(aux_logits=False)", 3, "none").model, "inception4a", 256),
    ],
    ids=["cnn_small", "vgg", "resnet18 layer2", "resnet18 layer3", "mobilenet", "googlenet"],
)
def test_it_is_what_the_gradient_sees(make: Callable[[], nn.Module], path: str, size: int) -> None:
    model = positive(make())
    kept: list[Tensor] = []
    model.get_submodule(path).register_forward_hook(lambda _, __, out: kept.append(out))
    # so small that no ReLU6 is at its upper end
    x = torch.full((1, 3, size, size), 1e-3, dtype=torch.double, requires_grad=True)
    with Follow(x) as follow:
        model(x)
        found = follow.reach(kept[0])
    assert found is not None
    assert found.jump is not None
    unit = kept[0].shape[-1] // 2
    (gradient,) = torch.autograd.grad(kept[0][0, :, unit, unit].sum(), x)
    for axis, span in enumerate(found.spans):
        assert span is not None
        low, high = (unit * found.jump + end for end in span)
        assert low > 0  # the image is large enough for this unit
        assert high < size - 1
        seen = gradient[0].abs().sum((0, 2 - axis)).nonzero().flatten()
        assert (seen.min().item(), seen.max().item()) == (low, high)
    assert found.field == high - low + 1
