"""LeNet-5 (LeCun, Bottou, Bengio and Haffner 1998, figure 2), with today's ReLU and max pooling."""

import torch.nn.functional as F
from torch import Tensor, nn


class LeNet5(nn.Module):
    """[B, 3, S, S] -> logits [B, classes]; the paper's S is 32, any S from 16 on works."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.c1 = nn.Conv2d(3, 6, 5)
        self.c3 = nn.Conv2d(6, 16, 5)
        self.pool = nn.AdaptiveMaxPool2d(5)  # at S = 32 the paper's 2x2 subsampling
        self.c5 = nn.Linear(16 * 5 * 5, 120)
        self.f6 = nn.Linear(120, 84)
        self.head = nn.Linear(84, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.c1(x)), 2)
        x = self.pool(F.relu(self.c3(x))).flatten(1)
        logits: Tensor = self.head(F.relu(self.f6(F.relu(self.c5(x)))))
        return logits
