from collections.abc import Callable
from itertools import chain

import pytest
import torch
from torch import Tensor, nn

from fewlabels.errors import UserError
from fewlabels.models import catalog, structure
from fewlabels.models.built import head
from fewlabels.models.structure import (
    blank_pass,
    embed,
    features,
    in_mode,
    last_map,
    seen_at,
    seen_by_head,
    stages,
    units,
)

NETS = [
    ("resnet18", 64),
    ("mobilenet_v2", 64),
    ("densenet121", 64),
    ("vgg11_bn", 32),
    ("googlenet", 64),
    ("squeezenet1_1", 64),
    ("efficientnet_b0", 64),
    ("timm:test_resnet", 64),
    ("timm:test_vit", 160),
    ("timm:test_efficientnet", 64),
    ("timm:convnext_atto", 64),
    ("timm:regnetx_002", 64),
    ("cnn_small", 32),
    ("resnet20", 32),
    ("wrn_28_2", 32),
    ("mlp", 32),
    ("perceptron", 32),
    ("lenet5", 32),
    pytest.param("vit_b_16", 224, marks=pytest.mark.slow),
    pytest.param("timm:swin_tiny_patch4_window7_224", 224, marks=pytest.mark.slow),
    pytest.param("timm:deit_tiny_distilled_patch16_224", 224, marks=pytest.mark.slow),
]


def paths(groups: tuple[tuple[structure.Unit, ...], ...]) -> list[list[str]]:
    return [[unit.path for unit in group] for group in groups]


@pytest.mark.filterwarnings("ignore:The default weight initialization")
@pytest.mark.parametrize(("name", "size"), NETS)
def test_a_net_has_an_order(name: str, size: int) -> None:
    """All that holds of every net; built once, for the sake of time."""
    torch.manual_seed(0)
    model = catalog.build(name, 5, "none").model
    model.train()
    model.apply(lambda m: m.eval() if isinstance(m, nn.BatchNorm2d) else None)
    modes = [module.training for module in model.modules()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    drawn = torch.get_rng_state()
    found, groups = units(model), stages(model, size)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), drawn)
    assert not any(module._forward_hooks for module in model.modules() if module is not model)

    # every parameter in one unit, the head's in the last
    inside = [name for unit in found for name in unit.parameters]
    assert sorted(inside) == sorted(name for name, _ in model.named_parameters())
    assert found[-1].path == head(model)[0]
    assert {name.rpartition(".")[0] for name in found[-1].parameters} == {found[-1].path}
    assert len({unit.path for unit in found}) == len(found)
    # no unit is a norm; each norm with statistics is in one, or joins one
    for unit in found:
        assert type(model.get_submodule(unit.path)).__name__ not in ("BatchNormAct2d", "LayerNorm")
    held = [path for unit in found for path in (unit.path, *unit.norms)]
    for path, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            assert sum(path == one or path.startswith(f"{one}.") for one in held) == 1, path
    # stages are runs of units, without the head
    order = [unit.path for unit in found]
    flat = [path for group in paths(groups) for path in group]
    assert flat == [path for path in order if path in set(flat)]
    assert found[-1].path not in flat
    assert all(groups)
    assert len(groups) >= 3 or type(model).__name__ in ("MLP", "Perceptron", "LeNet5")

    # maps become smaller, and the head sees one vector an image
    model.eval()
    x = torch.randn(2, 3, size, size)
    with torch.inference_mode():
        maps, vectors, logits = features(model, x), embed(model, x), model(x)
    sides = [image.shape[2] for image in maps]
    assert sides == sorted(set(sides), reverse=True)
    assert all(image.shape[2] == image.shape[3] and len(image) == 2 for image in maps)
    layer = head(model)[1]
    assert vectors.ndim == 2
    if isinstance(layer, nn.Linear) and not hasattr(model, "head_dist"):  # which has two
        with torch.inference_mode():
            torch.testing.assert_close(layer(vectors), logits)
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_stages_of_resnet18() -> None:
    model = catalog.build("resnet18", 5, "none").model
    blocks = [[f"layer{i}.0", f"layer{i}.1"] for i in (1, 2, 3, 4)]
    assert paths(stages(model, 64)) == [["conv1"], *blocks]
    assert [unit.path for unit in units(model)] == ["conv1", *chain(*blocks), "fc"]
    first = units(model)[0]
    assert first.parameters == ("conv1.weight", "bn1.weight", "bn1.bias")
    assert first.norms == ("bn1",)
    # without the first strides the first maps have one size
    built = catalog.sized(catalog.build("resnet18", 5, "none"), 32, 5)
    assert paths(stages(built.model, 32)) == [["conv1", *blocks[0]], *blocks[1:]]


