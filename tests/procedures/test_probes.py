"""Classifiers on features, against scikit-learn and against dense linear algebra."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.datasets import make_moons
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from torch import nn

from fewlabels.errors import UserError
from fewlabels.procedures import probes
from fewlabels.procedures.probes import (
    ABSENT,
    STRENGTHS,
    USUAL,
    Features,
    LabelSpreading,
    knn,
    linear_probe,
    resolve,
    spread_labels,
)

Labels = NDArray[np.int64]


def blobs(classes: int, each: int, wide: int = 6, spread: float = 1.0) -> tuple[Features, Labels]:
    """Around one centre a class, on axes of very different lengths."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(classes, wide)) * 2
    label = np.repeat(np.arange(classes), each)
    x = centres[label] + spread * rng.normal(size=(len(label), wide))
    return (x * 10.0 ** np.linspace(-2, 2, wide) + 3).astype(np.float32), label


@torch.inference_mode()
def said(layer: nn.Module, features: Features) -> NDArray[np.float64]:
    found: NDArray[np.float64] = layer(torch.from_numpy(features)).double().softmax(1).numpy()
    return found


def alone(label: Labels) -> Labels:
    """Every image a group of its own."""
    return np.arange(len(label))


# linear probe


@pytest.mark.parametrize("classes", [2, 3, 7])
@pytest.mark.parametrize("each", [3, 40])  # fewer images than features, and more
def test_the_probe_is_scikit_learns_on_standardised_features(classes: int, each: int) -> None:
    x, label = blobs(classes, each, wide=24)
    scaler = StandardScaler().fit(x.astype(np.float64))
    theirs = LogisticRegression(C=0.01, max_iter=2000, tol=1e-8).fit(scaler.transform(x), label)
    layer = linear_probe(x, label, alone(label), classes, strength=0.01)
    assert layer.weight.shape == (classes, 24)
    others, _ = blobs(classes, 11, wide=24, spread=3.0)
    expected = theirs.predict_proba(scaler.transform(others))
    np.testing.assert_allclose(said(layer, others), expected, atol=2e-3)


def test_a_class_without_labels_is_never_said() -> None:
    x, label = blobs(3, 20)
    for present in ([0, 2, 3], [1, 3, 4]):
        layer = linear_probe(x, np.array(present)[label], alone(label), 5)
        p = said(layer, x)
        absent = [c for c in range(5) if c not in present]
        assert p[:, absent].max() < 1e-9
        plain = said(linear_probe(x, label, alone(label), 3), x)
        np.testing.assert_allclose(p[:, present], plain, atol=1e-4)
        assert layer.bias[absent].tolist() == [ABSENT] * 2
    two = linear_probe(x[label < 2], np.array([3, 1])[label[label < 2]], alone(label)[:40], 5)
    p = said(two, x[label < 2])
    assert p[:, [0, 2, 4]].max() < 1e-9
    assert (p.argmax(1) == np.array([3, 1])[label[label < 2]]).mean() > 0.95


def test_features_that_never_change_are_no_harm() -> None:
    x, label = blobs(3, 20)
    x[:, 2] = 5.0
    layer = linear_probe(x, label, alone(label), 3)
    assert layer.weight.isfinite().all()
    assert (said(layer, x).argmax(1) == label).mean() > 0.95


def test_the_strength_is_the_one_that_held_out_labels_like_best() -> None:
    chosen = set()
    for spread in (0.3, 3.0, 30.0):
        x, label = blobs(3, 15, spread=spread)
        z = StandardScaler().fit_transform(x.astype(np.float64))
        folds = StratifiedGroupKFold(5, shuffle=True, random_state=0)
        loss = dict.fromkeys(STRENGTHS, 0.0)
        for train, held in folds.split(z, label, alone(label)):
            for strength in STRENGTHS:
                model = LogisticRegression(C=strength, max_iter=1000).fit(z[train], label[train])
                p = model.predict_proba(z[held])
                loss[strength] += log_loss(label[held], p, labels=[0, 1, 2]) * len(held)
        best = min(loss, key=lambda strength: loss[strength])
        layer = linear_probe(x, label, alone(label), 3)
        same = linear_probe(x, label, alone(label), 3, strength=best)
        np.testing.assert_allclose(said(layer, x), said(same, x), atol=1e-6)
        chosen.add(best)
    assert len(chosen) > 1


