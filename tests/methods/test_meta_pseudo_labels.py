"""Meta Pseudo Labels: its estimate against the exact gradient, values by hand, who learns what."""

import copy
import itertools
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from fewlabels.methods import Batch, Facts, Networks, create, resolve
from fewlabels.methods.meta_pseudo_labels import MetaPseudoLabels

CLASSES = 3
FACTS = Facts(CLASSES, (2, 2, 2), 6, 6)


def mpl(student: nn.Module, **settings: object) -> MetaPseudoLabels:
    method = create("meta_pseudo_labels", FACTS, resolve("meta_pseudo_labels", settings))
    assert isinstance(method, MetaPseudoLabels)
    method.begin(Networks(student, copy.deepcopy(student).eval()))
    return method


class Drawn:
    """Stands in for torch.multinomial: gives these labels, remembers what they are drawn from."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.labels = torch.tensor([0])
        self.p = torch.empty(0)
        monkeypatch.setattr(torch, "multinomial", self)

    def __call__(self, p: Tensor, count: int, generator: Any = None) -> Tensor:
        self.p = p
        assert count == 1
        return self.labels[:, None]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Drawn:
    return Drawn(monkeypatch)


def gradients(loss: Tensor, module: nn.Module) -> Tensor:
    """All of them in one vector; zero where the loss does not reach."""
    found = torch.autograd.grad(
        loss, list(module.parameters()), retain_graph=True, allow_unused=True
    )
    pairs = zip(found, module.parameters(), strict=True)
    return torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in pairs])


def descend(loss: Tensor, module: nn.Module, lr: float) -> None:
    """One step of plain descent."""
    found = torch.autograd.grad(loss, list(module.parameters()), allow_unused=True)
    with torch.no_grad():
        for gradient, parameter in zip(found, module.parameters(), strict=True):
            if gradient is not None:
                parameter -= lr * gradient


# the estimate against the exact gradient


class Small:
    """A teacher and a student, both small and smooth, in double precision."""

    def __init__(self, count: int, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.student = self.net()
        self.method = mpl(self.student, weight=0.0, momentum=1.0)  # of UDA nothing; h̄ stays
        self.method.double()
        self.method.teacher.load_state_dict(self.net().state_dict())
        self.batch = Batch(
            torch.randn(4, 2, 1, 2).double(),
            torch.tensor([0, 1, 2, 1]),
            torch.randn(count, 2, 1, 2).double(),
            torch.randn(count, 2, 1, 2).double(),
            torch.arange(count),
        )

    @staticmethod
    def net() -> nn.Module:
        layers = (nn.Flatten(), nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, CLASSES))
        return nn.Sequential(*layers).double()

    def exact(self, lr: float) -> Tensor:
        """The gradient, with respect to the teacher, of the labelled loss of the student that was
        updated once toward the teacher's distribution: unrolled."""
        assert self.batch.strong is not None
        q = self.method.teacher(self.batch.strong).softmax(1)  # [U, K]
        log_p = self.student(self.batch.strong).log_softmax(1)
        loss = -(q * log_p).sum(1).mean()
        parameters = dict(self.student.named_parameters())
        found = torch.autograd.grad(loss, list(parameters.values()), create_graph=True)
        pairs = zip(parameters.items(), found, strict=True)
        updated = {name: value - lr * gradient for (name, value), gradient in pairs}
        after = functional_call(self.student, updated, (self.batch.x,))
        return gradients(F.cross_entropy(after, self.batch.y), self.method.teacher)

    def estimated(self, lr: float, drawn: Drawn) -> Tensor:
        """E[(h - h̄) ∇ H(ŷ, teacher)] over all labels that could be drawn, through step and
        respond."""
        assert self.batch.strong is not None
        teacher, start = self.method.teacher, copy.deepcopy(self.student.state_dict())
        known = F.cross_entropy(teacher(self.batch.x), self.batch.y)
        count = len(self.batch.strong)
        total = torch.zeros_like(gradients(known, teacher))
        for labels in itertools.product(range(CLASSES), repeat=count):
            drawn.labels = torch.tensor(labels)
            step = self.method.step(self.student, self.batch, 0.5)
            descend(step.loss, self.student, lr)
            reply = self.method.respond()
            assert reply is not None
            probability = drawn.p[torch.arange(count), drawn.labels].prod()
            total += probability * (gradients(reply, teacher) - gradients(known, teacher))
            self.student.load_state_dict(start)
        return total


