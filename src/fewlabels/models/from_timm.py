"""Models of timm: by name, from the hub, from a local folder."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from fewlabels.errors import UserError, one_line
from fewlabels.models.built import Built, blank_head, near, reachable, without_weights
from fewlabels.torchvision_repair import repair

HUB = "https://huggingface.co"
PREFIXES = ("timm:", "hf-hub:", "local-dir:")
PATCHES = 8  # a side, of a small image


def build(name: str, num_classes: int | None, pretrained: bool, arguments: dict[str, Any]) -> Built:
    """`timm:<name>`, `hf-hub:<id>` or `local-dir:<folder>`, with a new head.

    None keeps the head of the weights. The last two always come with their weights' configuration,
    and with the weights if `pretrained`. UserError for what cannot be built.
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
    given = arguments if num_classes is None else arguments | {"num_classes": num_classes}

    ask = prefix == "hf-hub" or (prefix == "timm" and pretrained)
    online = reachable(os.environ.get("HF_ENDPOINT", HUB)) if ask else True
    note, weights = "", "none"
    with nullcontext() if online else _offline():
        if pretrained:
            try:
                model = timm.create_model(wanted, True, **given)
                weights = wanted
            except Exception as error:  # every hub client raises its own
                if prefix != "timm" or isinstance(error, TypeError):
                    raise UserError(
                        f"--model {name}: cannot be loaded: {one_line(error)}"
                    ) from error
                note = without_weights(bare, online, error)
        try:
            if weights == "none":
                model = timm.create_model(wanted, False, **given)
            architecture, own = _recipe(prefix, bare)
        except Exception as error:
            raise UserError(f"--model {name}: cannot be built: {one_line(error)}") from error
    about = model.pretrained_cfg
    size = int(arguments.get("img_size") or about["input_size"][-1])
    fixed = bool(about.get("fixed_input_size"))
    if weights == "none":  # then only a fixed input size binds
        bound = size if fixed else None
        return Built(model, architecture, own | arguments, bound, fixed, note=note)
    if num_classes not in (None, about.get("num_classes")):
        blank_head(model)
    mean, std = tuple(about["mean"]), tuple(about["std"])
    classes = _class_names(about, Path(bare) if prefix == "local-dir" else None)
    return Built(
        model, architecture, own | arguments, size, fixed, mean, std, weights, note, classes=classes
    )


def at_size(built: Built, size: int, num_classes: int | None) -> Built:
    """A model of fixed input size built anew for another; as it is where that cannot be.

    Random weights of a vision transformer get smaller patches, so that a small image still has
    `PATCHES` a side; pretrained ones keep theirs, and their positions are resampled.
    """
    name, pretrained = built.architecture, built.weights != "none"
    if pretrained:
        name = built.weights if built.weights.startswith(PREFIXES) else f"timm:{built.weights}"
    plain = built.arguments | {"img_size": size}
    tries = [plain]
    patch, usual = size // PATCHES, getattr(built.model, "patch_embed", None)
    if not pretrained and "patch_size" not in plain and 0 < patch < _patch(usual):
        tries.insert(0, plain | {"patch_size": patch})
    for arguments in tries:
        try:
            fresh = build(name, num_classes, pretrained, arguments)
        except UserError:  # the architecture has no such argument
            continue
        stem = f"patches of {arguments['patch_size']} px" if "patch_size" in arguments else ""
        return replace(fresh, note=built.note, stem=stem)
    return built


def wordnet() -> list[str]:
    """What ImageNet's 1,000 classes are called in WordNet, n01440764 first: the names of its
    folders, in the order in which all models have them."""
    repair()
    from timm.data import ImageNetInfo

    names: list[str] = ImageNetInfo().label_names()
    return names


def _patch(embedding: Any) -> int:
    size = getattr(embedding, "patch_size", 0)
    return int(size[0] if isinstance(size, tuple) else size)


def _class_names(about: dict[str, Any], folder: Path | None) -> tuple[str, ...]:
    """What the weights' own head tells apart: from their configuration, a file labels.txt beside
    them, or ImageNet's names; empty where nothing tells."""
    count = int(about.get("num_classes") or 0)
    named = about.get("label_names")
    if named:
        spoken = about.get("label_descriptions") or {}
        return tuple(str(spoken.get(name, name)) for name in named)
    if folder is not None and (folder / "labels.txt").is_file():
        lines = (folder / "labels.txt").read_text(encoding="utf-8").splitlines()
        return tuple(lines) if len(lines) == count else ()
    if count == 1000:
        from timm.data import ImageNetInfo

        return tuple(ImageNetInfo("imagenet-1k").label_descriptions())
    return ()


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
