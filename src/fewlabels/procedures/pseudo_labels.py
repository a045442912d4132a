"""Pseudo-labels: what a teacher says of unlabelled images, which of it is learnt, and its file.

Filter and balance are those of Xie et al. 2020 (Noisy Student), section 3.1 "data filtering and
balancing": what the teacher is unsure of is left out; of each class alike many images are learnt,
the surest of a class that is said often, and those of one that is said seldom several times.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fewlabels.pool.pool import Pool
from fewlabels.procedures.prepare import Given, Rows

Counts = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class PseudoLabels:
    """Of U images; `times` says how often an epoch shows each of them, 0 for those left out."""

    rows: Rows  # [U], of the pool, ascending
    p: NDArray[np.float64]  # [U, K], the teacher's probabilities
    times: Counts  # [U]
    threshold: float
    teacher: str
    round: int

    def given(self, soft: bool) -> Given:
        """For training: probabilities, or the likeliest class as one."""
        said = self.p if soft else np.eye(self.p.shape[1])[self.p.argmax(1)]
        return Given(np.repeat(self.rows, self.times), self.rows, said.astype(np.float32))

    def by_class(self, classes: tuple[str, ...]) -> list[dict[str, Any]]:
        """For each class: of how many images it was said, how many of them were sure enough, how
        many different ones are learnt, and how often an epoch shows one."""
        label, sure = self.p.argmax(1), self.p.max(1) >= self.threshold
        counted = {
            "said": np.ones(len(label), bool),
            "sure": sure,
            "learnt": self.times > 0,
        }
        columns = {k: np.bincount(label[m], minlength=len(classes)) for k, m in counted.items()}
        columns["shown"] = np.bincount(label, self.times, len(classes)).astype(np.int64)
        return [
            {"class": name} | {column: int(of[c]) for column, of in columns.items()}
            for c, name in enumerate(classes)
        ]

    def write(self, path: Path, pool: Pool) -> None:
        """One line an image, as Parquet."""
        sure = self.p.argmax(1)
        table = pa.table(
            {
                "image": [pool.source.name(int(row)) for row in self.rows],
                "label": [pool.classes[c] for c in sure],
                "confidence": self.p.max(1),
                "times": self.times,
                "teacher": [self.teacher] * len(self.rows),
                "round": [self.round] * len(self.rows),
                "probabilities": pa.array(list(self.p), pa.list_(pa.float64())),
            }
        )
        fresh = path.with_name(f".{path.name}")
        pq.write_table(table, fresh)
        os.replace(fresh, path)


def read(path: Path) -> NDArray[np.float64]:
    """The probabilities [U, K] that `write` put there."""
    column = pq.read_table(path, columns=["probabilities"])["probabilities"]
    return np.array(column.to_pylist(), np.float64)


def select(p: NDArray[np.float64], threshold: float, even: bool) -> Counts:
    """How often each image [U] is learnt, by its probabilities [U, K].

    0 where the likeliest class is less likely than `threshold`. `even`: every class that is said is
    learnt as often as the others, and an epoch is as long as before.
    """
    label, sure = p.argmax(1), p.max(1)
    times: Counts = (sure >= threshold).astype(np.int64)
    counts = np.bincount(label[times > 0], minlength=p.shape[1])
    if not even or not counts.any():
        return times
    each = round(counts.sum() / np.count_nonzero(counts))
    for c in np.flatnonzero(counts):
        own = np.flatnonzero((label == c) & (times > 0))
        own = own[np.argsort(-sure[own], kind="stable")]
        often, more = divmod(each, len(own))
        times[own] = often
        times[own[:more]] += 1
    return times
