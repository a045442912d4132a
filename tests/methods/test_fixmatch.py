"""FixMatch: values by hand, invariances, the gradients, several labels an image, its state."""

import math
from typing import Any

import pytest
import torch
from table import (
    Table,
    batch,
    binary,
    cross_entropy,
    facts,
    log_prior,
    method,
    plus,
    pulled,
    sigmoid,
    softmax,
)
from torch import nn

from fewlabels.errors import UserError
from fewlabels.methods import Batch
from fewlabels.methods.method import MULTI, REGRESSION

FACTS = facts(2, 2, 2)
ROWS = [
    [2.0, 0.0, 0.0],  # 0 labelled, of class 0
    [5.0, 0.0, 0.0],  # 1 weak, confident: 0.987
    [1.0, 0.0, 0.0],  # 2 weak, unsure: 0.576
    [0.0, 1.0, 0.0],  # 3 strong view of 1
    [0.0, 3.0, 0.0],  # 4 strong view of 2
]


def fixmatch(**settings: Any) -> Any:
    return method("fixmatch", FACTS, **settings)


def test_the_loss_is_the_papers_value_by_hand() -> None:
    step = fixmatch(align=False, weight=0.5).step(Table(*ROWS), batch([0], 2), 0.0)
    labelled = cross_entropy(ROWS[0], 0)
    unlabelled = cross_entropy(ROWS[3], 0) / 2  # one of two is kept; the mean is over both
    assert step.loss.item() == pytest.approx(labelled + 0.5 * unlabelled, rel=1e-6)
    assert step.logs["labelled"].item() == pytest.approx(labelled, rel=1e-6)
    assert step.logs["unlabelled"].item() == pytest.approx(unlabelled, rel=1e-6)
    assert step.logs["confident"].item() == 0.5


def test_the_threshold_itself_counts_as_confident() -> None:
    half = [0.0, 0.0, -100.0]  # exactly 0.5 for each of two classes
    student = Table(ROWS[0], half, half, ROWS[3], ROWS[4])
    step = fixmatch(align=False, threshold=0.5).step(student, batch([0], 2), 0.0)
    assert step.logs["confident"].item() == 1.0


def test_nothing_confident_leaves_the_labelled_loss() -> None:
    student = Table(*ROWS)
    step = fixmatch(align=False, threshold=1.0).step(student, batch([0], 2), 0.0)
    assert step.loss.item() == pytest.approx(cross_entropy(ROWS[0], 0), rel=1e-6)
    step.loss.backward()
    assert [any(row) for row in student.gradient()] == [True, False, False, False, False]


def test_order_repetition_and_a_constant_in_the_logits_do_not_matter() -> None:
    def loss(rows: Any, order: Any = None) -> float:
        step = fixmatch().step(Table(*rows), batch([0], 2, order=order), 0.0)
        return float(step.loss.detach())

    assert loss(ROWS, [1, 0]) == pytest.approx(loss(ROWS), rel=1e-6)
    assert loss(ROWS, [0, 1, 1, 0]) == pytest.approx(loss(ROWS), rel=1e-6)
    assert loss([plus(row, [3.0] * 3) for row in ROWS]) == pytest.approx(loss(ROWS), rel=1e-5)


def test_other_numbers_for_the_classes_change_nothing() -> None:
    """With a prior that is not uniform, aligned and adjusted: class k becomes k + 1."""
    settings: dict[str, Any] = {"threshold": 0.6, "momentum": 0.5}
    one = method("fixmatch", facts(5, 2, 0, adjust=True), **settings)
    other = method("fixmatch", facts(0, 5, 2, adjust=True), **settings)
    turned = [[row[2], row[0], row[1]] for row in ROWS]
    for _ in range(3):
        expected = one.step(Table(*ROWS), batch([0], 2), 0.0).loss.item()
        assert other.step(Table(*turned), batch([1], 2), 0.0).loss.item() == pytest.approx(expected)


@pytest.mark.parametrize("skip", [False, True])
def test_the_whole_gradient_by_hand(skip: bool) -> None:
    student = Table(*ROWS)
    made = fixmatch(align=False, weight=0.5, skip=skip)
    made.step(student, batch([0], 2), 0.0).loss.backward()
    gradient = student.gradient()
    assert gradient[0] == pytest.approx(pulled(ROWS[0], 0, 1.0), abs=1e-6)
    assert gradient[3] == pytest.approx(pulled(ROWS[3], 0, 0.5 / 2), abs=1e-6)
    # the weak views are targets, and the unsure image's strong view is masked: exactly zero
    assert [gradient[k] for k in (1, 2, 4)] == [[0.0] * 3] * 3


def passes(student: nn.Module, made: Any, given: Batch) -> list[tuple[int, bool]]:
    """How many images each forward pass of a step held, and whether it was for a gradient."""
    seen: list[tuple[int, bool]] = []
    hook = student.register_forward_pre_hook(
        lambda _, inputs: seen.append((len(inputs[0]), torch.is_grad_enabled()))
    )
    made.step(student, given, 0.0)
    hook.remove()
    return seen


def test_one_forward_holds_all_views_where_nothing_is_skipped() -> None:
    assert passes(Table(*ROWS), fixmatch(skip=False), batch([0], 2)) == [(5, True)]


