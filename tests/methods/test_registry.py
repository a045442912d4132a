"""What all methods share: their entry, their settings, their errors, their steps."""

import copy
import dataclasses

import pytest
import torch
from torch import nn

from fewlabels.errors import UserError
from fewlabels.methods import METHODS, Batch, Facts, Method, Networks, create, resolve

SIZE, U = 8, 8
FACTS = Facts(4, label_counts=(3, 3, 3, 3), num_images=40, num_unlabelled=40)


def net(classes: int = 4) -> nn.Module:
    layers = (nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, classes))


def networks(student: nn.Module) -> Networks:
    average = copy.deepcopy(student).eval().requires_grad_(False)
    return Networks(student, average, SIZE, (net().eval(),))


def begun(name: str, around: Networks) -> Method:
    method = create(name, FACTS, resolve(name, {}))
    method.begin(around)
    return method


def batch_of(y: torch.Tensor) -> Batch:
    x = torch.randn(len(y), 3, SIZE, SIZE)
    weak, strong, other = (torch.randn(U, 3, SIZE, SIZE) for _ in range(3))
    return Batch(x, y, weak, strong, torch.arange(U), other, torch.randn(U, 4).softmax(1))


LABELS = torch.tensor([0, 1, 2, 3, 0, 1])


def test_an_unknown_setting_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"'threshold' has no effect in the method supervised"):
        resolve("supervised", {"threshold": 0.9})


def test_an_unknown_method_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"'fixmach'.*fixmatch"):
        resolve("fixmach", {})


@pytest.mark.parametrize("name", METHODS)
def test_settings_are_frozen(name: str) -> None:
    settings = resolve(name, {})
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(settings, dataclasses.fields(settings)[0].name, 1)


@pytest.mark.parametrize("name", METHODS)
def test_settings_out_of_range_are_an_error(name: str) -> None:
    for about in dataclasses.fields(METHODS[name].settings):
        if isinstance(about.default, float | int) and not isinstance(about.default, bool):
            with pytest.raises(UserError, match=about.name):
                resolve(name, {about.name: -1})


@pytest.mark.parametrize("name", METHODS)
def test_a_task_without_meaning_is_an_error_that_names_fitting_methods(name: str) -> None:
    for task in ("single", "multi", "regression"):
        facts = dataclasses.replace(FACTS, task=task)
        if task in METHODS[name].method.tasks:
            assert create(name, facts, resolve(name, {})).facts.task == task
        else:
            with pytest.raises(UserError, match=f"no meaning for the task {task}; take supervised"):
                create(name, facts, resolve(name, {}))


@pytest.mark.parametrize("name", METHODS)
def test_one_step_changes_the_student_and_gives_labelled_logits(name: str) -> None:
    torch.manual_seed(0)
    student = net()
    method = begun(name, networks(student))
    step = method.step(student, batch_of(LABELS), 0.5)
    assert step.logits.shape == (6, 4)
    assert step.loss.shape == ()
    step.loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in student.parameters())
    assert all(not value.requires_grad for value in step.logs.values())
    assert all(value.shape == () for value in step.logs.values())


@pytest.mark.parametrize("name", METHODS)
def test_every_parameter_of_its_own_learns_from_a_step_and_its_response(name: str) -> None:
    """Half-way; in the first part where that is all that a task has."""
    torch.manual_seed(0)
    student = net()
    method = begun(name, networks(student))
    progress = 0.0 if getattr(resolve(name, {}), "alone", 0.0) else 0.5
    method.step(student, batch_of(LABELS), progress).loss.backward()
    student.zero_grad()
    reply = method.respond()
    if reply is not None:
        reply.backward()
        assert all(p.grad is None for p in student.parameters())
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in method.parameters())


@pytest.mark.parametrize("name", METHODS)
def test_the_networks_of_others_are_no_state_of_its_own(name: str) -> None:
    """Else they would be saved twice, or trained."""
    student = net()
    method = begun(name, networks(student))
    own = {id(p) for p in [*method.parameters(), *method.buffers()]}
    assert not own & {id(p) for p in [*student.parameters(), *student.buffers()]}
    if name != "meta_pseudo_labels":  # whose teacher is a net like the student
        shapes = {tuple(p.shape) for p in method.parameters()}
        assert (8, 3, 3, 3) not in shapes


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("progress", [0.25, 0.5])
def test_state_that_is_loaded_gives_the_same_next_step(name: str, progress: float) -> None:
    torch.manual_seed(0)
    student = net()
    around, batches = networks(student), [batch_of(LABELS) for _ in range(3)]
    method = begun(name, around)
    for some in batches[:2]:
        method.step(student, some, progress)
        method.respond()
    twin, other = copy.deepcopy(student), begun(name, around)
    other.load_state_dict(method.state_dict())
    losses = []
    for each in (method, other):
        student.load_state_dict(twin.state_dict())
        torch.manual_seed(1)
        step = each.step(student, batches[2], progress)
        reply = each.respond()
        losses.append((step.loss.item(), 0.0 if reply is None else reply.item()))
    assert losses[0] == losses[1]


@pytest.mark.parametrize("name", METHODS)
def test_the_views_that_it_asks_for_are_all_that_it_looks_at(name: str) -> None:
    torch.manual_seed(0)
    student = net()
    method = begun(name, networks(student))
    full = batch_of(LABELS)
    views = method.views.unlabelled
    assert set(views) <= {"weak", "strong", "other"}
    assert bool(views) == bool(method.views.ratio)
    assert method.views.labelled in ("weak", "strong")
    asked = {view: getattr(full, view) for view in views}
    index = full.index if views else None
    for progress in (0.25, 0.5):
        given = full.given if method.views.given else None
        some = Batch(full.x, full.y, index=index, given=given, **asked)
        step = method.step(student, some, progress)
        assert torch.isfinite(step.loss)
