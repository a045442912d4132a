"""Masked images: values by hand, what is hidden, who learns."""

import math

import pytest
import torch
from torch import Tensor, nn

from fewlabels.errors import UserError
from fewlabels.methods import Batch, Facts, Networks, create, resolve
from fewlabels.methods.masked import Masked

SIZE = 8


def net() -> nn.Sequential:
    layers = (nn.Conv2d(3, 5, 4, stride=4), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(*layers, nn.Linear(5, 2))


def masked(student: nn.Module, size: int = SIZE, **settings: object) -> Masked:
    method = create("masked", Facts(2, (1, 1), 4, 4), resolve("masked", settings))
    assert isinstance(method, Masked)
    method.begin(Networks(student, student, size))
    return method


def batch_of(weak: Tensor) -> Batch:
    return Batch(torch.randn(2, 3, SIZE, SIZE), torch.tensor([0, 1]), weak)


def hides(method: Masked, pixels: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(method, "draw", lambda _: pixels)


def test_the_loss_is_the_mean_over_hidden_pixels_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    student = net()
    method = masked(student, weight=0.5, labelled=2.0, alone=0.0)
    weak = torch.randn(2, 3, SIZE, SIZE)
    hidden = torch.zeros(2, 1, SIZE, SIZE, dtype=torch.bool)
    hidden[0, 0, 1, 2] = hidden[1, 0, 7, 7] = hidden[1, 0, 0, 3] = True
    hides(method, hidden, monkeypatch)
    batch = batch_of(weak)
    step = method.step(student, batch, 0.0)
    with torch.no_grad():
        shown = weak.clone()
        for m, row, column in ((0, 1, 2), (1, 7, 7), (1, 0, 3)):
            shown[m, :, row, column] = 0
        drawn = method.head(student[0](shown))
        chance = student(batch.x).softmax(1)
    assert drawn.shape == weak.shape
    errors = [
        abs(float(drawn[m, channel, row, column] - weak[m, channel, row, column]))
        for m, row, column in ((0, 1, 2), (1, 7, 7), (1, 0, 3))
        for channel in range(3)
    ]
    task = sum(errors) / 9
    labelled = -(math.log(chance[0, 0]) + math.log(chance[1, 1])) / 2
    assert step.logs["task"].item() == pytest.approx(task, rel=1e-5)
    assert step.loss.item() == pytest.approx(2.0 * labelled + 0.5 * task, rel=1e-5)


@pytest.mark.parametrize(("hidden", "patches", "count"), [(0.6, 8, 38), (0.5, 4, 8), (0.25, 2, 1)])
def test_as_many_whole_patches_of_every_image_are_hidden(
    hidden: float, patches: int, count: int
) -> None:
    torch.manual_seed(0)
    method = masked(net(), hidden=hidden, patches=patches)
    drawn = method.draw(torch.zeros(50, 3, 16, 16))
    assert drawn.shape == (50, 1, 16, 16)
    side = 16 // patches
    tiles = drawn.unfold(2, side, side).unfold(3, side, side).flatten(4).float().mean(4)
    assert set(tiles.unique().tolist()) == {0.0, 1.0}  # a patch is hidden as a whole
    assert tiles.flatten(1).sum(1).tolist() == [count] * 50
    assert len({tuple(tile.flatten().tolist()) for tile in tiles}) > (2 if count == 1 else 40)
    # every patch is hidden about as often
    often = tiles.mean(0)
    assert often.min() > 0
    assert (often - count / patches**2).abs().max() < 0.3


def test_something_is_hidden_however_little_is_asked_for() -> None:
    student = net()
    method = masked(student, hidden=0.01, patches=2)
    step = method.step(student, batch_of(torch.randn(3, 3, SIZE, SIZE)), 0.0)
    assert math.isfinite(step.loss.item())
    assert method._hidden.flatten(1).float().mean(1).tolist() == [0.25] * 3


def test_more_patches_than_pixels_are_an_error() -> None:
    student = net()
    method = masked(student, patches=9)
    with pytest.raises(UserError, match="patches 9: more than the image has pixels"):
        method.step(student, batch_of(torch.randn(2, 3, SIZE, SIZE)), 0.0)


def test_the_network_does_not_see_what_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    student = net()
    method = masked(student)
    weak = torch.randn(4, 3, SIZE, SIZE)
    hidden = method.draw(weak)
    hides(method, hidden, monkeypatch)
    other = torch.where(hidden, 100.0, weak)
    seen = [method.inputs(batch_of(some)) for some in (weak, other)]
    assert torch.equal(seen[0], seen[1])
    assert (seen[0][hidden.expand_as(weak)] == 0).all()
    assert torch.equal(seen[0][~hidden.expand_as(weak)], weak[~hidden.expand_as(weak)])


def test_pixels_that_are_shown_do_not_enter_the_loss() -> None:
    torch.manual_seed(0)
    student = net()
    method = masked(student)
    weak = torch.randn(2, 3, SIZE, SIZE)
    batch = batch_of(weak)
    method.inputs(batch)
    answers = torch.randn(2, 3, SIZE, SIZE, requires_grad=True)
    method.task(answers, batch).backward()
    assert answers.grad is not None
    hidden = method._hidden.expand_as(weak)
    assert (answers.grad[hidden] != 0).all()
    assert (answers.grad[~hidden] == 0).all()
    with torch.no_grad():
        garbage = torch.where(hidden, answers, torch.full_like(answers, 1e6))
        assert torch.equal(method.task(garbage, batch), method.task(answers, batch))


def test_order_of_the_images_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    student = net()
    method = masked(student, labelled=0.0)
    weak, order = torch.randn(4, 3, SIZE, SIZE), torch.tensor([3, 1, 0, 2])
    hidden = method.draw(weak)
    losses = []
    for some, drawn in ((weak, hidden), (weak[order], hidden[order])):
        hides(method, drawn, monkeypatch)
        losses.append(method.step(student, batch_of(some), 0.0).loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_the_task_reaches_the_maps_and_its_own_head_and_no_label_is_needed() -> None:
    torch.manual_seed(0)
    student = net()
    method = masked(student, labelled=0.0)
    weak = torch.randn(2, 3, SIZE, SIZE)
    garbage = Batch(torch.randn(1, 3, SIZE, SIZE), torch.tensor([-5]), weak)
    step = method.step(student, garbage, 0.0)
    step.loss.backward()
    assert student[0].weight.grad is not None
    assert student[0].weight.grad.abs().sum() > 0
    assert student[3].weight.grad is None  # the classes' head is not asked
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in method.parameters())
