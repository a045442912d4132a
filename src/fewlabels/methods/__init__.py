"""The methods: one training step each, one file each."""

from dataclasses import dataclass, fields
from typing import Any

from fewlabels.errors import UserError
from fewlabels.methods import (
    distill,
    fixmatch,
    flexmatch,
    freematch,
    masked,
    mean_teacher,
    meta_pseudo_labels,
    noisy_student,
    pseudo_label,
    restoration,
    rotation,
    self_train,
    simclr,
    softmatch,
    supervised,
    uda,
)
from fewlabels.methods.method import Batch, Facts, Method, Networks, Step, Views
from fewlabels.settings import make

__all__ = ["METHODS", "Batch", "Facts", "Method", "Networks", "Step", "Views", "create", "resolve"]


@dataclass(frozen=True)
class Entry:
    """A method and the settings it takes."""

    method: type[Any]
    settings: type[Any]


METHODS: dict[str, Entry] = {
    "supervised": Entry(supervised.Supervised, supervised.Settings),
    "pseudo_label": Entry(pseudo_label.PseudoLabel, pseudo_label.Settings),
    "mean_teacher": Entry(mean_teacher.MeanTeacher, mean_teacher.Settings),
    "uda": Entry(uda.UDA, uda.Settings),
    "fixmatch": Entry(fixmatch.FixMatch, fixmatch.Settings),
    "flexmatch": Entry(flexmatch.FlexMatch, flexmatch.Settings),
    "freematch": Entry(freematch.FreeMatch, freematch.Settings),
    "softmatch": Entry(softmatch.SoftMatch, softmatch.Settings),
    "distill": Entry(distill.Distill, distill.Settings),
    "meta_pseudo_labels": Entry(meta_pseudo_labels.MetaPseudoLabels, meta_pseudo_labels.Settings),
    "self_train": Entry(self_train.SelfTrain, self_train.Settings),
    "noisy_student": Entry(noisy_student.NoisyStudent, noisy_student.Settings),
    "rotation": Entry(rotation.Rotation, rotation.Settings),
    "simclr": Entry(simclr.SimCLR, simclr.Settings),
    "masked": Entry(masked.Masked, masked.Settings),
    "restoration": Entry(restoration.Restoration, restoration.Settings),
}


def resolve(name: str, settings: dict[str, Any]) -> Any:
    """The method's own Settings with these values; UserError for what it does not know."""
    if name not in METHODS:
        raise UserError(f"no method is named '{name}'; there are auto, {', '.join(METHODS)}")
    known = {field.name: field.type for field in fields(METHODS[name].settings)}
    for key in settings:
        if key not in known:
            raise UserError(
                f"setting '{key}' has no effect in the method {name}; it takes {', '.join(known)}"
            )
    return make(METHODS[name].settings, settings, f"method {name}")


def create(name: str, facts: Facts, settings: Any) -> Method:
    """The method with its state at the beginning. UserError where the task gives it no meaning."""
    kind = METHODS[name].method
    if facts.task not in kind.tasks:
        fitting = ", ".join(other for other, e in METHODS.items() if facts.task in e.method.tasks)
        raise UserError(f"method {name}: has no meaning for the task {facts.task}; take {fitting}")
    method: Method = kind(facts, settings)
    return method
