"""Images far from all others: screenshots among photographs, black frames, the lens cap."""

import numpy as np
from numpy.typing import NDArray

NEIGHBOURS = 5  # so that four copies of a stranger do not make it one of many
AMONG = 4000  # images that each is compared with, drawn at random
FENCE = 2.0  # interquartile ranges above the third quartile (Tukey takes 1.5 and 3)
_AT_ONCE = 1024

Values = NDArray[np.float32]
Features = NDArray[np.float32] | NDArray[np.uint8]


def far(features: Features, seed: int = 0) -> tuple[NDArray[np.int64], Values]:
    """The rows of features [N, F] that are far from all others, the farthest first, and how many
    times farther than usual each is.

    Far is what lies beyond Tukey's fence with its distance to the fifth nearest of AMONG images, on
    a logarithmic scale. There is none among fewer than 20.
    """
    count = len(features)
    nothing = np.zeros(0, np.int64), np.zeros(0, np.float32)
    if count < 20:
        return nothing
    chosen = np.arange(count)
    if count > AMONG:
        chosen = np.sort(np.random.default_rng(seed).choice(count, AMONG, replace=False))
    distance = np.log(np.maximum(_to_neighbour(features, chosen), 1e-6))
    quarter, half, three = np.quantile(distance, (0.25, 0.5, 0.75))
    if three - quarter < 1e-3:  # copies of few images: nothing is usual
        return nothing
    rows = np.flatnonzero(distance > three + FENCE * (three - quarter))
    rows = rows[np.argsort(-distance[rows], kind="stable")]
    return rows, np.exp(distance[rows] - half).astype(np.float32)


def _to_neighbour(features: Features, chosen: NDArray[np.int64]) -> Values:
    """Distance [N] to the fifth nearest of the chosen rows, not counting itself."""
    others = features[chosen].astype(np.float32)
    power = (others**2).sum(1)
    out = np.empty(len(features), np.float32)
    for start in range(0, len(features), _AT_ONCE):
        part = features[start : start + _AT_ONCE].astype(np.float32)
        squared = (part**2).sum(1)[:, None] + power - 2 * part @ others.T
        own = (chosen >= start) & (chosen < start + len(part))
        squared[chosen[own] - start, np.flatnonzero(own)] = np.inf
        nearest = np.partition(squared, NEIGHBOURS - 1, axis=1)[:, NEIGHBOURS - 1]
        out[start : start + len(part)] = np.sqrt(np.maximum(nearest, 0))
    return out
