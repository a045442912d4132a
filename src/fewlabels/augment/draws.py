"""Counter-based random numbers: a draw is a function of its name, not of what was drawn before.

Draw `d` for view `v` of image `i` in epoch `e` under seed `s` is a hash of (s, e, i, v, d). Results
do not depend on the number of workers, on the batch an image falls into, or on where a run was
resumed; and two views of one image share no draws.
"""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@njit(nogil=True, cache=True)
def _mix(z: Any) -> Any:
    """The finaliser of SplitMix64 (Steele, Lea and Flood, 2014)."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@njit(nogil=True, cache=True)
def _fill(
    seed: np.uint64,
    epoch: NDArray[np.int64],
    image: NDArray[np.int64],
    view: np.uint64,
    out: NDArray[np.float64],
) -> None:
    one = np.uint64(1)
    start = _mix(seed + _GOLDEN)
    for b in range(len(image)):
        key = _mix(start ^ ((np.uint64(epoch[b]) + one) * _GOLDEN))
        key = _mix(key ^ ((np.uint64(image[b]) + one) * _GOLDEN))
        key = _mix(key ^ ((view + one) * _GOLDEN))
        for d in range(out.shape[1]):
            bits = _mix(key + (np.uint64(d) + one) * _GOLDEN)
            out[b, d] = np.float64(bits >> np.uint64(11)) * 2.0**-53


def uniforms(
    seed: int, epoch: NDArray[np.int64], image: NDArray[np.int64], view: int, count: int
) -> NDArray[np.float64]:
    """Uniform numbers in [0, 1), shape [B, count], for `image` [B] in its `epoch` [B]."""
    out = np.empty((len(image), count))
    _fill(np.uint64(seed), epoch, image, np.uint64(view), out)
    return out