def test_stages_of_others() -> None:
    squeeze = paths(stages(catalog.build("squeezenet1_1", 5, "none").model, 64))
    assert squeeze == [
        [f"features.{i}" for i in some] for some in ((0,), (3, 4), (6, 7), range(9, 13))
    ]
    # the linear layers of a VGG come after the last map
    vgg = catalog.build("vgg11_bn", 5, "none").model
    assert paths(stages(vgg, 32))[-1] == ["features.22", "features.25"]
    assert [unit.path for unit in units(vgg)][-3:] == [
        "classifier.0",
        "classifier.3",
        "classifier.6",
    ]
    # a transformer is cut into four
    vit = paths(stages(catalog.build("timm:vit_tiny_patch16_224", 5, "none").model, 224))
    assert [len(group) for group in vit] == [3, 3, 4, 3]
    assert vit[0] == ["patch_embed", "blocks.0", "blocks.1"]
    assert vit[-1] == ["blocks.9", "blocks.10", "blocks.11"]
    assert stages(catalog.build("mlp", 5, "none").model, 32) == ()


def test_norms_join_the_layer_before_them() -> None:
    model = catalog.build("timm:test_efficientnet", 5, "none").model
    norms = {unit.path: unit.norms for unit in units(model) if unit.norms}
    assert norms == {"conv_stem": ("bn1",), "conv_head": ("bn2",)}
    model = catalog.build("densenet121", 5, "none").model
    norms = {unit.path: unit.norms for unit in units(model) if unit.norms}
    assert norms["features.denseblock1.denselayer6"] == ("features.transition1.norm",)
    assert norms["features.denseblock4.denselayer16"] == ("features.norm5",)
    before = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, 2))
    assert [unit.path for unit in units(before)] == ["0", "1", "3"]  # nothing lies before it


def test_what_lies_beside_joins_the_first_unit() -> None:
    first = units(catalog.build("timm:test_vit", 5, "none").model)[0]
    assert first.path == "patch_embed"
    assert set(first.parameters) >= {"cls_token", "pos_embed", "patch_embed.proj.weight"}


def by_hand(model: nn.Module, x: Tensor) -> list[Tensor]:
    """The maps of a ResNet, from its layers."""
    layers = dict(model.named_children())
    x = layers["relu"](layers["bn1"](layers["conv1"](x)))
    found = [x]
    x = layers["maxpool"](x)
    for name in ("layer1", "layer2", "layer3", "layer4"):
        x = layers[name](x)
        found.append(x)
    return found


@torch.inference_mode()
def test_features_of_resnet18_by_hand() -> None:
    torch.manual_seed(0)
    model = catalog.build("resnet18", 5, "none").model.eval()
    x = torch.randn(2, 3, 64, 64)
    for found, expected in zip(features(model, x), by_hand(model, x), strict=True):
        torch.testing.assert_close(found, expected)
    torch.testing.assert_close(embed(model, x), by_hand(model, x)[-1].mean((2, 3)))


