"""Strangers among the unlabelled images: a kind of picture that no labelled image is of.

A group is looked for without labels; the labelled images are asked afterwards:

1. x: the mean of each channel of the last of the model's largest maps, standardised over the pool.
2. w N(x; m, S) + (1 - w) N(x; m', S') is fitted to all images by expectation maximisation (Bishop
   2006, 9.2.2), from three starts. A score is the log odds of the Gaussian that has less of the
   labelled images.
3. If those are a draw from the pool, the number of them beyond a threshold is hypergeometric. What
   lies there is left out where so few have p < 0.001 / 6 (three starts, two sides each), they are
   at most one in twenty, and no class has all of its labels there; then it looks again. So 20
   labels show strangers that are 35 % of the pool, 50 labels 16 %; and nights are strangers to
   labels that are all by day.

On development pools, with p < 0.001 (`cnn_small`, labels only for 20 s, 20 and 50 labels, 5 draws):
hand signs, half of the pool CIFAR-10: 99.7 to 100 % of the strangers are left out and 0 to 0.7 % of
the signs, AUROC 1.000; nothing of the clean pools, at 360 draws of labels. Energy and distances
(Lee et al. 2018, 2.1) had 0.92 to 1.00 on the signs, but 0.2 to 0.8 on signs amid CIFAR-10. Other
classes of the same kind of picture are not found, and nothing is lost then.
"""

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import hypergeom, multivariate_normal
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from fewlabels.models.structure import blank_pass, embed, maps, until
from fewlabels.procedures.prepare import Rows
from fewlabels.procedures.stage import Context, Weights

BATCH = 64
SHARE = 0.1  # of the time that is left, at most, to look at all images
CHANCE = 0.001 / 6  # a group that so few labelled images lie in by chance is one of strangers
ABOVE = 0.05  # the part of the labelled images that may lie in it, and beyond the threshold
DIRECTIONS, EACH = 32, 20  # the Gaussians' dimensions, at most, and images for each, at least
FITTED, ROUNDS = 20_000, 3  # images that they are fitted to, and kinds of strangers, at most
RIDGE = 1e-3  # of variance, added in all directions: the Gaussian of few images stays round

Values = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Guarded:
    """What is left out, and the evidence."""

    out: Rows  # of the pool
    scored: int  # unlabelled images; 0 where there was no time
    labelled: int
    beyond: int  # labelled images that lie among those left out

    def __str__(self) -> str:
        if not self.scored:
            return "guard: there is no time to look at all unlabelled images; none is left out"
        if not len(self.out):
            return f"guard: all {self.scored:,} unlabelled images are kept; no group stands apart"
        return (
            f"guard: {len(self.out):,} of {self.scored:,} unlabelled images look like none of the "
            f"classes and are left out ({self.beyond} of {self.labelled:,} labelled images look so)"
        )


def guard(context: Context, weights: Weights) -> Guarded:
    """Which of `context.data.unlabelled` belong to no class, as the model `weights` sees them.

    Labelled images that it has learnt from and others are asked alike: the first layers hardly know
    an image by heart. What was found is kept in the run's folder; a later process reads it there.
    """
    labelled, unlabelled = context.data.labelled, context.data.unlabelled
    known = context.folder.read_json("guard.json")
    if known is None:
        x = first_map(context, weights, np.concatenate([labelled, unlabelled]))
        found = (
            Guarded(unlabelled[:0], 0, len(labelled), 0)
            if x is None
            else strangers(x, context.data.pool.label[labelled], unlabelled)
        )
        names = [context.data.pool.source.name(int(row)) for row in found.out]
        known = vars(found) | {"out": found.out.tolist(), "names": names}
        context.folder.write_json("guard.json", known)
    told = {name: known[name] for name in ("scored", "labelled", "beyond")}
    return Guarded(np.array(known["out"], np.int64), **told)


def first_map(context: Context, weights: Weights, rows: Rows) -> Values | None:
    """The mean of each channel of the last of the largest maps, [R, C]; without maps, what the head
    sees. None where that would take too much of the time that is left."""
    model, parts = context.model(weights), []
    began = context.clock()
    with blank_pass(model):
        path = None
        for start in range(0, len(rows), BATCH):
            some = context.data.images[rows[start : start + BATCH]]
            x = context.preprocess(some).to(context.fabric.device)
            if not start:
                found = maps(model, x[:2])
                path = found[0][0] if found else None
            means = embed(model, x) if path is None else until(model, path, x).mean((2, 3))
            parts.append(means.cpu().double().numpy())
            if start == BATCH and context.deadline is not None:  # the first pays for set-up
                needed = (context.clock() - began) / 2 * len(rows) / BATCH
                if needed > SHARE * (context.deadline - context.clock()):
                    return None
    return np.concatenate(parts) if parts else np.zeros((0, 0))


