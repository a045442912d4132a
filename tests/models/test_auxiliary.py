import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fewlabels.models import catalog
from fewlabels.models.auxiliary import WEIGHT, auxiliary_loss, keep_auxiliary


class Three(nn.Module):
    """Logits of three layers while training, of the last one afterwards, as GoogLeNet's."""

    def __init__(self) -> None:
        super().__init__()
        self.aux1, self.aux2, self.fc = (nn.Linear(4, 3) for _ in range(3))

    def forward(self, x: Tensor) -> Any:
        main: Tensor = self.fc(x)
        return (main, self.aux2(x), None, self.aux1(x)) if self.training else main


@pytest.fixture
def model() -> Three:
    torch.manual_seed(0)
    made = Three()
    made.register_forward_hook(keep_auxiliary)
    return made


def test_the_loss_by_hand(model: Three) -> None:
    """Of the labelled images, which come first: unlabelled ones have no label to be right about."""
    x, y = torch.randn(7, 4), torch.tensor([0, 2, 1])
    logits = model(x)
    assert torch.equal(logits, model.fc(x))
    loss = auxiliary_loss(model, y)
    expected = 0.3 * sum(F.cross_entropy(layer(x[:3]), y) for layer in (model.aux1, model.aux2))
    assert loss is not None
    torch.testing.assert_close(loss, expected)
    assert WEIGHT == 0.3


def test_mixed_labels_have_a_loss_too(model: Three) -> None:
    x, y = torch.randn(2, 4), torch.tensor([[0.25, 0.75, 0.0], [0.0, 0.0, 1.0]])
    model(x)
    loss = auxiliary_loss(model, y)
    parts = [layer(x).log_softmax(1) for layer in (model.aux1, model.aux2)]
    assert loss is not None
    torch.testing.assert_close(loss, 0.3 * sum(-(y * part).sum(1).mean() for part in parts))


def test_nothing_is_kept_after_the_step(model: Three) -> None:
    model(torch.randn(2, 4))
    assert auxiliary_loss(model, torch.tensor([0, 1])) is not None
    assert auxiliary_loss(model, torch.tensor([0, 1])) is None
    assert "auxiliary" not in vars(model)
    copy.deepcopy(model)  # graphs cannot be copied


def test_there_is_none_in_eval_mode_and_in_other_models(model: Three) -> None:
    x, y = torch.randn(2, 4), torch.tensor([0, 1])
    assert torch.equal(model.eval()(x), model.fc(x))
    assert auxiliary_loss(model, y) is None
    assert auxiliary_loss(nn.Linear(4, 3), y) is None


@pytest.mark.parametrize("layer", ["aux1", "aux2", "fc"])
def test_every_classifier_has_gradients(model: Three, layer: str) -> None:
    x, y = torch.randn(4, 4), torch.tensor([0, 1])
    logits = model(x)
    loss = auxiliary_loss(model, y)
    assert loss is not None
    (logits[:2].logsumexp(1).mean() + loss).backward()
    assert model.get_submodule(layer).weight.grad.any()  # type: ignore[union-attr]


def test_googlenet() -> None:
    torch.manual_seed(0)
    built = catalog.build("googlenet", 3, "none")
    model, x, y = copy.deepcopy(built.model), torch.randn(4, 3, 64, 64), torch.tensor([0, 1, 2])
    kept: dict[str, Tensor] = {}
    for name in ("aux1", "aux2"):
        layer = model.get_submodule(name)
        layer.register_forward_hook(lambda _, __, made, name=name: kept.update({name: made}))
    logits = model.train()(x)
    assert logits.shape == (4, 3)
    loss = auxiliary_loss(model, y)
    assert loss is not None
    torch.testing.assert_close(loss, 0.3 * sum(F.cross_entropy(a[:3], y) for a in kept.values()))
    loss.backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    behind = ("inception4e", "inception5", "fc")  # both branch off before
    assert without
    assert all(name.startswith(behind) for name in without)
    kept.clear()
    with torch.inference_mode():
        assert model.eval()(x).shape == (4, 3)
    assert not kept
    assert auxiliary_loss(model, y) is None
    assert not catalog.build("googlenet(aux_logits=false)", 3, "none").model._forward_hooks
