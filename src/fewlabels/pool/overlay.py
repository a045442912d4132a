"""What the label store says of a pool's images, laid over what the pool says."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from fewlabels.pool.pool import SINGLE, Pool, assemble


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


def with_labels(
    pool: Pool, digests: Sequence[str], labels: Mapping[str, str]
) -> tuple[Pool, Overlaid]:
    """The pool with these labels {digest: label} in the place of its own, and what that changed.

    `digests` [N] are those of the pool's images, "" = unknown; all copies of an image get its
    label, and the label "" makes them unlabelled. Classes that no image has any more are gone.
    Splits stay: an image that had no label trains; a test image that has none any more is in test
    without one. Assign the splits first (split.assign): then they do not depend on the store.
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
    unlabelled = np.array([not text for text in texts], dtype=np.bool_)
    split = np.where(unlabelled & (pool.split == ""), "train", pool.split)
    hint = "label some images of at least two classes"
    fresh = assemble(
        pool.origin,
        pool.source,
        texts,
        split.tolist(),
        pool.group,
        hint=hint,
        task=_task(pool, texts),
    )
    labelled = replace(
        pool,
        classes=fresh.classes,
        label=fresh.label,
        split=split,
        lacks=fresh.lacks,
        task=fresh.task,
        target=fresh.target,
    )
    return labelled, told


def _task(pool: Pool, texts: Sequence[str]) -> str | None:
    """The pool's, but for a store that gives an image several classes where the pool had one."""
    return None if pool.task == SINGLE and any("|" in text for text in texts) else pool.task
