"""Maps against values by hand, references of our own, and what must not change them."""

import copy
import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fewlabels.evaluate.explain import attribution
from fewlabels.evaluate.explain.attribution import METHODS, attribute, without
from fewlabels.evaluate.explain.instrument import instrument
from fewlabels.models import catalog
from fewlabels.models.cnn_small import CnnSmall
from fewlabels.models.ensemble import Ensemble, Member
from fewlabels.models.mlp import MLP, Perceptron


class Tiny(nn.Module):
    """1x1 convolution, ReLU, mean, linear: Grad-CAM can be written down."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1)
        self.act = nn.ReLU(inplace=True)
        self.head = nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.act(self.conv(x)).mean((2, 3)))
        return logits


class Turned(nn.Module):
    """Tiny with its maps in another layout, as a Swin's (channels last) or a ViT's (tokens)."""

    def __init__(self, tiny: Tiny, layout: str) -> None:
        super().__init__()
        self.unit = Unit(tiny, layout)
        self.head = tiny.head
        self.layout = layout
        self.num_prefix_tokens = 1

    def forward(self, x: Tensor) -> Tensor:
        out = self.unit(x)
        pooled = out.mean((1, 2)) if self.layout == "last" else out[:, 1:].mean(1)
        logits: Tensor = self.head(pooled)
        return logits


class Unit(nn.Module):
    def __init__(self, tiny: Tiny, layout: str) -> None:
        super().__init__()
        self.conv, self.layout = tiny.conv, layout

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.conv(x))
        if self.layout == "last":
            return out.permute(0, 2, 3, 1)
        tokens = out.flatten(2).transpose(1, 2)
        return torch.cat([tokens[:, :1] * 0 + 5, tokens], 1)


class Tangled(nn.Module):
    """Everything that guided backpropagation stumbles over: ReLU as a function, one module used
    twice and in place, a cap at 6, and a skip connection from where a ReLU begins."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(3, 6, 3, padding=1)
        self.two = nn.Conv2d(6, 6, 3, padding=1)
        self.three = nn.Conv2d(6, 4, 3, padding=1)
        self.head = nn.Linear(4, 3)
        self.relu, self.relu6 = nn.ReLU(inplace=True), nn.ReLU6(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.one(x)
        x = x + 0.5 * self.relu6(40 * self.two(self.relu(x)))  # in place: both x are cut
        x = x - 0.3
        x = self.relu(self.three(x + F.relu(x)))
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits

    def by_the_rule(self, x: Tensor) -> Tensor:
        x = guided(self.one(x))
        x = x + 0.5 * guided(40 * self.two(x), 6.0) - 0.3
        x = guided(self.three(x + guided(x)))
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits


class Rule(torch.autograd.Function):
    """Guided backpropagation's own rule (Springenberg et al. 2015, figure 1): a gradient passes
    where both the input and the gradient are positive."""

    @staticmethod
    def forward(context: object, x: Tensor, cap: float) -> Tensor:
        context.save_for_backward((x > 0) & (x < cap))  # type: ignore[attr-defined]
        return x.clamp(0, cap)

    @staticmethod
    def backward(context: object, gradient: Tensor) -> tuple[Tensor, None]:
        (open_,) = context.saved_tensors  # type: ignore[attr-defined]
        return gradient * open_ * (gradient > 0), None


def guided(x: Tensor, cap: float = math.inf) -> Tensor:
    result: Tensor = Rule.apply(x, cap)
    return result


def images(count: int = 3, side: int = 8, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


def tiny() -> Tiny:
    torch.manual_seed(1)
    return Tiny()


TARGET = torch.tensor([0, 2, 1])


def test_grad_cam_by_hand() -> None:
    net, x = tiny(), images(side=4)
    maps = attribute(instrument(net, 4), x, TARGET, "grad_cam")
    with torch.no_grad():
        a = F.relu(net.conv(x))  # [3, 2, 4, 4], as large as the image
        weight = net.head.weight[TARGET] / 16  # the gradient of a mean over 16 places
        expected = F.relu((weight[..., None, None] * a).sum(1))
    assert expected.any()
    torch.testing.assert_close(maps, expected)


@pytest.mark.parametrize("layout", ["last", "tokens"])
@pytest.mark.parametrize("method", ["grad_cam", "guided_grad_cam"])
def test_the_layout_of_the_map_makes_no_difference(layout: str, method: str) -> None:
    net, x = tiny(), images(side=4)
    turned = instrument(Turned(copy.deepcopy(net), layout), 4)
    assert turned.path == "unit"
    plain = attribute(instrument(net, 4), x, TARGET, method)
    assert plain.any()
    torch.testing.assert_close(attribute(turned, x, TARGET, method), plain)


@pytest.mark.parametrize("method", METHODS)
def test_the_bias_of_the_logits_makes_no_difference_and_a_mirrored_image_a_mirrored_map(
    method: str,
) -> None:
    net, x = tiny(), images()
    maps = attribute(instrument(net, 8), x, TARGET, method)
    with torch.no_grad():
        net.head.bias += 7
    torch.testing.assert_close(attribute(instrument(net, 8), x, TARGET, method), maps)
    # nor does in which company an image is, or how many there are
    one = attribute(instrument(net, 8), x[1:2], TARGET[1:2], method)
    torch.testing.assert_close(one, maps[1:2], atol=1e-6, rtol=1e-4)
    mirrored = attribute(instrument(net, 8), x.flip(3), TARGET, method)
    torch.testing.assert_close(mirrored.flip(2), maps, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_in_how_many_passes_makes_no_difference(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready, x = instrument(tiny(), 8), images()
    maps = attribute(ready, x, TARGET, method)
    monkeypatch.setattr(attribution, "PIXELS", 64)  # one image at a time
    assert attribution.at_once(8) == 1
    torch.testing.assert_close(attribute(ready, x, TARGET, method), maps, atol=1e-6, rtol=1e-4)


def test_guided_backpropagation_against_its_own_rule() -> None:
    torch.manual_seed(0)
    net, x = Tangled(), images()

    def gradient(forward: Callable[[Tensor], Tensor]) -> Tensor:
        given = x.clone().requires_grad_()
        score = forward(given).gather(1, TARGET[:, None]).sum()
        return torch.autograd.grad(score, given)[0].sum(1)

    ready = instrument(net, 8)
    assert ready.relus == 4
    given = x.clone().requires_grad_()
    torch.testing.assert_close(ready.guided(given), net(x))
    cam = attribute(ready, x, TARGET, "grad_cam")
    found = attribute(ready, x, TARGET, "guided_grad_cam")
    torch.testing.assert_close(found, cam * gradient(net.by_the_rule), atol=1e-7, rtol=1e-4)
    assert found.any()
    assert not torch.allclose(found, cam * gradient(net), rtol=0.1)


def test_guided_grad_cam_is_zero_where_grad_cam_is() -> None:
    torch.manual_seed(3)
    net, x = instrument(CnnSmall(3).eval(), 16), images(side=16)
    cam, guided = (attribute(net, x, TARGET, m) for m in ("grad_cam", "guided_grad_cam"))
    assert (cam == 0).any()
    assert guided.any()
    assert not guided[cam == 0].any()


def test_integrated_gradients_sum_to_the_difference_of_the_logits() -> None:
    torch.manual_seed(0)
    net = MLP(3, layers=2, width=20, activation="tanh", size=8)
    x = images(5)
    target = torch.tensor([0, 1, 2, 0, 1])
    maps = attribute(instrument(net, 8), x, target, "integrated_gradients")
    with torch.no_grad():
        change = net(x) - net(torch.zeros_like(x))
    torch.testing.assert_close(
        maps.sum((1, 2)), change.gather(1, target[:, None])[:, 0], atol=1e-3, rtol=1e-3
    )


def test_integrated_gradients_of_a_linear_model_are_weight_times_pixel() -> None:
    net, x = Perceptron(3, size=4), images(side=4)
    maps = attribute(instrument(net, 4), x, TARGET, "integrated_gradients")
    expected = (net.head.weight[TARGET].reshape(3, 3, 4, 4) * x).sum(1)
    torch.testing.assert_close(maps, expected.detach(), atol=1e-5, rtol=1e-4)


def reads(top: int, left: int, side: int = 24, square: int = 6) -> Perceptron:
    """Class 1 for a bright square there, and nothing else counts."""
    net = Perceptron(2, size=side)
    weight = torch.zeros(2, 3, side, side)
    weight[1, :, top : top + square, left : left + square] = 0.1
    with torch.no_grad():
        net.head.weight.copy_(weight.flatten(1))
        net.head.bias.zero_()
    return net


@pytest.mark.parametrize(("top", "left"), [(2, 14), (9, 9)])
def test_occlusion_finds_the_square_that_alone_decides(top: int, left: int) -> None:
    x = torch.ones(1, 3, 24, 24)
    heat = attribute(instrument(reads(top, left), 24), x, torch.tensor([1]), "occlusion")[0]
    inside = torch.zeros(24, 24, dtype=torch.bool)
    inside[top : top + 6, left : left + 6] = True
    assert inside.flatten()[heat.argmax()]
    assert heat[inside].mean() > 4 * heat[~inside].mean()
    near = F.max_pool2d(inside[None].float(), 11, 1, 5)[
        0
    ].bool()  # a window of 4 reaches no further
    assert heat[~near].abs().max() < 1e-6
    # against the other class the same square speaks with the other sign
    other = attribute(instrument(reads(top, left), 24), x, torch.tensor([0]), "occlusion")[0]
    assert other[inside].max() < 0


def test_occlusion_is_the_fall_of_the_logarithm() -> None:
    """A pixel that only one window covers, by hand."""
    net, x = reads(0, 0, side=12, square=1), torch.ones(1, 3, 12, 12)
    heat = attribute(instrument(net, 12), x, torch.tensor([1]), "occlusion")[0]
    shown, hidden = (torch.tensor([0.0, 3 * w]).log_softmax(0)[1] for w in (0.1, 0.0))
    assert heat[0, 0] == pytest.approx(float(shown - hidden), rel=1e-4)


@pytest.mark.parametrize("net", [Perceptron(3, size=8), MLP(3, size=8)], ids=["perceptron", "mlp"])
def test_without_maps_grad_cam_has_no_meaning(net: nn.Module) -> None:
    ready = instrument(net, 8)
    assert set(without(ready)) == {"grad_cam", "guided_grad_cam"}
    assert "makes no maps" in ready.why
    with pytest.raises(ValueError, match="makes no maps"):
        attribute(ready, images(), TARGET, "grad_cam")
    for method in ("integrated_gradients", "occlusion"):
        assert attribute(ready, images(), TARGET, method).shape == (3, 8, 8)


def test_an_ensemble_has_no_last_map() -> None:
    plain = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    members = [Member(tiny(), 8, *plain, *plain, range(3)) for _ in range(2)]
    ready = instrument(Ensemble(members), 8)
    assert "ensemble" in ready.why
    maps = attribute(ready, images(), TARGET, "integrated_gradients")
    assert maps.any()


@pytest.mark.parametrize(
    ("name", "path", "side"),
    [
        # the head reads the class token: the last block's patches are lost
        ("timm:vit_tiny_patch16_224(patch_size=4,depth=3,embed_dim=24)", "blocks.1", 4),
        (
            "timm:vit_tiny_patch16_224(patch_size=4,depth=3,global_pool=avg,class_token=false)",
            None,
            4,
        ),
        ("lenet5", "pool", 5),
        ("mobilenet_v2", "features.13", 2),
    ],
)
def test_models_of_the_catalogue(name: str, path: str | None, side: int) -> None:
    torch.manual_seed(0)
    size = 16 if "vit" in name else 32
    model = catalog.build(name, 3, "none", {"size": size} if "vit" in name else None).model
    ready = instrument(model, size)
    if path:
        assert ready.path == path
    seen: list[Tensor] = []
    assert ready.seam is not None
    ready.seam.register_forward_hook(lambda m, i, o: seen.append(o))
    x = images(2, size)
    with torch.no_grad():
        torch.testing.assert_close(ready.model(x), model.eval()(x))  # the seam changes nothing
        assert seen[0].shape[2:] == (side, side)
    torch.testing.assert_close(ready.guided(x.clone().requires_grad_()), model(x))
    for method in ("grad_cam", "guided_grad_cam"):
        maps = attribute(ready, x, TARGET[:2], method)
        assert maps.shape == (2, size, size)
        assert maps.isfinite().all()
        assert maps.any()


def test_the_model_is_as_before() -> None:
    net = CnnSmall(3)
    net.train()
    net.stem[1].eval()  # a frozen part
    net.head.weight.requires_grad_(False)
    weights = copy.deepcopy(net.state_dict())
    modes = [module.training for module in net.modules()]
    wants = [parameter.requires_grad for parameter in net.parameters()]
    ready = instrument(net, 16)
    for method in METHODS:
        attribute(ready, images(side=16), TARGET, method)
    assert [module.training for module in net.modules()] == modes
    assert [parameter.requires_grad for parameter in net.parameters()] == wants
    assert all(parameter.grad is None for parameter in net.parameters())
    for name, value in net.state_dict().items():
        assert torch.equal(value, weights[name])
    for module in net.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
        assert not module._backward_hooks
