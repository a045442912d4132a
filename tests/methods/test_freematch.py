"""FreeMatch: moving averages, thresholds and loss by hand; where the fairness term leads."""

import math
from typing import Any

import pytest
import torch
from table import (
    Row,
    Table,
    batch,
    cross_entropy,
    facts,
    log_prior,
    method,
    plus,
    pulled,
    softmax,
)
from torch import Tensor

from fewlabels.errors import UserError
from fewlabels.methods.method import MULTI, REGRESSION

FACTS = facts(2, 2, 2)
LABELLED = [2.0, 0.0, 0.0]
WEAK = [[3.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.5, 0.0, 0.0]]  # 0.909, 0.576, 0.452
STRONG = [[1.0, 0.5, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 0.3]]


def freematch(**settings: Any) -> Any:
    return method("freematch", FACTS, **settings)


def mean(rows: list[list[float]]) -> list[float]:
    return [sum(column) / len(rows) for column in zip(*rows, strict=True)]


def moved(value: float, toward: float, momentum: float) -> float:
    return momentum * value + (1 - momentum) * toward


def fair(mean_weak: Row, histogram_weak: Row, strong: list[list[float]]) -> float:
    """The cross-entropy of equation 11, of the strong views' logits."""
    p = [softmax(row) for row in strong]
    said = [row.index(max(row)) for row in p]
    over = [value * len(p) / said.count(k) if k in said else 0.0 for k, value in enumerate(mean(p))]
    aim = [a / b if b else 0.0 for a, b in zip(mean_weak, histogram_weak, strict=True)]
    q = [value / sum(over) for value in over]
    return -sum(a / sum(aim) * math.log(b + 1e-12) for a, b in zip(aim, q, strict=True))


def test_averages_thresholds_and_loss_by_hand_over_three_steps() -> None:
    made = freematch(momentum=0.8, weight=0.5, fairness=0.3)
    level, average, histogram = 1 / 3, [1 / 3] * 3, [1 / 3] * 3
    turns = [WEAK, [[0.0, 4.0, 0.0], [0.0, 2.0, 0.0], [0.1, 0.0, 0.0]], WEAK]
    masks = []
    for weak in turns:
        step = made.step(Table(LABELLED, *weak, *STRONG), batch([0], 3), 0.0)
        q = [softmax(row) for row in weak]
        said = [row.index(max(row)) for row in q]
        level = moved(level, sum(max(row) for row in q) / 3, 0.8)
        average = [moved(a, b, 0.8) for a, b in zip(average, mean(q), strict=True)]
        histogram = [moved(h, said.count(k) / 3, 0.8) for k, h in enumerate(histogram)]
        assert made.level.item() == pytest.approx(level, rel=1e-5)
        assert made.mean.tolist() == pytest.approx(average, rel=1e-5)
        assert made.histogram.tolist() == pytest.approx(histogram, rel=1e-5)

        thresholds = [level * value / max(average) for value in average]
        kept = [u for u in range(3) if max(q[u]) > thresholds[said[u]]]
        masks.append(kept)
        unlabelled = sum(cross_entropy(STRONG[u], said[u]) for u in kept) / 3
        fairness = -fair(average, histogram, [STRONG[u] for u in kept])
        expected = cross_entropy(LABELLED, 0) + 0.5 * unlabelled + 0.3 * fairness
        assert step.loss.item() == pytest.approx(expected, rel=1e-5)
    assert masks == [[0, 1, 2], [0, 1], [0, 1]]  # the third is masked once the level has risen


def test_thresholds_are_relative_to_the_most_frequent_class() -> None:
    made = freematch(momentum=1.0)
    made.level.fill_(0.6)
    made.mean.copy_(torch.tensor([0.5, 0.3, 0.2]))  # thresholds 0.6, 0.36, 0.24
    for k, threshold in enumerate([0.6, 0.36, 0.24]):
        for confidence, weight in [(threshold - 0.02, 0.0), (threshold + 0.02, 1.0)]:
            # the other classes share the rest; below a third it cannot be the largest
            if confidence > 0.34:
                p = [confidence if c == k else (1 - confidence) / 2 for c in range(3)]
                taught = made.teach(torch.tensor([p]).log(), None)
                assert (taught.target.item(), taught.weight.item()) == (k, weight)


