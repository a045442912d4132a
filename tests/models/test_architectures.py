"""Every architecture that the documentation names: it builds, takes a step, learns, is rebuilt."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fewlabels.models import catalog
from fewlabels.models.auxiliary import auxiliary_loss
from fewlabels.models.catalog import Built

slow = pytest.mark.slow
# AdamW's rate where it is not 1e-3: what has no norms, or many of them before few images
LOW = {"alexnet": 3e-4, "vgg16": 1e-4, "vgg19": 1e-4, "squeezenet1_1": 3e-4, "lenet5": 3e-3}
LOW |= {"efficientnet_b0": 2e-4, "efficientnet_b1": 2e-4, "timm:vit_tiny_patch16_224": 3e-4}
STEPS = {
    "squeezenet1_1": 60,
    "efficientnet_b0": 16,
    "efficientnet_b1": 24,
    "vgg16": 20,
    "vgg19": 30,
}
QUICK = (
    "perceptron",
    "mlp",
    "lenet5",
    "googlenet",
    "resnet18",
    "squeezenet1_1",
    "shufflenet_v2_x1_0",
    "mobilenet_v2",
    "timm:vit_tiny_patch16_224",
    "resnet20",
    "wrn_28_2",
    "cnn_small",
)
HEAVY = (
    "alexnet",
    "vgg16",
    "vgg19",
    "resnet50",
    "resnext50_32x4d",
    "densenet121",
    "timm:seresnet50",
    "efficientnet_b0",
    "efficientnet_b1",
    "resnet18(deformable=1)",
    "resnet18(se=16)",
    "resnet110",
)
LARGE = ("googlenet", "resnet18", "mobilenet_v2", "timm:vit_tiny_patch16_224", "squeezenet1_1")


def at(name: str, size: int) -> Built:
    torch.manual_seed(0)
    return catalog.sized(catalog.build(name, 2, "none"), size, 2)


def images(size: int, count: int = 8) -> tuple[Tensor, Tensor]:
    """Noise, of class 1 brighter in the upper half."""
    y = torch.arange(count) % 2
    x = torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))
    x[y == 1, :, : size // 2] += 1.5
    return x, y


@pytest.mark.parametrize(
    ("name", "size"),
    [
        *[(name, 32) for name in QUICK],
        *[pytest.param(name, 32, marks=slow) for name in HEAVY],
        *[pytest.param(name, size, marks=slow) for name in LARGE for size in (64, 224)],
        *[pytest.param(name, 64, marks=slow) for name in (*HEAVY, "mlp", "lenet5", "wrn_28_2")],
    ],
)
def test_every_architecture_builds_trains_a_step_and_learns(name: str, size: int) -> None:
    model = at(name, size).model.train()
    before = {key: value.clone() for key, value in model.named_parameters()}
    x, y = images(size)
    optimiser = torch.optim.AdamW(model.parameters(), LOW.get(name, 1e-3), weight_decay=0)
    losses = []
    for step in range(STEPS.get(name, 8)):
        logits = model(x)
        assert logits.shape == (8, 2)
        assert logits.isfinite().all()
        loss = F.cross_entropy(logits, y)
        auxiliary = auxiliary_loss(model, y)
        optimiser.zero_grad()
        (loss if auxiliary is None else loss + auxiliary).backward()
        optimiser.step()
        losses.append(loss.item())
        same = [key for key, p in model.named_parameters() if torch.equal(p, before[key])]
        assert len(same) < len(before)
        assert step == 0 or same == []  # what lies behind a zero moves in the second step
    assert min(losses[-4:]) < 0.6 * losses[0], losses


@pytest.mark.parametrize(("size", "count"), [(32, 2), (64, 3)])
@pytest.mark.parametrize("name", [*QUICK, *[pytest.param(name, marks=slow) for name in HEAVY]])
def test_small_batches_of_small_images(name: str, size: int, count: int) -> None:
    """In training mode a batch norm needs more than one number a channel."""
    model = at(name, size).model.train()
    logits = model(images(size, count)[0])
    assert logits.shape == (count, 2)
    assert logits.isfinite().all()


KINDS: list[tuple[str, int, dict[str, Any]]] = [
    ("cnn_small", 32, {}),
    ("mlp", 48, {"size": 48}),
    ("perceptron", 32, {"size": 32}),
    ("mlp(layers=3, width=20, activation=tanh)", 32, {}),
    ("resnet20(width=2)", 32, {"width": 2}),
    ("wrn_28_2(dropout=0.3)", 32, {"dropout": 0.3}),
    ("resnet18", 32, {"size": 32}),
    ("resnet18", 96, {}),
    ("resnet18(se=16,deformable=1)", 64, {"size": 64, "se": 16, "deformable": 1}),
    ("googlenet", 32, {"size": 32, "aux_logits": True}),
    ("efficientnet_b0(width=0.5,depth=0.6)", 64, {"width": 0.5, "depth": 0.6}),
    ("timm:test_resnet", 64, {"size": 64}),
    ("timm:test_resnet(act_layer=gelu)", 64, {"size": 64, "act_layer": "gelu"}),
    ("timm:test_resnet(neighbours=7,nearest=7)", 64, {"neighbours": 7, "nearest": 7}),
    ("timm:test_vit", 64, {"img_size": 64, "patch_size": 8}),
    ("timm:test_vit", 160, {}),
    ("timm:test_vit(patch_size=4)", 64, {"img_size": 64, "patch_size": 4}),
    ("timm:vit_tiny_patch16_224", 32, {"img_size": 32, "patch_size": 4}),
    ("timm:convnext_atto(se=8)", 64, {"size": 64, "se": 8}),
]


@pytest.mark.parametrize(("name", "size", "arguments"), KINDS)
def test_the_artefact_rebuilds_it(name: str, size: int, arguments: dict[str, Any]) -> None:
    """From name and arguments alone, and to the bit."""
    built = at(name, size)
    assert built.arguments.items() >= arguments.items()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for key, value in built.model.state_dict().items():
            if value.is_floating_point():  # weights that are zero at first hide what is missing
                noise = torch.rand(value.shape, generator=generator) * 0.1
                value.add_(noise if key.endswith("running_var") else noise - 0.05)
            elif key.endswith("label"):
                value.random_(2, generator=generator)
    torch.manual_seed(99)
    again = catalog.build(built.architecture, 2, "none", built.arguments)
    assert again.arguments == built.arguments
    assert again.stem == built.stem or "patch_size" in arguments
    again.model.load_state_dict(built.model.state_dict())
    x = images(size, 3)[0]
    with torch.inference_mode():
        expected = built.model.eval()(x)
        assert torch.equal(again.model.eval()(x), expected)
        assert len(expected.unique()) > 2
    # asked for the same size again, nothing changes
    assert catalog.sized(again, size, 2).arguments == built.arguments