def strangers(x: Values, label: NDArray[np.int64], unlabelled: Rows) -> Guarded:
    """Decides by features x [L + U, F], those of the labelled images with `label` [L] first."""
    n, kept = len(label), np.ones(len(x), dtype=np.bool_)
    for _ in range(ROUNDS):
        asked = label[kept[:n]]
        for odds in splits(x[kept]) if len(asked) else []:
            if (odds[: len(asked)] > 0).mean() > (odds > 0).mean():
                odds = -odds
            threshold = clear_of(odds[: len(asked)], asked)
            beyond = odds > threshold
            if by_chance(beyond[: len(asked)], beyond) < CHANCE:
                kept[kept] = ~beyond
                break
        else:
            break
    return Guarded(unlabelled[~kept[n:]], len(unlabelled), n, int((~kept[:n]).sum()))


def splits(x: Values) -> list[Values]:
    """Log odds [N] of the second of two Gaussians in features x [N, F], the likeliest pair first,
    from each start: halves along the two main directions, and by distance from the middle."""
    z, found = _principal(x), []
    some = z[:: -(-len(z) // FITTED) or 1]
    for along in (*some.T[:2], (some**2 / some.var(0)).sum(1)) if z.size else ():
        halves = [some[(along > np.median(along)) == side] for side in (False, True)]
        if min(len(half) for half in halves) > 1:
            found.append(_fit(z, some, halves))
    return [odds for _, odds in sorted(found, key=lambda end: -end[0])]


def _fit(z: Values, some: Values, halves: list[Values]) -> tuple[float, Values]:
    ridge = RIDGE * np.eye(z.shape[1])
    inverse = [np.linalg.inv(np.atleast_2d(np.cov(half.T)) + ridge) for half in halves]
    start = {"means_init": [half.mean(0) for half in halves], "precisions_init": inverse}
    start["weights_init"] = [0.5, 0.5]  # with all three given it draws nothing
    mixture = GaussianMixture(2, tol=1e-4, max_iter=300, reg_covar=RIDGE, **start)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # near enough for a threshold
        pair = mixture.fit(some)
    gaussians = zip(pair.weights_, pair.means_, pair.covariances_, strict=True)
    one, two = (np.log(w) + multivariate_normal(*gaussian).logpdf(z) for w, *gaussian in gaussians)
    return float(np.logaddexp(one, two).mean()), two - one


def _principal(x: Values) -> Values:
    """Standardised features along their main directions, [N, D]; what does not vary is dropped."""
    x = x[:, x.std(0) > 1e-6 * x.std(0).max(initial=0.0)]
    if not x.size:  # or nothing is a number, of a model that has diverged
        return np.zeros((len(x), 0))
    z = (x - x.mean(0)) / x.std(0)
    power, direction = np.linalg.eigh(z.T @ z / len(z))
    number = min(DIRECTIONS, len(z) // EACH, int((power > 1e-6 * power[-1]).sum()))
    return np.asarray(z @ direction[:, ::-1][:, :number])


def clear_of(odds: Values, label: NDArray[np.int64]) -> float:
    """The threshold, from 0 on, that clears 95 % of the labelled images with these log odds and
    half of each class; infinite where over 5 % of them, or a whole class, lie above 0: that is no
    other kind."""
    n, classes = len(odds), [odds[label == c] for c in np.unique(label)]
    if (odds > 0).sum() > ABOVE * n or any(its.min() > 0 for its in classes):
        return np.inf
    rank = min(n, int(np.ceil((1 - ABOVE) * (n + 1))))
    medians = [np.quantile(its, 0.5, method="higher") for its in classes]
    return float(max(0.0, np.sort(odds)[rank - 1], *medians))


def by_chance(labelled: NDArray[np.bool_], everything: NDArray[np.bool_]) -> float:
    """The hypergeometric probability that so few labelled images are marked, if drawn by lot."""
    of = len(everything), everything.sum(), len(labelled)
    return float(hypergeom.cdf(labelled.sum(), *of))
