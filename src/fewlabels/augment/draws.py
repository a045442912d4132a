"""Counter-based random numbers: a draw is a function of its name, not of what was drawn before.

Draw `d` for view `v` of image `i` in epoch `e` under seed `s` is a hash of (s, e, i, v, d). Results
do not depend on the number of workers, on the batch an image falls into, or on where a run was
resumed; and two views of one image share no draws.
"""

import numpy as np
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea and Flood, 2014)."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def uniforms(
    seed: int, epoch: NDArray[np.int64], image: NDArray[np.int64], view: int, count: int
) -> NDArray[np.float64]:
    """Uniform numbers in [0, 1), shape [B, count], for `image` [B] in its `epoch` [B]."""
    with np.errstate(over="ignore"):
        key = _mix(np.full(len(image), seed, np.uint64) + _GOLDEN)
        for part in (epoch, image, np.full(len(image), view)):
            key = _mix(key ^ (part.astype(np.uint64) + np.uint64(1)) * _GOLDEN)
        counter = (np.arange(count, dtype=np.uint64) + np.uint64(1)) * _GOLDEN
        bits = _mix(key[:, None] + counter[None, :])
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
