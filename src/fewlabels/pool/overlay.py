"""What the label store says of a pool's images, laid over what the pool says."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fewlabels.pool.pool import SINGLE, Pool, assemble, is_path
from fewlabels.pool.source import Source
from fewlabels.pool.store import default_store, has_events, others_with, read_labels


@dataclass(frozen=True)
class Overlaid:
    """What the labels of a store have changed, in images of the pool."""

    new: int  # had no label
    changed: int
    removed: int  # are unlabelled now
    elsewhere: int  # labels of the store that belong to no image of the pool

    def line(self) -> str:
        """For the terminal; "" where the store says nothing."""
        if not any((self.new, self.changed, self.removed, self.elsewhere)):
            return ""
        line = f"label store: {self.new:,} new, {self.changed:,} changed, {self.removed:,} removed"
        return line + (f"; {self.elsewhere:,} of other images" if self.elsewhere else "")


def with_stored_labels(pool: Pool, read: Callable[[Source], tuple[str, ...]]) -> Pool:
    """The pool with the labels of its stores over its own; `read` gives the digests [N] of a
    source, and is asked where there are such labels.

    Of pools that were joined each has its store; that of the whole is heeded last.
    """
    labels: dict[str, str] = {}
    for origins in (*((part,) for part in pool.parts), pool.parts or (pool.origin,)):
        labels |= read_labels(default_store(*origins))
    if not labels:
        return pool
    digest = read(pool.source)
    labelled, told = with_labels(pool, digest, labels)
    return replace(labelled, digest=digest, notes=(*pool.notes, told.line()))


def other_stores(origins: Sequence[str]) -> list[Path]:
    """Stores that may have labels of the images of this pool, which was renamed or copied.

    None where something was said in its own store, and of what is no path.
    """
    own = default_store(*origins)
    if not all(map(is_path, origins)) or has_events(own):
        return []
    heeded = {own, *map(default_store, origins)}
    return sorted(set(own.parent.glob("*.sqlite")) - heeded)


@dataclass(frozen=True)
class Elsewhere:
    """Another store that has labels of a pool's images."""

    store: Path
    images: int
    take_over: str  # the command that does

    def line(self) -> str:
        """For the terminal."""
        return (
            f"{self.store} also has labels of {self.images:,} of these images "
            f"(take them over: {self.take_over})"
        )


def labels_elsewhere(origins: Sequence[str], digests: Sequence[str]) -> tuple[Elsewhere, ...]:
    """Of `other_stores` those that have labels of the images with these digests, the most first."""
    command = f"fewlabels labels {shlex.join(origins)} --import"
    return tuple(
        Elsewhere(store, images, f"{command} {shlex.quote(str(store))}")
        for store, images in others_with(other_stores(origins), digests)
    )


def with_labels(
    pool: Pool, digests: Sequence[str], labels: Mapping[str, str]
) -> tuple[Pool, Overlaid]:
    """The pool with these labels {digest: label} in the place of its own, and what that changed.

    `digests` [N] are those of the pool's images, "" = unknown; all copies of an image get its
    label, and the label "" makes them unlabelled. Classes that no image has any more are gone.
    Splits stay, and are drawn by the labels that the pool has itself (`Pool.drawn_by`): an image
    that had no label trains; a test image that has none any more is in test without one.
    """
    if len(digests) != len(pool):
        raise ValueError(f"{len(digests)} digests for {len(pool)} images")
    texts = [pool.label_text(row) for row in range(len(pool))]
    new = changed = removed = 0
    for row, digest in enumerate(digests):
        before, after = texts[row], labels.get(digest)
        if after is None or after == before:
            continue
        new += not before
        removed += not after
        changed += bool(before and after)
        texts[row] = after
    told = Overlaid(new, changed, removed, len(labels.keys() - set(digests)))
    if not (new or changed or removed):
        return pool, told
    several = any("|" in labels.get(digest, "") for digest in digests)
    task = None if pool.task == SINGLE and several else pool.task
    hint = "label some images of at least two classes"
    fresh = assemble(
        pool.origin,
        pool.source,
        texts,
        pool.split,
        pool.group,
        hint=hint,
        task=task,
    )
    labelled = replace(
        pool,
        classes=fresh.classes,
        label=fresh.label,
        lacks=fresh.lacks,
        task=fresh.task,
        target=fresh.target,
        drawn_by=pool.label if pool.task == fresh.task == SINGLE else None,
    )
    return labelled, told
