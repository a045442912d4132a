"""Weights of the user's own: safetensors, or a .pth that holds tensors and nothing else; a file, a
folder that holds one, or a run."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fewlabels.errors import UserError, one_line
from fewlabels.models.built import blank_head, head, restore

FILES = ("artefact/weights.safetensors", "weights.safetensors", "model.safetensors")


@dataclass(frozen=True)
class Origin:
    """What is known of a run's weights beside their values."""

    model: str
    arguments: dict[str, Any]
    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def origin(path: Path) -> Origin | None:
    """What the run that left these weights says of them; None where no run did."""
    about = _file(path).with_name("classifier.json")
    if not path.is_dir() or not about.is_file():
        return None
    try:
        told = json.loads(about.read_text(encoding="utf-8"))
        seen, own = told["preprocess"], told["arguments"]
        return Origin(told["model"], own, seen["size"], tuple(seen["mean"]), tuple(seen["std"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"--weights {path}: {about.name} is damaged ({one_line(error)})") from error


def load(model: nn.Module, path: Path) -> str:
    """Loads a state dictionary; returns a line when the head was left out.

    Everything but the head must fit. UserError says what does not.
    """
    state = _state(path)
    own = model.state_dict()
    fitting = {k: v for k, v in state.items() if k in own and own[k].shape == v.shape}
    missing = [name for name in own if name not in fitting]
    head_path = head(model)[0] + "."
    wrong = [name for name in missing if not name.startswith(head_path)]
    if wrong:
        raise UserError(f"--weights {path}: is of another model: it has no fitting '{wrong[0]}'")
    restore(model, fitting, strict=False)
    if missing:
        blank_head(model)
    return f"the head of {path} has other classes and starts anew" if missing else ""


def _file(path: Path) -> Path:
    """The file itself, also where a folder is named."""
    path = path.expanduser()
    return next((path / name for name in FILES if (path / name).is_file()), path)


def _state(path: Path) -> dict[str, Tensor]:
    if path.is_dir() and _file(path).is_dir():
        raise UserError(f"--weights {path}: holds none of {', '.join(FILES)}")
    path = _file(path)
    if not path.is_file():
        raise UserError(f"--weights {path}: no such file")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state: Any = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        if "Unsupported global" in str(error):
            raise UserError(
                f"--weights {path}: is a pickle that could run code; save the state dictionary as "
                ".safetensors"
            ) from error
        raise UserError(f"--weights {path}: cannot be read: {one_line(error)}") from error
    for wrapper in ("state_dict", "model"):  # as training scripts save it
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise UserError(f"--weights {path}: holds no state dictionary of tensors")
    return {name.removeprefix("module."): value for name, value in state.items()}
