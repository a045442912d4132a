"""How the classes are distributed among unlabelled images, as far as labels can tell."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fewlabels.curate.far import Features
from fewlabels.evaluate.intervals import Estimate, wilson

LEAST = 5  # labels that every class needs
MOST_LABELS, MOST_IMAGES, MOST_CLASSES = 3000, 5000, 100  # what is looked at
FOLDS = 5
DRAWS = 300
PSEUDO = 0.5  # an image of each kind that was not seen (Jeffreys)

Values = NDArray[np.float64]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Balance:
    """Shares of the K classes among n unlabelled images, or why they cannot be told."""

    shares: dict[str, Estimate]
    probe: Estimate | None  # its accuracy on labels that it had not seen
    why: str = ""


def balance(features: Features, label: Labels, classes: tuple[str, ...], seed: int = 0) -> Balance:
    """From features [N, F] and labels [N], -1 = unlabelled; all that are given are looked at.

    A probe (shrinkage discriminant analysis) is learnt in folds; how it errs on labels that it had
    not seen says what its answers on the unlabelled are worth: the shares are those under which
    these answers are likeliest (black-box shift estimation, Lipton et al. 2018, by maximum
    likelihood, so that no share is negative; the same EM as Saerens et al. 2002, on counts).
    Intervals are of 300 draws: of the probe's errors from their posterior, of the images by
    bootstrap. They hold if the unlabelled images of a class look like its labelled ones.
    """
    rng = np.random.default_rng(seed)
    known, unknown = np.flatnonzero(label >= 0), np.flatnonzero(label < 0)
    counts = np.bincount(label[known], minlength=len(classes))
    if len(unknown) == 0:
        return Balance({}, None, "there is no unlabelled image to look at")
    if len(classes) < 2:
        return Balance({}, None, "there are fewer than two classes")
    if len(classes) > MOST_CLASSES:
        return Balance({}, None, f"there are more than {MOST_CLASSES} classes")
    if counts.min() < LEAST:
        poorest = classes[int(counts.argmin())]
        return Balance(
            {}, None, f"class {poorest!r} has {counts.min()} labels, and {LEAST} are needed"
        )
    if len(known) > MOST_LABELS:
        known = _some_of_each(label, known, MOST_LABELS // len(classes), rng)
    if len(unknown) > MOST_IMAGES:
        unknown = rng.choice(unknown, MOST_IMAGES, replace=False)
    said, told = _answers(features, label, known, unknown, rng)
    right = said == label[known]
    low, high = wilson(float(right.sum()), len(right))
    probe = Estimate(float(right.mean()), low, high, len(right))
    guessing = np.bincount(label[known]).max() / len(known)
    if low <= guessing:
        return Balance({}, probe, "simple features do not tell these classes apart")
    return Balance(_shares(label[known], said, told, classes, rng), probe)


def _answers(
    features: Features,
    label: Labels,
    known: Labels,
    unknown: Labels,
    rng: np.random.Generator,
) -> tuple[Labels, Values]:
    """What the probe says of each known row, not having seen it [L], and of the unknown rows: the
    share of folds that name each class, [U, K]."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.model_selection import StratifiedKFold

    classes = int(label[known].max()) + 1
    seen, asked = features[known].astype(np.float32), features[unknown].astype(np.float32)
    said = np.empty(len(known), np.int64)
    told = np.zeros((len(unknown), classes))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=int(rng.integers(2**31)))
    for learnt, judged in folds.split(known, label[known]):
        probe = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
        probe.fit(seen[learnt], label[known[learnt]])
        said[judged] = probe.predict(seen[judged])
        told[np.arange(len(unknown)), probe.predict(asked)] += 1 / FOLDS
    return said, told


def _shares(
    label: Labels, said: Labels, told: Values, classes: tuple[str, ...], rng: np.random.Generator
) -> dict[str, Estimate]:
    k = len(classes)
    confused = np.zeros((k, k))
    np.add.at(confused, (label, said), 1)
    shares = _likeliest(confused, told.sum(0))
    drawn = np.empty((DRAWS, k))
    for draw in range(DRAWS):
        again = np.stack([rng.dirichlet(row + PSEUDO / k) for row in confused]) * confused.sum(
            1, keepdims=True
        )
        weights = rng.multinomial(len(told), np.full(len(told), 1 / len(told)))
        drawn[draw] = _likeliest(again, weights @ told)
    low, high = np.quantile(drawn, (0.025, 0.975), axis=0)
    return {
        name: Estimate(float(shares[i]), float(low[i]), float(high[i]), len(told))
        for i, name in enumerate(classes)
    }


def _likeliest(confused: Values, answers: Values, steps: int = 500) -> Values:
    """Shares [K] that make `answers` [K] likeliest, where class i is answered as confused[i]."""
    k = len(confused)
    given = confused + PSEUDO / k
    given = given / given.sum(1, keepdims=True)
    shares = np.full(k, 1 / k)
    answers = answers / answers.sum()
    for _ in range(steps):
        joint = shares[:, None] * given
        fresh = (joint / np.maximum(joint.sum(0), 1e-12) * answers).sum(1)
        done = np.abs(fresh - shares).max() < 1e-6
        shares = fresh
        if done:
            break
    return shares


def _some_of_each(label: Labels, rows: Labels, most: int, rng: np.random.Generator) -> Labels:
    drawn = [rng.permutation(rows[label[rows] == name])[:most] for name in np.unique(label[rows])]
    return np.sort(np.concatenate(drawn))
