import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fewlabels.errors import UserError
from fewlabels.models import catalog
from fewlabels.models.built import head
from fewlabels.models.regularise import DropBranch, DropFeatures, set_dropout, set_stochastic_depth
from fewlabels.models.squeeze_excitation import add_squeeze_excitation


def model_of(name: str) -> nn.Module:
    """With norms and a head that do something; some start at zero."""
    torch.manual_seed(0)
    model = catalog.build(name, 3, "none").model
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
    nn.init.normal_(head(model)[1].weight)  # type: ignore[arg-type]
    return model


def rates(model: nn.Module) -> list[float]:
    """Of the hooks, in the order of the model's layers."""
    hooks = (h for layer in model.modules() for h in layer._forward_hooks.values())
    return [hook.p for hook in hooks if isinstance(hook, DropBranch)]


def noisy_part(model: nn.Module) -> None:
    """Eval mode, but for what drops features."""
    model.eval()
    for layer in model.modules():
        hooked = any(isinstance(h, DropFeatures) for h in layer._forward_pre_hooks.values())
        if hooked or (isinstance(layer, nn.Dropout) and layer.p):
            layer.train()


# dropout


@pytest.mark.filterwarnings("ignore:The default weight initialization")
@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("alexnet", ["classifier.0", "classifier.3"]),
        ("mobilenet_v2", ["classifier.0"]),
        ("squeezenet1_1", ["classifier.0"]),  # the head is a convolution
        ("googlenet", ["dropout"]),  # its auxiliary classifiers keep theirs
        ("timm:test_vit", ["head_drop"]),  # and not pos_drop, nor those in the blocks
        ("timm:test_convnext", ["head.drop"]),
        ("vit_b_16", []),
        ("resnet18", []),
        ("densenet121", []),
        ("cnn_small", []),
        ("perceptron", []),
        ("timm:test_resnet", []),  # drops by a call
        ("timm:mobilenetv3_small_050", []),
        ("timm:dpn48b", []),  # the head is a convolution
    ],
)
def test_where_features_are_dropped(name: str, own: list[str]) -> None:
    with torch.device("meta"):
        model = catalog.build(name, 3, "none").model
    others = {p: m.p for p, m in model.named_modules() if isinstance(m, nn.Dropout)}
    names = list(model.state_dict())
    set_dropout(model, 0.375)
    set_dropout(model, 0.25)
    found = [p for p, m in model.named_modules() if isinstance(m, nn.Dropout) and m.p == 0.25]
    assert found == own
    assert all(model.get_submodule(p).p == others[p] for p in others if p not in own)
    hooks = [h for m in model.modules() for h in m._forward_pre_hooks.values()]
    assert [type(h) for h in hooks] == ([] if own else [DropFeatures])
    assert all(hook.p == 0.25 for hook in hooks if isinstance(hook, DropFeatures))
    assert list(model.state_dict()) == names


@pytest.mark.parametrize(
    "name", ["resnet18", "cnn_small", "squeezenet1_1", "timm:test_resnet", "timm:test_convnext"]
)
def test_dropout_in_training_only(name: str) -> None:
    model = model_of(name)
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        plain = model.eval()(x)
        set_dropout(model, 0.5)
        for one in (model, copy.deepcopy(model)):
            assert torch.equal(one.eval()(x), plain)
            noisy_part(one)
            assert not torch.equal(one(x), plain)
            assert not torch.equal(one(x), one(x))
            set_dropout(one, 0.0)
            assert torch.equal(one(x), plain)


@pytest.mark.parametrize("name", ["cnn_small", "timm:test_resnet", "timm:test_convnext"])
def test_features_before_the_head(name: str) -> None:
    """A part p of what the head sees is zero, the others are divided by 1 - p; drawn once."""
    model = model_of(name)
    set_dropout(model, 0.8)
    seen: list[Tensor] = []
    head(model)[1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    x = torch.randn(200, 3, 32, 32)
    with torch.no_grad():
        model.eval()(x)
        noisy_part(model)
        model(x)
    plain, noisy = seen
    kept = noisy != 0
    torch.testing.assert_close(noisy[kept], plain[kept] / 0.2)
    share = kept.sum().item() / (plain != 0).sum().item()
    assert abs(share - 0.2) < 5 * (0.2 * 0.8 / plain.numel()) ** 0.5


def test_plain_weights_load() -> None:
    plain = model_of("timm:test_resnet").eval()
    model = catalog.build("timm:test_resnet", 3, "none").model.eval()
    set_dropout(model, 0.5)
    set_stochastic_depth(model, 0.2)
    model.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(model(x), plain(x))


# stochastic depth


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("resnet18", 8),
        ("resnet20", 9),
        ("cnn_small", 1),
        ("mobilenet_v2", 10),
        ("timm:test_resnet", 4),
        ("timm:test_vit", 12),
        ("timm:mobilenetv2_035", 10),
        ("timm:seresnet18", 8),
    ],
)
def test_branches_are_dropped_in_training_only(name: str, count: int) -> None:
    model = model_of(name)
    x = torch.randn(4, 3, 64, 64)
    names = list(model.state_dict())
    with torch.no_grad():
        plain = model.eval()(x)
        set_stochastic_depth(model, 0.1)
        set_stochastic_depth(model, 0.8)
        assert sorted(rates(model)) == pytest.approx([0.8 * (i + 1) / count for i in range(count)])
        assert list(model.state_dict()) == names
        set_dropout(model, 0.0)  # some have their own
        for one in (copy.deepcopy(model), model):
            assert torch.equal(one.eval()(x), plain)
            one.train()
            assert any(not torch.equal(one(x), one(x)) for _ in range(5))
            set_stochastic_depth(one, 0.0)
            assert torch.equal(one(x), one(x))
        set_stochastic_depth(model, 0.5)
    assert rates(copy.deepcopy(model)) == rates(model)


