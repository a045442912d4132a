"""WRN-depth-k for images of 32 px: wide residual networks (Zagoruyko and Komodakis 2016, table 1).

    3x32x32 -> conv 16 -> n blocks of 16k channels -> n of 32k (16 px) -> n of 64k (8 px)
            -> norm, ReLU -> mean over the pixels -> linear

6n + 4 layers. Blocks are B(3,3) with norm and ReLU before each convolution. The literature on
semi-supervised learning takes WRN-28-2 for CIFAR-10 and SVHN, and WRN-28-8 for CIFAR-100.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from fewlabels.errors import UserError
from fewlabels.models.initialise import initialise
from fewlabels.settings import between


class WideResNet(nn.Module):
    """[B, 3, S, S] -> logits [B, classes]; the paper's S is 32, any S from 4 on works.

    depth: the number of layers, 6n + 4; UserError for others. k multiplies the channels. dropout:
    the probability, between the convolutions of a block (section 2.4; 0.3 for CIFAR).
    """

    def __init__(self, num_classes: int, depth: int = 28, k: int = 2, dropout: float = 0.0) -> None:
        super().__init__()
        between("wide resnet: k", k, 1, 100)
        between("wide resnet: dropout", dropout, 0, 0.99)
        n, left = divmod(depth - 4, 6)
        if n < 1 or left:
            raise UserError(
                f"wide resnet: depth {depth}: must be 6n+4, such as 10, 16, 22, 28 or 40"
            )
        w = 16 * k
        self.stem = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.stages = nn.Sequential(
            _stage(16, w, n, 1, dropout),
            _stage(w, 2 * w, n, 2, dropout),
            _stage(2 * w, 4 * w, n, 2, dropout),
        )
        self.norm = nn.BatchNorm2d(4 * w)
        self.head = nn.Linear(4 * w, num_classes)
        initialise(self, "he")

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.stages(self.stem(x))))
        logits: Tensor = self.head(x.mean(dim=(2, 3)))
        return logits


class Block(nn.Module):
    """B(3,3): [B, inputs, S, S] -> [B, outputs, S / stride, S / stride].

    Where the channels change, the shortcut is a 1x1 convolution of what the norm and the ReLU made
    of x, as in the authors' code; elsewhere it is x itself.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.shortcut: nn.Conv2d | None = None
        if inputs != outputs:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        activated = F.relu(self.norm1(x))
        y: Tensor = self.conv2(self.dropout(F.relu(self.norm2(self.conv1(activated)))))
        return y + (x if self.shortcut is None else self.shortcut(activated))


def _stage(inputs: int, outputs: int, n: int, stride: int, dropout: float) -> nn.Sequential:
    later = (Block(outputs, outputs, 1, dropout) for _ in range(n - 1))
    return nn.Sequential(Block(inputs, outputs, stride, dropout), *later)
