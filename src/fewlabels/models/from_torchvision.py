"""Classifiers of torchvision, by name."""

from typing import Any

from torch import nn

from fewlabels.models.built import Built, head, reachable, without_weights
from fewlabels.models.torchvision_repair import repair

INCEPTION = ("googlenet", "inception_v3")  # with auxiliary classifiers and a scaling of their own


def names() -> list[str]:
    """Classifiers only: torchvision lists its detectors under other modules."""
    repair()
    import torchvision.models

    found: list[str] = torchvision.models.list_models(torchvision.models)
    return found


def build(name: str, num_classes: int, pretrained: bool) -> Built:
    """The model with a new head, with torchvision's default weights if `pretrained`."""
    repair()
    from torchvision.models import get_model, get_model_weights

    note = ""
    entry = getattr(get_model_weights(name), "DEFAULT", None) if pretrained else None
    if entry is not None:
        try:
            model = get_model(name, weights=entry)
        except Exception as error:  # URLError, HTTPError, OSError, a broken file
            note = without_weights(name, reachable(entry.url), error)
        else:
            _replace_head(model, num_classes)
            how = entry.transforms()
            mean, std = tuple(how.mean), tuple(how.std)
            if name in INCEPTION:
                mean = std = _plain(model)
            size = int(how.crop_size[0])
            return Built(model, f"torchvision:{name}", {}, size, mean, std, str(entry))
    plain: dict[str, Any] = {}
    if name in INCEPTION:
        plain = {"aux_logits": False, "init_weights": True}
    model = get_model(name, weights=None, num_classes=num_classes, **plain)
    bound = getattr(model, "image_size", None)  # vision transformers take no other
    return Built(model, f"torchvision:{name}", size=bound, note=note)


def _plain(model: Any) -> tuple[float, float, float]:
    """Makes a pretrained Inception the same model as one built without weights.

    It drops the auxiliary classifiers; and since it was trained on inputs scaled to -1..1, which
    torchvision's model does itself, it says so as mean and standard deviation, 0.5 both.
    """
    model.aux_logits, model.transform_input = False, False
    for name in ("AuxLogits", "aux1", "aux2"):
        if hasattr(model, name):
            setattr(model, name, None)
    return (0.5, 0.5, 0.5)


def _replace_head(model: nn.Module, num_classes: int) -> None:
    path, old = head(model)
    if isinstance(old, nn.Linear):
        fresh: nn.Module = nn.Linear(old.in_features, num_classes)
    else:
        assert isinstance(old, nn.Conv2d)
        fresh = nn.Conv2d(old.in_channels, num_classes, 1)
    parent, _, child = path.rpartition(".")
    setattr(model.get_submodule(parent), child, fresh)
