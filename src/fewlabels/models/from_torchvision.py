"""Classifiers of torchvision, by name."""

from dataclasses import replace
from typing import Any

from torch import nn

from fewlabels.errors import UserError, one_line
from fewlabels.models.auxiliary import keep_auxiliary
from fewlabels.models.built import Built, blank_head, head, reachable, without_weights
from fewlabels.torchvision_repair import repair

INCEPTION = ("googlenet", "inception_v3")  # with auxiliary classifiers and a scaling of their own


def names() -> list[str]:
    """Classifiers only: torchvision lists its detectors under other modules."""
    repair()
    import torchvision.models

    found: list[str] = torchvision.models.list_models(torchvision.models)
    return found


def build(name: str, num_classes: int | None, pretrained: bool, arguments: dict[str, Any]) -> Built:
    """The model with a new head, with torchvision's default weights if `pretrained`.

    None keeps the head of the weights. From random weights GoogLeNet has its auxiliary classifiers.
    UserError for arguments that the architecture does not take.
    """
    repair()
    from torchvision.models import get_model_weights

    architecture, note = f"torchvision:{name}", ""
    entry = getattr(get_model_weights(name), "DEFAULT", None) if pretrained else None
    if entry is not None:
        try:
            model = _get(name, arguments | {"weights": entry})
        except UserError:
            raise
        except Exception as error:  # URLError, HTTPError, OSError, a broken file
            note = without_weights(name, reachable(entry.url), error)
        else:
            own, changed = tuple(entry.meta["categories"]), ""
            if num_classes not in (None, len(own)):
                _replace_head(model, int(num_classes or 0))
                changed = _open_scores(model, name)
            how = entry.transforms()
            mean, std = tuple(how.mean), tuple(how.std)
            if name in INCEPTION:
                mean = std = _plain(model)
                arguments = arguments | {"aux_logits": False}
            size, fixed = int(how.crop_size[0]), hasattr(model, "image_size")
            return Built(
                model,
                architecture,
                arguments,
                size,
                fixed,
                mean,
                std,
                str(entry),
                stem=changed,
                classes=own,
            )
    if name in INCEPTION:  # those of Inception v3 fail below 299 px
        arguments = {"aux_logits": name == "googlenet"} | arguments
    more = {"init_weights": True} if name in INCEPTION else {}
    model = _get(name, arguments | more | {"num_classes": num_classes or 1000})
    changed = _open_scores(model, name)
    if arguments.get("aux_logits"):
        model.register_forward_hook(keep_auxiliary)
    bound = getattr(model, "image_size", None)  # vision transformers take no other
    return Built(model, architecture, arguments, bound, bound is not None, note=note, stem=changed)


def at_size(built: Built, size: int, num_classes: int | None) -> Built:
    """A vision transformer built anew for images of `size`; as it is where that cannot be."""
    name = built.architecture.removeprefix("torchvision:")
    if built.weights != "none":
        return built
    try:
        fresh = build(name, num_classes, False, built.arguments | {"image_size": size})
    except AssertionError:  # not a multiple of the patch
        return built
    return replace(fresh, note=built.note)


def _get(name: str, arguments: dict[str, Any]) -> nn.Module:
    from torchvision.models import get_model

    try:
        model: nn.Module = get_model(name, **arguments)
    except (TypeError, ValueError) as error:
        raise UserError(f"--model {name}: cannot be built: {one_line(error)}") from error
    return model


def _plain(model: Any) -> tuple[float, float, float]:
    """Makes a pretrained Inception one without auxiliary classifiers and without a scaling.

    It was trained on inputs scaled to -1..1, which torchvision's model does itself; it says so as
    mean and standard deviation, 0.5 both.
    """
    model.aux_logits, model.transform_input = False, False
    for name in ("AuxLogits", "aux1", "aux2"):
        if hasattr(model, name):
            setattr(model, name, None)
    return (0.5, 0.5, 0.5)


def _open_scores(model: Any, name: str) -> str:
    """Takes out SqueezeNet's ReLU behind a new head, and says so: a score below zero gets no
    gradient, and at usual rates all of them died (the loss stayed at ln K)."""
    if not name.startswith("squeezenet"):
        return ""
    model.classifier[2] = nn.Identity()
    return "without the ReLU behind its head"


def _replace_head(model: nn.Module, num_classes: int) -> None:
    path, old = head(model)
    if isinstance(old, nn.Linear):
        fresh: nn.Module = nn.Linear(old.in_features, num_classes)
    else:
        assert isinstance(old, nn.Conv2d)
        fresh = nn.Conv2d(old.in_channels, num_classes, 1)
    parent, _, child = path.rpartition(".")
    setattr(model.get_submodule(parent), child, fresh)
    blank_head(model)
