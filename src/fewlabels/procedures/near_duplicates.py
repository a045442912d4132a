"""Near duplicates that must stay on one side of a split."""

import hashlib
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fewlabels.pixels import perceptual
from fewlabels.pixels.anchors import anchors, closeness
from fewlabels.pixels.cache import Cache
from fewlabels.pool.pool import Pool
from fewlabels.pool.texts import first_of_each
from fewlabels.pool.threads import THREADS, each

Rows = NDArray[np.int64]
Mask = NDArray[np.bool_]
FEW = 8  # images of a picture, at most: more that are nearly the same are a kind, not copies
MOST = 3  # closer looks for each image: together they take no longer than decoding it


class Near(NamedTuple):
    """Numbers of N images, the same for nearly the same pictures."""

    drawn: Rows  # [N], by the labels that splits are drawn by (`Pool.drawn_by`)
    known: Rows  # [N], by all labels
    notes: tuple[str, ...]  # what was not looked for, a line each


class _Small(NamedTuple):
    """What is compared of N images."""

    grey: perceptual.Grey  # [N, SIDE, SIDE]
    seen: Mask  # [N], those that were looked at
    same: Rows  # [N], the first row with the same square
    large: Mask  # [N], of pixels enough to be more than equal


def near_duplicates(pool: Pool, pixels: Cache) -> Near:
    """Which images must stay on one side of a split as exact copies do.

    Labels that came later are a case of their own, because they must not change what is drawn.
    Where images are decoded whenever they are needed, only anchors are, and compared.
    """
    own = pool if pool.drawn_by is None else replace(pool, label=pool.drawn_by, drawn_by=None)
    wanted, notes = anchors(own)[0] | anchors(pool)[0], []
    if not pixels.note:
        wanted[:] = wanted.any()
    elif (pixels.readable & ~wanted).any():
        notes = ["near duplicates: images without a label were not compared"]
    squares = _small(pixels, wanted & pixels.readable)
    drawn, said = _numbers(own, squares)
    known, more = (drawn, said) if own is pool else _numbers(pool, squares)
    return Near(drawn, known, tuple(dict.fromkeys((*notes, *said, *more))))


def _small(pixels: Cache, wanted: Mask) -> _Small:
    rows = np.flatnonzero(wanted)
    grey = np.zeros((len(wanted), perceptual.SIDE, perceptual.SIDE), np.uint8)

    def look(number: int) -> bytes:
        row = int(rows[number])
        square, (left, top, width, height) = pixels.images[row], pixels.box[row].tolist()
        picture = Image.fromarray(square[top : top + height, left : left + width])
        grey[row] = perceptual.small(picture)
        return hashlib.sha256(square).digest()

    first: dict[bytes, int] = {}
    same = np.arange(len(wanted))
    for row, digest in zip(rows.tolist(), each(look, len(rows), THREADS), strict=True):
        same[row] = first.setdefault(digest, row)
    return _Small(grey, wanted, same, pixels.box[:, 2:].min(axis=1) >= perceptual.LEAST)


def _numbers(pool: Pool, squares: _Small) -> tuple[Rows, list[str]]:
    """A number an image [N], and what was not looked for.

    Images of one camera may all be nearly the same: of a group that has several labels, or more
    than FEW images, only equal ones are.
    """
    chosen, note = anchors(pool)
    rows = np.arange(len(pool))
    of_one = np.zeros(len(pool), np.bool_)
    of_one[squares.same[chosen]] = True  # also where another one of equal squares has the label
    found = perceptual.pairs(
        squares.grey,
        squares.seen & squares.large & (squares.same == rows),
        of_one,
        MOST,
        pool.mirror,
    )
    links = np.concatenate([found.pairs, np.stack([rows, squares.same], 1)])
    group = perceptual.clusters(len(pool), links)
    low, high = np.full(len(pool), np.iinfo(np.int64).max), np.full(len(pool), -1)
    known = pool.label >= 0
    np.minimum.at(low, group[known], pool.label[known])
    np.maximum.at(high, group[known], pool.label[known])
    kinds = (np.bincount(group, minlength=len(pool)) > FEW) | (high > low)
    number = np.where(kinds[group], squares.same, first_of_each(group))
    return number, [line for line in (note, closeness(found.alike)) if line]
