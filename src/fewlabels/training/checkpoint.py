"""Checkpoints: a folder of `tensors.safetensors` and `state.json`, put down atomically.

No pickle: a checkpoint can be opened from anyone. State is a nested dictionary of tensors, numbers,
strings, lists and None; tensors go to one file under their path, the rest to the other.
"""

import json
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from fewlabels.errors import UserError, one_line
from fewlabels.training.folder import sync, write_text

WEIGHTS, ABOUT = "weights.safetensors", "classifier.json"


def save(folder: Path, state: dict[str, Any]) -> None:
    """Writes `state` as `folder`; at every moment either the old or the new one can be loaded.

    UserError where it cannot be written (a full disk, a read-only folder): the older one stays.
    """
    tensors: dict[str, torch.Tensor] = {}
    rest = _split(state, "", tensors)
    fresh, old = folder.with_name(f".{folder.name}-new"), _aside(folder)
    try:
        shutil.rmtree(fresh, ignore_errors=True)  # what a kill has left half written
        fresh.mkdir(parents=True)
        save_file(tensors, fresh / "tensors.safetensors")
        (fresh / "state.json").write_text(json.dumps(rest))
        for path in (*fresh.iterdir(), fresh):
            sync(path)
        if folder.exists():  # else the older one is all there is: a kill came between the renames
            if old.exists() and not _whole(folder):
                shutil.rmtree(folder)  # `load` has fallen back to the older one: that stays
            else:
                shutil.rmtree(old, ignore_errors=True)
                os.replace(folder, old)
        os.replace(fresh, folder)
        sync(folder.parent)  # the names too are down before the older one goes
    except (OSError, SafetensorError) as error:
        if not folder.exists() and old.exists():
            with suppress(OSError):
                os.replace(old, folder)
        shutil.rmtree(fresh, ignore_errors=True)
        why = getattr(error, "strerror", None) or one_line(error)
        kept = "; the one before it is kept" if folder.exists() else ""
        then = " and resume" if kept else ""
        raise UserError(
            f"{folder}: the checkpoint cannot be written ({why}){kept}: make room, or the folder "
            f"writable{then}"
        ) from error
    shutil.rmtree(old, ignore_errors=True)


def load(folder: Path) -> dict[str, Any] | None:
    """The state last saved as `folder`, on the CPU; None where there is none.

    UserError where what is there is damaged and no older one lies beside it.
    """
    broken: Exception | None = None
    # a kill between the two renames of `save` leaves the older one under its other name
    for place in (folder, _aside(folder)):
        if not place.exists():
            continue
        try:
            tensors = load_file(place / "tensors.safetensors")
            state: dict[str, Any] = _join(json.loads((place / "state.json").read_text()), tensors)
            return state
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            broken = broken or error
    if broken is not None:
        raise UserError(
            f"{folder}: the checkpoint is damaged ({one_line(broken)}); remove this folder to do "
            "its part of the run anew"
        ) from broken
    return None


def _whole(folder: Path) -> bool:
    try:
        load_file(folder / "tensors.safetensors")
        json.loads((folder / "state.json").read_text())
        return True
    except (OSError, ValueError, SafetensorError):
        return False


def write_weights(folder: Path, about: dict[str, Any], weights: dict[str, torch.Tensor]) -> None:
    """A model's state, and what it takes to build it. The JSON, written last, makes it whole."""
    folder.mkdir(exist_ok=True)
    (folder / ABOUT).unlink(missing_ok=True)
    plain = {name: value.cpu().contiguous() for name, value in weights.items()}
    save_file(plain, folder / WEIGHTS)
    sync(folder / WEIGHTS)
    write_text(folder / ABOUT, json.dumps(about, indent=2, ensure_ascii=False) + "\n")


def _aside(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}-old")


def _split(value: Any, path: str, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(value, torch.Tensor):
        tensors[path] = value.detach().cpu().contiguous().clone()
        return {"__tensor__": path}
    if isinstance(value, dict):
        items = [[key, _split(item, f"{path}/{key}", tensors)] for key, item in value.items()]
        return {"__dict__": items}  # pairs: an optimiser's state has numbers for keys
    if isinstance(value, list | tuple):
        return [_split(item, f"{path}/{i}", tensors) for i, item in enumerate(value)]
    return value


def _join(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(value, dict):
        if "__tensor__" in value:
            return tensors[value["__tensor__"]]
        return {key: _join(item, tensors) for key, item in value["__dict__"]}
    if isinstance(value, list):
        return [_join(item, tensors) for item in value]
    return value
