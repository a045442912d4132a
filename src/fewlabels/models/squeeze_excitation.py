"""Squeeze-and-excitation blocks, put into any convolutional net (Hu, Shen and Sun 2018).

    squeeze   s = the mean of each channel over the map                            [B, C]
    excite    gate = 2 sigmoid(W2 relu(W1 s)),  W1 [C/r, C],  W2 [C, C/r] = 0      [B, C]
    scale     x · gate

The paper's eq. 3 has no 2: its gates start near 1/2, and halve every branch. The factor and the
zeros are ours. With them a gate starts at exactly 1, so that a pretrained net stays the function it
was, and can go both ways, to 0 and to 2. W2 learns at once, W1 as soon as W2 has left zero.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fewlabels.errors import UserError
from fewlabels.models.branches import branches, observe
from fewlabels.models.built import head
from fewlabels.settings import between

RATIO = 16
_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)
_LAST = ("Linear", "LayerNorm", "LayerScale", "Attention")


class SqueezeExcitation(nn.Module):
    """Maps [B, C, H, W] -> the same, each channel times its gate; 2C²/ratio weights.

    `last`: the maps are [B, H, W, C], as linear layers make them in ConvNeXt and Swin.
    """

    def __init__(self, channels: int, ratio: float = RATIO, last: bool = False) -> None:
        super().__init__()
        hidden = max(1, round(channels / ratio))
        self.last = last
        self.reduce = nn.Linear(channels, hidden, bias=False)
        self.expand = nn.Linear(hidden, channels, bias=False)
        nn.init.zeros_(self.expand.weight)

    def forward(self, x: Tensor) -> Tensor:
        squeezed = x.mean((1, 2) if self.last else (2, 3))
        gate = 2 * torch.sigmoid(self.expand(F.relu(self.reduce(squeezed))))
        return x * (gate[:, None, None, :] if self.last else gate[:, :, None, None])


def add_squeeze_excitation(
    model: nn.Module, ratio: float = RATIO, size: int = 64, channels: int = 3
) -> nn.Module:
    """Puts the blocks into the model, in place; it computes what it did, to the bit.

    A residual net gets one at the end of each residual branch, before the sum; a net with one
    shortcut or none gets one after each convolution, or after the norm that follows it directly,
    but for the head and for 1x1 convolutions of pooled maps, which are gates themselves. `size` and
    `channels` are those of the images in the pass that finds the places.

    The layer before a block becomes `nn.Sequential(layer, block)`, so that its weights are called
    `<layer>.0.weight`: load a file of the plain model first. UserError for nets without
    convolutions, and for a ratio below 1.
    """
    between("squeeze-and-excitation: ratio", ratio, 1)
    has_any = any(isinstance(layer, nn.Conv2d) for layer in model.modules())
    shapes = _places(model, size, channels) if has_any else {}
    if not shapes:
        raise UserError(
            f"squeeze-and-excitation is for maps of convolutions, and {type(model).__name__} has "
            "none; leave the block out, or name a convolutional --model"
        )
    for path, shape in shapes.items():
        layer = model.get_submodule(path)
        last = _channels_last(layer, shape)
        block = SqueezeExcitation(shape[3 if last else 1], ratio, last)
        some = next(layer.parameters())
        pair = nn.Sequential(layer, block.to(some.device, some.dtype).train(layer.training))
        pair.training = layer.training
        parent, _, name = path.rpartition(".")
        setattr(model.get_submodule(parent), name, pair)
    return model


def _channels_last(layer: nn.Module, shape: torch.Size) -> bool:
    """The sides of a map are equal; where there are as many channels, the layer's name tells."""
    if shape[1] == shape[2] == shape[3]:
        name = type(layer).__name__
        return any(word in name for word in _LAST) and "2d" not in name
    return shape[2] != shape[3]


def _places(model: nn.Module, size: int, channels: int) -> dict[str, torch.Size]:
    """The layers that get a block behind them, with the shapes of what they make."""
    ends = branches(model, size, channels)
    if len(ends) < 2:
        return _convolutions(model, size, channels)
    found: dict[str, torch.Size] = {}

    def see(path: str, _: nn.Module, __: Tensor, made: Tensor) -> None:
        if path in ends and made.ndim == 4:
            found[path] = made.shape

    observe(model, size, channels, see)
    return {path: found[path] for path in ends if path in found}


def _convolutions(model: nn.Module, size: int, channels: int) -> dict[str, torch.Size]:
    found: dict[str, torch.Size] = {}
    makers: list[tuple[Tensor, str]] = []  # what the latest convolution made
    top = head(model)[0]

    def see(path: str, layer: nn.Module, x: Tensor, made: Tensor) -> None:
        if isinstance(layer, nn.Conv2d) and path != top:
            gate = layer.kernel_size == (1, 1) and made.shape[2:] == (1, 1)
            if made.ndim == 4 and not gate:
                found[path] = made.shape
                makers[:] = [(made, path)]
        elif isinstance(layer, _NORMS) and makers and x is makers[0][0]:
            found.pop(makers[0][1], None)
            found[path] = made.shape

    observe(model, size, channels, see)
    return found