# One h is common to all images of a batch, and the cross-entropy of the drawn labels is a mean over
# them, as the paper writes it: so the estimate is 1/U of the exact gradient.
@pytest.mark.parametrize(("count", "scale"), [(1, 1.0), (2, 1 / 2), (3, 1 / 3)])
def test_the_feedback_is_the_exact_gradient_of_the_updated_students_loss(
    count: int, scale: float, drawn: Drawn
) -> None:
    for seed in range(3):
        small = Small(count, seed)
        errors = []
        for lr in (1e-3, 1e-4):
            exact, estimated = scale * small.exact(lr), small.estimated(lr, drawn)
            assert torch.cosine_similarity(exact, estimated, 0) > 0.999
            assert float(estimated.norm() / exact.norm()) == pytest.approx(1, abs=0.01)
            errors.append(float((estimated - exact).norm() / exact.norm()))
        assert errors[0] / errors[1] == pytest.approx(10, rel=0.2)  # first order in the rate


@pytest.mark.parametrize("count", [1, 2])
def test_a_baseline_leaves_the_expectation_as_it_is(count: int, drawn: Drawn) -> None:
    small = Small(count)
    without = small.estimated(1e-2, drawn)
    small.method.baseline.fill_(0.7)  # a thousand times as large as h
    torch.testing.assert_close(small.estimated(1e-2, drawn), without, rtol=1e-9, atol=1e-12)


def test_descending_the_feedback_makes_the_updated_student_better(drawn: Drawn) -> None:
    """The sign, end to end: the teacher moves along it, and the student is updated anew."""
    small = Small(2)
    assert small.batch.strong is not None

    def loss_of_updated() -> float:
        student = copy.deepcopy(small.student)
        assert small.batch.strong is not None
        q = small.method.teacher(small.batch.strong).softmax(1).detach()
        descend(F.cross_entropy(student(small.batch.strong), q), student, 0.1)
        return F.cross_entropy(student(small.batch.x), small.batch.y).item()

    before, direction = loss_of_updated(), small.estimated(1e-3, drawn)
    direction /= direction.norm()
    start = nn.utils.parameters_to_vector(small.method.teacher.parameters()).detach()
    nn.utils.vector_to_parameters(start - 0.5 * direction, small.method.teacher.parameters())
    assert loss_of_updated() < before


# values by hand


class Table(nn.Module):
    """Its logits are its parameters: an image is the number of a row."""

    def __init__(self, logits: list[list[float]]) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))

    def forward(self, x: Tensor) -> Tensor:
        return self.logits[x[:, 0, 0, 0].long()]


def images(*rows: int) -> Tensor:
    return torch.tensor(rows, dtype=torch.float32)[:, None, None, None]


def softmax(logits: list[float]) -> list[float]:
    powers = [math.exp(value) for value in logits]
    return [power / sum(powers) for power in powers]


STUDENT = [[1.0, 0.0, 0.5], [0.0, 2.0, 0.0], [0.3, 0.1, 0.0]]
TEACHER = [[0.5, 0.0, -0.5], [3.0, 0.0, 0.0], [0.2, 0.4, 0.0]]


def tables(**settings: object) -> tuple[Table, MetaPseudoLabels]:
    student = Table(STUDENT)
    method = mpl(student, **settings)
    method.teacher.load_state_dict(Table(TEACHER).state_dict())
    return student, method


def batch(*labels: int) -> Batch:
    """Row 0 is labelled, and it is row 1's strong view."""
    y = torch.tensor(labels or (0,))
    return Batch(images(*[0] * len(y)), y, images(1), images(0), torch.tensor([0]))


def test_both_losses_are_the_papers_values_by_hand(drawn: Drawn) -> None:
    student, method = tables(weight=2.0, ramp=0.2, temperature=0.5, threshold=0.6, momentum=0.9)
    method.baseline.fill_(0.25)
    drawn.labels = torch.tensor([1])
    step = method.step(student, batch(), 0.05)
    p = softmax(STUDENT[0])
    assert step.loss.item() == pytest.approx(-math.log(p[1]), rel=1e-6)
    assert drawn.p.tolist() == [pytest.approx(softmax(TEACHER[0]), rel=1e-6)]  # unsharpened

    lr = 0.4
    descend(step.loss, student, lr)
    row = [z - lr * (p[k] - (k == 1)) for k, z in enumerate(STUDENT[0])]  # toward class 1
    h = -math.log(p[0]) + math.log(softmax(row)[0])
    assert h < 0  # which is wrong
    reply = method.respond()
    assert reply is not None
    said = softmax(TEACHER[0])
    q = softmax([z / 0.5 for z in TEACHER[1]])  # its confidence is 0.91
    uda = sum(q[k] * math.log(q[k] / said[k]) for k in range(3))
    supervised, own = -math.log(said[0]), -math.log(said[1])
    expected = supervised + 2.0 * (0.05 / 0.2) * uda + (h - 0.25) * own
    assert reply.item() == pytest.approx(expected, rel=1e-5)
    assert method.baseline.item() == pytest.approx(0.9 * 0.25 + 0.1 * h, rel=1e-5)