def test_without_batch_norm_weak_views_are_looked_at_first() -> None:
    """Then come the labelled image and the strong view of the confident one."""
    seen = passes(Table(*ROWS), fixmatch(align=False), batch([0], 2))
    assert seen == [(2, False), (2, True)]


def test_with_batch_norm_images_are_skipped_once_few_carry_loss() -> None:
    """Until then one concatenated pass is quicker; and the first pass must see every image."""
    student = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(1), nn.Linear(1, 3))
    made = fixmatch(threshold=1.0, align=False)  # nobody is confident
    assert passes(student, made, batch([0, 1], 4)) == [(10, True)]
    for _ in range(5):
        made.step(student, batch([0, 1], 4), 0.0)
    assert made.kept.item() == pytest.approx(0.9**6)
    assert passes(student, made, batch([0, 1], 4)) == [(10, False), (2, True)]
    student.eval()  # frozen norms do not need the other images
    assert passes(student, made, batch([0, 1], 4)) == [(4, False), (2, True)]


def test_alignment_moves_pseudo_labels_toward_the_prior() -> None:
    """A model that always says class 0 is told that it says so too often."""
    made = fixmatch(momentum=0.0)  # the moving average is the last batch
    row = [1.0, 0.9, 0.0]
    aligned = made.alignment(torch.softmax(torch.tensor([row, row]), 1))
    assert torch.allclose(aligned, torch.full((2, 3), 1 / 3), atol=1e-6)
    student = Table(ROWS[0], row, row, ROWS[3], ROWS[4])
    assert made.step(student, batch([0], 2), 0.0).logs["confident"].item() == 0.0


def test_alignment_can_change_the_pseudo_label() -> None:
    made = fixmatch(momentum=0.0, threshold=0.0)
    often, seldom = [3.0, 2.9, 0.0], [0.0, 0.0, 3.0]
    taught = made.teach(torch.tensor([[4.0, 0.0, 0.0], [4.0, 0.0, 0.0], often, seldom]), None)
    assert taught.target.tolist() == [0, 0, 1, 2]


def test_logit_adjustment_by_hand() -> None:
    """The labelled loss, the pseudo-labels and what they teach are of classes that are as frequent
    as they are; the logits handed on count classes alike."""
    about, prior = facts(0, 7, 0, adjust=True), log_prior(0, 7, 0)
    assert prior == pytest.approx([math.log(0.1), math.log(0.8), math.log(0.1)])
    rows = [ROWS[0], [0.5, 0.4, -3.0], ROWS[2], ROWS[3], ROWS[4]]
    assert max(softmax(plus(rows[1], prior))) > 0.85 > max(softmax(plus(rows[2], prior)))
    made = method("fixmatch", about, align=False, threshold=0.85)
    step = made.step(Table(*rows), batch([0], 2), 0.0)
    labelled = cross_entropy(plus(rows[0], prior), 0)
    assert step.logs["labelled"].item() == pytest.approx(labelled, rel=1e-6)
    unlabelled = cross_entropy(plus(rows[3], prior), 1) / 2  # class 1, where the network says 0
    assert step.logs["unlabelled"].item() == pytest.approx(unlabelled, rel=1e-5)
    assert step.logits[0].tolist() == pytest.approx(rows[0])


def test_several_labels_an_image_by_hand() -> None:
    """Each class is kept where it is sure either way; a row counts with its mean, of all U."""
    rows = [[2.0, 0.0], [4.0, -4.0], [0.5, -4.0], [0.3, 0.4], [1.0, -1.0]]
    student = Table(*rows)
    made = method("fixmatch", facts(1, 1, task=MULTI))
    step = made.step(student, batch([[1.0, 0.0]], 2), 0.0)
    labelled = (binary(2.0, 1.0) + binary(0.0, 0.0)) / 2
    first = (binary(0.3, 1.0) + binary(0.4, 0.0)) / 2
    second = binary(-1.0, 0.0) / 2
    assert step.loss.item() == pytest.approx(labelled + (first + second) / 2, rel=1e-6)
    step.loss.backward()
    gradient = student.gradient()
    assert gradient[1:3] == [[0.0, 0.0]] * 2
    assert gradient[3] == pytest.approx([(sigmoid(0.3) - 1) / 4, sigmoid(0.4) / 4], abs=1e-6)
    assert gradient[4] == pytest.approx([0.0, sigmoid(-1.0) / 4], abs=1e-6)


def test_state_survives_a_round_trip() -> None:
    made = fixmatch(momentum=0.5)
    made.step(Table(*ROWS), batch([0], 2), 0.0)
    assert set(made.state_dict()) == {
        "prior",
        "log_prior",
        "kept",
        "alignment.prior",
        "alignment.running",
    }
    fresh = fixmatch(momentum=0.5)
    fresh.load_state_dict(made.state_dict())
    assert made.kept.item() == pytest.approx(0.95)  # 1, a tenth of the way to a half
    for _ in range(2):
        one = made.step(Table(*ROWS), batch([0], 2), 0.0).loss.item()
        assert fresh.step(Table(*ROWS), batch([0], 2), 0.0).loss.item() == one
    assert torch.equal(fresh.alignment.running, made.alignment.running)


def test_numbers_have_no_pseudo_labels() -> None:
    with pytest.raises(UserError, match="fixmatch: has no meaning for the task regression"):
        method("fixmatch", facts(1, task=REGRESSION))
