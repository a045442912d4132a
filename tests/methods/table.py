"""What the tests of the methods share: a student that is a table, and the formulas in plain Python.

An image is the number of a row of the table, and the row is what the student says of it. So the
gradient of a row is the gradient of what was said of that image in that view.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fewlabels.methods import Batch, Facts, create, resolve

Row = Sequence[float]


class Table(nn.Module):
    """A student whose logits are its parameters."""

    def __init__(self, *rows: Row) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(rows))

    def forward(self, x: Tensor) -> Tensor:
        return self.logits[x[:, 0, 0, 0].long()]

    def gradient(self) -> list[list[float]]:
        assert self.logits.grad is not None
        rows: list[list[float]] = self.logits.grad.tolist()
        return rows


def images(*rows: int) -> Tensor:
    return torch.tensor(rows, dtype=torch.float32)[:, None, None, None]


def batch(
    labels: Sequence[Any],
    unlabelled: int,
    index: Sequence[int] | None = None,
    order: Sequence[int] | None = None,
) -> Batch:
    """The table's rows are: labelled images, weak views, strong views. `order` turns the unlabelled
    images round."""
    b, turn = len(labels), range(unlabelled) if order is None else order
    index = range(unlabelled) if index is None else index
    return Batch(
        images(*range(b)),
        torch.tensor(labels),
        images(*(b + u for u in turn)),
        images(*(b + unlabelled + u for u in turn)),
        torch.tensor([index[u] for u in turn]),
    )


def facts(*counts: int, images: int = 0, unlabelled: int = 0, **more: Any) -> Facts:
    """Of a pool with so many labels of each class."""
    return Facts(len(counts), counts, images or unlabelled or sum(counts), unlabelled, **more)


def method(name: str, about: Facts, **settings: Any) -> Any:
    return create(name, about, resolve(name, settings))


def softmax(logits: Row) -> list[float]:
    total = sum(math.exp(value) for value in logits)
    return [math.exp(value) / total for value in logits]


def cross_entropy(logits: Row, target: int | Row) -> float:
    """Of a class, or of probabilities."""
    p = softmax(logits)
    if isinstance(target, int):
        return -math.log(p[target])
    return -sum(t * math.log(p[k]) for k, t in enumerate(target))


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def binary(logit: float, target: float) -> float:
    """Binary cross-entropy."""
    p = sigmoid(logit)
    return -target * math.log(p) - (1 - target) * math.log(1 - p)


def pulled(logits: Row, target: int | Row, weight: float) -> list[float]:
    """The gradient of weight · cross-entropy with respect to the logits: weight (p - target)."""
    one_hot = [float(k == target) for k in range(len(logits))]
    q = one_hot if isinstance(target, int) else target
    return [weight * (p - t) for p, t in zip(softmax(logits), q, strict=True)]


def plus(logits: Row, other: Row) -> list[float]:
    return [a + b for a, b in zip(logits, other, strict=True)]


def log_prior(*counts: int) -> list[float]:
    """Of the classes' estimated frequencies: one more label of each is counted."""
    return [math.log((n + 1) / (sum(counts) + len(counts))) for n in counts]
