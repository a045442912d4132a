"""Models of timm: by name, from the hub, from a local folder."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from fewlabels.errors import UserError, one_line
from fewlabels.models.built import Built, near, reachable, without_weights
from fewlabels.models.torchvision_repair import repair

HUB = "https://huggingface.co"
PREFIXES = ("timm:", "hf-hub:", "local-dir:")


def build(name: str, num_classes: int, pretrained: bool, arguments: dict[str, Any]) -> Built:
    """`timm:<name>`, `hf-hub:<id>` or `local-dir:<folder>`, with a new head.

    The last two always come with their weights' configuration, and with the weights if
    `pretrained`. UserError for what cannot be built.
    """
    repair()
    import timm

    prefix, _, bare = name.partition(":")
    if prefix == "local-dir":
        bare = str(Path(bare).expanduser().absolute())
        if not (Path(bare) / "config.json").is_file():
            raise UserError(
                f"--model {name}: no config.json in that folder, so it is none of timm's"
            )
    elif prefix == "timm" and not timm.is_model(bare):
        raise UserError(f"timm has no model '{bare}'{near(bare, timm.list_models())}")
    wanted = bare if prefix == "timm" else f"{prefix}:{bare}"

    ask = prefix == "hf-hub" or (prefix == "timm" and pretrained)
    online = reachable(os.environ.get("HF_ENDPOINT", HUB)) if ask else True
    note, weights = "", "none"
    with nullcontext() if online else _offline():
        if pretrained:
            try:
                model = timm.create_model(wanted, True, num_classes=num_classes, **arguments)
                weights = wanted
            except Exception as error:  # every hub client raises its own
                if prefix != "timm" or isinstance(error, TypeError):
                    raise UserError(
                        f"--model {name}: cannot be loaded: {one_line(error)}"
                    ) from error
                note = without_weights(bare, online, error)
        try:
            if weights == "none":
                model = timm.create_model(wanted, False, num_classes=num_classes, **arguments)
            architecture, own = _recipe(prefix, bare)
        except Exception as error:
            raise UserError(f"--model {name}: cannot be built: {one_line(error)}") from error
    about = model.pretrained_cfg
    size = int(about["input_size"][-1])
    if weights == "none":  # then only a fixed input size binds
        bound = size if about.get("fixed_input_size") else None
        return Built(model, architecture, own | arguments, bound, note=note)
    mean, std = tuple(about["mean"]), tuple(about["std"])
    return Built(model, architecture, own | arguments, size, mean, std, weights, note)


def _recipe(prefix: str, bare: str) -> tuple[str, dict[str, Any]]:
    """The architecture behind a name, and the arguments that its configuration gives it."""
    if prefix == "timm":
        return f"timm:{bare}", {}
    if prefix == "hf-hub":
        from timm.models import load_model_config_from_hf

        _, architecture, arguments = load_model_config_from_hf(bare)
    else:
        config = json.loads((Path(bare) / "config.json").read_text(encoding="utf-8"))
        architecture, arguments = config["architecture"], config.get("model_args")
    return f"timm:{architecture}", dict(arguments or {})


@contextmanager
def _offline() -> Iterator[None]:
    """The hub's cache is still used, without a minute of retries."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
