"""The artefact: everything that prediction needs and nothing else; safetensors and JSON, no pickle.

artefact/weights.safetensors   the model's state dictionary
artefact/classifier.json       model, classes, preprocessing, test-time augmentation, temperature,
                               threshold of unknown images; the task, where it is another than one
                               class an image, and mean and deviation of labels that are numbers
artefact/familiar.safetensors  what known images look like to it, where there is such a threshold
"""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from fewlabels.deploy.classifier import Classifier
from fewlabels.errors import UserError, one_line
from fewlabels.evaluate.outputs import Outputs
from fewlabels.evaluate.unknown import Detector, Familiar
from fewlabels.models import catalog
from fewlabels.models.built import Built, restore
from fewlabels.pixels.preprocess import Preprocess
from fewlabels.procedures.config import LAYOUTS
from fewlabels.training import checkpoint
from fewlabels.training.checkpoint import ABOUT, WEIGHTS
from fewlabels.training.folder import RunFolder

FAMILIAR = "familiar.safetensors"


@dataclass(frozen=True)
class Saved:
    """What a run or an artefact holds: the model with its weights, and what prediction needs."""

    built: Built
    classes: tuple[str, ...]
    preprocess: Preprocess
    tta: str
    temperature: float = 1.0
    detector: Detector | None = None  # of unknown images
    memory_format: torch.memory_format = torch.channels_last
    outputs: Outputs = field(default_factory=Outputs)


def write(folder: RunFolder, temperature: float = 1.0, detector: Detector | None = None) -> Path:
    """Makes the artefact of the best model so far."""
    best = _best(folder)
    about = best["about"] | {"temperature": temperature, "unknown": None}
    if detector is not None:
        about["unknown"] = {"threshold": detector.threshold, "map": detector.path}
        arrays = {name: torch.from_numpy(of) for name, of in vars(detector.familiar).items()}
        folder.artefact.mkdir(exist_ok=True)
        (folder.artefact / ABOUT).unlink(missing_ok=True)  # it comes last and makes all whole
        save_file(arrays, folder.artefact / FAMILIAR)
    checkpoint.write_weights(folder.artefact, about, best["weights"])
    return folder.artefact


def load(run: Path, device: str = "cpu") -> Classifier:
    """The classifier of a run folder or of an artefact that was copied out of one, as `read`."""
    saved = read(run)
    return Classifier(
        *(saved.built.model, saved.classes, saved.preprocess, device),
        *(saved.tta, saved.temperature, saved.detector, saved.memory_format),
        outputs=saved.outputs,
    )


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
        saved = _saved(about, load_file(place / WEIGHTS))
        return replace(saved, detector=_detector(about, place))
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
    outputs, arguments = Outputs.from_json(about), about.get("arguments")
    width = len(about["classes"]) or len(outputs.mean)
    built = catalog.build(about["model"], width, "none", arguments)
    restore(built.model, weights)
    preprocess = Preprocess.from_json(about["preprocess"])
    temperature = about.get("temperature", 1.0)  # an unfinished run has none yet
    saved = Saved(built, tuple(about["classes"]), preprocess, about["tta"], temperature)
    layout = LAYOUTS.get(about.get("layout", ""), torch.channels_last)
    return replace(saved, memory_format=layout, outputs=outputs)


def _detector(about: dict[str, Any], place: Path) -> Detector | None:
    if not (unknown := about.get("unknown")):
        return None
    arrays = {name: of.numpy() for name, of in load_file(place / FAMILIAR).items()}
    return Detector(Familiar(**arrays), unknown["map"], unknown["threshold"])
