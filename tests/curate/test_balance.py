import numpy as np
import pytest
from sklearn.datasets import load_digits

from fewlabels.curate.balance import _likeliest, balance

NAMES = tuple(str(digit) for digit in range(10))


def drawn(
    seed: int, labels: int, unlabelled: dict[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features and labels of digits: so many labels a class; true shares [10] of the others."""
    data = load_digits()
    rng = np.random.default_rng(seed)
    rows, label, true = [], [], np.zeros(10)
    for digit in range(10):
        of_digit = rng.permutation(np.flatnonzero(data.target == digit))
        hidden = of_digit[labels : labels + unlabelled[digit]]
        rows += [*of_digit[:labels], *hidden]
        label += [digit] * labels + [-1] * len(hidden)
        true[digit] = len(hidden)
    return data.data[rows].astype(np.float32), np.array(label), true / true.sum()


def test_a_known_imbalance_lies_in_nearly_all_intervals() -> None:
    inside = missed = 0
    for seed in range(4):
        many = {digit: 100 if digit in (1, 7) else 20 for digit in range(10)}
        features, label, true = drawn(seed, 15, many)
        found = balance(features, label, NAMES, seed)
        assert list(found.shares) == list(NAMES)
        assert sum(share.value for share in found.shares.values()) == pytest.approx(1)
        assert found.shares["1"].value > 0.17  # of 0.28; as labelled it would be 0.1
        for i, share in enumerate(found.shares.values()):
            within = share.low <= true[i] <= share.high
            inside, missed = inside + within, missed + (not within)
    assert inside >= 36  # of 40; 38 are expected


def test_errors_of_the_probe_are_undone() -> None:
    """The probe takes a third of class 0 for class 1."""
    confused = np.array([[4000.0, 2000.0], [0.0, 6000.0]])
    answers = np.array([0.3, 0.2]) @ np.array([[2 / 3, 1 / 3], [0, 1]])
    assert _likeliest(confused, answers) == pytest.approx([0.6, 0.4], abs=0.002)


def test_shares_are_not_the_answers_of_the_probe() -> None:
    """Of two classes that overlap so that it is right two times in three."""
    rng = np.random.default_rng(0)
    label = np.concatenate([np.arange(600) % 2, np.full(1000, -1)])
    true = np.concatenate([label[:600], rng.random(1000) < 0.9])
    features = rng.standard_normal((1600, 5)).astype(np.float32)
    features[:, 0] += true
    found = balance(features, label, ("rare", "frequent"))
    assert found.probe is not None
    assert found.probe.value < 0.75
    assert found.shares["frequent"].value == pytest.approx(0.9, abs=0.07)
    assert found.shares["frequent"].low < 0.9 < found.shares["frequent"].high


def test_it_says_why_it_cannot_tell() -> None:
    features, label, _ = drawn(0, 6, dict.fromkeys(range(10), 10))
    few = label.copy()
    few[np.flatnonzero(label == 3)[:2]] = -1
    assert "'3' has 4 labels" in balance(features, few, NAMES).why
    assert "unlabelled" in balance(features[label >= 0], label[label >= 0], NAMES).why
    assert "two classes" in balance(features, np.minimum(label, 0), ("0",)).why
    noise = np.random.default_rng(0).standard_normal(features.shape).astype(np.float32)
    told = balance(noise, label, NAMES)
    assert "do not tell" in told.why
    assert told.probe is not None
    assert told.shares == {}
