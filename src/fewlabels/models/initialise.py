"""Initialisation: where the weights of linear and convolutional layers start.

    gaussian(s)   normal, standard deviation s; 0.01 was usual before the other two
    xavier        uniform on ±sqrt(6 / (in + out))          (Glorot and Bengio 2010, eq. 16)
    he            normal, standard deviation sqrt(2 / in)   (He et al. 2015, eq. 10)

with `in` the inputs of one output unit and `out` the output units that one input reaches: a 3x3
convolution has 9 times its channels of both. xavier keeps the variance of activations and gradients
through layers that are linear near zero (tanh), he that of activations through ReLU. `gaussian`
keeps neither: ten tanh layers of 256 units with 0.01 leave 1e-8 of the input.
"""

import math
import re
from dataclasses import dataclass

from torch import Tensor, nn

from fewlabels.errors import UserError

NORMS = (
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
    nn.SyncBatchNorm,
    nn.GroupNorm,
    nn.LayerNorm,
)


@dataclass(frozen=True)
class Initialisation:
    """One of gaussian, xavier and he; `std` is the standard deviation of the first."""

    kind: str
    std: float = 0.0

    @classmethod
    def parse(cls, text: str) -> "Initialisation":
        """From its text form. UserError for anything else; nothing is built to find that out."""
        word = text.strip()
        if word in ("xavier", "he"):
            return cls(word)
        found = re.fullmatch(r"gaussian\((.*)\)", word)
        if found is None:
            raise UserError(
                f"no initialisation is named '{text}'; there are gaussian(0.01), with any standard "
                "deviation, xavier and he"
            )
        try:
            std = float(found[1])
        except ValueError:
            std = math.nan
        if not 0 < std < math.inf:
            raise UserError(
                f"initialisation '{text}': the standard deviation must be a number greater than 0"
            )
        return cls("gaussian", std)

    def __str__(self) -> str:
        return f"gaussian({self.std:g})" if self.kind == "gaussian" else self.kind

    def draw(self, layer: nn.Linear | nn.Conv2d) -> None:
        """New weights for the layer, from torch's global generator; its biases become zero."""
        inputs, outputs = _fans(layer)
        if self.kind == "xavier":
            bound = math.sqrt(6 / (inputs + outputs))
            nn.init.uniform_(layer.weight, -bound, bound)
        else:
            std = self.std if self.kind == "gaussian" else math.sqrt(2 / inputs)
            nn.init.normal_(layer.weight, 0.0, std)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def initialise(model: nn.Module, how: str) -> None:
    """Starts the model anew, in place: `how` is the text form of an Initialisation.

    Norms become the identity, with fresh running statistics. What is neither linear nor a 2-D
    convolution nor a norm (tokens, position embeddings) stays as it is; so does a layer whose
    weights are all zero, because it starts there on purpose: the offsets of a deformable
    convolution, the last norm of a residual branch. UserError for another text.
    """
    chosen = Initialisation.parse(how)
    for layer in model.modules():
        if _starts_at_zero(layer):
            continue
        if isinstance(layer, nn.Linear | nn.Conv2d):
            chosen.draw(layer)
        elif isinstance(layer, NORMS):
            if layer.weight is not None:
                nn.init.ones_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
            if not isinstance(layer, nn.GroupNorm | nn.LayerNorm):
                layer.reset_running_stats()


def _starts_at_zero(layer: nn.Module) -> bool:
    weight = getattr(layer, "weight", None)
    return isinstance(weight, Tensor) and not weight.is_meta and not weight.any()


def _fans(layer: nn.Linear | nn.Conv2d) -> tuple[int, int]:
    """The inputs of an output unit and the output units of an input, within a group of channels."""
    groups = layer.groups if isinstance(layer, nn.Conv2d) else 1
    window = layer.weight[0, 0].numel()
    return layer.weight[0].numel(), layer.weight.shape[0] // groups * window
