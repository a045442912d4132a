"""FlexMatch: counts, thresholds and loss by hand over some steps; rare classes; the gradients."""

from typing import Any

import pytest
import torch
from table import Table, batch, cross_entropy, facts, log_prior, method, plus, pulled

from fewlabels.errors import UserError
from fewlabels.methods.method import MULTI, REGRESSION

# 5 unlabelled images of a pool of 20, under their numbers in the pool
FACTS = facts(2, 2, 2, images=20, unlabelled=5)
INDEX = [19, 3, 12, 7, 15]
LABELLED = [2.0, 0.0, 0.0]
SURE = {0: [6.0, 0.0, 0.0], 1: [0.0, 6.0, 0.0], 2: [0.0, 0.0, 6.0]}  # 0.995
UNSURE = [0.0, 1.2, 0.0]  # class 1, 0.624
STRONG = [[0.0, 1.0, 0.0], [0.0, 3.0, 0.0], [1.0, 0.0, 0.0], [0.5, 0.0, 0.0], [0.0, 0.0, 0.2]]


def flexmatch(about: Any = FACTS, **settings: Any) -> Any:
    return method("flexmatch", about, **settings)


def threshold(beta: float, tau: float = 0.95) -> float:
    return beta / (2 - beta) * tau


def test_counts_thresholds_and_loss_by_hand_over_three_steps() -> None:
    made = flexmatch()
    assert made.thresholds().tolist() == [0.0, 0.0, 0.0]

    # first: nothing is learnt yet, so every image is kept; three are sure
    weak = [SURE[0], SURE[0], SURE[1], UNSURE, UNSURE]
    student = Table(LABELLED, *weak, *STRONG)
    step = made.step(student, batch([0], 5, INDEX), 0.0)
    each = [cross_entropy(row, k) for row, k in zip(STRONG, [0, 0, 1, 1, 1], strict=True)]
    assert step.logs["unlabelled"].item() == pytest.approx(sum(each) / 5, rel=1e-6)
    # σ = (2, 1, 0), two unused: β = σ / max(2, 2)
    expected = [threshold(1.0), threshold(0.5), 0.0]
    assert made.thresholds().tolist() == pytest.approx(expected)

    # second, in another order: image 19 changes its class, 3 is not sure any more, which leaves
    # what it was
    weak = [SURE[1], SURE[1], UNSURE, SURE[2], [0.0, -2.0, -2.0]]  # the last: class 0, 0.787
    student = Table(LABELLED, *weak, *STRONG)
    step = made.step(student, batch([0], 5, [7, 12, 3, 19, 15]), 0.0)
    # masked by the thresholds from before: 0.995 > 0, 0.624 > 0.317, and 0.787 < 0.95
    kept = [cross_entropy(row, k) for row, k in zip(STRONG[:4], [1, 1, 1, 2], strict=True)]
    assert step.logs["unlabelled"].item() == pytest.approx(sum(kept) / 5, rel=1e-6)
    assert step.logs["confident"].item() == pytest.approx(4 / 5)
    # now 3: class 0, 12 and 7: class 1, 19: class 2, one unused: β = σ / max(2, 1)
    expected = [threshold(0.5), threshold(1.0), threshold(0.5)]
    assert made.thresholds().tolist() == pytest.approx(expected)

    # third: the same image twice in a batch, and once more, is still one image
    student = Table(LABELLED, *[SURE[1]] * 4, UNSURE, *STRONG)
    made.step(student, batch([0], 5, [7, 7, 7, 7, 15]), 0.0)
    assert made.thresholds().tolist() == pytest.approx(expected)


def test_unused_images_keep_thresholds_low_at_the_start() -> None:
    """One of a hundred is learnt: β = 1 / 99, not 1 / 1."""
    made = flexmatch(facts(1, 1, images=100, unlabelled=100))
    made.teach(torch.tensor([[9.0, 0.0]]), torch.tensor([42]))
    assert made.thresholds().tolist() == pytest.approx([threshold(1 / 99), 0.0])


def test_only_unlabelled_images_count_as_unused() -> None:
    """The pool has a hundred images, of which two are unlabelled: β = 1 / max(1, 1)."""
    made = flexmatch(facts(1, 1, images=100, unlabelled=2))
    made.teach(torch.tensor([[9.0, 0.0]]), torch.tensor([99]))
    assert made.thresholds().tolist() == pytest.approx([0.95, 0.0])


def test_confidence_must_be_above_the_threshold_for_loss_and_for_count() -> None:
    half = torch.tensor([[0.0, 0.0, -100.0]])  # exactly 0.5
    made = flexmatch(facts(1, 1, 1, images=2, unlabelled=2), threshold=0.5)
    made.learnt[0] = 0
    assert made.thresholds()[0].item() == 0.5
    assert made.teach(half, torch.tensor([1])).weight.tolist() == [0.0]
    assert made.learnt.tolist() == [0, -1]