def test_a_label_that_helps_is_made_more_probable_and_one_that_harms_less(drawn: Drawn) -> None:
    for label, sign in ((0, -1), (1, 1)):  # the labelled image is of class 0
        student, method = tables(weight=0.0)
        drawn.labels = torch.tensor([label])
        descend(method.step(student, batch(), 0.5).loss, student, 0.4)
        reply = method.respond()
        assert reply is not None
        known = F.cross_entropy(method.teacher(images(0)), torch.tensor([0]))
        feedback = gradients(reply - known, method.teacher).view(3, 3)[0]
        assert feedback[label] * sign > 1e-3


def test_consistency_rises_over_the_ramp() -> None:
    def of(progress: float) -> float:
        torch.manual_seed(0)
        student, method = tables(ramp=0.4, temperature=0.5)
        method.step(student, batch(), progress)
        reply = method.respond()  # the student has not moved: h is zero
        assert reply is not None
        return reply.item()

    assert of(0.1) - of(0.0) == pytest.approx((of(0.4) - of(0.0)) / 4, rel=1e-4)
    assert of(0.5) == pytest.approx(of(0.4), rel=1e-6)


# invariances


def test_order_of_the_unlabelled_images_does_not_matter(drawn: Drawn) -> None:
    losses = []
    for order in ([0, 1], [1, 0]):
        student, method = tables()
        drawn.labels = torch.tensor([1, 2])[order]
        weak, strong = images(1, 2)[order], images(0, 2)[order]
        some = Batch(images(0, 1), torch.tensor([0, 1]), weak, strong, torch.tensor(order))
        step = method.step(student, some, 0.5)
        descend(step.loss, student, 0.4)
        reply = method.respond()
        assert reply is not None
        losses.append((step.loss.item(), reply.item()))
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_labels_are_drawn_not_the_most_probable(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    student, method = tables()
    given: list[Tensor] = []
    draw = torch.multinomial

    def watch(p: Tensor, count: int, generator: Any) -> Tensor:
        given.append(draw(p, count))
        return given[-1]

    monkeypatch.setattr(torch, "multinomial", watch)
    many = Batch(images(0), torch.tensor([0]), images(*[1] * 3000), images(*[0] * 3000))
    method.step(student, many, 0.5)
    frequency = torch.bincount(given[0][:, 0], minlength=3) / 3000
    torch.testing.assert_close(frequency, torch.tensor(softmax(TEACHER[0])), atol=0.03, rtol=0)


# gradients


def test_each_loss_reaches_its_own_network_alone() -> None:
    student, method = tables()
    step = method.step(student, batch(), 0.5)
    step.loss.backward()
    assert student.logits.grad is not None
    assert student.logits.grad[0].abs().sum() > 0
    assert method.teacher.logits.grad is None
    student.logits.grad = None
    reply = method.respond()
    assert reply is not None
    reply.backward()
    assert student.logits.grad is None
    assert isinstance(method.teacher.logits, Tensor)
    assert method.teacher.logits.grad is not None
    size = method.teacher.logits.grad.abs().sum(1)
    assert size[0] > 0  # the labelled image, and the strong view
    assert size[1] == 0  # the weak view is a target


def test_the_feedback_reaches_the_teacher_and_h_is_a_number(drawn: Drawn) -> None:
    """Without UDA, on images apart from the labelled ones: the feedback is all there is."""
    student = nn.Sequential(nn.Flatten(), nn.Linear(4, CLASSES))
    method = mpl(student, weight=0.0)
    method.teacher.load_state_dict(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).state_dict())
    x, strong = torch.randn(2, 1, 2, 2), torch.randn(2, 1, 2, 2)
    drawn.labels = torch.tensor([0, 2])
    step = method.step(student, Batch(x, torch.tensor([0, 1]), strong, strong), 0.5)
    descend(step.loss, student, 0.5)
    reply = method.respond()
    assert reply is not None
    known = F.cross_entropy(method.teacher(x), torch.tensor([0, 1]))
    feedback = gradients(reply, method.teacher) - gradients(known, method.teacher)
    own = gradients(F.cross_entropy(method.teacher(strong), drawn.labels), method.teacher)
    assert feedback.norm() > 1e-4
    assert abs(float(torch.cosine_similarity(feedback, own, 0))) > 0.9999


def test_no_label_reaches_the_student_before_the_last_part() -> None:
    moved = []
    for y in ((0, 1, 2), (2, 0, 1)):
        torch.manual_seed(0)
        student, method = tables(tune=0.2)
        some = Batch(images(0, 1, 2), torch.tensor(y), images(1, 2), images(0, 2))
        moved.append(gradients(method.step(student, some, 0.79).loss, student))
    assert torch.equal(moved[0], moved[1])
    assert moved[0].abs().sum() > 0


