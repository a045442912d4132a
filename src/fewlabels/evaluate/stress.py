"""Stress by cause: how far may a thing be turned, shrunk, bent, hidden or lit otherwise?

Each cause changes the images more and more, all of them by as much; where there are two sides, as
there are for turning, every other image goes to the other. What is asked for is a figure in the
cause's own unit: where accuracy has fallen by five points, on a straight line between two levels.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fewlabels.augment.draws import uniforms
from fewlabels.augment.policy import Policy
from fewlabels.augment.views import Augmenter
from fewlabels.pixels.preprocess import Preprocess, border_colour

Images = NDArray[np.uint8]
FALL = 0.05  # of accuracy
BATCH = 256
_AS_THEY_ARE = (0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255)  # mean and deviation


@dataclass(frozen=True)
class Cause:
    """What is done to the images, ever more of it.

    `policies` hold {} for the level and take turns; without any, a part of the image is hidden.
    """

    unit: str
    levels: tuple[float, ...]
    policies: tuple[str, ...] = ()
    nothing: float = 0.0  # the level that changes nothing


CAUSES: dict[str, Cause] = {
    "viewpoint, turned": Cause(
        "degrees",
        (5, 10, 15, 20, 30, 45, 60, 90),
        ("rotate({0}..{0})", "rotate(-{0}..-{0})"),
    ),
    "viewpoint, tilted": Cause(
        "of the side that corners move, at most",
        (0.05, 0.1, 0.15, 0.2, 0.25),
        ("perspective({0})",),
    ),
    "scale, farther": Cause(
        "of the size", (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3), ("scale({0}..{0})",), 1.0
    ),
    "scale, nearer": Cause(
        "of the size", (1.1, 1.25, 1.5, 1.75, 2, 2.5, 3), ("scale({0}..{0})",), 1.0
    ),
    "deformation, sheared": Cause(
        "of the height",
        (0.1, 0.2, 0.3, 0.4, 0.6, 0.8),
        ("shear_x({0}..{0})", "shear_x(-{0}..-{0})"),
    ),
    "deformation, bent": Cause(
        "of the side that points move, at most", (0.05, 0.1, 0.2, 0.3, 0.5), ("elastic({0})",)
    ),
    "occlusion": Cause("of the area", (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)),
    "illumination, darker": Cause(
        "of the light", (0.8, 0.6, 0.4, 0.3, 0.2, 0.1), ("brightness({0}..{0})",), 1.0
    ),
    "illumination, brighter": Cause(
        "of the light", (1.25, 1.5, 2, 2.5, 3, 4), ("brightness({0}..{0})",), 1.0
    ),
}


def stressed(
    ask: Callable[[Images], NDArray[np.int64]], images: Images, label: NDArray[np.int64], seed: int
) -> Iterator[tuple[str, float, NDArray[np.bool_]]]:
    """Of every cause and level, which of the images [N, S, S, 3] are recognised, [N].

    `ask` says the class of some uint8 images. What is done to an image depends on the seed and its
    number alone; what lies beyond its edge has the colour of all images' borders.
    """
    fill = border_colour(images, np.arange(len(images)))
    for name, cause in CAUSES.items():
        for level in cause.levels:
            parts = [
                ask(changed(images, rows, cause, level, fill, seed)) == label[rows]
                for rows in _batches(len(images))
            ]
            yield name, level, np.concatenate(parts)


def changed(
    images: Images,
    rows: NDArray[np.int64],
    cause: Cause,
    level: float,
    fill: NDArray[np.float64],
    seed: int,
) -> Images:
    """images[rows] under this much of a cause; `fill` [3] is the colour beyond their edges."""
    if not cause.policies:
        return _hidden(images, rows, level, fill, seed)
    render = Augmenter(images, Preprocess(images.shape[1], *_AS_THEY_ARE), fill, seed)
    out = np.empty((len(rows), *images.shape[1:]), np.uint8)
    for turn, text in enumerate(cause.policies):
        mine = rows % len(cause.policies) == turn
        if mine.any():
            policy, some = Policy.parse(text.format(level)), rows[mine]
            x = render(policy, some, np.zeros(len(some), np.int64), 0).numpy()
            out[mine] = np.floor(x + 0.5).transpose(0, 2, 3, 1)
    return out


def falls_at(cause: Cause, accuracies: Sequence[float], clean: float) -> float | None:
    """The level at which accuracy has first fallen by FALL from `clean`; None where it does not."""
    level, drop = cause.nothing, 0.0
    for following, accuracy in zip(cause.levels, accuracies, strict=True):
        after = clean - accuracy
        if after >= FALL:
            return level + (following - level) * (FALL - drop) / (after - drop)
        level, drop = following, after
    return None


def _hidden(
    images: Images,
    rows: NDArray[np.int64],
    area: float,
    fill: NDArray[np.float64],
    seed: int,
) -> Images:
    """A square of that part of the area is filled, anywhere, but whole."""
    out, size = images[rows].copy(), images.shape[1]
    side = round(size * area**0.5)
    place = uniforms(seed, np.zeros(len(rows), np.int64), rows, 0, 2)
    corner = np.floor(place * (size - side + 1)).astype(int)
    for image, (y, x) in zip(out, corner, strict=True):
        image[y : y + side, x : x + side] = np.floor(fill + 0.5)
    return out


def _batches(count: int) -> Iterator[NDArray[np.int64]]:
    for start in range(0, count, BATCH):
        yield np.arange(start, min(start + BATCH, count))
