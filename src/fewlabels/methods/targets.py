"""What a view teaches: pseudo-labels, sharpening, and the mean that counts every image.

Shapes: U unlabelled images, K classes.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Taught:
    """What weak views teach their images' strong views: a class [U] or probabilities [U, K], and
    the weight of each image [U]; for several labels an image both are [U, K]."""

    target: Tensor
    weight: Tensor

    @property
    def of_image(self) -> Tensor:
        """The largest weight of each image, [U]."""
        return self.weight.flatten(1).amax(1) if self.weight.ndim > 1 else self.weight

    def only(self, rows: Tensor) -> "Taught":
        """Of these images."""
        return Taught(self.target[rows], self.weight[rows])


def sharpened(logits: Tensor, temperature: float) -> Tensor:
    """softmax(logits / T) [U, K]: the logits are divided, not the probabilities."""
    return (logits / temperature).softmax(-1)


def mean_over_all(values: Tensor, weight: Tensor, count: int) -> Tensor:
    """Σ weight · values / count [], where `count` is of all images, not of those kept: the weight
    of the term grows with the model's confidence. A row [K] counts with its mean."""
    each = values * weight
    return (each.mean(1) if each.ndim == 2 else each).sum() / count


def confident_entries(p: Tensor, threshold: float) -> Taught:
    """Of independent probabilities [U, K], several classes an image: each entry is a decision of
    its own, kept where it is sure either way."""
    sure = torch.maximum(p, 1 - p) >= threshold
    return Taught((p > 0.5).to(p.dtype), sure.to(p.dtype))


def entropy_of_entries(p: Tensor) -> Tensor:
    """Of independent probabilities [U, K], each by itself."""
    return -torch.xlogy(p, p) - torch.xlogy(1 - p, 1 - p)


def disagreement(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of outputs [U, K] with classes [U] or probabilities [U, K] -> [U]."""
    return F.cross_entropy(logits, target, reduction="none")