@pytest.mark.filterwarnings("ignore:The default weight initialization")
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("efficientnet_b0", "StochasticDepth"),
        ("convnext_tiny", "StochasticDepth"),
        ("timm:swin_tiny_patch4_window7_224", "DropPath"),
    ],
)
def test_a_model_with_layers_for_it(name: str, kind: str) -> None:
    with torch.device("meta"):
        model = catalog.build(name, 3, "none").model
    set_stochastic_depth(model, 0.4)
    own = [m for m in model.modules() if type(m).__name__ == kind]
    set_to = [m.drop_prob if kind == "DropPath" else m.p for m in own]
    assert set_to == pytest.approx([0.4 * (i + 1) / len(own) for i in range(len(own))])
    assert set_to[-1] == pytest.approx(0.4)
    assert rates(model) == []


class Block(nn.Module):
    """x + 2x, three times: an image is multiplied by 1 + 2 / keep where the branch is kept."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 1, 1, bias=False)
        self.branch = nn.ModuleList(nn.Conv2d(1, 1, 1, bias=False) for _ in range(3))
        self.head = nn.Linear(1, 1)
        nn.init.constant_(self.stem.weight, 1 / 3)
        for layer in self.branch:
            nn.init.constant_(layer.weight, 2.0)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for layer in self.branch:
            x = x + layer(x)
        return x


def test_rate_and_expectation_by_hand() -> None:
    model = Block()
    set_stochastic_depth(model, 0.6, 8)
    assert rates(model) == pytest.approx([0.2, 0.4, 0.6])
    n = 4000
    torch.manual_seed(0)
    with torch.no_grad():
        out = model(torch.ones(n, 3, 2, 2))
        torch.testing.assert_close(out, out[:, :1, :1, :1].expand_as(out))  # an image as a whole
        got = out[:, 0, 0, 0]
        values = torch.tensor([1.0])
        chance = torch.tensor([1.0])
        for keep in (0.8, 0.6, 0.4):
            values = torch.cat([values, values * (1 + 2 / keep)])
            chance = torch.cat([chance * (1 - keep), chance * keep])
        for value, p in zip(values, chance, strict=True):
            share = torch.isclose(got, value).float().mean()
            assert abs(share - p) < 5 * (p * (1 - p) / n) ** 0.5
        spread = ((values**2 * chance).sum() - 27**2) ** 0.5 / n**0.5
        assert abs(got.mean() - 27) < 5 * spread  # 3³, as in eval mode
        torch.manual_seed(0)
        assert torch.equal(model(torch.ones(n, 3, 2, 2)), out)
        assert torch.equal(model.eval()(torch.ones(2, 3, 2, 2)), torch.full((2, 1, 2, 2), 27.0))


def test_attention_is_dropped() -> None:
    """torchvision's returns its weights as well."""
    layer = nn.MultiheadAttention(8, 2, batch_first=True)
    hook = DropBranch(layer)
    layer.register_forward_hook(hook)
    hook.p = 0.5
    x = torch.randn(64, 3, 8)
    torch.manual_seed(0)
    out, weights = layer(x, x, x)
    dropped = (out == 0).flatten(1).all(1)
    assert 16 < dropped.sum() < 48
    assert weights.shape == (64, 3, 3)
    torch.testing.assert_close(out[~dropped], 2 * layer.eval()(x, x, x)[0][~dropped])


def test_gradients_stop_at_dropped_branches() -> None:
    model = Block()
    set_stochastic_depth(model, 0.99, 8)
    torch.manual_seed(0)
    out = model(torch.ones(1, 3, 2, 2))
    out.sum().backward()
    grads = [layer.weight.grad for layer in model.branch]
    assert grads[2] is not None
    assert not grads[2].any()  # dropped: 99 of 100 are
    assert model.stem.weight.grad is not None
    assert model.stem.weight.grad.all()


def test_behind_squeeze_and_excitation() -> None:
    """The gate sees what it sees in eval mode."""
    model = add_squeeze_excitation(model_of("resnet18"))
    set_stochastic_depth(model, 0.2)
    hooked = [p for p, m in model.named_modules() if m._forward_hooks]
    assert hooked == [f"layer{i}.{j}.bn2.1" for i in (1, 2, 3, 4) for j in (0, 1)]


@pytest.mark.parametrize("name", ["lenet5", "squeezenet1_1", "densenet121"])
def test_nets_without_branches(name: str) -> None:
    with pytest.raises(UserError, match="has no residual branches to drop"):
        set_stochastic_depth(catalog.build(name, 3, "none").model, 0.2)


@pytest.mark.parametrize("p", [-0.1, 1.0, float("nan")])
def test_rates(p: float) -> None:
    model = catalog.build("cnn_small", 3, "none").model
    with pytest.raises(UserError, match="dropout"):
        set_dropout(model, p)
    with pytest.raises(UserError, match="stochastic depth"):
        set_stochastic_depth(model, p)


def test_learning_with_both() -> None:
    model = model_of("resnet20").train()
    set_dropout(model, 0.5)
    set_stochastic_depth(model, 0.2)
    F.cross_entropy(model(torch.randn(16, 3, 32, 32)), torch.arange(16) % 3).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
