"""Self-training's step, and Noisy Student's, which is the same: the value by hand, what carries
gradient, tasks, settings. The rounds are in tests/procedures/test_rounds.py."""

import dataclasses
from typing import Any

import pytest
import torch
from table import Table, binary, cross_entropy, facts, images, log_prior, method, plus, pulled

from fewlabels.errors import UserError
from fewlabels.methods import Batch, resolve
from fewlabels.methods.method import MULTI, REGRESSION

FACTS = facts(2, 2, 2)
SAID = [[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]]
ROWS = [
    [2.0, 0.0, 0.0],  # 0 labelled, of class 1
    [1.0, 0.2, 0.0],  # 1, 2 weak views
    [0.0, 0.1, 3.0],
    [0.5, 9.0, 0.0],  # 3, 4 strong views
    [0.0, 0.3, 1.0],
]
BOTH = pytest.mark.parametrize(("name", "first"), [("self_train", 1), ("noisy_student", 3)])


def batch(order: tuple[int, ...] = (0, 1)) -> Batch:
    return Batch(
        images(0),
        torch.tensor([1]),
        images(*(1 + u for u in order)),
        images(*(3 + u for u in order)),
        torch.tensor(order),
        given=torch.tensor([SAID[u] for u in order]),
    )


@BOTH
def test_the_loss_is_the_papers_value_by_hand(name: str, first: int) -> None:
    """Weak views for self-training, strong ones for Noisy Student; two means, not one."""
    step = method(name, FACTS, weight=1.5).step(Table(*ROWS), batch(), 0.3)
    labelled = cross_entropy(ROWS[0], 1)
    taught = sum(cross_entropy(ROWS[first + u], SAID[u]) for u in (0, 1)) / 2
    assert step.loss.item() == pytest.approx(labelled + 1.5 * taught, rel=1e-6)
    assert step.logs["unlabelled"].item() == pytest.approx(taught, rel=1e-6)
    assert step.logits.tolist() == [ROWS[0]]


@BOTH
def test_the_whole_gradient_by_hand(name: str, first: int) -> None:
    student = Table(*ROWS)
    method(name, FACTS, weight=1.5).step(student, batch(), 0.3).loss.backward()
    gradient = student.gradient()
    assert gradient[0] == pytest.approx(pulled(ROWS[0], 1, 1.0), abs=1e-6)
    for u in (0, 1):
        expected = pulled(ROWS[first + u], SAID[u], 0.75)
        assert gradient[first + u] == pytest.approx(expected, abs=1e-6)
    other = 4 - first  # the views that are not asked for
    assert gradient[other : other + 2] == [[0.0] * 3] * 2


@BOTH
def test_order_and_repetition_of_the_unlabelled_images_do_not_matter(name: str, first: int) -> None:
    def loss(*order: int) -> Any:
        return method(name, FACTS).step(Table(*ROWS), batch(order), 0.3).loss.item()

    assert loss(1, 0) == pytest.approx(loss(0, 1), rel=1e-6)
    assert loss(0, 1, 1, 0) == pytest.approx(loss(0, 1), rel=1e-6)


def test_one_forward_holds_all_images() -> None:
    seen: list[int] = []

    def student(x: torch.Tensor) -> torch.Tensor:
        seen.append(len(x))
        return torch.zeros(len(x), 3)

    method("noisy_student", FACTS).step(student, batch(), 0.0)
    assert seen == [3]


def test_several_labels_an_image_and_numbers_by_hand() -> None:
    rows, said = [[2.0, 0.0], [1.0, -0.5]], [0.9, 0.2]
    given: dict[str, Any] = {"weak": images(1), "given": torch.tensor([said])}
    many = Batch(images(0), torch.tensor([[0.0, 1.0]]), **given)
    made = method("self_train", facts(1, 1, task=MULTI))
    labelled = (binary(2.0, 0.0) + binary(0.0, 1.0)) / 2
    taught = (binary(1.0, 0.9) + binary(-0.5, 0.2)) / 2
    loss = made.step(Table(*rows), many, 0.0).loss.item()
    assert loss == pytest.approx(labelled + taught, rel=1e-6)
    numbers = Batch(images(0), torch.tensor([[1.0, 1.0]]), **given)
    made = method("self_train", facts(1, 1, task=REGRESSION))
    squares = (1.0 + 1.0) / 2 + (0.1**2 + 0.7**2) / 2
    assert made.step(Table(*rows), numbers, 0.0).loss.item() == pytest.approx(squares, rel=1e-5)


def test_logit_adjustment_teaches_classes_as_frequent_as_they_are() -> None:
    """A network whose classes count alike says less of the frequent one than there is of it; a
    student whose logits say the same has nothing to learn."""
    prior = log_prior(0, 8)
    said = torch.tensor([[0.6, 0.4]])
    rows = [[0.0, 0.0], said[0].log().tolist()]
    made = method("self_train", facts(0, 8, adjust=True))
    student = Table(*rows)
    some = Batch(images(0), torch.tensor([0]), weak=images(1), given=said)
    step = made.step(student, some, 0.0)
    natural = torch.tensor(plus(rows[1], prior)).softmax(0).tolist()
    expected = cross_entropy(plus(rows[1], prior), natural)
    assert step.logs["unlabelled"].item() == pytest.approx(expected, rel=1e-5)
    step.loss.backward()
    assert student.gradient()[1] == pytest.approx([0.0, 0.0], abs=1e-6)


def test_noise_is_all_that_noisy_student_adds() -> None:
    plain, noisy = (dataclasses.asdict(resolve(n, {})) for n in ("self_train", "noisy_student"))
    assert (plain["view"], plain["dropout"], plain["survival"]) == ("weak", 0.0, 1.0)
    assert noisy == plain | {"view": "strong", "dropout": 0.5, "survival": 0.8}


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"models": "resnet20", "grow": 1.0}, "grow has no effect beside models"),
        ({"models": "a b c", "rounds": 2}, "are more than the 2 rounds"),
        ({"survival": 0.0}, "survival 0.0"),
        ({"view": "other"}, "view other: must be one of weak, strong"),
    ],
)
def test_settings_that_cannot_be_are_one_line(settings: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError, match=line):
        resolve("noisy_student", settings)