def test_images_of_a_group_are_never_parted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy on the other side would praise a probe that knows its images by heart."""
    rng = np.random.default_rng(1)
    label, group = np.tile([0, 1], 20), np.repeat(np.arange(8), 5)
    x = rng.normal(size=(40, 6)).astype(np.float32)
    held: list[set[int]] = []
    split = StratifiedGroupKFold.split

    def watched(self: Any, x: Any, y: Any, groups: Any) -> Any:
        for train, rest in split(self, x, y, groups):
            assert set(groups[train]).isdisjoint(groups[rest])
            held.append(set(groups[rest].tolist()))
            yield train, rest

    monkeypatch.setattr(StratifiedGroupKFold, "split", watched)
    linear_probe(x, label, group, 2)
    assert sorted(g for some in held for g in some) == list(range(8))

    noise, sides = np.repeat(rng.normal(size=(20, 30)), 5, 0), np.repeat(rng.integers(0, 2, 20), 5)
    copies = noise.astype(np.float32)
    strict = linear_probe(copies, sides, np.repeat(np.arange(20), 5), 2)
    loose = linear_probe(copies, sides, alone(sides), 2)
    least, most = (linear_probe(copies, sides, alone(sides), 2, strength=s) for s in (1e-4, 1e-1))
    assert torch.equal(strict.weight, least.weight)
    assert torch.equal(loose.weight, most.weight)


def test_with_one_label_a_class_nothing_is_compared() -> None:
    x, label = blobs(4, 1)
    layer = linear_probe(x, label, alone(label), 4)
    assert torch.equal(layer.weight, linear_probe(x, label, alone(label), 4, strength=USUAL).weight)
    x, label = blobs(2, 5)  # a class whose images are all copies
    copies = np.array([0, 0, 0, 0, 0, 1, 2, 3, 4, 5])
    layer = linear_probe(x, label, copies, 2)
    assert torch.equal(layer.weight, linear_probe(x, label, copies, 2, strength=USUAL).weight)


def test_labels_and_groups_of_any_kind_are_taken() -> None:
    rng = np.random.default_rng(0)
    for _ in range(30):
        n = int(rng.integers(2, 14))
        label = rng.integers(0, 3, n)
        if len(np.unique(label)) < 2:
            continue
        groups = rng.integers(0, rng.integers(1, n + 1), n)
        layer = linear_probe(rng.normal(size=(n, 4)).astype(np.float32), label, groups, 3)
        assert layer.weight.isfinite().all()


def test_weights_count_as_copies_do() -> None:
    x, label = blobs(3, 10, spread=4.0)
    about = (x, label, alone(label), 3)
    twice = linear_probe(*about, weight=np.full(30, 2.0), strength=0.01)
    np.testing.assert_allclose(
        said(twice, x), said(linear_probe(*about, strength=0.02), x), atol=1e-3
    )
    weight, wrong = np.ones(30), label.copy()
    weight[::7], wrong[::7] = 0.0, 0
    one = linear_probe(x, label, alone(label), 3, weight, strength=0.01)
    two = linear_probe(x, wrong, alone(label), 3, weight, strength=0.01)
    np.testing.assert_allclose(said(one, x), said(two, x), atol=1e-5)


# nearest neighbours


@pytest.mark.parametrize("k", [1, 5, 500])
def test_neighbours_are_those_of_scikit_learn(k: int) -> None:
    x, label = blobs(3, 12, spread=3.0)
    others, _ = blobs(3, 20, spread=5.0)

    def votes(distance: NDArray[np.float64]) -> NDArray[np.float64]:
        weight: NDArray[np.float64] = np.exp((1 - distance) / 0.07)
        return weight

    theirs = KNeighborsClassifier(min(k, 36), weights=votes, metric="cosine", algorithm="brute")
    expected = theirs.fit(x.astype(np.float64), label).predict_proba(others.astype(np.float64))
    found = said(knn(x, label, 3, k), others)
    np.testing.assert_allclose(found, expected, atol=1e-3)


# label spreading


def dense(
    x: Features, label: Labels, classes: int, settings: LabelSpreading
) -> NDArray[np.float64]:
    """Z of (I - αS) Z = Y, with every matrix written out."""
    n = len(x)
    unit = x.astype(np.float64) / np.linalg.norm(x, axis=1, keepdims=True)
    cosine = unit @ unit.T
    np.fill_diagonal(cosine, -np.inf)
    a = np.zeros((n, n))
    for i in range(n):
        for j in np.argsort(-cosine[i])[: settings.k]:
            a[i, j] = max(cosine[i, j], 0) ** settings.gamma
    w = a + a.T
    d = np.diag(1 / np.sqrt(w.sum(1)))
    y = np.zeros((n, classes))
    y[np.flatnonzero(label >= 0), label[label >= 0]] = 1
    z: NDArray[np.float64] = np.linalg.solve(np.eye(n) - settings.alpha * d @ w @ d, y)
    return z


@pytest.mark.parametrize("settings", [LabelSpreading(k=4, alpha=0.9), LabelSpreading(k=6, gamma=1)])
def test_spreading_is_the_dense_solution(settings: LabelSpreading) -> None:
    x = np.random.default_rng(3).normal(size=(25, 5)).astype(np.float32) + 0.5
    label = np.full(25, -1)
    label[[0, 7, 11, 20]] = [0, 1, 2, 1]
    z = dense(x, label, 3, settings)
    answer, weight = spread_labels(x, label, 3, settings)
    assert answer[[0, 7, 11, 20]].tolist() == [0, 1, 2, 1]
    free = label < 0
    clear = free & (np.sort(z, 1)[:, -1] - np.sort(z, 1)[:, -2] > 1e-3 * z.max(1))
    assert clear.sum() > 15
    assert (answer[clear] == z.argmax(1)[clear]).all()
    # weights: certainty, then the same sum for every class
    p = z / z.sum(1, keepdims=True)
    certain = np.where(free, 1 + (p * np.log(p)).sum(1) / np.log(3), 1.0)
    share = np.bincount(answer, certain, 3)
    np.testing.assert_allclose(weight, certain * (share.sum() / share / 3)[answer], atol=5e-3)
    np.testing.assert_allclose(np.bincount(answer, weight, 3), weight.sum() / 3)


def moons() -> tuple[Features, Labels]:
    """Two moons as features of a Gaussian kernel, whose cosines are small between the moons."""
    points, label = make_moons(200, noise=0.08, random_state=0)
    rng = np.random.default_rng(0)
    phase = points @ rng.normal(0, 4.0, (2, 200)) + rng.uniform(0, 2 * np.pi, 200)
    return np.cos(phase).astype(np.float32), label


def test_spreading_follows_the_shape_of_the_data() -> None:
    x, truth = moons()
    right = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        known = np.concatenate([rng.permutation(np.flatnonzero(truth == c))[:2] for c in (0, 1)])
        label = np.full(len(x), -1)
        label[known] = truth[known]
        answer, weight = spread_labels(x, label, 2, LabelSpreading(k=10))
        probe = linear_probe(x[known], truth[known], known, 2)
        fitted = linear_probe(x, answer, alone(truth), 2, weight, strength=USUAL)
        said_of = [answer, said(fitted, x).argmax(1), said(probe, x).argmax(1)]
        right.append([(those == truth).mean() for those in said_of])
    spread, fit, baseline = np.mean(right, 0)
    assert spread > 0.97
    assert fit > 0.93
    assert baseline < 0.88


def test_certainty_of_what_lies_between_is_low() -> None:
    x = np.array([[1, 0], [1, 0.1], [0, 1], [0.1, 1], [1, 1]], np.float32)
    _, weight = spread_labels(x, np.array([0, -1, 1, -1, -1]), 2, LabelSpreading(k=2, alpha=0.5))
    assert weight[4] < 0.2 < 0.5 < weight[1]
    assert weight[0] >= weight[1]


def test_spreading_with_nothing_to_spread() -> None:
    """No way from the labels to an image: it has no weight; nor need every class have a label."""
    x = np.array([[1, 0], [1, 0.1], [0, 1], [0.1, 1], [-1, -1], [-1, -0.9]], np.float32)
    label = np.array([0, -1, 1, -1, -1, -1])
    answer, weight = spread_labels(x, label, 3, LabelSpreading(k=1, alpha=0.9))
    assert answer[:4].tolist() == [0, 0, 1, 1]
    assert weight[4:].tolist() == pytest.approx([0, 0])
    assert np.isfinite(weight).all()
    none, nothing = spread_labels(x, label, 2, LabelSpreading(k=3, alpha=0.0))
    assert (none[[0, 2]] == [0, 1]).all()
    np.testing.assert_allclose(nothing, [1, 0, 1, 0, 0, 0], atol=1e-9)
    everything, _ = spread_labels(x, np.array([0, 0, 1, 1, 0, 1]), 2, LabelSpreading())
    assert everything.tolist() == [0, 0, 1, 1, 0, 1]


# settings


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("linear_probe", {"k": 3}, "setting 'k' has no effect in the method linear_probe"),
        ("knn", {"alpha": 0.5}, "it takes k"),
        ("knn", {"k": 0}, "k 0: must be at least 1"),
        ("knn", {"k": 2.5}, "k must be a whole number"),
        ("label_spreading", {"alpha": 1.0}, "alpha 1.0: must be between"),
        ("label_spreading", {"gamma": 0}, "gamma 0"),
    ],
)
def test_wrong_settings(name: str, settings: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        resolve(name, settings)


def test_right_settings() -> None:
    assert resolve("knn", {"k": 3}) == probes.KNN(3)
    assert resolve("label_spreading", {"alpha": 0.5}) == LabelSpreading(alpha=0.5)
