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
    right_a: NDArray[np.bool_], right_b: NDArray[np.bool_], confidence: float = 0.95
) -> tuple[float, float, float]:
    """Accuracy of a less that of b on the same n images, with an interval for paired proportions.

    With w images that only a has right and l that only b has, p = (w + 1)/(n + 2) and
    q = (l + 1)/(n + 2), the interval is p - q ± z sqrt((p + q - (p - q)²)/(n + 2)) (Bonett and
    Price 2012, equation 4). The bootstrap is as good where dozens of images differ, and far too
    sure where few do: 4 won and 0 lost of 360 are not yet evidence, and no difference on 9 images
    is not certainty.
    """
    n = len(right_a)
    won, lost = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    z = float(norm.ppf(0.5 + confidence / 2))
    p, q = (won + 1) / (n + 2), (lost + 1) / (n + 2)
    half = z * math.sqrt((p + q - (p - q) ** 2) / (n + 2))
    return (won - lost) / n, max(-1.0, p - q - half), min(1.0, p - q + half)


def gain(right_a: NDArray[np.bool_], right_b: NDArray[np.bool_]) -> dict[str, Any]:
    """{"difference", "interval", "n"}, from `paired_difference`."""
    difference, low, high = paired_difference(right_a, right_b)
    return {
        "difference": round(difference, 4),
        "interval": [round(low, 4), round(high, 4)],
        "n": len(right_a),
    }


def accuracy(right: NDArray[np.bool_]) -> dict[str, Any]:
    """{"accuracy", "interval", "n"} from which of n images were right."""
    n, correct = len(right), int(right.sum())
    low, high = wilson(correct, n)
    return {
        "accuracy": round(correct / n, 4),
        "interval": [round(low, 4), round(high, 4)],
        "n": n,
    }
