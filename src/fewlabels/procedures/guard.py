"""Strangers among the unlabelled images: a kind of picture that no labelled image is of.

A group is looked for without labels; the labelled images are asked afterwards:

1. x: the mean of each channel of the model's first map, standardised over the pool.
2. w N(x; m, S) + (1 - w) N(x; m', S') is fitted to all images by expectation maximisation (Bishop
   2006, 9.2.2). A score is the log odds of the Gaussian that has less of the labelled images.
3. Those are a draw from the pool, so the number a of n beyond the threshold is hypergeometric. What
   lies there is left out where a or fewer has p < 0.001, and a <= n / 20; then it looks again. Thus
   20 labels show strangers that are 29 % of the pool, 50 labels 13 %; and nights are strangers to
   labels that are all by day.

Measured (`cnn_small`, labels only for 20 s on a thread, five draws each of 20 and 50 labels): hand
signs, half of the pool CIFAR-10: 99.7 to 100 % of the strangers are left out, up to 0.7 % of the
signs and 7 % of one, AUROC 1.000. Signs amid CIFAR-10: 99.5 %, 0 %. Clean, 360 draws of labels:
none. Energy and distances (Lee et al. 2018, 2.1) had 0.79 to 1.00 on the signs, and 0.2 to 0.8
amid CIFAR-10. Other classes of the same kind of picture are not found, and nothing is lost then.
"""

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import hypergeom, multivariate_normal
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from fewlabels.models.structure import blank_pass, embed, maps
from fewlabels.procedures.prepare import Rows
from fewlabels.procedures.stage import Context, Weights

BATCH = 256
CHANCE = 0.001  # a group that so few labelled images lie in by chance is one of strangers
ABOVE = 0.05  # the part of the labelled images that may lie in it, and beyond the threshold
DIRECTIONS, EACH = 32, 20  # the Gaussians' dimensions, at most, and images for each, at least
FITTED, ROUNDS = 20_000, 3  # images that they are fitted to, and kinds of strangers, at most
RIDGE = 1e-3  # of variance, added in all directions: the Gaussian of few images stays round

Values = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Guarded:
    """What is left out, and the evidence; threshold and scores are log odds."""

    out: Rows  # of the pool
    scored: int  # unlabelled images
    threshold: float  # the lowest of all rounds; infinite where nothing is left out
    labelled: int
    beyond: int  # labelled images that lie there too

    def __str__(self) -> str:
        if not len(self.out):
            return f"guard: all {self.scored:,} unlabelled images are kept; no group stands apart"
        return (
            f"guard: {len(self.out):,} of {self.scored:,} unlabelled images look like none of the "
            f"classes and are left out (log odds above {self.threshold:.1f}; {self.beyond} of "
            f"{self.labelled:,} labelled images lie there)"
        )


def guard(context: Context, weights: Weights) -> Guarded:
    """Which of `context.data.unlabelled` belong to no class, as the model `weights` sees them.

    Labelled images that it has learnt from and others are asked alike: the first layers know no
    image by heart."""
    labelled, unlabelled = context.data.labelled, context.data.unlabelled
    x = first_map(context, weights, np.concatenate([labelled, unlabelled]))
    return strangers(x, context.data.pool.label[labelled], unlabelled)


def first_map(context: Context, weights: Weights, rows: Rows) -> Values:
    """The mean of each channel of the first map, [R, C]; without maps, what the head sees."""
    model, parts = context.model(weights), []
    with blank_pass(model):
        for start in range(0, len(rows), BATCH):
            some = context.data.images[rows[start : start + BATCH]]
            x = context.preprocess(some).to(context.fabric.device)
            found = maps(model, x)
            means = found[0][1].mean((2, 3)) if found else embed(model, x)
            parts.append(means.cpu().double().numpy())
    return np.concatenate(parts) if parts else np.zeros((0, 0))


def strangers(x: Values, label: NDArray[np.int64], unlabelled: Rows) -> Guarded:
    """Decides by features x [L + U, F], those of the labelled images with `label` [L] first."""
    n, kept, least = len(label), np.ones(len(x), dtype=np.bool_), np.inf
    for _ in range(ROUNDS):
        asked = label[kept[:n]]
        for odds in splits(x[kept]) if len(asked) else []:
            if (odds[: len(asked)] > 0).mean() > (odds > 0).mean():
                odds = -odds
            threshold = clear_of(odds[: len(asked)], asked)
            beyond = odds > threshold
            if by_chance(beyond[: len(asked)], beyond) < CHANCE:
                kept[kept], least = ~beyond, min(least, threshold)
                break
        else:
            break
    return Guarded(unlabelled[~kept[n:]], len(unlabelled), least, n, int((~kept[:n]).sum()))


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
    """The threshold, from 0 on, that clears 95 % of the labelled images with these log odds (split
    conformal) and half of each class; infinite where over 5 % lie above 0: no other kind."""
    n = len(odds)
    if (odds > 0).sum() > ABOVE * n:
        return np.inf
    rank = min(n, int(np.ceil((1 - ABOVE) * (n + 1))))
    medians = [np.quantile(odds[label == c], 0.5, method="higher") for c in np.unique(label)]
    return float(max(0.0, np.sort(odds)[rank - 1], *medians))


def by_chance(labelled: NDArray[np.bool_], everything: NDArray[np.bool_]) -> float:
    """The hypergeometric probability that so few labelled images are marked, if drawn by lot."""
    of = len(everything), everything.sum(), len(labelled)
    return float(hypergeom.cdf(labelled.sum(), *of))
