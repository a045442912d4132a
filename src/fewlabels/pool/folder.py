"""Class folders, with splits (train/<class>/…) or as one flat tree (<class>/…)."""

import os
from dataclasses import dataclass
from pathlib import Path

from fewlabels.errors import UserError
from fewlabels.pool.pool import (
    FORMATS,
    SINGLE,
    SPLIT_NAMES,
    SUFFIXES,
    UNLABELLED_NAMES,
    Pool,
    Skipped,
    assemble,
)
from fewlabels.pool.source import Files, shown

# What operating systems and file servers leave behind; it never was the user's.
LITTER = frozenset({"__MACOSX", "@eaDir", "Thumbs.db", "desktop.ini", "$RECYCLE.BIN"})


OUTSIDE = "a link that leads out of the folder"


@dataclass(frozen=True)
class Listing:
    """All files under a folder, sorted, with `/` and relative to it."""

    images: tuple[str, ...]  # by suffix; nothing is opened
    others: tuple[str, ...]
    skipped: tuple[Skipped, ...]  # folders that could not be listed


def walk(root: Path) -> Listing:
    """Lists `root` and its folders, through links too; hidden names and litter are left out."""
    images: list[str] = []
    others: list[str] = []
    skipped: list[Skipped] = []

    def relative(path: str) -> str:
        return os.path.relpath(path, root).replace(os.sep, "/")

    def refused(error: OSError) -> None:
        if str(error.filename) == str(root):
            raise UserError(f"{root}: cannot be listed ({error.strerror})")
        skipped.append(Skipped(relative(error.filename), f"cannot be listed ({error.strerror})"))

    home = os.path.realpath(root)
    for folder, folders, files in os.walk(root, followlinks=True, onerror=refused):
        kept = sorted(name for name in folders if not _hidden(name))
        for name in list(kept):
            path = os.path.join(folder, name)
            real = os.path.realpath(path) if os.path.islink(path) else ""
            # A link to a folder above itself would be walked for ever, and so would links in
            # linked folders that lead to each other.
            if real and _inside(folder, real):
                kept.remove(name)
                skipped.append(Skipped(relative(path), "a link to a folder that contains it"))
            elif real and not _inside(real, home):
                kept.remove(name)
                skipped.append(Skipped(relative(path), OUTSIDE))
            elif real and os.path.realpath(folder) != _plainly(folder, str(root), home):
                kept.remove(name)
                skipped.append(Skipped(relative(path), "a link in a linked folder"))
            elif os.path.exists(os.path.join(path, "config.yaml")) and os.path.exists(
                os.path.join(path, "train.log")
            ):
                kept.remove(name)  # one of our run folders, begun inside the data folder
        folders[:] = kept
        for name in files:
            if not _hidden(name):
                path = relative(os.path.join(folder, name))
                if os.path.islink(os.path.join(folder, name)) and not _inside(
                    os.path.realpath(os.path.join(folder, name)), home
                ):
                    skipped.append(Skipped(path, OUTSIDE))
                    continue
                (images if is_image(name) else others).append(path)
    return Listing(
        tuple(sorted(images, key=_parts)), tuple(sorted(others, key=_parts)), tuple(skipped)
    )


def _parts(path: str) -> list[str]:
    return path.split("/")  # so that a/b comes before a-1/b, as a person lists folders


def is_image(name: str) -> bool:
    """Whether the suffix is one of the formats read."""
    return os.path.splitext(name)[1].lower() in SUFFIXES


def unread_format(name: str) -> str:
    """The reason for skipping a file that is no image by its suffix."""
    return f"not an image format that is read ({FORMATS})" if "." in name else "not an image"


def scan(root: Path, listing: Listing, task: str | None = None) -> Pool:
    """The Pool of a folder of images. Raises UserError.

    A folder is one class, whatever its name holds, unless `task` says otherwise.
    """
    if not listing.images:
        raise UserError(f"{root}: no images in this folder; formats read: {FORMATS}")
    place = _place_in_splits if _has_splits(listing.images) else _place_in_flat
    skipped = [*listing.skipped, *(Skipped(name, unread_format(name)) for name in listing.others)]
    paths, labels, split = [], [], []
    for path in listing.images:
        side, label, reason = place(_parts(path))
        if reason:
            skipped.append(Skipped(path, reason))
        else:
            paths.append(path)
            labels.append(shown(label))
            split.append(side)
    tables = [name for name in listing.others if name.lower().endswith((".csv", ".tsv"))]
    hint = f"if {tables[0]} holds the labels, name it: {root / tables[0]}" if tables else ""
    source = Files(root, tuple(paths))
    return assemble(
        str(root), source, labels, split, skipped=skipped, hint=hint, task=task or SINGLE
    )


def _has_splits(images: tuple[str, ...]) -> bool:
    """Whether the top folders are train, val, test and not classes.

    They are when one of them holds class folders; or when there is no other folder, so that two
    folders of loose images, train and test, are not taken for two classes. Otherwise `train` is a
    class, as it may be beside `car` and `bus`.
    """
    parts = [_parts(path) for path in images]
    tops = {p[0].casefold() for p in parts if len(p) > 1}
    nested = {p[0].casefold() for p in parts if len(p) > 2}
    if not tops & set(SPLIT_NAMES):
        return False
    return bool(nested & set(SPLIT_NAMES)) or tops <= {*SPLIT_NAMES, *UNLABELLED_NAMES}


def _place_in_splits(parts: list[str]) -> tuple[str, str, str]:
    """(split, class, reason for leaving it out) of train/<class>/…/image."""
    top = parts[0].casefold()
    if len(parts) > 1 and top in UNLABELLED_NAMES:
        return "train", "", ""
    if len(parts) == 1 or top not in SPLIT_NAMES:
        return "", "", "not in train/, val/, test/ or unlabelled/"
    side = SPLIT_NAMES[top]
    label = parts[1] if len(parts) > 2 and parts[1].casefold() not in UNLABELLED_NAMES else ""
    if not label and side != "train":
        return "", "", f"an image in {parts[0]}/ needs a class folder"
    return side, label, ""


def _place_in_flat(parts: list[str]) -> tuple[str, str, str]:
    """(split, class, "") of <class>/…/image."""
    if len(parts) == 1 or parts[0].casefold() in UNLABELLED_NAMES:
        return "train", "", ""
    return "", parts[0], ""


def _plainly(folder: str, root: str, home: str) -> str:
    """Where a folder below `root` would lie if no link were on the way."""
    return os.path.normpath(os.path.join(home, os.path.relpath(folder, root)))


def _hidden(name: str) -> bool:
    return name.startswith(".") or name in LITTER


def _inside(path: str, folder: str) -> bool:
    path = os.path.realpath(path)
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)
