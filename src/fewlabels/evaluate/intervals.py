"""Intervals: how sure a number from n images can be."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm


def wilson(correct: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """The score interval for a proportion (Wilson 1927): `correct` of n, both ends in [0, 1]."""
    if n == 0:
        return 0.0, 1.0
    z = float(norm.ppf(0.5 + confidence / 2))
    p = correct / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # at 0 or n correct the end is exact, and rounding must not move it
    return (0.0 if correct == 0 else centre - half), (1.0 if correct == n else centre + half)


def paired_difference(
    right_a: NDArray[np.bool_],
    right_b: NDArray[np.bool_],
    confidence: float = 0.95,
    draws: int = 10_000,
) -> tuple[float, float, float]:
    """Accuracy of a less that of b on the same n images, with a paired bootstrap interval.

    An image on which both agree says nothing about the difference, so the bootstrap draws the
    numbers of images won, lost and tied: exactly the resampling of images, at a fraction of the
    work. Seeded: the same input gives the same interval.
    """
    n = len(right_a)
    won, lost = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    rng = np.random.default_rng(0)
    counts = rng.multinomial(n, [won / n, lost / n, (n - won - lost) / n], size=draws)
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    low, high = np.quantile((counts[:, 0] - counts[:, 1]) / n, tails)
    return (won - lost) / n, float(low), float(high)


def accuracy(right: NDArray[np.bool_]) -> dict[str, Any]:
    """{"accuracy", "interval", "n"} from which of n images were right."""
    n, correct = len(right), int(right.sum())
    low, high = wilson(correct, n)
    return {
        "accuracy": round(correct / n, 4),
        "interval": [round(low, 4), round(high, 4)],
        "n": n,
    }
