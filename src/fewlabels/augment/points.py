"""Maps from pairs of points: affine from three, projective from four.

A map is a 3x3 matrix M with M[2, 2] = 1: (x, y, 1) goes to M @ (x, y, 1), divided by its last
component (Hartley and Zisserman, Multiple View Geometry, 2.3).
"""

import numpy as np
from numpy.typing import NDArray

Reals = NDArray[np.float64]

CORNERS = np.array([[-0.5, -0.5], [0.5, -0.5], [-0.5, 0.5], [0.5, 0.5]])  # of a view, in its sides


def through_points(source: Reals, target: Reals) -> Reals:
    """The map [3, 3] that takes `source` [3, 2] or [4, 2] to `target` of the same shape.

    ValueError for another number of points, or for points that no such map joins: three on a line.
    """
    if source.shape not in ((3, 2), (4, 2)) or target.shape != source.shape:
        raise ValueError(f"three or four pairs of points are needed, not {source.shape}")
    ways = _equations(source, target[None])[0], _equations(target, source[None])[0]
    if max(map(np.linalg.cond, ways)) > 1e10:
        raise ValueError("three of the points lie on one line")
    found: Reals = solve(source, target[None])[0]
    return found


def solve(source: Reals, targets: Reals) -> Reals:
    """The maps [B, 3, 3] that take `source` [n, 2] to each of `targets` [B, n, 2]; n is 3 or 4."""
    b, n = targets.shape[:2]
    solved = np.linalg.solve(_equations(source, targets), targets.reshape(b, 2 * n, 1))[:, :, 0]
    maps = np.zeros((b, 9))
    maps[:, : 2 * n], maps[:, 8] = solved, 1.0
    return maps.reshape(b, 3, 3)


def _equations(source: Reals, targets: Reals) -> Reals:
    """[B, 2n, 2n]: a x + b y + c - u (p x + q y) = u, and the same for v; for n = 3, p = q = 0."""
    b, n = targets.shape[:2]
    x, y, one = source[:, 0], source[:, 1], np.ones(n)
    rows = np.zeros((b, 2 * n, 8))
    rows[:, ::2, :3] = rows[:, 1::2, 3:6] = np.column_stack([x, y, one])
    rows[:, ::2, 6:] = -targets[:, :, :1] * source
    rows[:, 1::2, 6:] = -targets[:, :, 1:] * source
    return rows[:, :, : 2 * n]
