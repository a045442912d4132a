"""Runs that were trained before: what an ensemble consists of, and what students learn from."""

from collections.abc import Sequence
from dataclasses import dataclass

from fewlabels.errors import UserError
from fewlabels.models.built import Built
from fewlabels.models.catalog import ENSEMBLE
from fewlabels.models.ensemble import Ensemble, Member
from fewlabels.pixels.preprocess import Preprocess


@dataclass(frozen=True, eq=False)
class Earlier:
    """A model with what it takes to ask it."""

    name: str  # where it lies
    built: Built
    classes: tuple[str, ...]
    preprocess: Preprocess

    def member(self, seen: Preprocess, classes: Sequence[str]) -> Member:
        """The model for images that were made ready by `seen`, with the classes in this order."""
        if set(self.classes) != set(classes):
            other = sorted(set(self.classes) ^ set(classes))[:3]
            raise UserError(
                f"{self.name}: has other classes than the data ({', '.join(other)} is not in both)"
            )
        own = self.preprocess
        order = [self.classes.index(name) for name in classes]
        return Member(
            self.built.model, own.size, own.mean, own.std, seen.mean, seen.std, order
        ).eval()


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