def test_a_rare_class_whose_confidence_is_lower_is_not_starved() -> None:
    """Class 1, 0.668 sure, is kept where FixMatch does not keep it; class 0, as sure, is not."""
    about = facts(2, 2, 2, images=20, unlabelled=20)
    made = flexmatch(about)
    made.learnt[:12] = 0
    made.learnt[12:15] = 1
    weak = torch.tensor([[0.0, 1.4, 0.0], [1.4, 0.0, 0.0]])
    assert made.teach(weak, torch.tensor([18, 19])).weight.tolist() == [1.0, 0.0]
    fixmatch = method("fixmatch", about, align=False)
    assert fixmatch.teach(weak, None).weight.tolist() == [0.0, 0.0]


def test_order_of_images_and_their_numbers_do_not_matter() -> None:
    weak = [SURE[0], UNSURE, SURE[1], SURE[1], [0.0, -2.0, -2.0]]
    student = Table(LABELLED, *weak, *STRONG)
    one, turned, renamed = flexmatch(), flexmatch(), flexmatch()
    for _ in range(3):
        expected = one.step(student, batch([0], 5, INDEX), 0.0).loss.item()
        around = batch([0], 5, INDEX, order=[4, 2, 0, 1, 3])
        assert turned.step(student, around, 0.0).loss.item() == pytest.approx(expected, rel=1e-6)
        others = batch([0], 5, [0, 1, 2, 3, 4])
        assert renamed.step(student, others, 0.0).loss.item() == pytest.approx(expected, rel=1e-6)
        assert turned.thresholds().tolist() == one.thresholds().tolist()
        assert renamed.thresholds().tolist() == one.thresholds().tolist()


@pytest.mark.parametrize("skip", [False, True])
def test_the_whole_gradient_by_hand(skip: bool) -> None:
    made = flexmatch(weight=0.5, skip=skip)
    made.learnt[[3, 12]] = 0  # class 0 has β = 2 / 3, a threshold of 0.475
    weak = [[1.4, 0.0, 0.0], UNSURE, [0.2, 0.0, 0.0], SURE[2], SURE[1]]  # 0.668, ..., 0.379
    student = Table(LABELLED, *weak, *STRONG)
    made.step(student, batch([0], 5, INDEX), 0.0).loss.backward()
    gradient = student.gradient()
    assert gradient[0] == pytest.approx(pulled(LABELLED, 0, 1.0), abs=1e-6)
    assert gradient[1:6] == [[0.0] * 3] * 5  # the weak views
    for u, target in enumerate([0, 1, None, 2, 1]):
        by_hand = [0.0] * 3 if target is None else pulled(STRONG[u], target, 0.5 / 5)
        assert gradient[6 + u] == pytest.approx(by_hand, abs=1e-6)


def test_alignment_is_of_what_is_counted_and_kept() -> None:
    made = flexmatch(align=True, momentum=0.0)
    weak = torch.tensor([[4.0, 0.0, 0.0], [4.0, 0.0, 0.0], [3.0, 2.9, 0.0], [0.0, 0.0, 3.0]])
    assert made.teach(weak, torch.tensor(INDEX[:4])).target.tolist() == [0, 0, 1, 2]


def test_logit_adjustment_by_hand() -> None:
    about, prior = facts(0, 7, 0, images=20, unlabelled=5, adjust=True), log_prior(0, 7, 0)
    weak = [[0.5, 0.4, -3.0]]
    student = Table(LABELLED, *weak, STRONG[0])
    step = flexmatch(about).step(student, batch([0], 1, [19]), 0.0)
    expected = cross_entropy(plus(LABELLED, prior), 0) + cross_entropy(plus(STRONG[0], prior), 1)
    assert step.loss.item() == pytest.approx(expected, rel=1e-6)


def test_state_survives_a_round_trip() -> None:
    made = flexmatch()
    weak = [SURE[0], SURE[0], SURE[1], UNSURE, UNSURE]
    student = Table(LABELLED, *weak, *STRONG)
    made.step(student, batch([0], 5, INDEX), 0.0)
    fresh = flexmatch()
    fresh.load_state_dict(made.state_dict())
    assert fresh.learnt.tolist() == made.learnt.tolist()
    assert [fresh.learnt[n].item() for n in INDEX] == [0, 0, 1, -1, -1]
    one = made.step(student, batch([0], 5, INDEX), 0.0).loss.item()
    assert fresh.step(student, batch([0], 5, INDEX), 0.0).loss.item() == one


def test_without_unlabelled_images_there_is_nothing_to_count() -> None:
    with pytest.raises(UserError, match="flexmatch counts the unlabelled images, and there are no"):
        flexmatch(facts(2, 2))


@pytest.mark.parametrize("task", [MULTI, REGRESSION])
def test_one_class_an_image_is_needed(task: str) -> None:
    with pytest.raises(UserError, match=f"flexmatch: has no meaning for the task {task}"):
        flexmatch(facts(2, 2, unlabelled=3, task=task))
