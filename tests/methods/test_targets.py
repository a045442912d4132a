"""What a view teaches: sharpening, means, sure entries, cross-entropy, by hand."""

import pytest
import torch
from table import cross_entropy, softmax

from fewlabels.methods.targets import (
    Taught,
    confident_entries,
    disagreement,
    mean_over_all,
    sharpened,
)

LOGITS = [[1.0, -0.5, 0.2], [0.0, 2.0, 0.0]]


def test_sharpening_divides_the_logits() -> None:
    expected = [softmax([value / 0.4 for value in row]) for row in LOGITS]
    result = sharpened(torch.tensor(LOGITS), 0.4)
    assert result.tolist() == [pytest.approx(row, rel=1e-5) for row in expected]
    assert torch.allclose(sharpened(torch.tensor(LOGITS), 1.0), torch.tensor(LOGITS).softmax(1))


def test_the_mean_is_over_all_images_and_not_over_those_passed_or_kept() -> None:
    values, weight = torch.tensor([2.0, 4.0, 6.0]), torch.tensor([1.0, 0.5, 0.0])
    assert mean_over_all(values, weight, 8).item() == pytest.approx((2 + 2) / 8)


def test_a_row_counts_with_its_mean_over_all_classes() -> None:
    values = torch.tensor([[2.0, 4.0], [6.0, 8.0]])
    weight = torch.tensor([[1.0, 0.0], [0.5, 0.5]])
    assert mean_over_all(values, weight, 4).item() == pytest.approx((2 / 2 + 7 / 2) / 4)


def test_no_image_gives_zero_with_a_graph() -> None:
    logits = torch.zeros(0, 3, requires_grad=True)
    each = disagreement(logits, torch.zeros(0, dtype=torch.long))
    value = mean_over_all(each, torch.zeros(0), 8)
    value.backward()
    assert value.item() == 0.0


def test_an_entry_is_kept_where_it_is_sure_either_way() -> None:
    taught = confident_entries(torch.tensor([[0.75, 0.7], [0.25, 0.3], [0.9, 0.1]]), 0.75)
    assert taught.weight.tolist() == [[1.0, 0.0], [1.0, 0.0], [1.0, 1.0]]
    assert taught.target.tolist() == [[1.0, 1.0], [0.0, 0.0], [1.0, 0.0]]
    assert taught.of_image.tolist() == [1.0, 1.0, 1.0]


def test_an_image_carries_loss_where_one_of_its_entries_does() -> None:
    taught = Taught(torch.zeros(3, 2), torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 1.0]]))
    assert taught.of_image.tolist() == [0.0, 1.0, 1.0]
    assert taught.only(torch.tensor([2, 0])).weight.tolist() == [[1.0, 1.0], [0.0, 0.0]]


def test_cross_entropy_of_classes_and_of_probabilities() -> None:
    classes = disagreement(torch.tensor(LOGITS), torch.tensor([2, 0]))
    expected = [cross_entropy(LOGITS[0], 2), cross_entropy(LOGITS[1], 0)]
    assert classes.tolist() == pytest.approx(expected, rel=1e-6)
    mixed = [[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]]
    soft = disagreement(torch.tensor(LOGITS), torch.tensor(mixed))
    expected = [cross_entropy(row, q) for row, q in zip(LOGITS, mixed, strict=True)]
    assert soft.tolist() == pytest.approx(expected, rel=1e-6)
