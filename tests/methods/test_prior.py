"""The prior estimated from labels, and alignment with it, by hand over several batches."""

import math

import pytest
import torch
from table import facts, method

from fewlabels.methods.prior import Alignment, estimated_prior

P = [[0.8, 0.1, 0.1], [0.4, 0.5, 0.1]]


def test_the_prior_counts_one_more_label_of_each_class() -> None:
    assert estimated_prior((5, 2, 0)).tolist() == pytest.approx([0.6, 0.3, 0.1])
    assert estimated_prior((0, 0)).tolist() == [0.5, 0.5]


def test_methods_take_the_prior_from_their_labels() -> None:
    made = method("fixmatch", facts(5, 2, 0))
    assert made.state_dict()["alignment.prior"].tolist() == pytest.approx([0.6, 0.3, 0.1])
    assert made.log_prior.tolist() == [0.0, 0.0, 0.0]
    adjusted = method("fixmatch", facts(5, 2, 0, adjust=True)).log_prior.tolist()
    assert adjusted == pytest.approx([math.log(0.6), math.log(0.3), math.log(0.1)], rel=1e-5)


def test_alignment_by_hand_over_three_batches() -> None:
    """Toward the prior given, and not toward a uniform one."""
    prior = [0.6, 0.3, 0.1]
    alignment = Alignment(torch.tensor(prior), momentum=0.7)
    running = list(prior)  # it starts there
    for batch in (P, [P[1], P[1]], P):
        mean = [sum(column) / 2 for column in zip(*batch, strict=True)]
        running = [0.7 * r + 0.3 * m for r, m in zip(running, mean, strict=True)]
        aligned = alignment(torch.tensor(batch))
        for row, result in zip(batch, aligned.tolist(), strict=True):
            scaled = [p * a / r for p, a, r in zip(row, prior, running, strict=True)]
            assert result == pytest.approx([s / sum(scaled) for s in scaled], rel=1e-5)
        assert alignment.running.tolist() == pytest.approx(running, rel=1e-5)


def test_predictions_that_follow_the_prior_stay_as_they_are() -> None:
    mean = torch.tensor(P).mean(0)
    alignment = Alignment(mean, momentum=0.5)
    assert torch.allclose(alignment(torch.tensor(P)), torch.tensor(P), atol=1e-6)


def test_a_class_that_is_never_predicted_does_no_harm() -> None:
    alignment = Alignment(torch.tensor([0.5, 0.5]), momentum=0.0)
    assert alignment(torch.tensor([[1.0, 0.0]])).tolist() == [[1.0, 0.0]]


def test_alignment_takes_no_gradient() -> None:
    p = torch.tensor(P, requires_grad=True)
    assert not Alignment(torch.tensor([0.2, 0.3, 0.5]), 0.9)(p).requires_grad


def test_order_of_the_images_and_of_the_classes_does_not_matter() -> None:
    prior, p = torch.tensor([0.6, 0.3, 0.1]), torch.tensor(P)
    one = Alignment(prior, 0.5)(p)
    turned = Alignment(prior.roll(1), 0.5)(p.flip(0).roll(1, 1))
    assert torch.allclose(one, turned.flip(0).roll(-1, 1))


def test_state_survives_a_round_trip() -> None:
    made = Alignment(torch.tensor([0.6, 0.3, 0.1]), momentum=0.5)
    made(torch.tensor(P))
    fresh = Alignment(torch.full((3,), 1 / 3), momentum=0.5)
    fresh.load_state_dict(made.state_dict())
    assert torch.equal(fresh(torch.tensor(P)), made(torch.tensor(P)))
