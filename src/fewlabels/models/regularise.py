"""Noise in the model while it trains, put into any net: dropout and stochastic depth.

Both are hooks where the model has no layers of its own for them. Any kind of layer can have one, no
name in the state dictionary changes, and `copy.deepcopy` copies them. In eval mode the model
computes what it did, to the bit. Both may be set again.
"""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from fewlabels.errors import UserError
from fewlabels.models.branches import branches
from fewlabels.models.built import head
from fewlabels.settings import between

MOST = 0.99
_DROP_PATHS = ("DropPath", "StochasticDepth")  # timm's and its copies, torchvision's


class DropFeatures:
    """A hook before the head, linear or convolutional: features [B, C, ...] of which a part `p` is
    zero and the others are divided by 1 - p, while the head is in training mode."""

    def __init__(self) -> None:
        self.p = 0.0

    def __call__(self, layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return F.dropout(inputs[0], self.p, layer.training), *inputs[1:]


class DropBranch:
    """A hook after the last layer of a residual branch.

    Output [B, ...] -> the same, zero for a part `p` of the images and divided by 1 - p for the
    others, while the block is in training mode: the layer itself may be a norm that keeps its
    statistics.
    """

    def __init__(self, block: nn.Module) -> None:
        self.block = block
        self.p = 0.0

    def __call__(self, _: nn.Module, __: Any, output: Any) -> Any:
        if not self.block.training or self.p == 0:
            return None  # as it is
        if isinstance(output, tuple):  # attention, with its weights
            return self._drop(output[0]), *output[1:]
        return self._drop(output)

    def _drop(self, x: Tensor) -> Tensor:
        kept = x.new_empty((len(x), *[1] * (x.ndim - 1))).bernoulli_(1 - self.p)
        return x * (kept / (1 - self.p))


def set_dropout(model: nn.Module, p: float) -> None:
    """Drops a part `p` of the features before the head, in place (Srivastava et al. 2014).

    Where a model has nn.Dropout layers among the linear layers at its end, these get `p`, all of
    them. Else the head gets a hook, also in those models of timm that drop by a call, whose own
    rate becomes zero. UserError for p outside of 0 to 0.99.
    """
    between("dropout", p, 0, MOST)
    path, top = head(model)
    own = _dropouts(model, path)
    for dropout in own:
        dropout.p = p
    if own:
        return
    if hasattr(model, "drop_rate"):
        model.drop_rate = 0.0  # type: ignore[assignment]
    hooks = [h for h in top._forward_pre_hooks.values() if isinstance(h, DropFeatures)]
    if not hooks:
        hooks = [DropFeatures()]
        top.register_forward_pre_hook(hooks[0])
    hooks[0].p = p


def set_stochastic_depth(model: nn.Module, p: float, size: int = 64, channels: int = 3) -> None:
    """Drops residual branches for single images, in place (Huang et al. 2016, per image as usual).

    The l-th of L branches is dropped with the probability p·l/L, the paper's linear rule, and a
    kept one divided by its probability to be kept. Layers for it that the model has, torchvision's
    and timm's, get these rates in their order; else the last layer of each branch gets a hook.
    `size` and `channels` are those of the images in the pass that finds the branches. UserError for
    models without any, and for p outside of 0 to 0.99.
    """
    between("stochastic depth", p, 0, MOST)
    own: list[Any] = [m for m in model.modules() if type(m).__name__ in _DROP_PATHS]
    for place, layer in enumerate(own, 1):
        setattr(layer, "drop_prob" if hasattr(layer, "drop_prob") else "p", p * place / len(own))
    if own:
        return
    ends = branches(model, size, channels)
    if not ends:
        raise UserError(
            f"stochastic depth: {type(model).__name__} has no residual branches to drop; leave it "
            "out, or name a residual --model"
        )
    for place, path in enumerate(ends, 1):
        layer = model.get_submodule(path)
        hooks = [h for h in layer._forward_hooks.values() if isinstance(h, DropBranch)]
        if not hooks:
            hooks = [DropBranch(model.get_submodule(path.rpartition(".")[0]))]
            layer.register_forward_hook(hooks[0])
        hooks[0].p = p * place / len(ends)


def drops_branches(model: nn.Module, size: int = 64, channels: int = 3) -> bool:
    """Whether there is anything in it for stochastic depth to drop."""
    own = any(type(module).__name__ in _DROP_PATHS for module in model.modules())
    return own or bool(branches(model, size, channels))


def _dropouts(model: nn.Module, top: str) -> list[nn.Dropout]:
    """Those on the way to the head: backwards from it, up to the first layer that is not linear.

    Dropout beside the way, as in an auxiliary classifier, lies in a module that the head is not in.
    """
    found: list[nn.Dropout] = []
    layers = dict(model.named_modules())
    before = list(layers)[: list(layers).index(top)]
    for path in reversed(before):
        layer = layers[path]
        parent = path.rpartition(".")[0]
        if isinstance(layer, nn.Dropout):
            if not parent or top.startswith(f"{parent}."):
                found.append(layer)
        elif not isinstance(layer, nn.Linear) and any(True for _ in layer.parameters(False)):
            break
    return found
