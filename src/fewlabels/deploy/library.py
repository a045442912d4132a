"""A run's model in the words of the library that builds it, timm or torchvision: saved for it, and
built by it from what was saved."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import nn

from fewlabels.deploy.artefact import Saved
from fewlabels.errors import UserError
from fewlabels.models.built import head
from fewlabels.models.from_torchvision import INCEPTION
from fewlabels.torchvision_repair import repair
from fewlabels.training.folder import write_text

WEIGHTS, CONFIG, ABOUT = "model.safetensors", "config.json", "about.json"
BLOCKS = ("se", "deformable")  # that we put in


@dataclass(frozen=True)
class Foreign:
    """`whole` tells whether its head is one of the library's and goes with it."""

    library: str
    name: str
    arguments: dict[str, Any]  # of the library, beside the name
    saved: Saved
    whole: bool


def foreign(saved: Saved, run: Path) -> Foreign:
    """UserError for a model that no library but this one builds."""
    arguments = dict(saved.built.arguments)
    library, _, name = saved.built.architecture.partition(":")
    instead = f"use fewlabels.load('{run}').features"
    if library not in ("timm", "torchvision"):
        raise UserError(
            f"{run}: its model is {library}, which is ours and which neither timm nor torchvision "
            f"builds; {instead}, or train with another --model"
        )
    if block := next((key for key in BLOCKS if key in arguments), None):
        raise UserError(
            f"{run}: its model is {name} with {block}={arguments[block]}, blocks that {library} "
            f"cannot build; {instead}, or train without them"
        )
    whole = "neighbours" not in arguments
    for key in ("size", "nearest", "neighbours"):  # not the library's
        arguments.pop(key, None)
    if library == "torchvision" and name in INCEPTION:
        arguments["init_weights"] = False  # without the argument it warns
    return Foreign(library, name, arguments, saved, whole)


def save(model: Foreign, folder: Path) -> list[str]:
    """Writes weights and what tells how they are used; returns the files' names."""
    if model.library == "timm":
        _save_for_timm(model, folder)
        return [WEIGHTS, CONFIG]
    own = model.saved.built.model
    state, left_out = own.state_dict(), "" if model.whole else f"{head(own)[0]}."
    if left_out:
        state = {name: value for name, value in state.items() if not name.startswith(left_out)}
    save_file(state, folder / WEIGHTS)
    about = {
        "library": model.library,
        "architecture": model.name,
        "arguments": model.arguments,
        "classes": list(model.saved.classes),
        "preprocess": model.saved.preprocess.to_json(),
    }
    write_text(folder / ABOUT, json.dumps(about, indent=2, ensure_ascii=False) + "\n")
    return [WEIGHTS, ABOUT]


def load(model: Foreign, folder: Path) -> nn.Module:
    """What the library makes of the files that `save` wrote."""
    repair()
    found: nn.Module
    if model.library == "timm":
        import timm

        found = timm.create_model(f"local-dir:{folder.absolute()}", pretrained=True)
        return found.eval()
    from torchvision.models import get_model

    found = get_model(model.name, num_classes=len(model.saved.classes), **model.arguments)
    found.load_state_dict(load_file(folder / WEIGHTS), strict=model.whole)
    return found.eval()


def _save_for_timm(model: Foreign, folder: Path) -> None:
    repair()
    from timm.models import save_for_hf

    preprocess, own = model.saved.preprocess, model.saved.built.model
    if not model.whole:
        own.reset_classifier(0)  # type: ignore[operator]
    side = (3, preprocess.size, preprocess.size)
    about = {
        "tag": "fewlabels",
        "input_size": side,
        "test_input_size": None,  # timm's, for its own weights
        "mean": preprocess.mean,
        "std": preprocess.std,
        # the whole image with a border, as `pixels.decode.to_square` has it
        "crop_mode": "border",
        "crop_pct": 1.0,
        "interpolation": "bilinear",
    }
    more = {"label_names": list(model.saved.classes), "pretrained_cfg": about}
    save_for_hf(own, folder, model_config=more, model_args=model.arguments, safe_serialization=True)
