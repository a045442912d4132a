from collections.abc import Callable

import pytest
import torch
from torch import nn

from fewlabels.errors import UserError
from fewlabels.models.efficientnet import PUBLISHED, efficientnet, efficientnet_l2
from fewlabels.torchvision_repair import repair


def published(name: str) -> nn.Module:
    """Without memory for its weights."""
    of = PUBLISHED[name]
    with torch.device("meta"):
        return efficientnet(1000, of.width, of.depth, of.dropout)


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("name", [name for name in PUBLISHED if name != "efficientnet_l2"])
def test_parameters_are_torchvisions(name: str) -> None:
    repair()
    from torchvision.models import get_model_weights

    entry = get_model_weights(name).DEFAULT
    assert count(published(name)) == entry.meta["num_params"]


@pytest.mark.parametrize("name", [f"efficientnet_b{i}" for i in range(5)])
def test_layers_are_torchvisions(name: str) -> None:
    """Kernels, strides, channels, dropout and stochastic depth; B5 to B7 differ in batch norm."""
    repair()
    from torchvision.models import get_model

    with torch.device("meta"):
        theirs = get_model(name, weights=None)
    assert repr(published(name)) == repr(theirs)


def test_torchvisions_weights_fit_b0() -> None:
    repair()
    from torchvision.models import efficientnet_b0

    torch.manual_seed(0)
    ours, theirs = efficientnet(1000), efficientnet_b0(weights=None)
    ours.load_state_dict(theirs.state_dict())  # each name and each shape
    x = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))


def test_l2() -> None:
    assert count(published("efficientnet_l2")) == 480_309_308  # timm's too; the paper: 480 M
    assert PUBLISHED["efficientnet_l2"].size == 800
    with torch.device("meta"):
        model = efficientnet_l2(7)
        assert model(torch.zeros(2, 3, 64, 64)).shape == (2, 7)
    assert count(model) == 480_309_308 - 993 * 5505
    assert [layer.p for layer in model.modules() if isinstance(layer, nn.Dropout)] == [0.5]


def test_noise_is_as_asked() -> None:
    with torch.device("meta"):
        model = efficientnet(3, depth=0.5, dropout=0.6, stochastic_depth=0.9)
    chances = [float(layer.p) for layer in model.modules() if hasattr(layer, "mode")]
    assert chances == pytest.approx([0.9 * i / 10 for i in range(10)])  # of 10 blocks
    assert [layer.p for layer in model.modules() if isinstance(layer, nn.Dropout)] == [0.6]


@pytest.mark.parametrize(("width", "depth"), [(1.0, 1.0), (0.5, 1.2)])
def test_every_parameter_learns(width: float, depth: float) -> None:
    torch.manual_seed(0)
    model = efficientnet(7, width, depth, stochastic_depth=0)
    logits = model(torch.randn(2, 3, 64, 64))
    assert logits.shape == (2, 7)
    logits.square().sum().backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


def test_multipliers() -> None:
    """Channels in eights, not more than a tenth smaller; blocks rounded up, in every stage."""
    with torch.device("meta"):
        model = efficientnet(3, width=1.1, depth=1.2)
    stages = list(model.get_submodule("features").children())
    assert [len(stage) for stage in stages[1:-1]] == [2, 3, 3, 4, 4, 5, 2]
    outputs = [stage[-1].out_channels for stage in stages[1:-1]]  # type: ignore[index]
    assert outputs == [16, 24, 48, 88, 120, 208, 352]  # 17.6 26.4 44 88 123.2 211.2 352
    last = model.get_submodule("classifier.1")
    assert isinstance(last, nn.Linear)
    assert last.in_features == 4 * 352


def test_the_seed_decides() -> None:
    def first(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return next(efficientnet(3, 0.5, 0.5).parameters()).detach()

    assert torch.equal(first(0), first(0))
    assert not torch.equal(first(0), first(1))


@pytest.mark.parametrize(
    "make",
    [
        lambda: efficientnet(3, width=0),
        lambda: efficientnet(3, depth=-1),
        lambda: efficientnet(3, depth=float("inf")),
        lambda: efficientnet(3, dropout=1.0),
        lambda: efficientnet(3, stochastic_depth=-0.1),
    ],
)
def test_what_cannot_be(make: Callable[[], nn.Module]) -> None:
    with pytest.raises(UserError, match=r"efficientnet: \w+ .*must be between"):
        make()
