"""Classifiers on frozen features: linear probe, nearest neighbours, label spreading.

Each is fitted to features [n, F] and labels [n] and becomes the head of the model that the features
came from, so that what is measured is what is shipped.
"""

import warnings
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, diags_array, identity
from scipy.sparse.linalg import cg
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.neighbors import NearestNeighbors
from torch import nn

from fewlabels.errors import UserError
from fewlabels.models.neighbours import Neighbours
from fewlabels.settings import between, make

Features = NDArray[np.float32]
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1)  # C of the logistic regression, on standardised features
USUAL = 1e-3  # where a class has one label and nothing can be compared
FOLDS = 5
MANY = 2000  # labels; from there on one fold is enough to compare on
ABSENT = -30.0  # the logit of a class without any label


@dataclass(frozen=True)
class LinearProbe:
    """Linear probe (Alain and Bengio 2016): fits a linear classifier to the labelled features.

        min over W, b of C Σ_b H(y_b, softmax(W h_b + b)) + 1/2 ||W||²

    h_b are the features, standardised. The strength C of the fit against the L2 penalty is chosen
    by cross-validation on the labels.
    """


@dataclass(frozen=True)
class KNN:
    """Nearest neighbours (Wu et al. 2018): the most similar labelled images vote on the class.

        w_c = Σ_{i among the k nearest} exp(cos(h_i, h) / τ) 1[y_i = c]             (section 3.4)

    h are the features of the image and h_i those of the labelled ones; τ = 0.07 is the paper's.
    """

    k: int = 10  # neighbours that vote

    def __post_init__(self) -> None:
        between("k", self.k, 1)


@dataclass(frozen=True)
class LabelSpreading:
    """Label spreading (Iscen et al. 2019): carries labels along the graph of similar images to the
    unlabelled ones, and fits a linear classifier to all of them.

        (I - α S) Z = Y,   S = D^(-1/2) (A + Aᵀ) D^(-1/2),   A_ij = max(cos_ij, 0)^γ

    over the k nearest neighbours. An image's class is the largest of its row of Z, and weighs as
    much as it is certain, evened out over the classes. Defaults are the paper's.
    """

    k: int = 50  # neighbours in the graph
    alpha: float = 0.99  # how far labels spread
    gamma: float = 3.0  # similarities are raised to this power

    def __post_init__(self) -> None:
        between("k", self.k, 1)
        between("alpha", self.alpha, 0, 0.9999)
        between("gamma", self.gamma, 0.1, 100)


FROZEN: dict[str, type[Any]] = {
    "linear_probe": LinearProbe,
    "knn": KNN,
    "label_spreading": LabelSpreading,
}
SPREADS = ("label_spreading",)  # which of them learn from the unlabelled images too


def resolve(name: str, settings: dict[str, Any]) -> Any:
    """The settings of one of FROZEN; UserError for what it does not know."""
    known = [field.name for field in fields(FROZEN[name])]
    for key in settings:
        if key not in known:
            takes = f"it takes {', '.join(known)}" if known else "it takes none"
            raise UserError(f"setting '{key}' has no effect in the method {name}; {takes}")
    return make(FROZEN[name], settings, f"method {name}")


def linear_probe(
    features: Features,
    label: NDArray[np.int64],
    groups: NDArray[np.int64],
    num_classes: int,
    weight: NDArray[np.float64] | None = None,
    strength: float | None = None,
) -> nn.Linear:
    """Features [n, F], labels [n] -> the linear layer [F -> classes].

    groups: images that must not be parted when the penalty is compared; weight: of each image;
    strength: C, if it is not to be chosen.
    """
    mean, spread = features.mean(0), features.std(0) + 1e-6
    z = (features - mean) / spread
    # few images span few directions: turned into these the fit is the same, and 20 times faster
    left, size, axes = np.linalg.svd(z.astype(np.float64), full_matrices=False)
    z = left * size
    if strength is None:
        strength = _strength(z, label, groups)
    found = _fit(z, label, strength, weight)
    slope = np.zeros((num_classes, len(axes)))
    offset = np.full(num_classes, ABSENT)
    if len(found.classes_) == 2:  # one logit, which is the difference of two
        slope[found.classes_] = np.concatenate([-found.coef_, found.coef_]) / 2
        offset[found.classes_] = np.concatenate([-found.intercept_, found.intercept_]) / 2
    else:
        slope[found.classes_], offset[found.classes_] = found.coef_, found.intercept_
    slope = slope @ axes / spread  # on features as they are
    layer = nn.Linear(features.shape[1], num_classes)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(slope))
        layer.bias.copy_(torch.from_numpy(offset - slope @ mean))
    return layer


