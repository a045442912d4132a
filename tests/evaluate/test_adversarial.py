"""FGSM and PGD, on nets whose gradient is known."""

import numpy as np
import pytest
import torch
from torch import nn

from fewlabels.errors import UserError
from fewlabels.evaluate import adversarial
from fewlabels.evaluate.adversarial import ATTACKS, fgsm, pgd, right_under
from fewlabels.models.neighbours import Neighbours
from fewlabels.pixels.preprocess import Preprocess

PLAIN = Preprocess(4, (0.0, 0.0, 0.0), (1 / 255,) * 3)


class Linear(nn.Module):
    """Class 1 where w · x > 0; w is +1 in the upper half of the image and -1 in the lower."""

    def __init__(self) -> None:
        super().__init__()
        weight = torch.ones(3, 4, 4)
        weight[:, 2:] = -1
        self.weight = nn.Parameter(weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        score = (x * self.weight).sum((1, 2, 3))
        return torch.stack([-score, score], 1) / 100


def halves(upper: int, lower: int) -> np.ndarray:
    image = np.full((4, 4, 3), upper, np.uint8)
    image[2:] = lower
    return image


def test_a_step_goes_against_the_label_in_every_pixel() -> None:
    x = torch.full((1, 3, 4, 4), 100.0)
    moved = fgsm(Linear(), x, torch.tensor([1]), 3.0)
    assert (moved[:, :, :2] == 97).all()
    assert (moved[:, :, 2:] == 103).all()


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_linear_net_falls_where_the_margin_is_used_up(attack: str) -> None:
    """Upper 60, lower 50: each half comes 5 nearer before the sign of the score turns."""
    images = np.stack([halves(60, 50), halves(50, 60), halves(90, 50)])
    label = np.array([1, 0, 1])
    found = dict(right_under(attack, Linear(), images, label, PLAIN, epsilons=(0.0, 4.0, 6.0)))
    assert found[0.0].tolist() == [True, True, True]
    assert found[4.0].tolist() == [True, True, True]
    assert found[6.0].tolist() == [False, False, True]


def test_many_small_steps_stay_in_the_cube_and_among_pixels() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(48, 16), nn.Tanh(), nn.Linear(16, 3))
    x = torch.randint(0, 256, (8, 3, 4, 4)).float()
    moved = pgd(lambda x: net(x / 255), x, torch.arange(8) % 3, 20.0)
    assert (moved - x).abs().max() == 20  # its steps could go 50
    assert ((moved >= 0) & (moved <= 255)).all()


def test_many_steps_are_worse_than_one_for_a_curved_net() -> None:
    torch.manual_seed(1)
    net = nn.Sequential(nn.Flatten(), nn.Linear(48, 64), nn.ReLU(), nn.Linear(64, 64))
    net = nn.Sequential(net, nn.ReLU(), nn.Linear(64, 3))
    x, y = torch.rand(64, 3, 4, 4) * 255, torch.randint(0, 3, (64,))

    def ask(x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = net(x / 64)
        return out

    losses = [nn.functional.cross_entropy(ask(a(ask, x, y, 16.0)), y) for a in (fgsm, pgd)]
    assert losses[1] > losses[0] > nn.functional.cross_entropy(ask(x), y)


def test_the_images_are_normalised_as_for_the_model() -> None:
    """A mean of half grey: what is brighter in its upper half than that, is 1."""
    halved = Preprocess(4, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    seen = []

    class Sees(Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(x.detach().clone())
            return super().forward(x)

    images = np.stack([halves(60, 50)])
    list(right_under("fgsm", Sees(), images, np.array([1]), halved, epsilons=(0.0,)))
    assert torch.allclose(seen[0], halved(images), atol=1e-5)


def test_the_model_is_left_as_it_was() -> None:
    net = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(48), nn.Linear(48, 2)).train()
    net[2].weight.requires_grad_(False)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 3)).astype(np.uint8)
    list(right_under("pgd", net, images, np.array([0, 1, 0, 1, 0]), PLAIN))
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert net.training
    assert net[1].training
    assert [p.requires_grad for p in net.parameters()] == [True, True, False, True]
    assert all(p.grad is None for p in net.parameters())


def test_a_sure_net_is_attacked_as_an_unsure_one() -> None:
    """Logits 2s + bias, s and -s of the sum s of the pixels: the label 0 loses as s falls, though
    its probability is 1 to all digits and class 1's logit falls with it."""

    def sure(by: float, x: torch.Tensor) -> torch.Tensor:
        s = x.sum((1, 2, 3)) / 1e4
        return torch.stack([2 * s + by, s, -s], 1)

    x, y = torch.full((1, 3, 4, 4), 100.0), torch.tensor([0])
    for by in (0.0, 30.0, 60.0):
        assert (fgsm(lambda x, by=by: sure(by, x), x, y, 3.0) == 97).all()  # type: ignore[misc]


def test_the_gradient_is_that_of_the_cross_entropy() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(48, 16), nn.Tanh(), nn.Linear(16, 3))
    x, y = torch.rand(6, 3, 4, 4), torch.arange(6) % 3
    given = x.clone().requires_grad_()
    nn.functional.cross_entropy(net(given), y, reduction="sum").backward()
    torch.testing.assert_close(adversarial._gradient(net, x, y), given.grad)


def test_a_vote_of_neighbours_has_no_gradient() -> None:
    net = nn.Sequential(nn.Flatten(), Neighbours(2, 4, 48, 3))
    images = np.zeros((2, 4, 4, 3), np.uint8)
    with pytest.raises(UserError, match="nearest neighbours agree"):
        next(right_under("fgsm", net, images, np.zeros(2, np.int64), PLAIN))


def test_images_do_not_sway_each_other() -> None:
    images = np.random.default_rng(0).integers(0, 256, (70, 4, 4, 3)).astype(np.uint8)
    label = np.arange(70) % 2
    whole = dict(right_under("pgd", Linear(), images, label, PLAIN, epsilons=(40.0,)))[40.0]
    parts = [
        dict(
            right_under(
                "pgd", Linear(), images[i : i + 1], label[i : i + 1], PLAIN, epsilons=(40.0,)
            )
        )
        for i in range(70)
    ]
    assert whole.tolist() == [bool(part[40.0][0]) for part in parts]