def test_in_the_last_part_the_student_learns_from_the_labels_alone() -> None:
    student, method = tables(tune=0.2)
    nothing = torch.full((2, 1, 1, 1), 9.0)  # no row: it would be an error to look at these
    some = Batch(images(0, 1), torch.tensor([2, 1]), nothing, nothing)
    step = method.step(student, some, 0.8)
    expected = -(math.log(softmax(STUDENT[0])[2]) + math.log(softmax(STUDENT[1])[1])) / 2
    assert step.loss.item() == pytest.approx(expected, rel=1e-6)
    step.loss.backward()
    assert student.logits.grad is not None
    assert student.logits.grad[2].abs().sum() == 0
    assert method.respond() is None
    assert method.teacher.logits.grad is None


def test_nothing_of_a_step_before_answers_in_the_last_part() -> None:
    student, method = tables(tune=0.2)
    method.step(student, batch(), 0.5)  # whose response nobody asked for
    method.step(student, batch(), 0.9)
    assert method.respond() is None


# what is left behind


def noisy() -> nn.Sequential:
    layers = (nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.BatchNorm2d(4), nn.Dropout(0.5))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(4 * 4, CLASSES))


def pixels(count: int) -> Tensor:
    return torch.randn(count, 3, 2, 2)


def buffers(net: nn.Module) -> Iterator[Tensor]:
    return (buffer.clone() for buffer in net.buffers())


def test_measuring_changes_no_statistics_and_no_mode() -> None:
    torch.manual_seed(0)
    student = noisy().train()
    student[1].eval()  # a frozen norm
    twin = copy.deepcopy(student)
    method = mpl(student)
    modes = [module.training for module in student.modules()]
    some = Batch(pixels(4), torch.tensor([0, 1, 2, 0]), pixels(6), pixels(6), torch.arange(6))
    step = method.step(student, some, 0.5)
    twin(some.strong)  # all that the student was shown in training mode
    assert all(torch.equal(a, b) for a, b in zip(student.buffers(), twin.buffers(), strict=True))
    assert [module.training for module in student.modules()] == modes
    step.loss.backward()
    kept = list(buffers(student))
    method.respond()
    assert all(torch.equal(a, b) for a, b in zip(student.buffers(), kept, strict=True))
    assert [module.training for module in student.modules()] == modes


def test_h_is_measured_without_noise() -> None:
    """A student that has not moved has not become better, whatever dropout draws."""
    torch.manual_seed(0)
    student = noisy().train()
    method = mpl(student, momentum=0.0)  # h̄ is the last h
    some = Batch(pixels(4), torch.tensor([0, 1, 2, 0]), pixels(6), pixels(6), torch.arange(6))
    method.step(student, some, 0.5)
    method.respond()
    assert method.baseline.item() == 0.0


def test_the_teacher_is_a_network_of_its_own() -> None:
    torch.manual_seed(0)
    student = noisy()
    method = mpl(student)
    theirs = {id(p) for p in method.parameters()}
    assert theirs == {id(p) for p in method.teacher.parameters()}
    assert not theirs & {id(p) for p in student.parameters()}
    for one, two in zip(student.parameters(), method.teacher.parameters(), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("made_first", [True, False])
def test_the_teacher_trains_as_the_student_does_and_frozen_norms_stay_as_they_are(
    made_first: bool,
) -> None:
    """The teacher is made before the student's norm is frozen, or after it."""
    torch.manual_seed(0)
    student = noisy().eval()
    if made_first:
        method = mpl(student)
    student.train()
    student[1].eval()
    if not made_first:
        method = mpl(student)
        method.train()  # what a loop might do with all that learns
    before = list(buffers(method.teacher))
    some = Batch(pixels(4), torch.tensor([0, 1, 2, 0]), pixels(6), pixels(6), torch.arange(6))
    for count in (1, 2):
        descend(method.step(student, some, 0.5).loss, student, 0.1)
        method.respond()
        assert [m.training for m in method.teacher] == [m.training for m in student]
        assert [m.training for m in student] == [True, False, True, True, True, True]
        after = list(method.teacher.buffers())
        frozen, free = (0, 1, 2), (3, 4, 5)
        assert all(torch.equal(before[i], after[i]) for i in frozen)
        assert not any(torch.equal(before[i], after[i]) for i in free)
        assert after[5].item() == count  # one pass of all views a step


def test_its_state_is_the_teacher_and_the_baseline() -> None:
    torch.manual_seed(0)
    student = noisy()
    method = mpl(student, momentum=0.5)
    method.baseline.fill_(0.125)
    state = method.state_dict()
    assert "baseline" in state
    assert {f"teacher.{name}" for name in student.state_dict()} < state.keys()
    assert not any("student" in name or "average" in name for name in state)
    other = mpl(noisy())
    other.load_state_dict(state)
    assert other.baseline.item() == 0.125
    mine, theirs = method.teacher.state_dict(), other.teacher.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in mine.items())
