"""Weights from a file of the user's: safetensors, or a .pth that holds tensors and nothing else."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fewlabels.errors import UserError, one_line
from fewlabels.models.built import head


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
    model.load_state_dict(fitting, strict=False)
    return f"the head of {path} has other classes and starts anew" if missing else ""


def _state(path: Path) -> dict[str, Tensor]:
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
