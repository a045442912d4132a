"""`Classifier.embed` and `features` against what timm and torchvision call the same.

`features` are the last maps of each size. timm's `features_only` gives the same maps of a ResNet.
It differs on purpose elsewhere, and each difference has its test:

- MobileNet, EfficientNet: timm's last map is that of the last block; ours is what the last
  convolution makes of it, which the pooling sees.
- ConvNeXt: the norm that opens a stage comes before its stride, so that it belongs to the maps of
  the stage before; only the last maps are equal.
- A ViT's maps have one size: timm gives those of several blocks, we give none from its blocks.
"""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fewlabels.deploy.classifier import Classifier
from fewlabels.models import catalog
from fewlabels.pixels.preprocess import Preprocess
from fewlabels.torchvision_repair import repair

SIDE = 64


def classifier(name: str, side: int = SIDE) -> Classifier:
    """Random weights, and batch norms that have seen something."""
    torch.manual_seed(0)
    model = catalog.build(name, 3, "none").model
    with torch.no_grad():
        model.train()(torch.randn(4, 3, side, side) + 1)
    return Classifier(model, ("a", "b", "c"), Preprocess(side), "cpu")


def pictures(count: int, side: int = SIDE) -> list[NDArray[np.uint8]]:
    rng = np.random.default_rng(0)
    return list(rng.integers(0, 256, (count, side, side, 3), dtype=np.uint8))


def inputs(net: Classifier, images: Sequence[NDArray[np.uint8]]) -> Tensor:
    return net.preprocess(np.stack(images))


def stages(net: Classifier, name: str) -> nn.Module:
    """timm's `features_only` with the same weights, every one of them."""
    repair()
    import timm

    theirs: nn.Module = timm.create_model(name, features_only=True)
    own = net.model.state_dict()
    # what lies at the top in a row is called stages_0 there
    named = {key: key.replace("_", ".", 1) for key in theirs.state_dict()}
    state = {key: own.get(key, own.get(plain)) for key, plain in named.items()}
    theirs.load_state_dict(state)
    return theirs.eval()


def close(one: NDArray[np.float32], two: Tensor) -> None:
    np.testing.assert_allclose(one, two.numpy(), rtol=1e-4, atol=1e-5 * float(two.abs().max()))


@torch.inference_mode()
@pytest.mark.parametrize(
    ("name", "width"),
    [
        ("test_resnet", 96),
        ("test_convnext", 64),
        ("test_vit", 64),
        ("test_efficientnet", 256),
        ("mobilenetv2_035", 1280),
    ],
)
def test_embed_is_what_timm_pools(name: str, width: int) -> None:
    net, images = classifier(f"timm:{name}"), pictures(3)
    seen = net.embed(images)
    assert seen.shape == (3, width)
    model, x = net.model, inputs(net, images)
    close(seen, model.forward_head(model.forward_features(x), pre_logits=True))  # type: ignore[operator]
    close(np.stack([net.embed(image)[0] for image in images]), torch.from_numpy(seen))


@torch.inference_mode()
@pytest.mark.parametrize(
    ("name", "path", "width"),
    [("resnet18", "fc", 512), ("mobilenet_v3_small", "classifier.3", 1024)],
)
def test_embed_is_torchvisions_penultimate_layer(name: str, path: str, width: int) -> None:
    net, images = classifier(name), pictures(2)
    seen, scores = net.embed(images), net.model(inputs(net, images))
    assert seen.shape == (2, width)
    close(seen[1:], torch.from_numpy(net.embed(images[1])))
    head = net.model.get_submodule(path)
    close(scores.numpy(), head(torch.from_numpy(seen)))
    net.model.set_submodule(path, nn.Identity())
    close(seen, net.model(inputs(net, images)))


@torch.inference_mode()
def test_embed_pools_what_a_convolutional_head_sees() -> None:
    net, images = classifier("squeezenet1_1"), pictures(2)
    seen = net.embed(images)
    assert seen.shape == (2, 512)
    close(seen, net.model.features(inputs(net, images)).mean((2, 3)))  # type: ignore[operator]


@torch.inference_mode()
@pytest.mark.parametrize("name", ["resnet18", "test_resnet"])
def test_features_are_timms_stages(name: str) -> None:
    net, images = classifier(f"timm:{name}"), pictures(2)
    found = net.features(images)
    theirs = stages(net, name)(inputs(net, images))
    assert [image.shape[2] for image in found] == [32, 16, 8, 4, 2]
    for own, image in zip(found, theirs, strict=True):
        close(own, image)


@torch.inference_mode()
def test_features_of_torchvisions_resnet() -> None:
    repair()
    from torchvision.models.feature_extraction import create_feature_extractor

    net, images = classifier("resnet18"), pictures(2)
    nodes = ["relu", *(f"layer{number}" for number in range(1, 5))]
    theirs = create_feature_extractor(net.model, nodes)(inputs(net, images))
    for own, image in zip(net.features(images), theirs.values(), strict=True):
        close(own, image)


@torch.inference_mode()
@pytest.mark.parametrize("name", ["mobilenetv2_035", "test_efficientnet"])
def test_the_last_convolution_belongs_to_the_features(name: str) -> None:
    net, images = classifier(f"timm:{name}"), pictures(2)
    found = net.features(images)
    theirs = stages(net, name)(inputs(net, images))
    for own, image in zip(found[:-1], theirs[:-1], strict=True):
        close(own, image)
    assert found[-1].shape[2:] == theirs[-1].shape[2:]
    assert found[-1].shape[1] > theirs[-1].shape[1]
    close(found[-1].mean((2, 3)), torch.from_numpy(net.embed(images)))  # what is pooled


@torch.inference_mode()
def test_the_norm_before_a_stride_belongs_to_the_features() -> None:
    net, images = classifier("timm:test_convnext"), pictures(2)
    found = net.features(images)
    theirs = stages(net, "test_convnext")(inputs(net, images))
    norms = [stage.downsample[0] for stage in list(net.model.stages)[1:]]  # type: ignore[arg-type]
    for own, image, norm in zip(found[:-1], theirs[:-1], norms, strict=True):
        close(own, norm(image))
    close(found[-1], theirs[-1])


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("cnn_small", None),
        ("squeezenet1_1", [(64, 31), (128, 15), (256, 7), (512, 3)]),
        ("alexnet", [(64, 15), (192, 7), (256, 3)]),  # not the pooling that makes 6 x 6 of any
        ("swin_t", [(96, 16), (192, 8), (384, 4), (768, 2)]),  # channels came last
        ("timm:test_efficientnet", [(16, 32), (24, 16), (32, 8), (48, 4), (256, 2)]),
    ],
)
def test_features_by_size(name: str, shapes: list[tuple[int, int]] | None) -> None:
    net, images = classifier(name), pictures(2)
    found = net.features(images)
    if shapes is not None:
        assert [image.shape for image in found] == [(2, c, side, side) for c, side in shapes]
    sides = [image.shape[2] for image in found]
    assert sides == sorted(set(sides), reverse=True)
    alone = net.features(images[1])
    for both, one in zip(found, alone, strict=True):
        close(both[1:], torch.from_numpy(one))
    assert not any(module._forward_hooks for module in net.model.modules())
