"""The one place where the name of a model becomes a model.

A bare name is looked for among ours, then torchvision's, then timm's; `torchvision:` and `timm:`
say which. `hf-hub:<id>` and `local-dir:<folder>` are timm's, with weights of one's own.
torch is slow to import and torchvision and timm more so: each is imported when a name needs it.
"""

import difflib
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from torch import nn

from fewlabels.errors import UserError
from fewlabels.models.cnn_small import CnnSmall
from fewlabels.models.lenet5 import LeNet5
from fewlabels.models.torchvision_repair import repair

OURS: dict[str, Callable[[int], nn.Module]] = {"cnn_small": CnnSmall, "lenet5": LeNet5}
TIMM_PREFIXES = ("timm:", "hf-hub:", "local-dir:")


@dataclass(frozen=True)
class Built:
    """A model for the classes at hand, and the input it was made for (None: any)."""

    model: nn.Module
    size: int | None = None  # side in pixels
    mean: tuple[float, float, float] | None = None  # in units of 0..1
    std: tuple[float, float, float] | None = None
    weights: str = "none"  # where the weights came from
    note: str = ""  # one line for the user, when something is not as asked


def build(name: str, num_classes: int, weights: str = "auto") -> Built:
    """The model `name` with a new head for `num_classes`.

    weights: `auto` takes pretrained ones where they are at hand or can be fetched and says so in
    `note` where not; `none` starts from random ones; a path loads a .safetensors or .pth state
    dictionary, its head left out when it has other classes. UserError for an unknown name.
    """
    source, bare = _resolve(name)
    pretrained = weights == "auto"
    if source == "ours":
        built = Built(OURS[bare](num_classes))
    elif source == "torchvision":
        built = _torchvision(bare, num_classes, pretrained)
    else:
        built = _timm(name.removeprefix("timm:"), num_classes, pretrained)
    if weights in ("auto", "none"):
        return built
    note = _load_file(built.model, Path(weights))
    return Built(built.model, built.size, built.mean, built.std, str(Path(weights)), note)


def _resolve(name: str) -> tuple[str, str]:
    """(ours | torchvision | timm, the name there)."""
    if name in OURS:
        return "ours", name
    if name.startswith(TIMM_PREFIXES):
        return "timm", name
    repair()
    import timm
    import torchvision.models

    bare = name.removeprefix("torchvision:")
    known = torchvision.models.list_models(torchvision.models)  # classifiers, not detectors
    if bare in known:
        return "torchvision", bare
    if name == bare and timm.is_model(name):
        return "timm", name
    near = difflib.get_close_matches(bare, [*OURS, *known, *timm.list_models()], n=3, cutoff=0.5)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    raise UserError(f"no model is named '{name}'{hint}")


def _timm(name: str, num_classes: int, pretrained: bool) -> Built:
    local = name.startswith("local-dir:")
    if local and not (Path(name.removeprefix("local-dir:")).expanduser() / "config.json").exists():
        raise UserError(f"--model {name}: no config.json in that folder; it must be in timm's form")
    online = local or _reachable(os.environ.get("HF_ENDPOINT", "https://huggingface.co"))
    if not online:
        os.environ["HF_HUB_OFFLINE"] = "1"  # the cache is still used, without minutes of retries
    repair()
    import timm

    bare = name.removeprefix("timm:")
    if not name.startswith(("hf-hub:", "local-dir:")) and not timm.is_model(bare):
        near = difflib.get_close_matches(bare, timm.list_models(), n=3, cutoff=0.5)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise UserError(f"timm has no model '{bare}'{hint}")
    note, origin = "", "none"
    if pretrained:
        try:
            model: Any = timm.create_model(bare, pretrained=True, num_classes=num_classes)
            origin = bare
        except Exception as error:  # each hub client raises its own; none may end the run
            if name.startswith(("hf-hub:", "local-dir:")):
                raise UserError(f"--model {name}: cannot be loaded: {_line(error)}") from error
            note = _no_weights(name, online, error)
    if origin == "none":
        model = timm.create_model(bare, pretrained=False, num_classes=num_classes)
    about = model.pretrained_cfg
    size, mean, std = int(about["input_size"][-1]), tuple(about["mean"]), tuple(about["std"])
    if origin == "none":
        # without weights only a fixed input size binds
        return Built(model, size if about.get("fixed_input_size") else None, note=note)
    return Built(model, size, mean, std, origin, note)


def _torchvision(name: str, num_classes: int, pretrained: bool) -> Built:
    from torchvision.models import get_model, get_model_weights

    # the auxiliary classifiers of the Inception family are left out: a model returns logits
    plain = {"aux_logits": False} if name in ("googlenet", "inception_v3") else {}
    note = ""
    if pretrained:
        entry = getattr(get_model_weights(name), "DEFAULT", None)
        if entry is not None:
            try:
                model = get_model(name, weights=entry, **plain)
            except Exception as error:  # URLError, HTTPError, OSError, a broken file
                note = _no_weights(name, _reachable(entry.url), error)
            else:
                _replace_head(model, num_classes)
                how = entry.transforms()
                return Built(
                    model, int(how.crop_size[0]), tuple(how.mean), tuple(how.std), str(entry)
                )
    model = get_model(name, weights=None, num_classes=num_classes, **plain)
    return Built(model, note=note)


def head(model: nn.Module) -> tuple[str, nn.Module]:
    """The last layer that maps features to classes, linear or 1x1 convolutional, and its path."""
    for path, layer in reversed(list(model.named_modules())):
        if isinstance(layer, nn.Linear) or getattr(layer, "kernel_size", None) == (1, 1):
            return path, layer
    raise UserError(f"{type(model).__name__} has no linear layer that could be a head")


def _replace_head(model: nn.Module, num_classes: int) -> None:
    path, old = head(model)
    if isinstance(old, nn.Linear):
        fresh: nn.Module = nn.Linear(old.in_features, num_classes)
    else:
        assert isinstance(old, nn.Conv2d)
        fresh = nn.Conv2d(old.in_channels, num_classes, 1)
    parent, _, child = path.rpartition(".")
    setattr(model.get_submodule(parent), child, fresh)


def _load_file(model: nn.Module, path: Path) -> str:
    """Loads a state dictionary; returns a line when the head was left out."""
    if not path.is_file():
        raise UserError(f"--weights {path}: no such file")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(f"--weights {path}: cannot be read: {_line(error)}") from error
    own = model.state_dict()
    fitting = {k: v for k, v in state.items() if k in own and own[k].shape == v.shape}
    missing = [k for k in own if k not in fitting]
    # the head is the end of the state dictionary; anything else that lacks is a wrong file
    if missing and missing != list(own)[-len(missing) :]:
        raise UserError(f"--weights {path}: is of another model: '{missing[0]}' does not fit")
    model.load_state_dict(fitting, strict=False)
    return f"the head of {path} has other classes and starts anew" if missing else ""


def _reachable(url: str, seconds: float = 2.0) -> bool:
    """Whether the host of `url` answers, asked once: hub clients ask for most of a minute."""
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY")):
        return True
    parts = urlparse(url)
    try:
        socket.create_connection((parts.hostname, parts.port or 443), seconds).close()
    except OSError:
        return False
    return True


def _no_weights(name: str, online: bool, error: Exception) -> str:
    why = _line(error) if online else "no network, and they are not in the cache"
    return f"{name}: no pretrained weights ({why}); it starts from random ones"


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
