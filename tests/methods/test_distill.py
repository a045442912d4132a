"""Distillation: values by hand, what makes no difference, and who learns."""

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from fewlabels.errors import UserError
from fewlabels.methods import Batch, Facts, Networks, create, resolve
from fewlabels.methods.distill import Distill

ROWS = [[2.0, 0.0, -1.0], [0.5, 1.5, 0.0], [0.0, 0.3, 0.9]]  # a student's logits, by image
ONE = [[1.0, 0.5, 0.0], [0.0, 2.0, -2.0], [3.0, 0.0, 0.0]]  # a teacher's
TWO = [[0.0, -1.0, 2.0], [4.0, 0.0, 0.0], [0.5, 0.0, 1.0]]


def table(rows: Sequence[Sequence[float]]) -> nn.Sequential:
    """A net whose logits for image number n are row n."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(len(rows), len(rows[0]), bias=False))
    net[1].weight.data = torch.tensor(rows).T.contiguous()
    return net


def images(*rows: int) -> Tensor:
    return torch.eye(3)[list(rows)][:, :, None, None]


def distill(
    student: nn.Module, *teachers: nn.Module, task: str = "single", **settings: object
) -> Distill:
    method = create("distill", Facts(3, (1, 1, 1), 3, 3, task), resolve("distill", settings))
    assert isinstance(method, Distill)
    for teacher in teachers:
        teacher.eval()
    method.begin(Networks(student, student, 1, teachers))
    return method


def softmax(logits: Sequence[float], t: float = 1.0) -> list[float]:
    powers = [math.exp(value / t) for value in logits]
    return [power / sum(powers) for power in powers]


def kl(q: Sequence[float], p: Sequence[float]) -> float:
    return sum(a * math.log(a / b) for a, b in zip(q, p, strict=True))


def mean(rows: Sequence[Sequence[float]]) -> list[float]:
    return [sum(column) / len(column) for column in zip(*rows, strict=True)]


BATCH = Batch(images(0), torch.tensor([2]), strong=images(1, 2))


# values by hand


@pytest.mark.parametrize("t", [1.0, 3.0])
def test_the_loss_is_the_papers_value_by_hand(t: float) -> None:
    student = table(ROWS)
    method = distill(student, table(ONE), table(TWO), alpha=0.3, temperature=t)
    step = method.step(student, BATCH, 0.0)
    labelled = -math.log(softmax(ROWS[0])[2])
    taught = [
        kl(mean([softmax(one, t), softmax(two, t)]), softmax(row, t))
        for one, two, row in zip(ONE, TWO, ROWS, strict=True)
    ]
    taught_mean = t**2 * sum(taught) / 3  # over labelled and unlabelled images
    assert step.logs["labelled"].item() == pytest.approx(labelled, rel=1e-5)
    assert step.logs["taught"].item() == pytest.approx(taught_mean, rel=1e-5)
    assert step.loss.item() == pytest.approx(0.3 * labelled + 0.7 * taught_mean, rel=1e-5)
    assert step.logits.tolist() == [ROWS[0]]


def test_high_temperatures_match_logits() -> None:
    """Section 2.1: for T far above the logits, and logits of mean zero, the gradient of T² KL is
    (z - v) / K."""
    own = torch.tensor(ROWS) - torch.tensor(ROWS).mean(1, keepdim=True)
    said = torch.tensor(ONE) - torch.tensor(ONE).mean(1, keepdim=True)
    for t in (200.0, 400.0):
        student = table(own.tolist())
        method = distill(student, table(said.tolist()), alpha=0.0, temperature=t)
        method.step(student, BATCH, 0.0).loss.backward()
        assert student[1].weight.grad is not None
        expected = (own - said).T / 3 / 3  # K classes, N images
        torch.testing.assert_close(student[1].weight.grad, expected, atol=2e-3, rtol=0.02)


def test_several_labels_an_image_by_hand() -> None:
    student = table(ROWS)
    method = distill(student, table(ONE), table(TWO), task="multi", alpha=0.0, temperature=2.0)
    step = method.step(student, Batch(images(0), torch.zeros(1, 3), strong=images(1, 2)), 0.0)
    total = 0.0
    for one, two, row in zip(ONE, TWO, ROWS, strict=True):
        for a, b, z in zip(one, two, row, strict=True):
            q = (1 / (1 + math.exp(-a / 2)) + 1 / (1 + math.exp(-b / 2))) / 2
            p = 1 / (1 + math.exp(-z / 2))
            total += kl([q, 1 - q], [p, 1 - p])
    assert step.loss.item() == pytest.approx(4 * total / 9, rel=1e-5)


def test_regression_by_hand() -> None:
    student = table(ROWS)
    method = distill(student, table(ONE), table(TWO), task="regression", alpha=0.25)
    y = torch.tensor([[1.0, 2.0, 3.0]])
    step = method.step(student, Batch(images(0), y, strong=images(1, 2)), 0.0)
    squares = [
        (z - (a + b) / 2) ** 2
        for one, two, row in zip(ONE, TWO, ROWS, strict=True)
        for a, b, z in zip(one, two, row, strict=True)
    ]
    labelled = sum((z - k) ** 2 for z, k in zip(ROWS[0], (1.0, 2.0, 3.0), strict=True)) / 3
    assert step.loss.item() == pytest.approx(0.25 * labelled + 0.75 * sum(squares) / 9, rel=1e-5)


def test_hints_by_hand() -> None:
    """The features of these nets are the image's own pixels, and g is set."""
    student, wide = table(ROWS), nn.Sequential(nn.Flatten(), nn.Linear(3, 2), nn.Linear(2, 3))
    method = distill(student, wide, table(TWO), alpha=0.0, hints=0.5)
    assert method.regressor.weight.shape == (2, 3)  # from three features to the first teacher's two
    step = method.step(student, BATCH, 0.0)
    with torch.no_grad():
        told = method.regressor(torch.eye(3)) - wide[1](torch.eye(3))
    hint = sum(value**2 for row in told.tolist() for value in row) / (3 * 2)
    assert step.logs["hint"].item() == pytest.approx(hint, rel=1e-5)
    assert (step.loss - step.logs["taught"]).item() == pytest.approx(0.5 * hint, rel=1e-4)


