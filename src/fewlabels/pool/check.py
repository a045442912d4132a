"""What is wrong with a pool: images that cannot be read, copies, leaks, labels that contradict."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from fewlabels.pool.pool import Pool, Skipped
from fewlabels.pool.source import content_digest
from fewlabels.pool.threads import each


class Sized(Protocol):
    """A decoded image: (width, height), as a PIL image has it."""

    @property
    def size(self) -> tuple[int, int]: ...


@dataclass(frozen=True)
class Copy:
    """One of several images with the same content."""

    name: str
    split: str
    label: str  # "" = unlabelled


@dataclass(frozen=True)
class Copies:
    """Images with the same content, a tuple a content."""

    duplicates: tuple[tuple[str, ...], ...]  # names
    leaks: tuple[tuple[Copy, ...], ...]  # those of them that stand in more than one split
    contradictions: tuple[tuple[Copy, ...], ...]  # those of them with different labels


@dataclass(frozen=True)
class Sizes:
    """Pixels over all readable images; the median is of widths and heights apart."""

    least: tuple[int, int]  # width x height of the image with the fewest pixels
    median: tuple[int, int]
    most: tuple[int, int]


@dataclass(frozen=True)
class Checked:
    """What `check` found. Everything is in the order of the pool."""

    origin: str
    images: int
    counts: dict[str, dict[str, int]]  # {split: {class: n, …, "unlabelled": n}}
    unreadable: tuple[Skipped, ...]
    skipped: tuple[Skipped, ...]  # files that scan left out
    duplicates: tuple[tuple[str, ...], ...]  # names with the same content, a tuple a content
    leaks: tuple[tuple[Copy, ...], ...]  # those of them that stand in more than one split
    contradictions: tuple[tuple[Copy, ...], ...]  # those of them with different labels
    sizes: Sizes | None  # None when no image could be read

    def to_json(self) -> dict[str, Any]:
        """As plain dictionaries, lists, numbers and strings."""
        return asdict(self)


def check(
    pool: Pool,
    read_image: Callable[[bytes], Sized],
    progress: Callable[[int, int], None] | None = None,
    workers: int = 2,
) -> Checked:
    """Reads and decodes every image, by threads.

    `read_image` (pixels.decode.decode) raises with a reason where the bytes are not an image.
    `progress(done, total)` is called from the calling thread. An image that cannot be decoded still
    counts among the duplicates: its bytes are known.
    """

    def one(row: int) -> tuple[str, tuple[int, int] | None, str]:
        try:
            data = pool.source.read(row)
        except OSError as error:
            return "", None, _line(error.strerror or str(error))
        try:
            return content_digest(data), read_image(data).size, ""
        except Exception as error:  # whatever a decoder may raise is the reason that we report
            return content_digest(data), None, _line(str(error)) or type(error).__name__

    unreadable: list[Skipped] = []
    sizes: list[tuple[int, int]] = []
    digests: list[str] = []
    for row, (digest, size, reason) in enumerate(each(one, len(pool), workers)):
        if size is None:
            unreadable.append(Skipped(pool.source.name(row), reason))
        else:
            sizes.append(size)
        digests.append(digest)
        if progress:
            progress(row + 1, len(pool))
    copies = copies_of(pool, digests)
    return Checked(
        origin=pool.origin,
        images=len(pool),
        counts=pool.counts(),
        unreadable=tuple(unreadable),
        skipped=pool.skipped,
        duplicates=copies.duplicates,
        leaks=copies.leaks,
        contradictions=copies.contradictions,
        sizes=_sizes(sizes),
    )


def copies_of(pool: Pool, digests: Sequence[str]) -> Copies:
    """What has the same content in a pool of N images, by digests [N], "" = unknown."""
    same: dict[str, list[int]] = {}
    for row, digest in enumerate(digests):
        if digest:
            same.setdefault(digest, []).append(row)
    groups = [tuple(_copy(pool, row) for row in rows) for rows in same.values() if len(rows) > 1]
    return Copies(
        tuple(tuple(copy.name for copy in group) for group in groups),
        # Undecided copies cannot leak: split.assign keeps them on one side.
        tuple(group for group in groups if len({c.split for c in group} - {""}) > 1),
        tuple(group for group in groups if len({c.label for c in group} - {""}) > 1),
    )


def _copy(pool: Pool, row: int) -> Copy:
    return Copy(pool.source.name(row), str(pool.split[row]), pool.label_text(row))


def _sizes(sizes: list[tuple[int, int]]) -> Sizes | None:
    if not sizes:
        return None
    # Most pools have few distinct sizes; sorting by pixels, then by width, makes ties repeatable.
    ordered = sorted(Counter(sizes), key=lambda size: (size[0] * size[1], size))
    width, height = np.median(np.array(sizes), axis=0).tolist()
    return Sizes(ordered[0], (round(width), round(height)), ordered[-1])


def _line(text: str) -> str:
    return " ".join(text.split())
