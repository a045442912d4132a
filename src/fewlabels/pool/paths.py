"""A column of paths: how they may be written, which are the same, and which files exist."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fewlabels.pool.pool import SUFFIXES
from fewlabels.pool.texts import BLOCK, TEXT, codes, encoded, first_of_each, mask


@dataclass(frozen=True, eq=False)
class Places:
    """Where N paths lie: `name[n]` in the folder `folders[folder[n]]`."""

    folders: tuple[str, ...]  # absolute, without `..`
    folder: NDArray[np.int64]
    name: Any  # arrow texts


def plain(root: Path, paths: Any) -> Any:
    """Paths [N] with `/`, without `file://`, as arrow texts.

    Backslashes are Windows' separators, unless the first such path exists as it is written.
    """
    if pc.any(uri := pc.starts_with(paths, "file://")).as_py():
        bare = pc.replace_substring_regex(paths, "^file://[^/]*", "")
        escaped = pc.and_(uri, pc.match_substring(paths, "%"))
        if pc.any(escaped).as_py():
            decoded = [unquote(path) for path in bare.filter(escaped).to_pylist()]
            bare = pc.replace_with_mask(bare, escaped, pa.array(decoded, TEXT))
        paths = bare
    other = paths.filter(pc.match_substring(paths, "\\"))
    if len(other) and not os.path.isfile(root / other[0].as_py()):
        paths = pc.replace_substring(paths, "\\", "/")
    return paths


def places(root: Path, paths: Any) -> Places:
    """Where paths [N] lie, those that are not absolute under `root`."""
    parts = pc.extract_regex(paths, r"(?s)^(?P<folder>.*/)?(?P<name>[^/]*)$")
    number, folders = encoded(pc.fill_null(parts.field("folder"), ""))
    # One folder may be written in several ways: `a/`, `./a/`, `b/../a/`.
    normal = [os.path.normpath(root / folder) for folder in folders]
    number_of = {folder: n for n, folder in enumerate(dict.fromkeys(normal))}
    renumbered = np.array([number_of[folder] for folder in normal], dtype=np.int64)
    return Places(tuple(number_of), renumbered[number], parts.field("name"))


def first_same(at: Places) -> NDArray[np.int64]:
    """The first row [N] with the same path as each row."""
    name = codes(at.name)
    return first_of_each(at.folder * (name.max(initial=0) + 1) + name)


def exist(at: Places) -> NDArray[np.bool_]:
    """Which paths are files [N]: one listing of each folder, rather than a question a path."""
    found = np.zeros(len(at.folder), dtype=np.bool_)
    order = np.argsort(at.folder, kind="stable")
    ends = np.cumsum(np.bincount(at.folder, minlength=len(at.folders)))
    for folder, rows in zip(at.folders, np.split(order, ends[:-1]), strict=True):
        names = at.name.take(pa.array(rows))
        there = mask(pc.is_in(names.cast(pa.large_binary()), value_set=_files(folder))).copy()
        # Asked one by one: where folders may not be listed, or do not tell upper from lower case.
        for row in np.flatnonzero(~there).tolist():
            there[row] = os.path.isfile(os.path.join(folder, names[row].as_py()))
        found[rows] = there
    return found


def by_name(root: Path, paths: Any) -> tuple[Any, str]:
    """Paths [N] of which none is a file, as those of the images anywhere below `root` that have the
    same name, with its suffix or without; and a line about it, "" where none was found.

    A name that several images have is left as it is.
    """
    from fewlabels.pool.folder import walk

    known: dict[str, str | None] = {}
    for image in walk(root).images:
        name = os.path.basename(image)
        for key in (name, os.path.splitext(name)[0]):
            known[key] = None if key in known else image
    written = paths.to_pylist()
    found = [known.get(os.path.basename(path)) for path in written]
    count = sum(path is not None for path in found)
    if not count:
        return paths, ""
    first = next(path for path in found if path is not None)
    told = f"images are found by their names below {root}: {count:,} of {len(found):,}, as {first}"
    return pa.array([new or old for new, old in zip(found, written, strict=True)], TEXT), told


def _files(folder: str) -> Any:
    """The names of the files in a folder, encoded: a name need not be UTF-8."""
    try:
        with os.scandir(folder) as entries:
            names = (os.fsencode(entry.name) for entry in entries if entry.is_file())
            blocks = list(_blocks(names))
    except OSError:
        blocks = []
    return pa.chunked_array(blocks, pa.large_binary())


def _blocks(names: Iterator[bytes]) -> Iterator[Any]:
    while some := list(islice(names, BLOCK)):
        yield pa.array(some, pa.large_binary())


def are_images(names: Any) -> NDArray[np.bool_]:
    """Which file names [N] have the suffix of a format that is read, as `folder.is_image`."""
    suffixes = "|".join(sorted(suffix[1:] for suffix in SUFFIXES))
    # A leading dot begins no suffix.
    return mask(pc.match_substring_regex(names, rf"(?is)[^.].*\.(?:{suffixes})$"))
