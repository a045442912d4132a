"""How far it can be afforded to look for near duplicates in a pool.

What is measured on must have no copy among what is learnt from. So images that have a label, or
that stand in validation or test, are *anchors*, and each is compared with all images: their
unlabelled copies are found too. Copies of which none is an anchor do no harm.
"""

import numpy as np
from numpy.typing import NDArray

from fewlabels.pixels.perceptual import ALIKE
from fewlabels.pool.pool import Pool

# At most. So many take 0.4 ms for each image of the pool on one core, about as long as decoding a
# small one.
ANCHORS = 100_000


def anchors(pool: Pool, every: bool = False) -> tuple[NDArray[np.bool_], str]:
    """Which images [N] are compared with all others, and what that leaves out, in one line.

    `every`: all images, while there are no more than ANCHORS.
    """
    if every and len(pool) <= ANCHORS:
        return np.ones(len(pool), np.bool_), ""
    apart = np.isin(pool.split, ("val", "test"))
    known = apart | (pool.label >= 0)
    if known.sum() <= ANCHORS:
        left = "unlabelled ones were not compared with each other" if every else ""
        return known, _note(left, len(pool))
    if 0 < apart.sum() <= ANCHORS:
        left = "those of training were not compared with each other"
        return apart, _note(left, len(pool))
    return np.zeros(len(pool), np.bool_), _note("only equal ones are told", len(pool))


def _note(left: str, count: int) -> str:
    return f"near duplicates: of {count:,} images {left}" if left else ""


def closeness(alike: float | None) -> str:
    """What a search left out whose closer looks began at `alike` (one of ALIKE), in one line."""
    if alike == ALIKE[0]:
        return ""
    left = "cropped copies may be missed" if alike else "only equal ones are told"
    return f"near duplicates: so many images look alike that {left}"