# invariances


def test_order_and_offsets_of_the_teachers_make_no_difference() -> None:
    student = table(ROWS)
    raised = [[value + 7.0 for value in row] for row in ONE]  # probabilities are the same
    one = distill(student, table(ONE), table(TWO)).step(student, BATCH, 0.0).loss
    two = distill(student, table(TWO), table(raised)).step(student, BATCH, 0.0).loss
    assert one.item() == pytest.approx(two.item(), rel=1e-5)


def test_twice_the_same_teacher_says_what_one_says() -> None:
    student = table(ROWS)
    one = distill(student, table(ONE)).step(student, BATCH, 0.0).loss
    two = distill(student, table(ONE), table(ONE)).step(student, BATCH, 0.0).loss
    assert one.item() == pytest.approx(two.item(), rel=1e-6)


def test_a_student_that_says_the_same_has_nothing_to_learn() -> None:
    for task in ("single", "multi", "regression"):
        student = table(ONE)
        method = distill(student, table(ONE), task=task, alpha=0.0, temperature=3.0)
        y = torch.zeros(1, 3) if task != "single" else torch.tensor([0])
        step = method.step(student, Batch(images(0), y, strong=images(1, 2)), 0.0)
        step.loss.backward()
        assert step.loss.item() == pytest.approx(0, abs=1e-6)
        assert student[1].weight.grad is not None
        assert student[1].weight.grad.abs().max() < 1e-6


# gradients


def test_the_student_learns_and_no_teacher_does() -> None:
    student, one, two = table(ROWS), table(ONE), table(TWO)
    method = distill(student, one, two, hints=1.0)
    method.step(student, BATCH, 0.0).loss.backward()
    assert student[1].weight.grad is not None
    assert (student[1].weight.grad.abs().sum(0) > 0).all()  # of every image
    assert one[1].weight.grad is None
    assert two[1].weight.grad is None
    assert {name for name, _ in method.named_parameters()} == {
        "regressor.weight",
        "regressor.bias",
    }  # what the optimiser is given
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in method.parameters())


def test_hints_reach_the_features_and_not_the_head() -> None:
    torch.manual_seed(0)
    below, top = nn.Linear(3, 4), nn.Linear(4, 3)
    student = nn.Sequential(nn.Flatten(), below, nn.Tanh(), top)
    method = distill(student, table(ONE), alpha=0.0, hints=1.0)
    step = method.step(student, BATCH, 0.0)
    hint = step.loss - distill(student, table(ONE), alpha=0.0).step(student, BATCH, 0.0).loss
    reached = torch.autograd.grad(hint, [below.weight, top.weight])
    assert reached[0].abs().max() > 1e-3
    assert reached[1].abs().max() < 1e-6


@pytest.mark.parametrize("task", ["single", "multi", "regression"])
def test_without_alpha_no_label_is_looked_at(task: str) -> None:
    student = table(ROWS)
    method = distill(student, table(ONE), task=task, alpha=0.0)
    kind = torch.tensor([0]) if task == "single" else torch.zeros(1, 3)
    losses = []
    for y in (kind, torch.tensor([-7]), torch.full((5, 9), float("nan"))):
        step = method.step(student, Batch(images(0), y, strong=images(1, 2)), 0.0)
        losses.append(step.loss.item())
    assert losses[0] == losses[1] == losses[2]
    assert math.isfinite(losses[0])


def test_with_alpha_one_no_teacher_counts() -> None:
    student = table(ROWS)
    one = distill(student, table(ONE), alpha=1.0).step(student, BATCH, 0.0).loss
    two = distill(student, table(TWO), alpha=1.0).step(student, BATCH, 0.0).loss
    assert one.item() == two.item() == pytest.approx(-math.log(softmax(ROWS[0])[2]), rel=1e-6)


# what it needs and leaves


def test_without_a_teacher_it_says_so() -> None:
    with pytest.raises(UserError, match="distill needs a teacher"):
        distill(table(ROWS))


def test_beginning_leaves_modes_and_statistics_as_they_were() -> None:
    def net(features: int) -> nn.Sequential:
        layers = (nn.Conv2d(3, features, 1), nn.BatchNorm2d(features), nn.Flatten())
        return nn.Sequential(*layers, nn.Linear(features, 3))

    student, teacher = net(4).train(), net(6)
    method = distill(student, teacher, hints=1.0)
    assert all(module.training for module in student.modules())
    assert not any(module.training for module in teacher.modules())
    assert student[1].num_batches_tracked.item() == 0
    assert method.regressor.weight.shape == (6, 4)
    method.step(student, BATCH, 0.0)
    assert student[1].num_batches_tracked.item() == 1  # one pass of all views
    assert teacher[1].num_batches_tracked.item() == 0
    assert not any("student" in name or "teacher" in name for name in method.state_dict())
