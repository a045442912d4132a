"""The artefact: everything that prediction needs and nothing else; safetensors and JSON, no pickle.

artefact/weights.safetensors   the model's state dictionary
artefact/classifier.json       model, classes, preprocessing, test-time augmentation
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from fewlabels.deploy.classifier import Classifier
from fewlabels.errors import UserError, one_line
from fewlabels.models import catalog
from fewlabels.models.built import Built, restore
from fewlabels.pixels.preprocess import Preprocess
from fewlabels.training import checkpoint
from fewlabels.training.checkpoint import ABOUT, WEIGHTS
from fewlabels.training.folder import RunFolder


@dataclass(frozen=True)
class Saved:
    """What a run or an artefact holds: the model with its weights, and what prediction needs."""

    built: Built
    classes: tuple[str, ...]
    preprocess: Preprocess
    tta: str


def write(folder: RunFolder) -> Path:
    """Makes the artefact of the best model so far."""
    best = _best(folder)
    checkpoint.write_weights(folder.artefact, best["about"], best["weights"])
    return folder.artefact


def load(run: Path, device: str = "cpu") -> Classifier:
    """The classifier of a run folder or of an artefact that was copied out of one, as `read`."""
    saved = read(run)
    return Classifier(saved.built.model, saved.classes, saved.preprocess, device, saved.tta)


def read(run: Path) -> Saved:
    """What a run folder holds, or an artefact that was copied out of one.

    A run that is not finished gives the best model that it has so far. UserError when there is
    none, or when it is damaged.
    """
    if not run.is_dir():
        raise UserError(f"{run}: no such run folder")
    for place in (run / "artefact", run):
        if (place / ABOUT).is_file():
            break
    else:
        best = _best(RunFolder.open(run))
        return _saved(best["about"], best["weights"])
    try:
        about = json.loads((place / ABOUT).read_text(encoding="utf-8"))
        return _saved(about, load_file(place / WEIGHTS))
    except UserError:
        raise
    except Exception as error:  # broken JSON, absent or torn weights, weights of another model
        reason = one_line(error)
        raise UserError(f"{place}: is damaged ({reason}); copy it anew or train again") from error


def pretrained(name: str, device: str = "cpu") -> Classifier:
    """A model of timm or torchvision as its weights came, with their classes and preprocessing.

    UserError where there are no weights, or where nothing tells what their classes are called.
    """
    built = catalog.build(name, None)
    if not built.mean or not built.std or not built.size:
        raise UserError(built.note or f"{name}: has no pretrained weights")
    if not built.classes:
        raise UserError(f"{name}: nothing tells the names of its classes")
    preprocess = Preprocess(built.size, built.mean, built.std)
    return Classifier(built.model, built.classes, preprocess, device)


def _best(folder: RunFolder) -> dict[str, Any]:
    best = checkpoint.load(folder.best)
    if best is None:
        raise UserError(
            f"{folder.path}: holds no finished model yet; go on with: "
            f"fewlabels train --resume {folder.path}"
        )
    return best


def _saved(about: dict[str, Any], weights: dict[str, Any]) -> Saved:
    built = catalog.build(about["model"], len(about["classes"]), "none", about.get("arguments"))
    restore(built.model, weights)
    preprocess = Preprocess.from_json(about["preprocess"])
    return Saved(built, tuple(about["classes"]), preprocess, about["tta"])
