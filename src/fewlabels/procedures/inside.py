"""A run inside a run: a folder within its folder, of the same images, with a model of its own."""

import zlib
from dataclasses import replace
from typing import Any

import torch

from fewlabels.models import catalog
from fewlabels.procedures.config import INSIDE
from fewlabels.procedures.stage import Context
from fewlabels.procedures.start import ready
from fewlabels.training.folder import RunFolder


def inside(context: Context, name: str, **settings: Any) -> Context:
    """The context of a run in `<run>/<name>`, with these settings in the place of the run's own.

    Its model begins anew, from other random weights than the run's; a pretrained one from those it
    came with. UserError where the model cannot be built, or has no place for what is set.
    """
    config = replace(context.config, **settings)
    classes, size = len(context.data.pool.classes), config.img_size or 0
    own = config.model == context.config.model
    weights = config.weights if own or config.weights == "none" else "auto"
    torch.manual_seed(zlib.crc32(f"{config.seed} {name}".encode()))
    built = catalog.build(config.model, classes, weights)
    if built.weights == "none" and config.weights != "none":
        config = config.untuned()
        context.events.say(built.note or f"{config.model} starts from random weights")
    built = ready(built, config.model, size, classes, config)
    folder = RunFolder(context.folder.path / name)
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.write_config(config.to_dict() | {INSIDE: str(context.folder.path)})
    folder.write_json("classes.json", list(context.data.pool.classes))
    events = context.events.inside(folder)
    preprocess = replace(context.preprocess, size=size)
    if built.mean and built.std:
        preprocess = replace(preprocess, mean=built.mean, std=built.std)
    within = replace(context, config=config, start=built, folder=folder, events=events)
    return within.asked_as(preprocess)
