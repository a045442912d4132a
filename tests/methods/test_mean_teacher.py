"""Mean Teacher: the value by hand, the ramp, the teacher's average, what carries gradient."""

import math
from typing import Any

import pytest
import torch
from table import (
    Row,
    Table,
    batch,
    binary,
    cross_entropy,
    facts,
    images,
    log_prior,
    method,
    plus,
    sigmoid,
    softmax,
)
from torch import Tensor, nn

from fewlabels.methods import Batch, Networks
from fewlabels.methods.method import MULTI, REGRESSION
from fewlabels.training.ema import EMA

FACTS = facts(2, 2, 2)
STUDENT = [
    [2.0, 0.0, 0.0],  # 0 labelled, of class 1
    [5.0, 5.0, 5.0],  # 1, 2 weak views: the student does not look at them
    [5.0, 5.0, 5.0],
    [0.0, 1.0, 0.0],  # 3 strong view of 1
    [0.0, 0.2, 3.0],  # 4 strong view of 2
]
TEACHER = [
    [9.0, 9.0, 9.0],
    [1.0, 0.0, 0.0],  # 1, 2: what it says of the weak views
    [0.0, 0.0, 2.0],
    [9.0, 9.0, 9.0],
    [9.0, 9.0, 9.0],
]


def taught(about: Any = FACTS, teacher: Any = TEACHER, **settings: Any) -> Any:
    made = method("mean_teacher", about, **settings)
    made.begin(Networks(Table(*STUDENT), Table(*teacher)))
    return made


def squares(p: Row, q: Row) -> float:
    return sum((a - b) ** 2 for a, b in zip(p, q, strict=True))


def test_the_loss_is_the_papers_value_by_hand() -> None:
    step = taught(weight=2.0, ramp=0.5).step(Table(*STUDENT), batch([1], 2), 0.25)
    each = [squares(softmax(STUDENT[u + 2]), softmax(TEACHER[u])) for u in (1, 2)]
    weight = 2.0 * math.exp(-5 * (1 - 0.25 / 0.5) ** 2)
    expected = cross_entropy(STUDENT[0], 1) + weight * sum(each) / 2
    assert step.loss.item() == pytest.approx(expected, rel=1e-6)
    assert step.logs["unlabelled"].item() == pytest.approx(sum(each) / 2, rel=1e-6)


@pytest.mark.parametrize(
    ("progress", "part"),
    [(0.0, math.exp(-5)), (0.2, math.exp(-5 / 4)), (0.4, 1.0), (0.7, 1.0), (1.0, 1.0)],
)
def test_the_weight_rises_as_a_sigmoid_and_stays(progress: float, part: float) -> None:
    made = method("mean_teacher", FACTS, weight=7.0, ramp=0.4)
    assert made.weight(progress) == pytest.approx(7.0 * part)


def test_without_a_ramp_the_weight_is_full_at_once() -> None:
    assert method("mean_teacher", FACTS, weight=7.0, ramp=0.0).weight(0.0) == 7.0


def test_the_teacher_is_the_average_that_training_keeps() -> None:
    """Equation 1, and batch-norm statistics that are the student's own."""
    torch.manual_seed(0)
    student = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(2), nn.Linear(2, 3))
    ema = EMA(student, 0.9)
    made = method("mean_teacher", FACTS, weight=1.0, ramp=0.0)
    made.begin(Networks(student, ema.model))
    before = student[2].weight.detach().clone()
    x, weak, strong = (3 * torch.randn(8, 2, 1, 1) + 5 for _ in range(3))
    given = Batch(x, torch.zeros(8, dtype=torch.long), weak, strong)
    made.step(student, given, 1.0).loss.backward()
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.sub_(0.5 * parameter.grad)
    ema.update(step=1000)
    average = ema.model.get_parameter("2.weight")
    expected = 0.9 * before + 0.1 * student[2].weight
    assert torch.allclose(average, expected, atol=1e-6)
    for one, other in zip(ema.model.buffers(), student.buffers(), strict=True):
        assert torch.equal(one, other)
    # what the second step compares with is what the average says in eval mode
    with torch.no_grad():
        target = ema.model(weak).softmax(1)
        said = student(torch.cat([x, strong]))[8:].softmax(1)
    again = made.step(student, given, 1.0).logs["unlabelled"]
    assert again.item() == pytest.approx((said - target).square().sum(1).mean().item(), rel=1e-5)


def test_looking_does_not_change_the_teacher() -> None:
    torch.manual_seed(0)
    student = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(2), nn.Linear(2, 3))
    average = EMA(student, 0.9).model
    made = method("mean_teacher", FACTS)
    made.begin(Networks(student, average))
    before = {name: value.clone() for name, value in average.state_dict().items()}
    views = [torch.randn(4, 2, 1, 1) for _ in range(3)]
    made.step(student, Batch(views[0], torch.tensor([0, 1, 2, 0]), *views[1:]), 1.0).loss.backward()
    assert all(torch.equal(value, before[name]) for name, value in average.state_dict().items())