def test_confidence_must_be_above_the_threshold() -> None:
    made = freematch(momentum=1.0)
    made.level.fill_(0.5)
    half = torch.tensor([[0.0, 0.0, -100.0]])  # exactly 0.5
    assert made.teach(half, None).weight.tolist() == [0.0]


def test_a_rare_class_whose_confidence_is_lower_is_not_starved() -> None:
    """Class 1, 0.668 sure, is kept where FixMatch does not keep it; class 0, as sure, is not."""
    made = freematch()
    made.level.fill_(0.9)
    made.mean.copy_(torch.tensor([0.8, 0.1, 0.1]))
    weak = torch.tensor([[0.0, 1.4, 0.0], [1.4, 0.0, 0.0]])
    assert made.teach(weak, None).weight.tolist() == [1.0, 0.0]
    fixmatch = method("fixmatch", FACTS, align=False)
    assert fixmatch.teach(weak, None).weight.tolist() == [0.0, 0.0]


def test_the_fairness_term_by_hand() -> None:
    made = freematch()
    made.mean.copy_(torch.tensor([0.5, 0.3, 0.2]))
    made.histogram.copy_(torch.tensor([0.6, 0.4, 0.0]))  # class 2 was never said: left out
    logits = [[2.0, 0.0, 0.0], [1.0, 0.5, 0.0], [0.0, 1.0, 0.0]]
    value = made.unfairness(torch.tensor(logits).softmax(1)).item()
    assert value == pytest.approx(-fair([0.5, 0.3, 0.2], [0.6, 0.4, 0.0], logits), rel=1e-5)
    assert value < 0


def population(bias: Tensor) -> Tensor:
    """Strong views of 512 varied images, with class 0 said too often where its bias is above 0."""
    logits = 2 * torch.randn(512, 3, generator=torch.Generator().manual_seed(0))
    return (logits + bias).softmax(1)


def test_fairness_takes_from_the_class_that_is_said_too_often() -> None:
    """By finite differences, at the start of training: descending the term, which is minus a
    cross-entropy as the paper and its code have it, lowers the bias of the class that is said of
    half the images; plus the cross-entropy would raise it."""
    made = freematch()
    bias, small = [1.5, 0.0, 0.0], 0.02
    said = population(torch.tensor(bias)).argmax(1)
    assert [round((said == k).float().mean().item(), 1) for k in range(3)] == [0.5, 0.2, 0.3]
    # without changes of the histogram, whose steps carry no gradient
    weight = 1 / torch.bincount(said, minlength=3)
    slope = []
    for k in range(3):
        values = []
        for sign in (1, -1):
            moved_bias = torch.tensor([b + sign * small * (c == k) for c, b in enumerate(bias)])
            over = population(moved_bias).mean(0) * weight
            values.append(((over / over.sum()).log() / 3).sum().item())
        slope.append((values[0] - values[1]) / (2 * small))
    learnt = torch.tensor(bias, requires_grad=True)
    made.unfairness(population(learnt)).backward()
    assert learnt.grad is not None
    assert learnt.grad.tolist() == pytest.approx(slope, abs=1e-4)
    assert slope[0] > 0.005  # descending lowers it
    assert slope[1] < 0  # and raises the rarest


@pytest.mark.parametrize(("sign", "largest"), [(1, 0.4), (-1, 1.0)])
def test_descended_to_the_end_it_evens_the_classes_and_its_opposite_leaves_one(
    sign: int, largest: float
) -> None:
    made = freematch()
    bias = torch.tensor([1.5, 0.0, 0.0], requires_grad=True)
    for _ in range(400):
        (gradient,) = torch.autograd.grad(sign * made.unfairness(population(bias)), bias)
        with torch.no_grad():
            bias -= 3 * gradient
    share = torch.bincount(population(bias).argmax(1), minlength=3) / 512
    assert share.max().item() == pytest.approx(largest, abs=0.03)