def knn(features: Features, label: NDArray[np.int64], num_classes: int, k: int) -> Neighbours:
    """Features [n, F], labels [n] -> a head that remembers them."""
    found = Neighbours(num_classes, len(features), features.shape[1], k)
    found.remember(torch.from_numpy(features), torch.from_numpy(label))
    return found


def spread_labels(
    features: Features, label: NDArray[np.int64], num_classes: int, settings: LabelSpreading
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Labels [n] of which the unknown are -1 -> labels [n] for all images, and their weights.

        (I - α S) Z = Y,   S = D^(-1/2) (A + Aᵀ) D^(-1/2),   A_ij = max(cos_ij, 0)^γ

    over the k nearest neighbours: Zhou et al. 2004 (learning with local and global consistency), in
    the form of Iscen et al. 2019 (label propagation for deep semi-supervised learning). Weights are
    certainty (1 less the entropy over its maximum), evened out over the classes; a known label has
    that of a certain one.
    """
    n, k = len(features), min(settings.k, len(features) - 1)
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    distance, near = NearestNeighbors(n_neighbors=k + 1).fit(unit).kneighbors(unit)
    cosine = np.clip(1 - distance**2 / 2, 0, None) ** settings.gamma
    rows = np.repeat(np.arange(n), k + 1)
    graph = csr_matrix((cosine.ravel(), (rows, near.ravel())), shape=(n, n))
    graph.setdiag(0)
    graph = graph + graph.T
    degree = np.asarray(graph.sum(1)).ravel()
    scale = diags_array(1 / np.sqrt(np.maximum(degree, 1e-12)))
    system = identity(n) - settings.alpha * (scale @ graph @ scale)
    known = label >= 0
    z = np.zeros((n, num_classes))
    for c in range(num_classes):
        z[:, c] = cg(system, (label == c).astype(float), rtol=1e-6, maxiter=50)[0]
    z = np.maximum(z, 0)
    total = z.sum(1, keepdims=True)
    p = np.where(total > 0, z / np.maximum(total, 1e-300), 1 / num_classes)
    entropy = -(p * np.log(np.maximum(p, 1e-300))).sum(1) / np.log(num_classes)
    answer = np.where(known, label, z.argmax(1))
    weight = np.where(known, 1.0, 1 - entropy)
    share = np.bincount(answer, weight, num_classes)
    return answer, weight * (share.sum() / np.maximum(share, 1e-12) / num_classes)[answer]


def _strength(z: Features, label: NDArray[np.int64], groups: NDArray[np.int64]) -> float:
    """The C under which held-out labels are likeliest."""
    least = int(np.bincount(np.unique(label, return_inverse=True)[1]).min())
    folds = min(FOLDS, least, len(np.unique(groups)))
    if folds < 2:
        return USUAL
    parts = list(StratifiedGroupKFold(folds, shuffle=True, random_state=0).split(z, label, groups))
    loss = np.zeros(len(STRENGTHS))
    every = np.unique(label)
    for train, held in parts[: 1 if len(label) > MANY else folds]:
        if len(np.unique(label[train])) < len(every):  # a class whose images are all copies
            return USUAL
        for i, strength in enumerate(STRENGTHS):
            p = _fit(z[train], label[train], strength).predict_proba(z[held])
            loss[i] += log_loss(label[held], p, labels=every) * len(held)
    return STRENGTHS[int(loss.argmin())]


def _fit(
    z: Features,
    label: NDArray[np.int64],
    strength: float,
    weight: NDArray[np.float64] | None = None,
) -> LogisticRegression:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # 200 steps are near enough
        return LogisticRegression(C=strength, max_iter=200).fit(z, label, weight)
