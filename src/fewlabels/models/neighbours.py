"""A head that remembers: weighted nearest neighbours among the labelled images' features.

Wu et al. 2018 ("Unsupervised feature learning via non-parametric instance discrimination"), section
3.4: the k most similar images vote with the weight exp(cosine / τ).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TEMPERATURE = 0.07  # τ, the paper's
LEAST = 1e-6  # of a vote, so that its logarithm is finite


class Neighbours(nn.Module):
    """Features [B, F] -> log of the votes' shares [B, classes]; what it remembers are buffers."""

    bank: Tensor
    label: Tensor

    def __init__(self, num_classes: int, count: int, features: int, k: int) -> None:
        super().__init__()
        self.num_classes, self.k = num_classes, min(k, count)
        self.register_buffer("bank", torch.zeros(count, features))  # of length 1
        self.register_buffer("label", torch.zeros(count, dtype=torch.long))

    def remember(self, features: Tensor, label: Tensor) -> None:
        """Takes the features [count, F] and labels [count] of the images that are to vote."""
        self.bank.copy_(F.normalize(features, dim=1))
        self.label.copy_(label)

    def forward(self, x: Tensor) -> Tensor:
        similarity, nearest = (F.normalize(x, dim=1) @ self.bank.T).topk(self.k)  # [B, k]
        vote = (similarity / TEMPERATURE).softmax(1)
        shares = vote.new_zeros(len(x), self.num_classes)
        shares.scatter_add_(1, self.label[nearest], vote)
        return shares.clamp_min(LEAST).log()
