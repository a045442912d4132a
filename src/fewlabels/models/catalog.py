"""The one place where the name of a model becomes a model.

A bare name is looked for among ours, then torchvision's, then timm's; `torchvision:` and `timm:`
say which. `hf-hub:<id>` and `local-dir:<folder>` are timm's, with weights of one's own.
torch is slow to import and torchvision and timm more so: each is imported when a name needs it.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fewlabels.errors import UserError, one_line
from fewlabels.models import from_timm, from_torchvision, weights_file
from fewlabels.models.built import Built, head, near
from fewlabels.models.cnn_small import CnnSmall
from fewlabels.models.lenet5 import LeNet5

__all__ = ["OURS", "Built", "accepts", "build", "head"]

OURS: dict[str, Callable[[int], nn.Module]] = {"cnn_small": CnnSmall, "lenet5": LeNet5}


def build(
    name: str, num_classes: int, weights: str = "auto", arguments: dict[str, Any] | None = None
) -> Built:
    """The model `name` with a new head for `num_classes`.

    weights: `auto` takes pretrained ones where they are at hand or can be fetched and says so in
    `note` where not; `none` starts from random ones; a path loads a .safetensors or .pth state
    dictionary, its head left out when it has other classes. UserError for an unknown name.
    """
    pretrained = weights == "auto"
    if name in OURS:
        built = Built(OURS[name](num_classes), name)
    elif name.startswith(from_timm.PREFIXES):
        built = from_timm.build(name, num_classes, pretrained, arguments or {})
    else:
        bare = name.removeprefix("torchvision:")
        known = from_torchvision.names()
        if bare in known:
            built = from_torchvision.build(bare, num_classes, pretrained)
        else:
            import timm  # torchvision is repaired by now

            if name != bare or not timm.is_model(name):
                hint = near(bare, [*OURS, *known, *timm.list_models()])
                raise UserError(f"no model is named '{name}'{hint}")
            built = from_timm.build(f"timm:{name}", num_classes, pretrained, {})
    if weights in ("auto", "none"):
        return built
    note = weights_file.load(built.model, Path(weights))
    return replace(built, weights=weights, note=note)


def accepts(model: nn.Module, name: str, size: int) -> None:
    """UserError when the model cannot take images of this size."""
    training = model.training
    try:
        with torch.inference_mode():
            model.eval()(torch.zeros(2, 3, size, size))
    except Exception as error:  # each model fails in its own way
        raise UserError(
            f"--model {name}: cannot take images of {size} px; name another --img-size "
            f"({one_line(error)})"
        ) from error
    finally:
        model.train(training)
