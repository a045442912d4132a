"""Pool: the images DATA names, with their labels, splits and groups."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fewlabels.errors import UserError
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

HUB, TORCHVISION = "hf:", "torchvision:"  # what an address begins with

DataNames = str | Path | Sequence[str | Path]  # what `Pool.scan` takes: one, or several


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
    label: NDArray[np.int64]  # index into classes, -1 = unlabelled
    split: NDArray[np.str_]  # "train", "val", "test", or "" = still to be split (split.assign)
    group: NDArray[np.int64] | None = None  # rows of one group stay on one side of a split
    skipped: tuple[Skipped, ...] = ()
    mirror: bool = True  # False where a mirrored image is another thing, as a digit is
    lacks: str = ""  # why no classifier can be trained from it
    notes: tuple[str, ...] = ()  # what scan made of DATA that its owner may not expect
    parts: tuple[str, ...] = ()  # the origins of the pools that this one was joined of

    def __len__(self) -> int:
        return len(self.label)

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
        )

    def with_unlabelled(self, source: Source) -> Pool:
        """The pool with these images in the place of its own unlabelled training images."""
        own = self.take(np.flatnonzero((self.label >= 0) | ~np.isin(self.split, ("train", ""))))
        count = len(source)
        group = own.group
        if group is not None:  # each a group of its own
            group = np.concatenate([group, group.max(initial=-1) + 1 + np.arange(count)])
        return replace(
            own,
            source=Joined((own.source, source)),
            label=np.concatenate([own.label, np.full(count, -1)]),
            split=np.concatenate([own.split, np.full(count, "train", own.split.dtype)]),
            group=group,
        )

    def counts(self) -> dict[str, dict[str, int]]:
        """{split: {class: n, …, "unlabelled": n}} for the splits that have images."""
        result = {}
        for split in SPLITS:
            label = self.label[self.split == split]
            if len(label):
                n = np.bincount(label + 1, minlength=len(self.classes) + 1).tolist()
                result[split] = dict(
                    zip((*self.classes, "unlabelled"), (*n[1:], n[0]), strict=True)
                )
        return result

    @classmethod
    def scan(cls, data: DataNames, to_train: bool = True) -> Pool:
        """The pool that DATA names; no image is decoded and nothing is written.

        `data` is a folder, a CSV or Parquet table, a folder of Parquet shards, a URL of
        Parquet, `hf:<id>`, `torchvision:<name>`, or the word "digits" (a folder of that name is
        `./digits`); or several of these, for one pool of all. Raises UserError when there is no
        such thing or, `to_train`, when no classifier can be trained from it.
        """
        pool = _scan(data)
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
    return Pool.scan(data).source


def _scan(data: DataNames) -> Pool:
    # Imported here: these modules build a Pool, and most commands need only one of them.
    from fewlabels.pool import digits, folder, hub, joined, named, remote, shards, table

    if not isinstance(data, str | Path):
        if not data:
            raise UserError(f"no DATA; it may be {KINDS}")
        return _scan(data[0]) if len(data) == 1 else joined.join([_scan(one) for one in data])
    if data == "digits":
        return digits.scan()
    if "://" in str(data):
        return remote.scan(str(data))
    if str(data).startswith(HUB):
        return hub.scan(str(data))
    if str(data).startswith(TORCHVISION):
        return named.scan(str(data))
    path = Path(data).expanduser()
    if not path.exists():
        raise UserError(f"{data}: no such file or folder{_near(path)}")
    path = path.absolute()
    if path.is_dir():
        listing = folder.walk(path)
        if not listing.images and any(_is_parquet(name) for name in listing.others):
            return shards.scan_folder(path, listing)
        return folder.scan(path, listing)
    if path.suffix.lower() == ".csv":
        return table.scan_csv(path)
    if path.suffix.lower() == ".parquet":
        return shards.scan_file(path)
    raise UserError(f"{data}: not a kind of data fewlabels reads; DATA may be {KINDS}")


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
    split: Sequence[str],
    group: NDArray[np.int64] | None = None,
    skipped: Sequence[Skipped] = (),
    mirror: bool = True,
    hint: str = "",
) -> Pool:
    """A Pool from class names [N] ("" = unlabelled); `hint` ends the line that says that there are
    no labels."""
    names = np.array(labels, dtype=np.str_)
    sides = np.array(split, dtype="U5")
    learnable = (names != "") & ((sides == "train") | (sides == ""))
    lacks = _lacks(names, sides, learnable, hint)
    classes = sort_classes(names[names != ""].tolist())
    index = {name: number for number, name in enumerate(classes)} | {"": -1}
    label = np.array([index[name] for name in names.tolist()], dtype=np.int64)
    return Pool(origin, source, classes, label, sides, group, tuple(skipped), mirror, lacks)


def _lacks(
    names: NDArray[np.str_], sides: NDArray[np.str_], learnable: NDArray[np.bool_], hint: str
) -> str:
    """Why no classifier can be trained from images with these labels; "" where one can."""
    if not learnable.any():
        hint = hint or "put some into one folder for each class, or name a CSV image,label"
        return f"no labelled training image among {len(names)}; {hint}"
    classes = np.unique(names[learnable]).tolist()
    for side in ("val", "test"):
        present, n = np.unique(names[(sides == side) & (names != "")], return_counts=True)
        for name, count in zip(present.tolist(), n.tolist(), strict=True):
            if name not in classes:
                return (
                    f"class {name!r} is in {side} ({count} images) but not in train; "
                    "add labelled training images of it or take it out"
                )
    if len(classes) == 1:
        return f"only one class ({classes[0]!r}); a classifier needs at least two"
    return ""
