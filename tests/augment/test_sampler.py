from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import chi2

from fewlabels.augment import operations as op
from fewlabels.augment.operations import FIXMATCH, OPERATIONS
from fewlabels.augment.policy import Policy
from fewlabels.augment.sampler import Program, sample

WEAK, STRONG = Policy.parse("flip+crop"), Policy.parse("flip+crop+rand(2)+cutout(0.5)")

N = 20_000
NAMES = {operation.code: name for name, operation in OPERATIONS.items()}


def sampled(
    policy: Policy | str,
    image: range | list[int] = range(N),
    seed: int = 0,
    epoch: int = 0,
    view: int = 0,
    size: int = 32,
) -> Program:
    numbers = np.array(image, np.int64)
    parsed = Policy.parse(policy) if isinstance(policy, str) else policy
    return sample(parsed, seed, np.full_like(numbers, epoch), numbers, view, size)


def same(a: Program, b: Program) -> bool:
    return np.array_equal(a.code, b.code) and np.array_equal(a.operand, b.operand)


def shifts(policy: str, size: int = 32) -> NDArray[np.int64]:
    """The whole pixels [N, 2] by which a policy of one crop shifts; fails where they are not."""
    program = sampled(policy, size=size)
    assert (program.code == [op.TRANSLATE_X, op.TRANSLATE_Y]).all()
    pixels = program.operand[:, :, 0].astype(np.float64) * size
    np.testing.assert_allclose(pixels, np.round(pixels), atol=size * 1e-7)  # operands are float32
    return np.round(pixels).astype(np.int64)


def test_form() -> None:
    program = sampled("flip+crop+rand(3)+cutout", range(5))
    assert program.code.shape == (5, 7)
    assert program.operand.shape == (5, 7, 3)
    assert program.code.dtype == np.int16
    assert program.operand.dtype == np.float32


@pytest.mark.parametrize("policy", ["none", "rand(0)"])
def test_nothing_to_do(policy: str) -> None:
    program = sampled(policy, range(5))
    assert program.code.shape == (5, 0)
    assert program.operand.shape == (5, 0, 3)


@pytest.mark.parametrize("p", [0.0, 0.3, 0.5, 1.0])
def test_flips_as_often_as_told(p: float) -> None:
    code = sampled(f"flip({p})").code[:, 0]
    assert np.isin(code, [op.FLIP, op.IDENTITY]).all()
    assert abs((code == op.FLIP).mean() - p) <= 4 * (p * (1 - p) / N) ** 0.5


@pytest.mark.parametrize(
    ("shift", "size", "reach"), [(0.125, 32, 4), (0.1, 32, 3), (0.125, 224, 28), (1, 9, 9)]
)
def test_crops_shift_whole_pixels_within_reach(shift: float, size: int, reach: int) -> None:
    shifted = shifts(f"crop({shift})", size)
    count = np.stack([np.bincount(axis + reach, minlength=2 * reach + 1) for axis in shifted.T])
    assert count.shape == (2, 2 * reach + 1)  # none beyond
    expected = N / (2 * reach + 1)
    for statistic in ((count - expected) ** 2 / expected).sum(1):
        assert statistic < chi2.ppf(1 - 1e-4, 2 * reach)  # each shift equally often
    assert abs(np.corrcoef(*shifted.T)[0, 1]) < 4 * N**-0.5


def test_crop_of_nothing_stays() -> None:
    assert not shifts("crop(0)").any()
    assert not shifts("crop(0.01)").any()  # less than half a pixel


def test_rand_draws_each_operation_equally_often() -> None:
    program = sampled("rand(2)")
    codes = [OPERATIONS[name].code for name in FIXMATCH]
    count = np.array([[(program.code[:, k] == code).sum() for code in codes] for k in range(2)])
    assert count.sum(1).tolist() == [N, N]  # and no other
    statistic = ((count - N / 14) ** 2 / (N / 14)).sum(1)
    assert (statistic < chi2.ppf(1 - 1e-4, 13)).all()
    # the second does not depend on the first: a table of 14 by 14 has 13 * 13 degrees of freedom
    first, second = (np.searchsorted(np.sort(codes), program.code[:, k]) for k in range(2))
    pairs = np.histogram2d(first, second, 14)[0]
    expected = np.outer(pairs.sum(1), pairs.sum(0)) / N
    assert ((pairs - expected) ** 2 / expected).sum() < chi2.ppf(1 - 1e-4, 169)


