"""Rotation: a value by hand, an invariance, who learns."""

import math

import pytest
import torch
from torch import Tensor, nn

from fewlabels.methods import Batch, Facts, Networks, create, resolve
from fewlabels.methods.rotation import Rotation

# A picture of four pixels; turned by a quarter, against the clock, it is [[1, 3], [0, 2]].
PICTURE = torch.tensor([[0.0, 1.0], [2.0, 3.0]])


def rotation(student: nn.Module, **settings: object) -> Rotation:
    method = create("rotation", Facts(2, (1, 1), 4, 4), resolve("rotation", settings))
    assert isinstance(method, Rotation)
    method.begin(Networks(student, student, 2))
    return method


def flat(classes: int = 2) -> nn.Sequential:
    """Its features are the pixels of three channels, two by two."""
    return nn.Sequential(nn.Flatten(), nn.Linear(12, classes))


def shown(*pictures: Tensor) -> Tensor:
    return torch.stack([picture.expand(3, 2, 2) for picture in pictures])


def log_softmax(logits: list[float], k: int) -> float:
    return logits[k] - math.log(sum(math.exp(value) for value in logits))


def test_the_loss_is_the_papers_value_by_hand() -> None:
    student = flat()
    method = rotation(student, weight=0.5, labelled=2.0)
    head = method.head
    assert isinstance(head, nn.Linear)
    torch.manual_seed(0)
    nn.init.normal_(head.weight)
    x, pictures = shown(torch.ones(2, 2)), (PICTURE, PICTURE * -0.5)
    step = method.step(student, Batch(x, torch.tensor([1]), strong=shown(*pictures)), 0.0)
    total = 0.0
    for picture in pictures:
        (a, b), (c, d) = picture.tolist()
        turned = ([a, b, c, d], [b, d, a, c], [d, c, b, a], [c, a, d, b])  # by 0, 90, 180, 270
        for label, pixels in enumerate(turned):
            answers = (head.weight @ torch.tensor(pixels * 3) + head.bias).tolist()
            total -= log_softmax(answers, label)
    labelled = -log_softmax(student(x)[0].tolist(), 1)
    assert step.logs["task"].item() == pytest.approx(total / 8, rel=1e-5)
    assert step.logs["labelled"].item() == pytest.approx(labelled, rel=1e-5)
    assert step.loss.item() == pytest.approx(2.0 * labelled + 0.5 * total / 8, rel=1e-5)
    torch.testing.assert_close(step.logits, student(x))


def test_all_four_ways_are_shown_in_one_pass() -> None:
    seen: list[Tensor] = []
    student = flat()
    method = rotation(student)
    student.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    pictures = shown(PICTURE, PICTURE + 1)
    method.step(student, Batch(shown(PICTURE), torch.tensor([0]), strong=pictures), 0.0)
    assert [len(images) for images in seen] == [1 + 4 * 2]
    for turn in range(4):
        of_turn = seen[0][1 + 2 * turn : 3 + 2 * turn]
        assert torch.equal(of_turn, torch.rot90(pictures, turn, (2, 3)))


def test_order_of_the_images_does_not_matter() -> None:
    student = flat()
    method = rotation(student)
    x, pictures = shown(PICTURE), shown(PICTURE, PICTURE**2, -PICTURE)
    losses = [
        method.step(student, Batch(x, torch.tensor([0]), strong=some), 0.0).loss.item()
        for some in (pictures, pictures[[2, 0, 1]])
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_a_picture_that_turning_does_not_change_gives_nothing_away() -> None:
    student = flat()
    method = rotation(student, labelled=0.0)
    plain = Batch(shown(PICTURE), torch.tensor([0]), strong=shown(torch.full((2, 2), 0.7)))
    optimiser = torch.optim.SGD(method.parameters(), 0.1)
    for _ in range(300):
        optimiser.zero_grad()
        loss = method.step(student, plain, 0.0).loss
        loss.backward()
        optimiser.step()
    assert loss.item() == pytest.approx(math.log(4), abs=1e-3)


def test_the_task_reaches_features_and_its_own_head_and_no_label_is_needed() -> None:
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 4, 2), nn.Flatten(), nn.Linear(4, 2))
    student = nn.Sequential(*layers)
    method = rotation(student, labelled=0.0)
    losses = []
    for y in (torch.tensor([0]), torch.tensor([-3])):
        step = method.step(student, Batch(shown(PICTURE), y, strong=shown(PICTURE)), 0.0)
        losses.append(step.loss.item())
    assert losses[0] == losses[1]
    step.loss.backward()
    assert student[0].weight.grad is not None
    assert student[0].weight.grad.abs().sum() > 0
    assert student[2].weight.grad is None  # the classes' head is not asked
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in method.parameters())
    assert "labelled" not in step.logs


def test_labels_reach_the_student_and_not_the_tasks_head() -> None:
    student = flat()
    method = rotation(student, weight=0.0)
    batch = Batch(shown(PICTURE), torch.tensor([0]), strong=shown(PICTURE))
    method.step(student, batch, 0.0).loss.backward()
    assert student[1].weight.grad is not None
    assert student[1].weight.grad.abs().sum() > 0
    assert all(p.grad is None or p.grad.abs().sum() == 0 for p in method.parameters())
