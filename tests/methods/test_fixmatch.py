"""FixMatch: a value by hand, an invariance, the gradients, and that it learns."""

import math

import pytest
import torch
from torch import Tensor, nn

from fewlabels.methods import Batch, Facts, create, resolve
from fewlabels.methods.fixmatch import FixMatch

FACTS = Facts(num_classes=3, label_counts=(2, 2, 2), num_images=6)


class Table(nn.Module):
    """A student whose logits are its parameters: an image is the number of a row."""

    def __init__(self, logits: list[list[float]]) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))

    def forward(self, x: Tensor) -> Tensor:
        return self.logits[x[:, 0, 0, 0].long()]


def images(*rows: int) -> Tensor:
    return torch.tensor(rows, dtype=torch.float32)[:, None, None, None]


def fixmatch(**settings: object) -> FixMatch:
    method = create("fixmatch", FACTS, resolve("fixmatch", settings))
    assert isinstance(method, FixMatch)
    return method


def log_softmax(logits: list[float], k: int) -> float:
    return logits[k] - math.log(sum(math.exp(value) for value in logits))


ROWS = [
    [2.0, 0.0, 0.0],  # 0 labelled, of class 0
    [5.0, 0.0, 0.0],  # 1 weak, confident: 0.987
    [1.0, 0.0, 0.0],  # 2 weak, unsure: 0.576
    [0.0, 1.0, 0.0],  # 3 strong view of 1
    [0.0, 3.0, 0.0],  # 4 strong view of 2
]


def batch() -> Batch:
    return Batch(images(0), torch.tensor([0]), images(1, 2), images(3, 4), torch.tensor([0, 1]))


def test_the_loss_is_the_papers_value_by_hand() -> None:
    step = fixmatch(align=False, weight=0.5).step(Table(ROWS), batch(), 0.0)
    labelled = -log_softmax(ROWS[0], 0)
    unlabelled = -log_softmax(ROWS[3], 0) / 2  # one of two is kept; the mean is over both
    assert step.loss.item() == pytest.approx(labelled + 0.5 * unlabelled, rel=1e-6)
    assert step.logs["labelled"].item() == pytest.approx(labelled, rel=1e-6)
    assert step.logs["unlabelled"].item() == pytest.approx(unlabelled, rel=1e-6)
    assert step.logs["confident"].item() == 0.5


def test_the_threshold_itself_counts_as_confident() -> None:
    half = [0.0, 0.0, -100.0]  # exactly 0.5 for each of two classes
    student = Table([ROWS[0], half, half, ROWS[3], ROWS[4]])
    step = fixmatch(align=False, threshold=0.5).step(student, batch(), 0.0)
    assert step.logs["confident"].item() == 1.0


def test_nothing_confident_leaves_the_labelled_loss() -> None:
    step = fixmatch(align=False, threshold=1.1).step(Table(ROWS), batch(), 0.0)
    assert step.loss.item() == pytest.approx(-log_softmax(ROWS[0], 0), rel=1e-6)


def test_order_of_the_unlabelled_images_does_not_matter() -> None:
    turned = Batch(images(0), torch.tensor([0]), images(2, 1), images(4, 3), torch.tensor([1, 0]))
    one = fixmatch().step(Table(ROWS), batch(), 0.0).loss
    other = fixmatch().step(Table(ROWS), turned, 0.0).loss
    assert one.item() == pytest.approx(other.item(), rel=1e-6)


def test_gradients_flow_through_labelled_and_kept_strong_views_only() -> None:
    student = Table(ROWS)
    fixmatch(align=False).step(student, batch(), 0.0).loss.backward()
    assert student.logits.grad is not None
    size = student.logits.grad.abs().sum(1)
    assert size[0] > 0
    assert size[3] > 0
    # the weak views are targets, and the unsure image's strong view is masked: exactly zero
    assert size[[1, 2, 4]].tolist() == [0.0, 0.0, 0.0]


def test_one_forward_holds_all_views() -> None:
    seen: list[int] = []
    student = Table(ROWS)
    student.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    fixmatch().step(student, batch(), 0.0)
    assert seen == [5]


def test_alignment_moves_pseudo_labels_toward_the_prior() -> None:
    """A model that always says class 0 is told that it says so too often."""
    method = fixmatch(momentum=0.0)  # the moving average is the last batch
    student = Table([ROWS[0], [1.0, 0.9, 0.0], [1.0, 0.9, 0.0], ROWS[3], ROWS[4]])
    p = torch.softmax(torch.tensor([1.0, 0.9, 0.0]), 0)
    aligned = method.alignment(p.repeat(2, 1))
    assert torch.allclose(aligned, torch.full((2, 3), 1 / 3), atol=1e-6)
    assert method.step(student, batch(), 0.0).logs["confident"].item() == 0.0


def test_alignment_by_hand_and_its_state_is_saved() -> None:
    method = fixmatch(momentum=0.5)
    p = torch.tensor([[0.8, 0.1, 0.1]])
    aligned = method.alignment(p)
    running = 0.5 * torch.full((3,), 1 / 3) + 0.5 * p[0]
    expected = p[0] * (1 / 3) / running
    assert torch.allclose(aligned[0], expected / expected.sum(), atol=1e-6)
    fresh = fixmatch(momentum=0.5)
    fresh.load_state_dict(method.state_dict())
    assert torch.equal(fresh.alignment.running, method.alignment.running)
    assert torch.allclose(fresh.alignment.running, running)


def test_the_prior_is_estimated_from_the_labels() -> None:
    method = create("fixmatch", Facts(3, (5, 2, 0), 7), resolve("fixmatch", {}))
    assert torch.allclose(method.state_dict()["alignment.prior"], torch.tensor([0.6, 0.3, 0.1]))