def test_strengths_fill_their_range() -> None:
    program = sampled("rand(1,among=" + "|".join(OPERATIONS) + ")")
    strength = program.operand[:, 0, 0]
    assert set(np.unique(program.code)) == set(NAMES)
    for code, name in NAMES.items():
        low, high = OPERATIONS[name].low, OPERATIONS[name].high
        here = strength[program.code[:, 0] == code].astype(np.float64)
        slack = 1e-6 * max(abs(low), abs(high))  # the operand is a float32
        assert here.min() >= low - slack, name
        assert here.max() <= high + slack, name
        # of more than 1,000 uniform draws the extremes lie in the outer 2 % and the mean in the
        # middle: 4 standard errors of (high - low) / sqrt(12 n)
        assert len(here) > 1000
        assert here.min() <= low + 0.02 * (high - low), name
        assert here.max() >= high - 0.02 * (high - low), name
        error = (high - low) / (12 * len(here)) ** 0.5
        assert abs(here.mean() - (low + high) / 2) <= 4 * error + slack, name


def test_strength_does_not_depend_on_the_operation() -> None:
    """Which and how strong are two draws: rotations to the left are as frequent as to the right."""
    program = sampled("rand(1,among=identity|rotate)")
    turned = program.operand[program.code[:, 0] == op.ROTATE, 0, 0]
    assert abs((turned > 0).mean() - 0.5) < 4 * 0.5 * len(turned) ** -0.5


def test_among() -> None:
    code = sampled("rand(2,among=rotate|invert)").code
    assert set(np.unique(code)) == {op.ROTATE, op.INVERT}
    assert abs((code == op.ROTATE).mean() - 0.5) < 4 * 0.5 * (2 * N) ** -0.5


def test_cutout_is_up_to_its_side_and_anywhere() -> None:
    program = sampled("cutout(0.4)")
    assert (program.code == op.CUTOUT).all()
    u = program.operand[:, 0] / np.array([0.4, 1, 1])
    assert u.min() >= 0
    assert u.max() <= 1
    assert (np.abs(u.mean(0) - 0.5) < 4 * (12 * N) ** -0.5).all()
    assert (np.abs(u.var(0) - 1 / 12) < 4 * (180 * N) ** -0.5).all()
    assert np.abs(np.corrcoef(u.T) - np.eye(3)).max() < 4 * N**-0.5


def test_stages_draw_apart() -> None:
    """Flip, shift, which, how strong, side and place: no two of them go together."""
    program = sampled("flip+crop+rand(2,among=rotate|shear_x)+cutout")
    columns = np.column_stack(
        [
            program.code[:, 0] == op.FLIP,
            program.operand[:, 1:3, 0],
            program.code[:, 3:5] == op.ROTATE,
            np.sign(program.operand[:, 3:5, 0]),
            program.operand[:, 5],
        ]
    )
    assert columns.shape == (N, 10)
    assert np.abs(np.corrcoef(columns.T) - np.eye(10)).max() < 4.5 * N**-0.5  # of 45 pairs


def test_stages_stand_in_the_order_of_the_policy() -> None:
    code = sampled("crop+flip(1)+cutout", range(3)).code
    assert (code == [op.TRANSLATE_X, op.TRANSLATE_Y, op.FLIP, op.CUTOUT]).all()


def test_no_matter_which_batch() -> None:
    whole = sampled(STRONG, range(200))
    order = np.random.default_rng(1).permutation(200)
    part = sampled(STRONG, order[:30].tolist())
    assert same(part, Program(whole.code[order[:30]], whole.operand[order[:30]]))


@pytest.mark.parametrize("other", [{"seed": 1}, {"epoch": 1}, {"view": 1}])
@pytest.mark.parametrize("policy", [WEAK, STRONG], ids=["weak", "strong"])
def test_another_seed_epoch_or_view(policy: Policy, other: dict[str, Any]) -> None:
    first, second = sampled(policy), sampled(policy, **other)
    assert same(first, sampled(policy))
    flips = first.code[:, 0] == op.FLIP, second.code[:, 0] == op.FLIP
    assert abs(np.corrcoef(*flips)[0, 1]) < 4 * N**-0.5
    shift = first.operand[:, 1:3, 0], second.operand[:, 1:3, 0]
    # 9 shifts an axis: equal in 1 of 81
    assert (shift[0] == shift[1]).all(1).mean() == pytest.approx(1 / 81, rel=0.3)


def test_weak_and_strong_share_no_draws() -> None:
    """The weak view's flip and shift, which the strong policy begins with too, tell it nothing."""
    weak, strong = sampled(WEAK, view=0), sampled(STRONG, view=1)
    columns = [
        np.column_stack(
            [program.code[:, 0] == op.FLIP, program.operand[:, 1, 0], program.operand[:, 2, 0]]
        )
        for program in (weak, strong)
    ]
    between = np.corrcoef(columns[0].T, columns[1].T)[:3, 3:]
    assert np.abs(between).max() < 4 * N**-0.5
