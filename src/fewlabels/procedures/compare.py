"""Ways to learn, compared by cross-validation: what each says of labelled images it has not seen.

A way learns anew in each fold, in `folds/<n>` of the run's folder, all in the same time, and all
from the same labels; together the folds' answers are as many as there are labels. In a pool with
validation images of its own there is one fold: all labels, judged by these.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from fewlabels.errors import UserError
from fewlabels.procedures.folds import Fold, make_folds
from fewlabels.procedures.prepare import Rows
from fewlabels.procedures.stage import Context, Trained
from fewlabels.training.folder import RunFolder

DOUBT = 0.05  # a favourite is left for what is better with a one-sided p below this,
EVEN = 0.501  # or below this, for whatever is right more often
MANY = 500  # labels, of which a part can be held out: it tells as much as all of a small pool
FOLDS = 3  # where there are fewer
ELSEWHERE = "it has won elsewhere"
PART = 0.25  # of the steps of a run, where these are what is limited


@dataclass(frozen=True, eq=False)
class Way:
    """One way to learn from a context's labels, until a moment on the run's clock; its answers are
    about the context's validation images."""

    name: str
    learn: Callable[[Context, float], Trained]
    share: float = 1.0  # of a fold's time, relative to the others


@dataclass(frozen=True, eq=False)
class Compared:
    """What the ways said of the same images, each by a model that had not seen their labels."""

    rows: Rows  # [n]
    said: dict[str, NDArray[np.float64]]  # by way, [n, K]
    label: NDArray[np.int64]  # [n]

    def right(self, name: str) -> NDArray[np.bool_]:
        found: NDArray[np.bool_] = self.said[name].argmax(1) == self.label
        return found


def folds_of(context: Context) -> tuple[Fold, ...]:
    """One fold where the pool has validation images, or enough labels for a part to be them; else
    FOLDS, or as many as the rarest class has labels that can be held out. None where no class has
    two that can be told apart: copies, and images of one group, count as one."""
    data = context.data
    if len(data.val):
        return (Fold(data.labelled, data.val),)
    if len(data.labelled) >= MANY and len(data.held_out):
        return (Fold(np.setdiff1d(data.labelled, data.held_out), data.held_out),)
    label, keys = data.pool.label[data.labelled], data.tied[data.labelled]
    units = [len(np.unique(keys[label == c])) for c in np.unique(label)]
    several = [count for count in units if count > 1]
    if not several:
        return ()
    try:
        return make_folds(data, min(FOLDS, *several), context.config.seed)
    except UserError:  # classes that are tied to each other
        return ()


def compared(
    context: Context, ways: Sequence[Way], folds: Sequence[Fold], until: float
) -> Compared:
    """Trains all ways in all folds, from now on until that moment."""
    said: dict[str, list[NDArray[np.float64]]] = {way.name: [] for way in ways}
    left = len(folds) * sum(way.share for way in ways)
    for number, fold in enumerate(folds, 1):
        within = of_fold(context, fold, number)
        for way in ways:
            now = context.clock()
            part = way.share / left if way.share else 0.0
            left -= way.share
            trained = way.learn(within, now + part * max(0.0, until - now))
            said[way.name].append(trained.val)
    rows = np.concatenate([fold.judged for fold in folds])
    return Compared(
        rows,
        {name: np.concatenate(parts) for name, parts in said.items()},
        context.data.pool.label[rows],
    )


def of_fold(context: Context, fold: Fold, number: int) -> Context:
    """The context of a fold: its labels, its images to be judged on, and no copies of these."""
    data, none = context.data, context.data.val[:0]
    keys = data.tied
    copies = np.isin(keys[data.unlabelled], keys[fold.judged])
    folder = RunFolder(context.folder.path / "folds" / str(number))
    folder.path.mkdir(parents=True, exist_ok=True)
    config = context.config
    if context.config.time_limit is None:
        steps = max(1, round(PART * context.steps))
        config = replace(config, steps=steps, epochs=None)
    return replace(
        context,
        config=config,
        data=replace(
            data,
            labelled=fold.train,
            unlabelled=data.unlabelled[~copies],
            val=fold.judged,
            held_out=none,
            test=none,
        ),
        folder=folder,
        events=context.events.inside(folder),
    )


def choose(
    found: Compared, order: Sequence[str], doubt: float = DOUBT, otherwise: str = ELSEWHERE
) -> tuple[str, str]:
    """One of the names, the favourite first, and why, in one sentence; `otherwise` says why the
    favourite is, where nothing can be told.

    Few images cannot tell two good ways apart: by chance alone a worse one would often win by an
    image. So the favourite is only left for one that is better with a one-sided p below `doubt`, by
    a sign test on the images where the two differ.
    """
    favourite, best = order[0], order[0]
    right = {name: found.right(name) for name in order}
    for name in order[1:]:
        won = int((right[name] & ~right[best]).sum())
        lost = int((right[best] & ~right[name]).sum())
        if won and binomtest(won, won + lost, alternative="greater").pvalue < doubt:
            best = name
    n = len(found.rows)
    scores = ", ".join(f"{spoken(name)} {right[name].sum()}" for name in order)
    why = f"{spoken(best)}: of {n} labelled images, unseen, {scores} right"
    clear = all(right[name].sum() < right[best].sum() for name in order if name != best)
    if best == favourite and not clear:
        why += f": no difference that they can show, and {otherwise}"
    return best, why


def spoken(name: str) -> str:
    """A method as people call it."""
    return "labels only" if name == "supervised" else name
