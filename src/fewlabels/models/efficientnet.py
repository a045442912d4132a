"""EfficientNet at any depth and width (Tan and Le 2019), of torchvision's blocks.

At depth = width = 1 this is torchvision's `efficientnet_b0`, layer by layer and name by name, so
that its weights fit.
"""

from dataclasses import dataclass

from torch import nn

from fewlabels.settings import between
from fewlabels.torchvision_repair import repair

# Table 1, stages 2 to 8: expansion, kernel, stride, channels in, channels out, blocks. The stem has
# the first row's channels in; the last convolution has four times the last row's channels out.
B0 = (
    (1, 3, 1, 32, 16, 1),
    (6, 3, 2, 16, 24, 2),
    (6, 5, 2, 24, 40, 2),
    (6, 3, 2, 40, 80, 3),
    (6, 5, 1, 80, 112, 3),
    (6, 5, 2, 112, 192, 4),
    (6, 3, 1, 192, 320, 1),
)


@dataclass(frozen=True)
class Coefficients:
    """What makes one of the published nets of B0's table; `size` is its images' side in pixels."""

    width: float
    depth: float
    size: int
    dropout: float


# B0 to B7: the authors' code. L2: Xie et al. 2020, appendix A.1; it was trained at 475 px and, with
# FixRes, tested at 800.
PUBLISHED = {
    "efficientnet_b0": Coefficients(1.0, 1.0, 224, 0.2),
    "efficientnet_b1": Coefficients(1.0, 1.1, 240, 0.2),
    "efficientnet_b2": Coefficients(1.1, 1.2, 260, 0.3),
    "efficientnet_b3": Coefficients(1.2, 1.4, 300, 0.3),
    "efficientnet_b4": Coefficients(1.4, 1.8, 380, 0.4),
    "efficientnet_b5": Coefficients(1.6, 2.2, 456, 0.4),
    "efficientnet_b6": Coefficients(1.8, 2.6, 528, 0.5),
    "efficientnet_b7": Coefficients(2.0, 3.1, 600, 0.5),
    "efficientnet_l2": Coefficients(4.3, 5.3, 800, 0.5),
}


def efficientnet(
    num_classes: int,
    width: float = 1.0,
    depth: float = 1.0,
    dropout: float = 0.2,
    stochastic_depth: float = 0.2,
) -> nn.Module:
    """[B, 3, S, S] -> logits [B, classes]; S from 32 on is sensible, 224 is B0's.

    width multiplies the channels, rounded to a multiple of 8 that is at most a tenth smaller; depth
    the blocks of each stage, rounded up. dropout: before the head; stochastic_depth: the
    probability that the last block is left out, from 0 linearly to there.
    """
    between("efficientnet: width", width, 0.1, 10)
    between("efficientnet: depth", depth, 0.1, 10)
    between("efficientnet: dropout", dropout, 0, 0.99)
    between("efficientnet: stochastic_depth", stochastic_depth, 0, 0.99)
    repair()
    from torchvision.models.efficientnet import EfficientNet, MBConvConfig

    rows = [MBConvConfig(*row, width_mult=width, depth_mult=depth) for row in B0]
    model: nn.Module = EfficientNet(rows, dropout, stochastic_depth, num_classes)
    return model


def efficientnet_l2(num_classes: int) -> nn.Module:
    """Noisy Student's largest net, 480 M parameters; trained ones are timm's tf_efficientnet_l2."""
    of = PUBLISHED["efficientnet_l2"]
    return efficientnet(num_classes, of.width, of.depth, of.dropout)