def test_features_whose_channels_come_last_are_turned() -> None:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.turn = nn.Conv2d(3, 4, 2, stride=2), Turn()
            self.head = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.head(self.turn(self.conv(x)).mean((1, 2)))
            return logits

    class Turn(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x[:, :, ::2, ::2].permute(0, 2, 3, 1)

    model = Last()
    x = torch.randn(2, 3, 24, 24)
    large, small = features(model, x)
    assert (large.shape, small.shape) == ((2, 4, 12, 12), (2, 4, 6, 6))
    assert torch.equal(small, large[:, :, ::2, ::2])


def test_features_have_gradients() -> None:
    """Backbones are trained on."""
    model = catalog.build("timm:test_resnet", 5, "none").model
    sum(image.mean() for image in features(model, torch.randn(2, 3, 64, 64))).backward()  # type: ignore[union-attr]
    without = [name for name, p in model.named_parameters() if p.grad is None]
    assert without == ["fc.weight", "fc.bias"]


@pytest.mark.parametrize("look", [embed, features, lambda model, x: stages(model, x.shape[2])])
def test_a_pass_that_fails_leaves_nothing(look: Callable[[nn.Module, Tensor], object]) -> None:
    model = catalog.build("lenet5", 5, "none").model.train()
    with pytest.raises(RuntimeError):
        look(model, torch.zeros(1, 3, 8, 8))
    for module in model.modules():
        assert module.training
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


def test_a_blank_pass_leaves_modes_as_they_were() -> None:
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout())
    model[0].eval()
    with blank_pass(model):
        assert not model.training
        assert not model[1].training
        assert not torch.is_grad_enabled()
    assert (model.training, model[0].training, model[1].training) == (True, False, True)
    assert torch.is_grad_enabled()


def test_a_mode_lasts_as_long_as_its_block() -> None:
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout()).train()
    model[0].eval()
    with in_mode(model, True):
        assert model[0].training
    assert (model.training, model[0].training, model[1].training) == (True, False, True)
    model[1].register_forward_pre_hook(lambda _, inputs: inputs[0].no_such_thing)
    with pytest.raises(AttributeError), in_mode(model, False):
        model(torch.zeros(2, 3, 1, 1))
    assert (model.training, model[0].training, model[1].training) == (True, False, True)


# what the head sees


def test_what_the_head_sees_is_gathered_with_its_gradient() -> None:
    torch.manual_seed(0)
    model = catalog.build("resnet18", 5, "none").model.eval()
    x = torch.randn(2, 3, 64, 64)
    with seen_by_head(model) as seen:
        logits = model(x)
        model(x[:1])
    assert [tuple(one.shape) for one in seen] == [(2, 512), (1, 512)]
    torch.testing.assert_close(model.fc(seen[0]), logits)
    (gradient,) = torch.autograd.grad(seen[0].sum(), [model.conv1.weight])
    assert gradient.abs().sum() > 0
    model(x)
    assert len(seen) == 2  # nothing is gathered any more
    assert not model.fc._forward_pre_hooks


def test_maps_that_a_head_sees_are_pooled() -> None:
    """SqueezeNet's head is a convolution."""
    torch.manual_seed(0)
    model = catalog.build("squeezenet1_1", 5, "none").model.eval()
    x = torch.randn(2, 3, 64, 64)
    with torch.inference_mode(), seen_by_head(model) as seen:
        model(x)
        torch.testing.assert_close(seen[0], model.features(x).mean((2, 3)))


# the last map

# what comes after it and learns nothing from it is named last
LAST = [
    ("resnet18", 64, "layer4.1", (512, 2, 2), "fc"),
    ("cnn_small", 32, "top.1.2", (96, 4, 4), "head"),
    ("lenet5", 32, "pool", (16, 5, 5), "c5 f6 head"),
    ("vgg11_bn", 64, "features.28", (512, 2, 2), "classifier"),
    ("timm:convnext_atto", 64, "norm_pre", (320, 2, 2), "head"),
    ("timm:test_vit", 160, "norm", (64, 10, 10), "head"),
    ("timm:mixer_s32_224", 224, "norm", (512, 7, 7), "head"),
    ("timm:pvt_v2_b0", 64, "stages.3.norm", (256, 2, 2), "head"),
    pytest.param("swin_t", 224, "permute", (768, 7, 7), "head", marks=pytest.mark.slow),
    pytest.param("vit_b_16", 224, "encoder.ln", (768, 14, 14), "heads", marks=pytest.mark.slow),
    pytest.param(
        "timm:swin_tiny_patch4_window7_224",
        224,
        "norm",
        (768, 7, 7),
        "head",
        marks=pytest.mark.slow,
    ),
    pytest.param(
        "timm:deit_tiny_distilled_patch16_224",
        224,
        "norm",
        (192, 14, 14),
        "head head_dist",
        marks=pytest.mark.slow,
    ),
]


