"""Where the heat of a map lies, in numbers that can be said in words. Heat is what speaks for the
class: the positive part."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PLACES = (
    ("upper left", "top", "upper right"),
    ("left", "middle", "right"),
    ("lower left", "bottom", "lower right"),
)


@dataclass(frozen=True)
class Focus:
    """Shares of the heat, in 0..1."""

    centre: float  # in the middle quarter of the area, where an even map has 0.25
    place: str  # the third of the height and width that has most
    there: float  # its share, where an even map has a ninth
    half: float  # the share of the pixels that have half of the heat; an even map: 0.5
    border: float  # on the border that makes the image a square


def focus(values: NDArray[np.float32], border: NDArray[np.bool_]) -> Focus | None:
    """Of a map [S, S]; None where nothing in it is positive."""
    heat = np.maximum(values.astype(np.float64), 0)
    total = float(heat.sum())
    if not total > 0:
        return None
    heat = heat / total
    side = len(heat)
    a, b = round(side / 4), side - round(side / 4)
    cuts = [round(side * i / 3) for i in range(4)]
    thirds = np.array(
        [
            [heat[cuts[i] : cuts[i + 1], cuts[j] : cuts[j + 1]].sum() for j in range(3)]
            for i in range(3)
        ]
    )
    i, j = np.unravel_index(int(thirds.argmax()), thirds.shape)
    falling = np.sort(heat, axis=None)[::-1].cumsum()
    return Focus(
        centre=float(heat[a:b, a:b].sum()),
        place=PLACES[i][j],
        there=float(thirds[i, j]),
        half=float((np.searchsorted(falling, 0.5 - 1e-9) + 1) / heat.size),
        border=float(heat[border].sum()),
    )
