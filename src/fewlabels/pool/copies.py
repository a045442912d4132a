"""Images that are the same: copies, those that leak between splits, those with other labels."""

from collections.abc import Sequence
from dataclasses import dataclass

from fewlabels.pool.pool import Pool


@dataclass(frozen=True)
class Copy:
    """One of several images with the same content, or of the same group."""

    name: str
    split: str
    label: str  # "" = unlabelled


@dataclass(frozen=True)
class Copies:
    """Images with the same content, a tuple a content."""

    duplicates: tuple[tuple[str, ...], ...]  # names
    leaks: tuple[tuple[Copy, ...], ...]  # those of them that stand in more than one split
    contradictions: tuple[tuple[Copy, ...], ...]  # those of them with different labels


def same(keys: Sequence[str]) -> list[list[int]]:
    """The rows of each key that several rows have, by keys [N], "" = unknown."""
    rows: dict[str, list[int]] = {}
    for row, key in enumerate(keys):
        if key:
            rows.setdefault(key, []).append(row)
    return [group for group in rows.values() if len(group) > 1]


def copies_of(pool: Pool, digests: Sequence[str]) -> Copies:
    """What has the same content in a pool of N images, by digests [N], "" = unknown."""
    return as_copies(pool, same(digests))


def as_copies(pool: Pool, rows: Sequence[Sequence[int]]) -> Copies:
    """The same of groups of rows."""
    groups = [tuple(copy_of(pool, row) for row in group) for group in rows]
    return Copies(
        tuple(tuple(copy.name for copy in group) for group in groups),
        # Undecided exact copies cannot leak: split.assign keeps them on one side.
        tuple(group for group in groups if len({c.split for c in group} - {""}) > 1),
        tuple(group for group in groups if len({c.label for c in group} - {""}) > 1),
    )


def copy_of(pool: Pool, row: int) -> Copy:
    return Copy(pool.source.name(row), str(pool.split[row]), pool.label_text(row))