@pytest.mark.filterwarnings("ignore:The default weight initialization")
@pytest.mark.parametrize(("name", "size", "path", "shape", "above"), LAST)
def test_the_last_map_is_what_comes_before_the_head(
    name: str, size: int, path: str, shape: tuple[int, ...], above: str
) -> None:
    """All of the network that an image passes lies below it."""
    torch.manual_seed(0)
    model = catalog.build(name, 5, "none").model.train()
    assert last_map(model, size) == path
    assert all(module.training for module in model.modules())
    assert not any(m._forward_hooks for m in model.modules() if m is not model)
    model.eval()
    with seen_at(model, path) as seen:
        model(torch.randn(2, 3, size, size))
    assert tuple(seen[0].shape) == (2, *shape)
    assert not model.get_submodule(path)._forward_hooks
    seen[0].square().sum().backward()
    without = [key for key, parameter in model.named_parameters() if parameter.grad is None]
    assert {key.split(".")[0] for key in without} == set(above.split())


def test_a_net_without_maps_has_no_last_one() -> None:
    with pytest.raises(UserError, match="MLP makes no map of an image that could be decoded"):
        last_map(catalog.build("mlp", 5, "none").model, 32)


def tokens_of(model: nn.Module, tokens: Tensor) -> Tensor:
    model.add_module("row", nn.Identity())
    with seen_at(model, "row") as seen:
        model.get_submodule("row")(tokens)
    return seen[0]


@pytest.mark.parametrize("before", [0, 1, 2, 4])
def test_tokens_are_laid_out_as_they_lie_in_the_image(before: int) -> None:
    """Row by row; what comes before them is of no place."""
    image = torch.randn(2, 5, 6, 6)
    tokens = torch.cat([torch.full((2, before, 5), 9.0), image.flatten(2).transpose(1, 2)], 1)
    assert torch.equal(tokens_of(nn.Module(), tokens), image)


def test_tokens_before_the_images_that_look_like_more_of_them_are_left_out() -> None:
    """Five before four are nine: three by three, did the model not say how many come before."""
    image = torch.randn(2, 5, 2, 2)
    tokens = torch.cat([torch.full((2, 5, 5), 9.0), image.flatten(2).transpose(1, 2)], 1)
    model = nn.Module()
    model.num_prefix_tokens = 5
    assert torch.equal(tokens_of(model, tokens), image)
    # where the unit lies before the class token joins
    model.num_prefix_tokens = 1
    assert torch.equal(tokens_of(model, tokens[:, 5:]), image)


def test_maps_whose_channels_come_last_are_turned() -> None:
    image = torch.randn(2, 5, 6, 6)
    assert torch.equal(tokens_of(nn.Module(), image.permute(0, 2, 3, 1)), image)
    assert torch.equal(tokens_of(nn.Module(), image), image)


def test_a_patch_of_the_image_reaches_its_own_token() -> None:
    torch.manual_seed(0)
    model = catalog.build("timm:test_vit", 5, "none").model.eval()
    x = torch.zeros(1, 3, 160, 160)
    with torch.inference_mode(), seen_at(model, "patch_embed") as seen:
        model(x)
        x[:, :, 32:48, 80:96] = 1.0  # row 2, column 5
        model(x)
    changed = (seen[1] - seen[0]).abs().sum((0, 1)) > 1e-6
    assert changed.nonzero().tolist() == [[2, 5]]
