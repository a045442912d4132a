"""Pool: the images DATA names, with their labels, splits and groups."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fewlabels.errors import UserError
from fewlabels.pool.address import HUB, TORCHVISION, absolute
from fewlabels.pool.source import Joined, Source, Subset

SPLITS = ("train", "val", "test", "")
SPLIT_NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
UNLABELLED_NAMES = ("unlabelled", "unlabeled")
FORMATS = ".jpg .jpeg .jpe .jfif .png .webp .gif .bmp .dib .tif .tiff"
SUFFIXES = frozenset(FORMATS.split())
KINDS = (
    "a folder of images, a .csv table, a .parquet file or folder, the URL of one, hf:<id>, "
    "torchvision:<name>, or the word digits"
)

DataNames = str | Path | Sequence[str | Path]  # what `Pool.scan` takes: one, or several

# What a label is: one class, any number of classes, or numbers.
SINGLE, MULTI, REGRESSION = TASKS = ("single", "multi", "regression")


@dataclass(frozen=True)
class Skipped:
    """A file that was left out, and why."""

    name: str
    reason: str


@dataclass(frozen=True, eq=False)  # arrays have no single truth value, so pools are not compared
class Pool:
    """N images. Arrays are [N] and in the order of `source`; they are never changed in place."""

    origin: str  # what the user named: an absolute path, or "digits"
    source: Source
    classes: tuple[str, ...]  # sorted; in the order of numbers when all are integers
    label: NDArray[np.int64]  # index into classes (0 in other tasks than single), -1 = unlabelled
    split: NDArray[np.str_]  # "train", "val", "test", or "" = still to be split (split.assign)
    group: NDArray[np.int64] | None = None  # rows of one group stay on one side of a split
    skipped: tuple[Skipped, ...] = ()
    mirror: bool = True  # False where a mirrored image is another thing, as a digit is
    lacks: str = ""  # why no classifier can be trained from it
    task: str = SINGLE
    # multi: bool [N, K], which classes; regression: float64 [N, T]. Unlabelled: False, NaN.
    target: NDArray[np.bool_] | NDArray[np.float64] | None = None
    drawn_by: NDArray[np.int64] | None = (
        None  # `label` before a label store: splits are drawn by it
    )
    notes: tuple[str, ...] = ()  # what scan made of DATA that its owner may not expect
    parts: tuple[str, ...] = ()  # the origins of the pools that this one was joined of
    digest: tuple[str, ...] | None = None  # of each image (content_digest), where they were read

    def __len__(self) -> int:
        return len(self.label)

    @property
    def width(self) -> int:
        """How many numbers say what an image is: one a class, or as many as a label has."""
        if self.task == REGRESSION and self.target is not None:
            return int(self.target.shape[1])
        return len(self.classes)

    def take(self, rows: NDArray[np.int64]) -> Pool:
        """The sub-pool with these rows [n], in this order; the classes stay."""
        rows = np.asarray(rows, dtype=np.int64)
        source = Subset(self.source, rows)
        if isinstance(self.source, Subset):  # keep one level, however often a pool is narrowed
            source = Subset(self.source.source, self.source.rows[rows])
        return replace(
            self,
            source=source,
            label=self.label[rows],
            split=self.split[rows],
            group=None if self.group is None else self.group[rows],
            target=None if self.target is None else self.target[rows],
            drawn_by=None if self.drawn_by is None else self.drawn_by[rows],
            digest=None if self.digest is None else tuple(self.digest[row] for row in rows),
        )

    def without_labels(self, rows: NDArray[np.bool_]) -> Pool:
        """The pool in which the images of this mask [N] are unlabelled."""
        target = self.target
        if target is not None:
            nothing = False if self.task == MULTI else np.nan
            target = np.where(rows[:, None], nothing, target)
        drawn_by = self.drawn_by
        if drawn_by is not None:
            drawn_by = np.where(rows, -1, drawn_by)
        label = np.where(rows, -1, self.label)
        return replace(self, label=label, target=target, drawn_by=drawn_by)

    def label_text(self, row: int) -> str:
        """The label of an image as a table has it: "cat", "cat|dog", "3.5"; "" = unlabelled."""
        if self.label[row] < 0:
            return ""
        if self.target is None:
            return self.classes[int(self.label[row])]
        if self.task == MULTI:
            return "|".join(self.classes[n] for n in np.flatnonzero(self.target[row])) or "|"
        return "|".join(f"{value:.15g}" for value in self.target[row])

    def with_unlabelled(self, source: Source) -> Pool:
        """The pool with these images in the place of its own unlabelled ones."""
        own = self.take(np.flatnonzero(self.label >= 0))
        count = len(source)
        group = own.group
        if group is not None:  # each a group of its own
            group = np.concatenate([group, group.max(initial=-1) + 1 + np.arange(count)])
        drawn_by = own.drawn_by
        if drawn_by is not None:
            drawn_by = np.concatenate([drawn_by, np.full(count, -1)])
        target = own.target
        if target is not None:
            nothing = False if self.task == MULTI else np.nan
            target = np.concatenate([target, np.full((count, target.shape[1]), nothing)])
        return replace(
            own,
            source=Joined((own.source, source)),
            label=np.concatenate([own.label, np.full(count, -1)]),
            split=np.concatenate([own.split, np.full(count, "train", own.split.dtype)]),
            group=group,
            target=target,
            drawn_by=drawn_by,
            digest=None,
        )

    def counts(self) -> dict[str, dict[str, int]]:
        """{split: {class: n, …, "unlabelled": n}} for the splits that have images.

        multi: an image counts in each of its classes, or as "no class". regression: "labelled" and
        "unlabelled".
        """
        result = {}
        for split in SPLITS:
            rows = self.split == split
            if rows.any():
                result[split] = self._counts(rows)
        return result

    def _counts(self, rows: NDArray[np.bool_]) -> dict[str, int]:
        label = self.label[rows]
        unlabelled = int((label < 0).sum())
        counts: dict[str, int]
        if self.task == REGRESSION:
            counts = {"labelled": len(label) - unlabelled}
        elif self.target is None:
            n = np.bincount(label[label >= 0], minlength=len(self.classes))
            counts = dict(zip(self.classes, n.tolist(), strict=True))
        else:
            target = self.target[rows]
            counts = dict(zip(self.classes, target.sum(0).tolist(), strict=True))
            counts["no class"] = int((~target[label >= 0].any(1)).sum())
        return counts | {"unlabelled": unlabelled}

    @classmethod
    def scan(cls, data: DataNames, to_train: bool = True, task: str | None = None) -> Pool:
        """The pool that DATA names; no image is decoded and nothing is written.

        `data` is a folder, a CSV or Parquet table, a folder of Parquet shards, a URL of
        Parquet, `hf:<id>`, `torchvision:<name>`, or the word "digits" (a folder of that name is
        `./digits`); or several of these, for one pool of all. `task` says what the labels are:
        "single", "multi" or "regression"; None: multi where a label holds `|`, else single. Raises
        UserError when there is no such thing or, `to_train`, when no classifier can be trained from
        it.
        """
        pool = _scan(data, task)
        if to_train and pool.lacks:
            raise UserError(f"{pool.origin}: {pool.lacks}")
        return pool


def scan_images(data: str | Path) -> Source:
    """All images that DATA names, whatever their labels: a folder, or what `Pool.scan` takes.

    UserError when there are none.
    """
    from fewlabels.pool import folder
    from fewlabels.pool.source import Files

    path = Path(data).expanduser().absolute()
    if data != "digits" and path.is_dir():
        inside = folder.walk(path)
        if inside.images:
            return Files(path, tuple(inside.images))
    return Pool.scan(data, to_train=False).source


def _scan(data: DataNames, task: str | None) -> Pool:
    # Imported here and below: these modules build a Pool, and a folder needs no pyarrow.
    from fewlabels.pool import digits, folder

    if task not in (None, *TASKS):
        raise UserError(f"task {task!r}; it is {', '.join(TASKS)}")
    if not isinstance(data, str | Path):
        from fewlabels.pool import joined

        if not data:
            raise UserError(f"no DATA; it may be {KINDS}")
        if len(data) == 1:
            return _scan(data[0], task)
        return joined.join([_scan(one, task) for one in data])
    if data == "digits":
        if task not in (None, SINGLE):
            raise UserError(f"digits: its labels are ten classes, one an image; task {task!r} not")
        return digits.scan()
    if "://" in str(data):
        from fewlabels.pool import remote

        return remote.scan(str(data), task)
    if str(data).startswith(HUB):
        from fewlabels.pool import hub

        return hub.scan(origin_of(data), task)
    if str(data).startswith(TORCHVISION):
        from fewlabels.pool import named

        return named.scan(origin_of(data), task)
    path = Path(data).expanduser()
    if not path.exists():
        raise UserError(f"{data}: no such file or folder{_near(path)}")
    path = path.absolute()
    if path.is_dir():
        listing = folder.walk(path)
        if not listing.images and any(_is_parquet(name) for name in listing.others):
            from fewlabels.pool import shards

            return shards.scan_folder(path, listing, task)
        return folder.scan(path, listing, task)

    from fewlabels.pool import shards, table

    if path.suffix.lower() in (".csv", ".tsv"):
        return table.scan_csv(path, task)
    if path.suffix.lower() == ".parquet":
        return shards.scan_file(path, task)
    raise UserError(f"{data}: not a kind of data fewlabels reads; DATA may be {KINDS}")


def origin_of(data: str | Path) -> str:
    """What `Pool.scan` calls the pool of this DATA, wherever it is named from; nothing is read."""
    text = str(data)
    if is_path(text):
        return str(Path(data).expanduser().absolute())
    if text.startswith((HUB, TORCHVISION)):
        return absolute(text)
    return text


def is_path(data: str) -> bool:
    """Whether DATA is a file or folder of this machine, by its form."""
    return data != "digits" and "://" not in data and not data.startswith((HUB, TORCHVISION))


def _is_parquet(name: str) -> bool:
    return name.lower().endswith(".parquet")


def _near(path: Path) -> str:
    """The end of a "no such file" line: names in the parent folder that may have been meant."""
    try:
        names = sorted(entry.name for entry in path.absolute().parent.iterdir())
    except OSError:
        return f"; DATA may be {KINDS}"
    near = difflib.get_close_matches(path.name, names, n=3, cutoff=0.6)
    if not near:
        return f"; DATA may be {KINDS}"
    return f"; did you mean {' or '.join(str(path.parent / name) for name in near)}?"


def sort_classes(names: Sequence[str]) -> tuple[str, ...]:
    """The distinct names, sorted; by number when all are integers, so "2" comes before "10"."""
    distinct = set(names)
    if all(name.isascii() and name.isdigit() for name in distinct):
        return tuple(sorted(distinct, key=lambda name: (int(name), name)))
    return tuple(sorted(distinct))


def assemble(
    origin: str,
    source: Source,
    labels: Sequence[str],
    split: Sequence[str] | NDArray[np.str_],
    group: NDArray[np.int64] | None = None,
    skipped: Sequence[Skipped] = (),
    mirror: bool = True,
    hint: str = "",
    task: str | None = None,
    notes: Sequence[str] = (),
    place: Callable[[int], str] | None = None,
) -> Pool:
    """A Pool from labels as text [N] ("" = unlabelled, `|` between several; see `read_labels`).

    `hint` ends the line that says that there are no labels; `place(row)` says where a row stands
    ("line 3"; without it, the image's name). Raises UserError for labels that cannot be read.
    """
    from fewlabels.pool.labels import read_labels

    where = place or source.name
    read = read_labels(labels, task, lambda row: f"{origin}: {where(row)}")
    pool = Pool(
        origin,
        source,
        read.classes,
        read.label,
        np.asarray(split, dtype="U5"),
        group,
        tuple(skipped),
        mirror,
        task=read.task,
        target=read.target,
        notes=tuple(notes),
    )
    return replace(pool, lacks=_lacks(pool, hint) or _divided(pool, where))


def _lacks(pool: Pool, hint: str) -> str:
    """Why nothing can be trained from these labels; "" where something can."""
    labelled = pool.label >= 0
    learnable = labelled & ((pool.split == "train") | (pool.split == ""))
    if not learnable.any():
        hint = hint or "put some into one folder for each class, or name a CSV image,label"
        return f"no labelled training image among {len(pool)}; {hint}"
    if pool.task == MULTI and not pool.classes:
        return "no labelled image has a class (every label is `|`)"
    if pool.task != SINGLE:
        return ""
    learnt = np.bincount(pool.label[learnable], minlength=len(pool.classes))
    for side in ("val", "test"):
        there = np.bincount(
            pool.label[labelled & (pool.split == side)], minlength=len(pool.classes)
        )
        for n in np.flatnonzero((there > 0) & (learnt == 0)):
            return (
                f"class {pool.classes[n]!r} is in {side} ({there[n]} images) but not in train; "
                "add labelled training images of it or take it out"
            )
    if np.count_nonzero(learnt) == 1:
        only = pool.classes[int(learnt.argmax())]
        return f"only one class ({only!r}); a classifier needs at least two"
    return ""


def divided_groups(pool: Pool) -> list[NDArray[np.int64]]:
    """The rows of each group whose labelled images were put into several splits; only those."""
    if pool.group is None:
        return []
    given = np.flatnonzero((pool.split != "") & (pool.label >= 0))
    order = given[np.argsort(pool.group[given], kind="stable")]
    group, split = pool.group[order], pool.split[order]
    apart = (group[:-1] == group[1:]) & (split[:-1] != split[1:])
    its = np.isin(group, group[:-1][apart])
    rows, ends = order[its], np.flatnonzero(np.diff(group[its])) + 1
    return np.split(rows, ends) if len(rows) else []


def _divided(pool: Pool, place: Callable[[int], str]) -> str:
    """Where labelled images of one group were put into two splits; "" if none were."""
    for rows in divided_groups(pool):
        one = int(rows[0])
        other = next(int(row) for row in rows if pool.split[row] != pool.split[one])
        return (
            f"{place(one)} and {place(other)} have the same group, but one is in "
            f"{pool.split[one]} and one in {pool.split[other]}; put a group into one split, or "
            "take the column group out"
        )
    return ""