def test_a_teacher_of_the_same_mind_adds_nothing() -> None:
    agreeing = [STUDENT[0], STUDENT[3], STUDENT[4], STUDENT[3], STUDENT[4]]
    step = taught(teacher=agreeing).step(Table(*STUDENT), batch([1], 2), 1.0)
    assert step.logs["unlabelled"].item() == 0.0


def test_order_of_the_images_and_a_constant_in_the_logits_do_not_matter() -> None:
    shifted = [plus(row, [4.0] * 3) for row in STUDENT]
    one = taught().step(Table(*STUDENT), batch([1], 2), 1.0).loss.item()
    turned = taught().step(Table(*STUDENT), batch([1], 2, order=[1, 0]), 1.0).loss.item()
    moved = taught().step(Table(*shifted), batch([1], 2), 1.0).loss.item()
    assert turned == pytest.approx(one, rel=1e-6)
    assert moved == pytest.approx(one, rel=1e-5)


def test_the_gradient_reaches_the_student_alone_and_is_the_one_by_hand() -> None:
    student, teacher = Table(*STUDENT), Table(*TEACHER)  # the teacher's would take one too
    made = method("mean_teacher", FACTS, weight=2.0, ramp=0.0)
    made.begin(Networks(student, teacher))
    made.step(student, batch([1], 2), 1.0).loss.backward()
    assert teacher.logits.grad is None
    gradient = student.gradient()
    assert gradient[1:3] == [[0.0] * 3] * 2  # the weak views
    for u in (1, 2):
        p = softmax(STUDENT[u + 2])
        away = [a - b for a, b in zip(p, softmax(TEACHER[u]), strict=True)]
        mean = sum(a * b for a, b in zip(p, away, strict=True))
        # d/dz_k of |p - t|² is 2 p_k (p_k - t_k - Σ_j p_j (p_j - t_j)); weight 2, over 2 images
        by_hand = [2 * a * (b - mean) for a, b in zip(p, away, strict=True)]
        assert gradient[u + 2] == pytest.approx(by_hand, abs=1e-6)


def test_one_forward_of_the_student_holds_labelled_and_strong_views() -> None:
    seen: list[list[float]] = []

    def student(x: Tensor) -> Tensor:
        seen.append(x.flatten().tolist())
        return torch.zeros(len(x), 3)

    taught().step(student, batch([1], 2), 1.0)
    assert seen == [[0.0, 3.0, 4.0]]


def test_several_labels_an_image_compare_probabilities_of_each() -> None:
    made = taught(facts(1, 1, task=MULTI), [[0.0, 0.0], [1.0, -1.0], [0.0, 0.0]], ramp=0.0)
    rows = [[2.0, 0.0], [7.0, 7.0], [0.5, 0.0]]
    loss = made.step(Table(*rows), batch([[1.0, 0.0]], 1), 1.0).loss.item()
    away = squares([sigmoid(0.5), 0.5], [sigmoid(1.0), sigmoid(-1.0)])
    labelled = (binary(2.0, 1.0) + binary(0.0, 0.0)) / 2
    assert loss == pytest.approx(labelled + made.settings.weight * away, rel=1e-6)


def test_numbers_are_compared_themselves() -> None:
    made = taught(facts(1, task=REGRESSION), [[0.0], [4.0], [0.0]], weight=0.5, ramp=0.0)
    given = Batch(images(0), torch.tensor([1.0]), images(1), images(2))
    loss = made.step(Table([3.0], [9.0], [1.5]), given, 1.0).loss.item()
    assert loss == pytest.approx((3.0 - 1.0) ** 2 + 0.5 * (1.5 - 4.0) ** 2, rel=1e-6)


def test_logit_adjustment_compares_probabilities_of_classes_as_frequent_as_they_are() -> None:
    made = taught(facts(6, 1, 0, adjust=True), weight=1.0, ramp=0.0)
    step = made.step(Table(*STUDENT), batch([1], 2), 1.0)
    prior = log_prior(6, 1, 0)
    each = [
        squares(softmax(plus(STUDENT[u + 2], prior)), softmax(plus(TEACHER[u], prior)))
        for u in (1, 2)
    ]
    expected = cross_entropy(plus(STUDENT[0], prior), 1) + sum(each) / 2
    assert step.loss.item() == pytest.approx(expected, rel=1e-6)


def test_the_average_is_the_loops_state_and_not_the_methods() -> None:
    assert set(taught().state_dict()) == {"prior", "log_prior"}
    assert not list(taught().parameters())
