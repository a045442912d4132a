"""Several pools as one: `Pool.scan(["photos/", "more.csv", "hf:x/y"])`."""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from fewlabels.errors import UserError
from fewlabels.pool.labels import need_no_bar
from fewlabels.pool.pool import MULTI, REGRESSION, SINGLE, Pool, Skipped, assemble
from fewlabels.pool.source import Files, Joined, ParquetImages, Source, Subset


def join(pools: Sequence[Pool]) -> Pool:
    """One Pool of the images of all, one pool after the other; N below. Raises UserError.

    Classes are the union, and what is still to be split stays so. An image's name begins with its
    pool's where another pool has the same name. A file that two pools name is there once, with what
    either knows of it; copies in files of their own stay. Groups stay apart, but for those that
    such a file belongs to: they are one.
    """
    _need_apart(pools)
    sizes = [len(pool) for pool in pools]
    of = np.repeat(np.arange(len(pools)), sizes)  # [N] the number of a row's pool
    label = np.concatenate([_label_texts(pool) for pool in pools])  # [N] "" = unlabelled
    split = np.concatenate([pool.split for pool in pools])
    source = Joined(tuple(pool.source for pool in pools))
    again: dict[int, int] = {}  # row -> the row of another pool before it that is the same file

    for row, before in _same_files(pools):
        where = f"{source.name(row)!r} is in {pools[of[before]].origin} and {pools[of[row]].origin}"
        if label[before] and label[row]:
            _need_same(where, "labels", label[before], label[row])
        # an unlabelled image is in training wherever nothing is said of it
        said = [split[n] if label[n] or split[n] != "train" else "" for n in (before, row)]
        if all(said):
            _need_same(where, "splits", *said)
        label[before] = label[before] or label[row]
        split[before] = said[0] or said[1] or ("" if label[before] else "train")
        again[row] = before

    group = _groups(pools, again)
    words = _words(pools)
    skipped = [
        Skipped(f"{word}/{one.name}", one.reason)
        for word, pool in zip(words, pools, strict=True)
        for one in pool.skipped
    ]
    skipped += [
        Skipped(f"{words[of[row]]}/{source.name(row)}", f"the same file as in {words[of[before]]}")
        for row, before in again.items()
    ]
    kept = np.setdiff1d(np.arange(len(label)), list(again))
    clash = _clashing(source, kept, of[kept])
    named = Joined(
        source.sources,
        tuple(f"{word}/" if n in clash else "" for n, word in enumerate(words)),
    )
    joined = assemble(
        " + ".join(pool.origin for pool in pools),
        Subset(named, kept) if again else named,
        label[kept].tolist(),
        split[kept].tolist(),
        group=None if group is None else group[kept],
        skipped=skipped,
        mirror=all(pool.mirror for pool in pools),
        task=_task(pools),
        notes=[*(note for pool in pools for note in pool.notes), *_case_notes(pools)],
    )
    notes = tuple(dict.fromkeys(joined.notes))  # the joint pool may say what one of them has said
    return replace(joined, parts=tuple(pool.origin for pool in pools), notes=notes)


def _task(pools: Sequence[Pool]) -> str:
    """Of all their labels together; UserError where some are classes and some are numbers."""
    tasks = {pool.task: pool.origin for pool in pools if (pool.label >= 0).any()}
    if REGRESSION in tasks and len(tasks) > 1:
        told = " and ".join(f"{task} ({origin})" for task, origin in tasks.items())
        raise UserError(f"labels of different kinds cannot be joined: {told}")
    if MULTI in tasks:
        for pool in pools:
            if pool.task == SINGLE:
                need_no_bar(pool.origin, pool.classes)
    return next((task for task in (MULTI, REGRESSION) if task in tasks), SINGLE)


def _need_apart(pools: Sequence[Pool]) -> None:
    """UserError where DATA is named twice, or a Parquet file is in two pools."""
    seen: dict[str, Pool] = {}
    for pool in pools:
        files = pool.source.files if isinstance(pool.source, ParquetImages) else ()
        for place in (pool.origin, *(_real(file) for file in files)):
            if (other := seen.setdefault(place, pool)) is not pool:
                raise UserError(f"{place}: is named twice ({other.origin}, {pool.origin})")


def _real(file: object) -> str:
    return os.path.realpath(file) if isinstance(file, os.PathLike) else str(file)


