"""Runs that were trained before: what an ensemble consists of, and what students learn from."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from fewlabels.errors import UserError
from fewlabels.models.built import Built
from fewlabels.models.catalog import ENSEMBLE
from fewlabels.models.ensemble import Ensemble, Member
from fewlabels.pixels.preprocess import Preprocess
from fewlabels.procedures.prepare import Data


@dataclass(frozen=True, eq=False)
class Earlier:
    """A model with what it takes to ask it."""

    name: str  # where it lies
    built: Built
    classes: tuple[str, ...]
    preprocess: Preprocess
    tta: str  # how it was asked when it was measured

    def member(self, seen: Preprocess, classes: Sequence[str]) -> Member:
        """The model for images that were made ready by `seen`, with the classes in this order."""
        self.need_same(classes)
        own = self.preprocess
        order = [self.classes.index(name) for name in classes]
        return Member(
            self.built.model, own.size, own.mean, own.std, seen.mean, seen.std, order
        ).eval()

    def need_same(self, classes: Sequence[str]) -> None:
        """UserError where the data has other classes."""
        if set(self.classes) != set(classes):
            other = sorted(set(self.classes) ^ set(classes))[:3]
            raise UserError(
                f"{self.name}: has other classes than the data ({', '.join(other)} is not in both)"
            )

    def need_unseen(self, data: Data) -> None:
        """UserError where the run has learnt from images that are to tell how good this one is."""
        learnt = _learnt_by(Path(self.name))
        judges = np.concatenate([data.val, data.test])
        seen = sum(data.digest[row] in learnt for row in judges)
        if seen:
            raise UserError(
                f"--run {self.name}: has learnt from {seen:,} of the {len(judges):,} images that "
                "this run is judged on: it was split otherwise, with another --seed or before "
                "images came or went. Give the same, or DATA with test images of its own"
            )


def _learnt_by(run: Path) -> set[str]:
    """The contents of the images that a run trained on, if it says so; but for copies of its own
    judges, which are the pool's doing."""
    table = run / "splits.parquet"
    if not table.is_file():  # an artefact alone
        return set()
    columns = pq.read_table(table, columns=["digest", "used"]).to_pydict()
    by_use: dict[str, set[str]] = defaultdict(set)
    for digest, used in zip(columns["digest"], columns["used"], strict=True):
        by_use[used].add(digest)
    learnt = by_use["labelled"] | by_use["held out"] | by_use["unlabelled"]
    return learnt - by_use["val"] - by_use["test"]


def ensemble(runs: Sequence[Earlier], classes: Sequence[str]) -> Built:
    """All as one model, for images of the largest side among theirs and with its normalisation."""
    seen = max((run.preprocess for run in runs), key=lambda preprocess: preprocess.size)
    members = [run.member(seen, classes) for run in runs]
    about = [
        {
            "model": run.built.architecture,
            "arguments": run.built.arguments,
            "size": run.preprocess.size,
        }
        for run in runs
    ]
    model, arguments = Ensemble(members), {"members": about}
    own = seen.size, True, seen.mean, seen.std
    return Built(model, ENSEMBLE, arguments, *own, weights=" ".join(run.name for run in runs))
