"""ResNet-20, 32, 44, 56 and 110 for images of 32 px (He et al. 2016, section 4.2).

    3x32x32 -> conv 16 -> n blocks of 16 channels -> n of 32 (16 px) -> n of 64 (8 px)
            -> mean over the pixels -> linear

6n + 2 layers with weights. Shortcuts are of option A, without parameters: where a block halves the
side and doubles the channels, every second pixel, and zeros for the channels that are new.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from fewlabels.errors import UserError
from fewlabels.models.initialise import initialise
from fewlabels.settings import between


class ResNetCifar(nn.Module):
    """[B, 3, S, S] -> logits [B, classes]; the paper's S is 32, any S from 4 on works.

    depth: the number of layers, 6n + 2; UserError for others. width multiplies the channels.
    """

    def __init__(self, num_classes: int, depth: int = 20, width: float = 1.0) -> None:
        super().__init__()
        between("resnet for 32 px: width", width, 0.1, 20)
        n, left = divmod(depth - 2, 6)
        if n < 1 or left:
            raise UserError(
                f"resnet for 32 px: depth {depth}: must be 6n+2, such as 20, 32, 44, 56 or 110"
            )
        w = round(16 * width)
        self.stem = nn.Sequential(_conv(3, w, 1), nn.BatchNorm2d(w), nn.ReLU(inplace=True))
        self.stages = nn.Sequential(
            _stage(w, w, n, stride=1),
            _stage(w, 2 * w, n, stride=2),
            _stage(2 * w, 4 * w, n, stride=2),
        )
        self.head = nn.Linear(4 * w, num_classes)
        initialise(self, "he")

    def forward(self, x: Tensor) -> Tensor:
        x = self.stages(self.stem(x))
        logits: Tensor = self.head(x.mean(dim=(2, 3)))
        return logits


class Block(nn.Module):
    """Two convolutions beside a shortcut: [B, inputs, S, S] -> [B, outputs, S / stride, …]."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.new = outputs - inputs
        self.conv1 = _conv(inputs, outputs, stride)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = _conv(outputs, outputs, 1)
        self.norm2 = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(y + self.shortcut(x))

    def shortcut(self, x: Tensor) -> Tensor:
        """Option A."""
        x = x[:, :, :: self.stride, :: self.stride]
        return F.pad(x, (0, 0, 0, 0, 0, self.new)) if self.new else x


def _stage(inputs: int, outputs: int, n: int, stride: int) -> nn.Sequential:
    later = (Block(outputs, outputs, 1) for _ in range(n - 1))
    return nn.Sequential(Block(inputs, outputs, stride), *later)


def _conv(inputs: int, outputs: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