def test_order_repetition_and_a_constant_in_the_logits_do_not_matter() -> None:
    rows = [LABELLED, *WEAK, *STRONG]
    shifted = [plus(row, [3.0] * 3) for row in rows]
    one, turned, twice, moved_ = (freematch(momentum=0.5) for _ in range(4))
    for _ in range(3):
        expected = one.step(Table(*rows), batch([0], 3), 0.0).loss.item()
        around = batch([0], 3, order=[2, 0, 1])
        assert turned.step(Table(*rows), around, 0.0).loss.item() == pytest.approx(expected)
        double = batch([0], 3, order=[0, 1, 2] * 2)
        assert twice.step(Table(*rows), double, 0.0).loss.item() == pytest.approx(expected)
        assert moved_.step(Table(*shifted), batch([0], 3), 0.0).loss.item() == pytest.approx(
            expected, rel=1e-5
        )


def test_other_numbers_for_the_classes_change_nothing() -> None:
    rows = [LABELLED, *WEAK, *STRONG]
    turned = [[row[2], row[0], row[1]] for row in rows]
    one, other = freematch(momentum=0.5), freematch(momentum=0.5)
    for _ in range(3):
        expected = one.step(Table(*rows), batch([0], 3), 0.0).loss.item()
        assert other.step(Table(*turned), batch([1], 3), 0.0).loss.item() == pytest.approx(expected)
    assert other.mean.roll(-1).tolist() == pytest.approx(one.mean.tolist())


@pytest.mark.parametrize("skip", [False, True])
def test_the_whole_gradient_by_hand(skip: bool) -> None:
    """The level stays at 0.5, above the third image: its strong view and all weak ones have none.
    Of the fairness term by differences."""
    settings = {"momentum": 1.0, "weight": 0.5, "fairness": 0.3}
    made = freematch(**settings, skip=skip)
    made.level.fill_(0.5)
    student = Table(LABELLED, *WEAK, *STRONG)
    made.step(student, batch([0], 3), 0.0).loss.backward()
    gradient = student.gradient()
    assert gradient[0] == pytest.approx(pulled(LABELLED, 0, 1.0), abs=1e-6)
    assert gradient[1:4] == [[0.0] * 3] * 3
    assert gradient[6] == [0.0] * 3
    small = 1e-6
    for u in (0, 1):
        by_hand = pulled(STRONG[u], u, 0.5 / 3)
        for k in range(3):
            ends = []
            for sign in (1, -1):
                rows = [list(row) for row in STRONG[:2]]
                rows[u][k] += sign * small
                ends.append(-fair([1 / 3] * 3, [1 / 3] * 3, rows))
            by_hand[k] += 0.3 * (ends[0] - ends[1]) / (2 * small)
        assert gradient[4 + u] == pytest.approx(by_hand, abs=1e-5)


def test_nothing_kept_leaves_the_labelled_loss() -> None:
    made = freematch(momentum=1.0)
    made.level.fill_(0.99)
    step = made.step(Table(LABELLED, *WEAK, *STRONG), batch([0], 3), 0.0)
    assert step.loss.item() == pytest.approx(cross_entropy(LABELLED, 0), rel=1e-6)


def test_logit_adjustment_by_hand() -> None:
    about, prior = facts(0, 7, 0, adjust=True), log_prior(0, 7, 0)
    weak = [0.5, 0.4, -3.0]
    made = method("freematch", about, fairness=0.0, momentum=0.5)
    step = made.step(Table(LABELLED, weak, STRONG[0]), batch([0], 1), 0.0)
    expected = cross_entropy(plus(LABELLED, prior), 0) + cross_entropy(plus(STRONG[0], prior), 1)
    assert step.loss.item() == pytest.approx(expected, rel=1e-6)
    q = softmax(plus(weak, prior))
    assert made.mean.tolist() == pytest.approx([(1 / 3 + p) / 2 for p in q], rel=1e-5)


def test_state_survives_a_round_trip() -> None:
    made = freematch(momentum=0.5)
    student = Table(LABELLED, *WEAK, *STRONG)
    made.step(student, batch([0], 3), 0.0)
    assert {"level", "mean", "histogram", "kept"} <= set(made.state_dict())
    fresh = freematch(momentum=0.5)
    fresh.load_state_dict(made.state_dict())
    one = made.step(student, batch([0], 3), 0.0).loss.item()
    assert fresh.step(student, batch([0], 3), 0.0).loss.item() == one


@pytest.mark.parametrize("task", [MULTI, REGRESSION])
def test_one_class_an_image_is_needed(task: str) -> None:
    with pytest.raises(UserError, match=f"freematch: has no meaning for the task {task}"):
        method("freematch", facts(2, 2, task=task))