def _same_files(pools: Sequence[Pool]) -> Iterator[tuple[int, int]]:
    """(row, an earlier row of another pool) for images that are the same file, links followed."""
    files = [pool for pool in pools if isinstance(pool.source, Files)]
    if len(files) < 2:
        return
    first: dict[str, tuple[int, Pool]] = {}
    start = 0
    for pool in pools:
        if isinstance(pool.source, Files):
            for row, place in enumerate(_real_paths(pool.source), start):
                before, owner = first.setdefault(place, (row, pool))
                if owner is not pool:
                    yield row, before
        start += len(pool)


def _real_paths(source: Files) -> Iterator[str]:
    known: dict[str, tuple[str, frozenset[str]]] = {}  # few folders hold many files
    for path in source.paths:
        start = path.rfind("/") + 1
        folder, name = path[:start], path[start:]
        if folder not in known:
            known[folder] = _real_folder(os.path.join(source.root, folder))
        real, links = known[folder]
        place = f"{real}/{name}"
        yield os.path.realpath(place) if name in links else place


def _real_folder(folder: str) -> tuple[str, frozenset[str]]:
    """Where a folder really lies, and the names of the links in it."""
    real = os.path.realpath(folder)
    try:
        with os.scandir(real) as entries:
            return real, frozenset(entry.name for entry in entries if entry.is_symlink())
    except OSError:  # its files cannot be told then either
        return real, frozenset()


def _need_same(where: str, what: str, one: str, other: str) -> None:
    if one != other:
        raise UserError(f"{where} with two {what}: {one} and {other}; keep one of them")


def _label_texts(pool: Pool) -> NDArray[np.object_]:
    if pool.target is None:
        return np.array([*pool.classes, ""], dtype=np.object_)[pool.label]
    return np.array([pool.label_text(row) for row in range(len(pool))], dtype=np.object_)


def _groups(pools: Sequence[Pool], again: Mapping[int, int]) -> NDArray[np.int64] | None:
    """Group numbers [N]; None if no pool has any.

    They differ from pool to pool, but for groups that share a file, rows of `again`: these are one,
    since what a pool ties stays together.
    """
    if all(pool.group is None for pool in pools):
        return None
    found: list[NDArray[np.int64]] = []
    count = 0
    for pool in pools:
        own = np.arange(len(pool)) if pool.group is None else pool.group
        found.append(own + count)
        count += int(own.max(initial=-1)) + 1
    group = np.concatenate(found)
    links = group[list(again)], group[list(again.values())]
    graph = coo_array((np.ones(len(again), np.bool_), links), shape=(count, count))
    one: NDArray[np.int64] = connected_components(graph, directed=False)[1].astype(np.int64)
    return one[group]


def _words(pools: Sequence[Pool]) -> list[str]:
    """A short name for each pool: the last part of where it lies, or all where others share it."""
    short = [os.path.basename(pool.origin.rstrip("/")) or pool.origin for pool in pools]
    return [
        word if short.count(word) == 1 else pool.origin
        for word, pool in zip(short, pools, strict=True)
    ]


def _clashing(source: Source, rows: NDArray[np.int64], of: NDArray[np.int64]) -> set[int]:
    """The numbers of the pools [n] of `of` that share a name with another one."""
    # Digests rather than a million strings.
    names = (source.name(row).encode(errors="surrogateescape") for row in rows.tolist())
    keys = np.fromiter(
        (int.from_bytes(hashlib.blake2b(name, digest_size=8).digest()) for name in names),
        dtype=np.uint64,
        count=len(rows),
    )
    order = np.lexsort((of, keys))
    same = (keys[order][1:] == keys[order][:-1]) & (of[order][1:] != of[order][:-1])
    pairs = np.flatnonzero(same)
    return set(of[order][pairs].tolist()) | set(of[order][pairs + 1].tolist())


def _case_notes(pools: Sequence[Pool]) -> Iterator[str]:
    """A line for classes of different pools that differ in capitals alone."""
    spellings: dict[str, dict[str, str]] = {}
    for pool in pools:
        for name in pool.classes:
            spellings.setdefault(name.casefold(), {}).setdefault(name, pool.origin)
    for found in spellings.values():
        if len(set(found.values())) > 1:
            told = " and ".join(f"{name!r} ({origin})" for name, origin in found.items())
            yield f"two classes that differ in capitals alone: {told}; name them alike to join them"
