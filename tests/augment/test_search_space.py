"""The space of the search: any numbers give a policy that parses, within the table's limits."""

import numpy as np
import pytest
from conftest import picture as painted

from fewlabels.augment.operations import OPERATIONS
from fewlabels.augment.policy import WEAK, Policy
from fewlabels.augment.search import CHOICES, policy_of
from fewlabels.augment.views import picture


def test_random_numbers_give_policies_that_read_back_and_keep_the_limits() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        n = int(rng.integers(1, 5))
        which, strength = rng.choice(CHOICES, n).tolist(), rng.random(n).tolist()
        policy = policy_of(which, strength)
        assert Policy.parse(str(policy)) == policy
        assert policy.stages[: len(WEAK.stages)] == WEAK.stages
        assert str(policy.stages[-1]) == "cutout(0.5)"
        between = policy.stages[len(WEAK.stages) : -1]
        assert [stage.name for stage in between] == [name for name in which if name != "identity"]
        for stage in between:
            operation = OPERATIONS[stage.name]
            low, high = stage["strength"]
            reach = abs(operation.extreme - operation.neutral)
            assert operation.neutral - reach <= low <= operation.neutral
            assert operation.neutral <= high <= operation.neutral + reach or not operation.signed
            assert 0 <= stage["p"][0] <= stage["p"][1] <= 1


@pytest.mark.parametrize(
    ("which", "strength", "text"),
    [
        ("rotate", 1.0, "rotate(-30..30)"),
        ("rotate", 0.5, "rotate(-15..15)"),
        ("brightness", 1.0, "brightness(0.1..1.9)"),
        ("brightness", 1 / 3, "brightness(0.7..1.3)"),
        ("posterize", 0.25, "posterize(7..8)"),
        ("solarize", 0.5, "solarize(128..256)"),
        ("translate_x", 1.0, "translate_x(-0.45..0.45)"),
        ("equalize", 0.1234, "equalize(p=0.123)"),
        ("equalize", 1.0, "equalize"),
    ],
)
def test_a_strength_becomes_a_span_or_a_probability(which: str, strength: float, text: str) -> None:
    assert str(policy_of([which], [strength], Policy())) == f"{text}+cutout(0.5)"


def test_the_base_may_be_another_and_identity_leaves_it_alone() -> None:
    base = Policy.parse("nearest+flip(0.5)+cutout(0.2)")
    assert str(policy_of(["identity"] * 2, [0.3, 1.0], base)) == "nearest+flip(0.5)+cutout(0.5)"


def test_no_strength_changes_nothing() -> None:
    image = np.asarray(painted(0, 0))
    policy = policy_of(CHOICES, [0.0] * len(CHOICES), Policy()).without("cutout")
    assert np.abs(picture(image, policy).astype(int) - image).max() <= 1  # a warp rounds
