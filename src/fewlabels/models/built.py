"""What every source of models gives, and what they share."""

import difflib
import os
import socket
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlparse

from torch import nn

from fewlabels.errors import UserError, one_line
from fewlabels.models.neighbours import Neighbours

SHOUTS = 2.0  # the spread of logits of standardised features; torch's own layers have 0.6


@dataclass(frozen=True)
class Built:
    """A model for the classes at hand, and the input it was made for (None: any)."""

    model: nn.Module
    architecture: str  # the name that builds it anew, without weights, on any machine
    arguments: dict[str, Any] = field(default_factory=dict)  # and what that takes beside the name
    size: int | None = None  # side in pixels
    fixed: bool = False  # whether it takes no other size without being built anew
    mean: tuple[float, float, float] | None = None  # in units of 0..1
    std: tuple[float, float, float] | None = None
    weights: str = "none"  # where the weights came from
    note: str = ""  # one line for the user, when something is not as asked
    stem: str = ""  # what was changed for small images
    classes: tuple[str, ...] = ()  # that the weights' own head tells apart, where they name them


def head(model: nn.Module) -> tuple[str, nn.Module]:
    """The last layer that maps features to classes and its path: linear, 1x1 convolutional, or what
    remembers its neighbours."""
    for path, layer in reversed(list(model.named_modules())):
        if isinstance(layer, nn.Linear | Neighbours) or (
            isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1)
        ):
            return path, layer
    raise UserError(f"{type(model).__name__} has no linear layer that could be a head")


def restore(model: nn.Module, weights: dict[str, Any], strict: bool = True) -> None:
    """Loads a state dictionary from a file, which does not keep the versions that some layers ask
    for (torchvision's MNASNet)."""
    state = OrderedDict(weights)
    state._metadata = model.state_dict()._metadata  # type: ignore[attr-defined]
    model.load_state_dict(state, strict)


def calm_head(model: nn.Module) -> None:
    """Draws a random linear head anew, in place, as torch does, where it would shout.

    EfficientNet's and MobileNet's are drawn from ±1/sqrt(classes), which suits a thousand. With ten
    the first logits are twenty times as far apart: `efficientnet_b0` on 1,000 digits, 40 px, has a
    loss of 1.8 after 100 steps of 16, and 0.7 with a calm head.
    """
    layer = head(model)[1]
    if not isinstance(layer, nn.Linear) or layer.weight.is_meta:
        return
    if float(layer.weight.detach().std()) * layer.in_features**0.5 > SHOUTS:
        layer.reset_parameters()


def blank_head(model: nn.Module) -> None:
    """Sets a new head on pretrained features to zero, in place: it starts without any opinion,
    whatever the size of the features, and the first steps bend no filter for the sake of noise."""
    for parameter in head(model)[1].parameters(recurse=False):
        nn.init.zeros_(parameter)


def near(name: str, known: Iterable[str]) -> str:
    """The end of a line about an unknown name: what may have been meant."""
    close = difflib.get_close_matches(name, dict.fromkeys(known), n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(close)}?" if close else ""


def reachable(url: str, seconds: float = 2.0) -> bool:
    """Whether the host of `url` answers, asked once: hub clients ask for most of a minute."""
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY")):
        return True
    parts = urlparse(url)
    try:
        socket.create_connection((parts.hostname, parts.port or 443), seconds).close()
    except OSError:
        return False
    return True


def without_weights(name: str, online: bool, error: Exception) -> str:
    """The note when pretrained weights cannot be had."""
    why = one_line(error) if online else "no network, and they are not in the cache"
    return f"{name}: no pretrained weights ({why}); it starts from random ones"
