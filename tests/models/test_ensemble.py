"""An ensemble against its definition, and each member against the model that it was."""

import numpy as np
import pytest
import torch
from torch import nn

from fewlabels.errors import UserError
from fewlabels.models import catalog
from fewlabels.models.ensemble import Ensemble, Member
from fewlabels.pixels.preprocess import Preprocess

PLAIN = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)


def net(seed: int, classes: int = 3) -> nn.Module:
    torch.manual_seed(seed)
    return catalog.build("cnn_small", classes, "none").model.eval()


def member(model: nn.Module, size: int = 16, order: tuple[int, ...] = (0, 1, 2)) -> Member:
    return Member(model, size, *PLAIN, *PLAIN, order).eval()


def images(count: int, size: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8)


def test_a_member_sees_what_its_own_preprocessing_would_show() -> None:
    """Another normalisation is undone, to rounding."""
    own = Preprocess(16, (0.1, 0.2, 0.3), (0.5, 0.4, 0.3))
    given = Preprocess(16, (0.6, 0.5, 0.4), (0.2, 0.3, 0.4))
    model, pixels = net(0), images(4, 16)
    one = Member(model, 16, own.mean, own.std, given.mean, given.std, (0, 1, 2)).eval()
    torch.testing.assert_close(one(given(pixels)), model(own(pixels)), atol=1e-4, rtol=1e-4)


def test_a_member_sees_its_own_size() -> None:
    seen = []

    class Look(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(x)
            return torch.zeros(len(x), 3)

    x = torch.arange(32.0).expand(2, 3, 32, 32)
    member(Look(), 16)(x)
    assert seen[0].shape == (2, 3, 16, 16)
    # an even ramp stays even: each pixel is the mean of those below it
    inner = seen[0][0, 0, 4, 2:-2]
    torch.testing.assert_close(inner, torch.arange(32.0).view(16, 2).mean(1)[2:-2])


def test_classes_are_put_in_order() -> None:
    """order[c] is the number that the model gives to class c."""
    model, x = net(0), torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(member(model, order=(2, 0, 1))(x), model(x)[:, [2, 0, 1]])


def test_the_mean_of_probabilities_by_hand() -> None:
    one, two, x = net(1), net(2), torch.randn(4, 3, 16, 16)
    both = Ensemble([member(one), member(two)]).eval()
    expected = (one(x).softmax(1) + two(x).softmax(1)) / 2
    torch.testing.assert_close(both(x).softmax(1), expected, atol=1e-6, rtol=1e-5)


def test_the_order_of_members_does_not_matter() -> None:
    one, two, x = member(net(1)), member(net(2)), torch.randn(4, 3, 16, 16)
    torch.testing.assert_close(Ensemble([one, two]).eval()(x), Ensemble([two, one]).eval()(x))


def test_it_is_built_anew_from_its_description_and_its_state() -> None:
    one = Member(net(1), 16, (0.1,) * 3, (0.5,) * 3, (0.2,) * 3, (0.4,) * 3, (2, 1, 0))
    both = Ensemble([one, member(net(2))]).eval()
    about = [{"model": "cnn_small", "arguments": {}, "size": 16}] * 2
    again = catalog.build("ensemble", 3, "none", {"members": about}).model
    again.load_state_dict(both.state_dict())
    x = torch.randn(2, 3, 16, 16)
    assert torch.equal(again.eval()(x), both(x))


def test_by_its_name_alone_there_is_no_ensemble() -> None:
    with pytest.raises(UserError, match="is made of runs"):
        catalog.build("ensemble", 3)
