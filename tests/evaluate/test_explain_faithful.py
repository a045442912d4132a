"""The checks that a map can fail, on models whose reasons are planted."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch import Tensor, nn

from fewlabels.evaluate.explain import faithful
from fewlabels.evaluate.explain.attribution import attribute
from fewlabels.evaluate.explain.faithful import deletion, randomise, randomised, rank_correlation
from fewlabels.evaluate.explain.instrument import instrument
from fewlabels.models.mlp import MLP, Perceptron

SIDE = 16
NOTHING = np.zeros((4, SIDE, SIDE), np.bool_)


def reader() -> tuple[Perceptron, NDArray[np.float32]]:
    """A model that reads one square, and the map that says so."""
    net, where = Perceptron(2, size=SIDE), np.zeros((SIDE, SIDE), np.float32)
    where[3:7, 9:13] = 1
    with torch.no_grad():
        net.head.weight.zero_()
        net.head.weight[1] = 0.2 * torch.from_numpy(where).expand(3, -1, -1).flatten()
        net.head.bias.copy_(torch.tensor([3.0, 0.0]))
    return net, where


def bright(count: int = 4) -> Tensor:
    x = torch.rand(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    return 0.5 + x


def test_an_oracle_falls_faster_than_the_same_map_elsewhere() -> None:
    net, where = reader()
    maps, x, target = np.stack([where] * 4), bright(), torch.ones(4, dtype=torch.long)
    oracle = deletion(net, x, target, maps, NOTHING)
    assert oracle.curve[0] > 0.9
    assert oracle.curve[-1] == pytest.approx(1 / (1 + np.exp(3)), rel=1e-6)  # the bias alone
    assert (oracle.area < oracle.control_area.min(0) - 0.2).all()
    # in the opposite order it falls later
    worst = deletion(net, x, target, 1 - maps, NOTHING)
    assert (worst.area > worst.control_area.max(0)).all()
    # an even map is a random order: so is its control
    many, flat = torch.ones(40, dtype=torch.long), np.zeros((40, SIDE, SIDE), np.float32)
    even = deletion(net, bright(40), many, flat, flat > 0)
    assert even.area.mean() == pytest.approx(even.control_area.mean(), abs=0.05)
    again = deletion(net, x, target, maps, NOTHING)
    assert np.array_equal(again.control, oracle.control)


def test_the_curve_by_hand() -> None:
    """16 pixels, two a step, in an order that is known."""
    net = Perceptron(2, size=4)
    x = torch.linspace(-1, 1, 16).reshape(1, 1, 4, 4).repeat(1, 3, 1, 1)
    with torch.no_grad():
        net.head.weight.zero_()
        net.head.weight[1] = 1.0
        net.head.bias.zero_()
    heat = np.random.default_rng(0).permutation(16).astype(np.float32).reshape(1, 4, 4)
    found = deletion(net, x, torch.tensor([1]), heat, NOTHING[:1, :4, :4])
    order = np.argsort(-heat.ravel())
    left = [3 * x[0, 0].flatten()[order[2 * i :]].sum() for i in range(9)]
    expected = 1 / (1 + np.exp(-np.array(left)))
    np.testing.assert_allclose(found.curve, expected, atol=1e-6)
    area = sum((a + b) / 2 for a, b in pairwise(expected)) / 8
    assert found.area[0] == pytest.approx(area)


def test_a_border_is_removed_in_no_order() -> None:
    """However hot a map is there: it shows nothing, and what counts still goes first."""
    net, where = reader()
    kept = NOTHING[:1].copy()
    kept[:, 12:] = True
    maps = where[None].copy()
    x, target = bright(1), torch.ones(1, dtype=torch.long)
    plain = deletion(net, x, target, maps, kept)
    maps[kept] = 9
    np.testing.assert_allclose(deletion(net, x, target, maps, kept).curve, plain.curve)
    seen = torch.from_numpy(faithful._ranks(maps, kept, np.random.default_rng(0)))
    assert (seen[torch.from_numpy(kept)] == 1).all()
    assert seen[~torch.from_numpy(kept)].max() < 1


def test_random_weights_destroy_the_map() -> None:
    net, _ = reader()
    x, target = bright(), torch.ones(4, dtype=torch.long)
    ready = instrument(net, SIDE)
    maps = attribute(ready, x, target, "integrated_gradients").numpy()
    found = randomised(ready, x, target, "integrated_gradients", maps)
    assert list(found) == ["the last layer"]  # it has no other
    assert abs(found["the last layer"]) < 0.2
    before = {name: value.clone() for name, value in net.state_dict().items()}
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


def test_a_map_that_ignores_the_model_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """A map of the image's brightness is the same for any weights: the check must say so."""
    monkeypatch.setattr(faithful, "attribute", lambda net, x, target, method: x.sum(1))
    net, x = MLP(3, size=SIDE), bright()
    target = torch.zeros(4, dtype=torch.long)
    found = randomised(instrument(net, SIDE), x, target, "", x.sum(1).numpy())
    assert list(found) == ["the last layer", "the upper half", "all layers"]
    assert all(value == pytest.approx(1) for value in found.values())


def test_only_the_last_units_are_randomised() -> None:
    torch.manual_seed(0)
    net = MLP(3, layers=3, width=50, size=SIDE)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.3)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    other = dict(randomise(net, 2, 0).state_dict())
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name])
        changed = not torch.equal(other[name], value)
        assert changed == name.startswith(("hidden.4", "head"))
        assert float(other[name].std()) == pytest.approx(float(value.std()), rel=0.15)
    assert torch.equal(randomise(net, 2, 0).state_dict()["head.weight"], other["head.weight"])
    assert not torch.equal(randomise(net, 2, 1).state_dict()["head.weight"], other["head.weight"])


def test_rank_correlation() -> None:
    rng = np.random.default_rng(0)
    a = rng.integers(0, 9, (7, 7)).astype(np.float32)  # with ties
    b = (a + rng.normal(0, 3, (7, 7))).astype(np.float32)
    assert rank_correlation(a, b) == pytest.approx(float(spearmanr(a, b, axis=None).statistic))
    assert rank_correlation(a, a**3) == pytest.approx(1)
    assert rank_correlation(a, -a) == pytest.approx(-1)
    assert rank_correlation(a, np.zeros_like(a)) == 0


def test_a_model_without_gradient_still_has_a_curve() -> None:
    """The curve asks for probabilities alone."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, 3))
    found = deletion(net, bright(), torch.zeros(4, dtype=torch.long), NOTHING + 0.0, NOTHING)
    assert found.area.shape == (4,)
    assert found.control_area.shape == (faithful.DRAWS, 4)
