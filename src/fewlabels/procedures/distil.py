"""Distillation from earlier runs: a smaller student, and what it kept of them.

The student learns from the teachers' mean on the labelled and the unlabelled images, and from the
labels, beside a student that learns from these alone. With `alpha` 0 no label is looked at: any
images do, and there is no such student beside it.
"""

import time
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from fewlabels.evaluate.intervals import accuracy, gain
from fewlabels.models.structure import blank_pass
from fewlabels.pixels.preprocess import Preprocess
from fewlabels.procedures import named
from fewlabels.procedures.chosen import Chosen, keep
from fewlabels.procedures.earlier import ensemble
from fewlabels.procedures.labels_only import BASELINE_SHARE, begin, learn
from fewlabels.procedures.stage import Context, Stage, run_stage
from fewlabels.procedures.verdict import difference

METHOD = "distill"
BATCH, SECONDS = 64, 0.5  # images at a time, and how long, of a measured speed


def run(context: Context) -> Chosen:
    """Trains, and only then looks at the test images."""
    if not context.earlier:
        return named.run(context)  # of the labels-only model: then nothing is smaller
    teachers = tuple(
        run.member(context.preprocess, context.data.pool.classes).to(context.fabric.device)
        for run in context.earlier
    )
    stage = Stage(METHOD, METHOD, False, 1.0, context.moment(1.0))
    if context.own_settings.alpha:
        begun = begin(context, BASELINE_SHARE, guarded=True)
        student = learn(begun.context, stage, None, teachers)
        chosen = begun.finish(METHOD, (student,), f"{METHOD}, as asked")
    else:
        # not `learn`: the linear probe that it begins with would look at the labels
        student = run_stage(context, stage, None, teachers)
        keep(context, METHOD, student)
        said = context.probabilities(context.model(student.weights), context.data.test)
        val = {METHOD: student.val} if len(student.val) else {}
        why = f"{METHOD} without labels, as asked"
        chosen = Chosen(context, METHOD, (student,), (), val, {METHOD: said}, why)
    found = kept(chosen)
    return replace(chosen, more={"kept": found}, verdict=verdict(found))


def kept(chosen: Chosen) -> dict[str, Any]:
    """Accuracy on the test images, size and speed of the teachers, as the ensemble that they are,
    and of the student."""
    context = chosen.context
    whole = ensemble(context.earlier, context.data.pool.classes)
    assert whole.size is not None
    assert whole.mean is not None
    assert whole.std is not None
    seen = Preprocess(whole.size, whole.mean, whole.std)
    teacher = whole.model.to(context.fabric.device)
    student = context.model(chosen.final.weights)
    sides = [(teacher, seen.size), (student, context.preprocess.size)]
    rates = speeds(sides, context.fabric.device)
    told: dict[str, Any] = {
        "teacher": about(teacher, rates[0])
        | {
            "runs": [run.name for run in context.earlier],
            "model": " + ".join(run.built.architecture for run in context.earlier),
        },
        "student": about(student, rates[1]) | {"model": context.config.model},
    }
    if len(context.data.test):
        label = context.data.pool.label[context.data.test]
        theirs = context.asked_as(seen).probabilities(teacher, context.data.test).argmax(1)
        own = chosen.test[METHOD].argmax(1)
        group = context.data.pool.group
        group = None if group is None else group[context.data.test]
        told["teacher"]["test"] = accuracy(theirs == label, group)
        told["student"]["test"] = accuracy(own == label, group)
        told["difference"] = gain(own == label, theirs == label, group)
        told["agreement"] = round(float((theirs == own).mean()), 4)
    return told


def verdict(kept: dict[str, Any]) -> str:
    """What the student kept, in one or two sentences."""
    teacher, student = kept["teacher"], kept["student"]
    times = teacher["parameters"] / student["parameters"]
    fewer = f"{times:.3g} times fewer" if times > 1 else f"{1 / times:.3g} times as many"
    faster = student["images_per_second"] / teacher["images_per_second"]
    size = f"It has {fewer} weights and is {faster:.3g} times as fast."
    if "difference" not in kept:
        return f"{size} Without test images it cannot be said what it kept."
    return (
        f"The student has {100 * student['test']['accuracy']:.1f} % right, what taught it "
        f"{100 * teacher['test']['accuracy']:.1f} %: {difference(kept['difference'])}, on "
        f"{kept['difference']['n']:,} test images. {size}"
    )


def about(model: nn.Module, rate: float) -> dict[str, Any]:
    """Size, in 32-bit floats, and speed."""
    weights = sum(parameter.numel() for parameter in model.parameters())
    return {
        "parameters": weights,
        "megabytes": round(4 * weights / 1e6, 2),
        "images_per_second": round(rate, 1),
    }


def speeds(models: list[tuple[nn.Module, int]], device: torch.device) -> list[float]:
    """Images a second of each model at its side in pixels, turn by turn, so that what else the
    machine does slows all of them; a slow one has fewer turns."""
    images, seconds = [0] * len(models), [0.0] * len(models)
    while min(seconds) < SECONDS:
        for i, (model, side) in enumerate(models):
            if seconds[i] >= SECONDS:
                continue
            x = torch.zeros(BATCH, 3, side, side, device=device)
            with blank_pass(model):
                if not images[i]:
                    model(x)  # the first pass pays for set-up
                start = time.monotonic()
                model(x)
                if device.type == "cuda":
                    torch.cuda.synchronize(device)
            seconds[i] += time.monotonic() - start
            images[i] += BATCH
    return [count / spent for count, spent in zip(images, seconds, strict=True)]
