"""The labelled images that a classifier is judged on: those of DATA, or the run's own test images.

Labels go by the names of classes. Images of classes that the classifier does not know are
strangers. ImageNet's folders are called by WordNet numbers (n01440764); a classifier with
ImageNet's classes is asked by these.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fewlabels.errors import UserError, one_line
from fewlabels.models.from_timm import wordnet
from fewlabels.pixels import cache
from fewlabels.pool.overlay import with_stored_labels
from fewlabels.pool.pool import DataNames, Pool, Skipped
from fewlabels.training.folder import RunFolder

# as `splits.parquet` says: what the run has learnt from, and what it was chosen by
LEARNT = ("labelled", "held out", "unlabelled", "val")
WORDNET = re.compile(r"n\d{8}")
IMAGENET = 1000

Rows = NDArray[np.int64]
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class Judges:
    """Labelled images [N]."""

    origin: str
    images: NDArray[np.uint8]  # [N, S, S, 3]
    label: Rows  # index into the classifier's classes; -1: of a class that it does not know
    group: Rows | None
    learnt: NDArray[np.bool_]  # whether the run has learnt from the same image, or was chosen by it
    skipped: tuple[Skipped, ...] = ()
    own: bool = False  # whether they are the run's own test images

    def take(self, rows: Rows) -> "Judges":
        """Those in `rows`, ascending; all of them without a copy."""
        if len(rows) == len(self.label):
            return self
        return replace(
            self,
            images=self.images[rows],
            label=self.label[rows],
            group=None if self.group is None else self.group[rows],
            learnt=self.learnt[rows],
        )


def find(
    run: Path, classes: tuple[str, ...], size: int, data: DataNames | None, count: Progress
) -> Judges:
    """The images of DATA that have a label, decoded at `size`: its test images, or all where it has
    none; without DATA those of the run. UserError where there are none."""
    own: dict[str, str] = {}
    there: list[str] = []
    read = partial(cache.fingerprint, progress=partial(count, "reading"))
    if data is None:
        origin, own = _own(run)
        pool = with_stored_labels(Pool.scan(origin, to_train=False), read)
        there = [pool.source.name(row) for row in range(len(pool))]
        mine = np.array([name in own for name in there]) & (pool.label >= 0)
    else:
        pool = with_stored_labels(Pool.scan(data, to_train=False), read)
        mine = pool.label >= 0
        if (test := mine & (pool.split == "test")).any():
            mine = test
    if not mine.any():
        where = run if data is None else pool.origin
        raise UserError(f"{where}: has no labelled images to be asked about")
    pool = pool.take(np.flatnonzero(mine))
    digest = pool.digest or read(pool.source)
    pixels = cache.build(
        *(pool.source, digest, size),
        progress=lambda done, of: count("decoding", done, of),
        origin=pool.origin,
    )
    learnt, names = _learnt(run), [pool.source.name(row) for row in range(len(pool))]
    changed = np.array([own.get(name, d) != d for name, d in zip(names, digest, strict=True)])
    skipped = [
        *(Skipped(name, "is gone since the run") for name in sorted(own.keys() - set(there))),
        *(
            Skipped(name, "has no label any more")
            for name in sorted(own.keys() & set(there) - set(names))
        ),
        *(Skipped(names[row], "has changed since the run") for row in np.flatnonzero(changed)),
        *(
            Skipped(names[row], pixels.reason[row])
            for row in np.flatnonzero(~pixels.readable & ~changed)
        ),
    ]
    return Judges(
        origin=pool.origin,
        images=pixels.images[:],  # a map as it is; else all of them, in memory
        label=numbers(pool.classes, classes)[pool.label],
        group=pool.group,
        learnt=np.array([one in learnt for one in digest]),
        skipped=tuple(skipped),
        own=data is None,
    ).take(np.flatnonzero(pixels.readable & ~changed))


def numbers(theirs: tuple[str, ...], ours: tuple[str, ...]) -> Rows:
    """The classifier's number of each class of the data; -1 where it does not know it."""
    known = {name: number for number, name in enumerate(ours)}
    if not known.keys() & set(theirs) and all(map(WORDNET.fullmatch, theirs)):
        known = _wordnet(len(ours))
    return np.array([known.get(name, -1) for name in theirs], np.int64)


def _wordnet(classes: int) -> dict[str, int]:
    """ImageNet's numbers by WordNet number; of 1,001 classes the first is the background."""
    if classes not in (IMAGENET, IMAGENET + 1):
        return {}
    return {name: classes - IMAGENET + i for i, name in enumerate(wordnet())}


def _learnt(run: Path) -> set[str]:
    """The contents of the images that the run has learnt from, or was chosen by."""
    rows = _splits(run)
    return {row["digest"] for row in rows if row["used"] in LEARNT}


def _own(run: Path) -> tuple[str | list[str], dict[str, str]]:
    """Where the run's images lie, and the digests of its test images by name. UserError where it
    has none."""
    own = {row["name"]: row["digest"] for row in _splits(run) if row["used"] == "test"}
    if not own:
        raise UserError(f"{run}: has no test images; name labelled DATA")
    return RunFolder.open(run).read_config()["data"], own


def _splits(run: Path) -> list[dict[str, str]]:
    """What the run has used which image for; nothing where it does not say, as an artefact."""
    table = run / "splits.parquet"
    if not table.is_file():
        return []
    try:
        rows: list[dict[str, str]] = pq.read_table(
            table, columns=["name", "digest", "used"]
        ).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{table}: is damaged ({one_line(error)})") from error
    return rows
