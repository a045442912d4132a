"""What each image of a run is for: decided when the run begins, kept in `splits.parquet`, and read
where it goes on. So a run ends with the labels and splits that it began with, whatever is labelled
meanwhile. A run that is made of others on the same images, a student, an ensemble, reads it too."""

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fewlabels.errors import UserError
from fewlabels.pool.pool import MULTI, REGRESSION, SINGLE, Pool
from fewlabels.training.folder import RunFolder, write_table

Rows = NDArray[np.int64]

FILE, CLASSES = "splits.parquet", "classes.json"
LABELLED, HELD_OUT, UNLABELLED, VAL, TEST = "labelled", "held out", "unlabelled", "val", "test"
LEFT_OUT = "left out"


@dataclass(frozen=True, eq=False)
class Uses:
    """The N images of a run, in the order in which it numbers them."""

    classes: tuple[str, ...]
    name: tuple[str, ...]
    digest: tuple[str, ...]  # of the content, "" where there was none
    split: NDArray[np.str_]
    label: Rows  # those that may be used; -1 = none
    used: NDArray[np.str_]  # for what; "held out": learnt from, and validated on in trials
    tied: Rows  # the same number for images that stay on one side of any division
    task: str = SINGLE
    target: NDArray[np.bool_] | NDArray[np.float64] | None = None  # as of a pool

    def rows(self, *uses: str) -> Rows:
        """The images that are used so."""
        return np.flatnonzero(np.isin(self.used, uses))

    def write(self, folder: RunFolder) -> None:
        columns = {
            "name": list(self.name),
            "digest": list(self.digest),
            "split": self.split.tolist(),
            "label": self.label,
            "used": self.used.tolist(),
            "tied": self.tied,
        }
        if self.target is not None:
            columns["target"] = list(self.target)
        write_table(pa.table(columns), folder.path / FILE)
        folder.write_json(CLASSES, list(self.classes))  # last: with it there is all

    def over(self, pool: Pool, every_label: bool) -> Pool:
        """The pool as the run began with it; a note says which labels are others by now.

        `every_label`: whether the run began with all labels that there were. UserError where images
        have come or gone.
        """
        names = tuple(pool.source.name(row) for row in range(len(pool)))
        if names != self.name:
            place, before = {name: row for row, name in enumerate(names)}, set(self.name)
            added = [name for name in names if name not in before]
            removed = [name for name in self.name if name not in place]
            again = [name for row, name in enumerate(names) if place[name] != row]
            if added or removed or again:
                told = ("added", added), ("removed", removed), ("there more than once", again)
                raise _changed(pool, *told)
            pool = pool.take(np.array([place[name] for name in self.name]))
        begun = replace(
            pool,
            classes=self.classes,
            label=self.label,
            split=self.split,
            drawn_by=None,
            lacks="",
            task=self.task,
            target=self.target,
        )
        note = self._labelled_since(begun, pool, every_label)
        return replace(begun, notes=(*pool.notes, note)) if note else begun

    def _labelled_since(self, begun: Pool, pool: Pool, every_label: bool) -> str:
        labelled = np.flatnonzero(self.label >= 0).tolist()
        changed = [r for r in labelled if pool.label_text(r) != begun.label_text(r)]
        free = (self.used == UNLABELLED) & (pool.label >= 0) & every_label
        told = _told(
            ("labelled otherwise", [self.name[row] for row in changed]),
            ("newly labelled", [self.name[row] for row in np.flatnonzero(free)]),
        )
        return told and (
            f"labels have changed since the run began: {told}; it goes on with those that it began "
            "with, a new run learns from the new ones"
        )

    def has_images_of(self, pool: Pool) -> bool:
        """Whether they have the same names, in any order."""
        return sorted(self.name) == sorted(pool.source.name(row) for row in range(len(pool)))

    def need_same_images(self, pool: Pool, digest: tuple[str, ...]) -> None:
        """UserError where images have another content than when the run began."""
        if digest != self.digest:
            pairs = zip(self.name, self.digest, digest, strict=True)
            raise _changed(pool, ("changed", [name for name, then, now in pairs if then != now]))


def read_uses(folder: RunFolder) -> Uses | None:
    """None where the run was killed before it had decided."""
    classes = folder.read_json(CLASSES)
    if classes is None:
        return None
    columns = pq.read_table(folder.path / FILE).to_pydict()
    task, target = SINGLE, None
    if "target" in columns:
        target = np.array(columns["target"])
        task = MULTI if target.dtype == np.bool_ else REGRESSION
    return Uses(
        tuple(classes),
        tuple(columns["name"]),
        tuple(columns["digest"]),
        np.array(columns["split"], dtype="U5"),
        np.array(columns["label"], dtype=np.int64),
        np.array(columns["used"], dtype="U10"),
        np.array(columns["tied"], dtype=np.int64),
        task,
        target,
    )


def _changed(pool: Pool, *kinds: tuple[str, list[str]]) -> UserError:
    return UserError(
        f"{pool.origin}: images have changed since the run began: {_told(*kinds)}; put that back, "
        "or start a new run"
    )


def _told(*kinds: tuple[str, list[str]]) -> str:
    """How many there are of each kind, and the first of them by name."""
    return ", ".join(
        f"{len(names):,} {kind} ({names[0]}{', …' if len(names) > 1 else ''})"
        for kind, names in kinds
        if names
    )
