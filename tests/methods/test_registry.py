"""What all methods share: their entry, their settings, their errors."""

import dataclasses

import pytest
import torch
from torch import nn

from fewlabels.errors import UserError
from fewlabels.methods import METHODS, Batch, Facts, create, resolve

FACTS = Facts(num_classes=4, label_counts=(3, 3, 3, 3), num_images=40)


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
def test_one_step_changes_the_student_and_gives_labelled_logits(name: str) -> None:
    torch.manual_seed(0)
    method = create(name, FACTS, resolve(name, {}))
    student = nn.Sequential(nn.Flatten(), nn.Linear(12, 4))
    x, y = torch.randn(6, 3, 2, 2), torch.tensor([0, 1, 2, 3, 0, 1])
    u = 6 * method.views.ratio
    views = (torch.randn(u, 3, 2, 2), torch.randn(u, 3, 2, 2), torch.arange(u)) if u else ()
    step = method.step(student, Batch(x, y, *views), 0.5)
    assert step.logits.shape == (6, 4)
    assert step.loss.shape == ()
    step.loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in student.parameters())
    assert all(not value.requires_grad for value in step.logs.values())
