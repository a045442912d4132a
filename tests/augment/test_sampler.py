from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import chi2

from fewlabels.augment import operations as op
from fewlabels.augment.operations import FIXMATCH, OPERATIONS
from fewlabels.augment.points import CORNERS
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
    height: int | None = None,
) -> Program:
    """`size` is the width, and the height too where that is not given."""
    numbers = np.array(image, np.int64)
    parsed = Policy.parse(policy) if isinstance(policy, str) else policy
    epochs = np.full_like(numbers, epoch)
    return sample(parsed, seed, epochs, numbers, view, height or size, size)


def same(a: Program, b: Program) -> bool:
    return np.array_equal(a.code, b.code) and np.array_equal(a.operand, b.operand)


def shifts(policy: str, size: int = 32, height: int | None = None) -> NDArray[np.int64]:
    """The whole pixels [N, 2] by which a policy of one crop shifts; fails where they are not."""
    program = sampled(policy, size=size, height=height)
    assert (program.code == [op.TRANSLATE_X, op.TRANSLATE_Y]).all()
    pixels = program.operand[:, :, 0].astype(np.float64) * [size, height or size]
    np.testing.assert_allclose(pixels, np.round(pixels), atol=size * 1e-7)  # operands are float32
    return np.round(pixels).astype(np.int64)


def test_form() -> None:
    program = sampled("flip+crop+rand(3)+cutout", range(5))
    assert program.code.shape == (5, 7)
    assert program.operand.shape == (5, 7, op.OPERANDS)
    assert program.code.dtype == np.int16
    assert program.operand.dtype == np.float32


@pytest.mark.parametrize("policy", ["none", "rand(0)"])
def test_nothing_to_do(policy: str) -> None:
    program = sampled(policy, range(5))
    assert program.code.shape == (5, 0)
    assert program.operand.shape == (5, 0, op.OPERANDS)


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


def test_crops_of_an_oblong_reach_a_part_of_each_side() -> None:
    shifted = shifts("crop(0.1)", size=80, height=30)
    assert shifted.min(0).tolist() == [-8, -3]
    assert shifted.max(0).tolist() == [8, 3]


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


def test_magnitude_nothing_changes_nothing() -> None:
    program = sampled("rand(1,m=0,among=" + "|".join(OPERATIONS) + ")")
    for code, name in NAMES.items():
        here = program.operand[program.code[:, 0] == code, 0, 0]
        assert (here == OPERATIONS[name].neutral).all(), name


def test_the_largest_magnitude_is_the_extreme_of_either_sign() -> None:
    program = sampled("rand(1,m=30,among=" + "|".join(OPERATIONS) + ")")
    for code, name in NAMES.items():
        o = OPERATIONS[name]
        here = program.operand[program.code[:, 0] == code, 0, 0].astype(np.float64)
        if not o.signed:
            assert (here == o.extreme).all(), name
            continue
        other = 2 * o.neutral - o.extreme
        up, down = np.isclose(here, o.extreme, atol=1e-6), np.isclose(here, other, atol=1e-6)
        assert (up | down).all(), name
        assert abs(up.mean() - 0.5) < 4 * 0.5 * len(here) ** -0.5, name


@pytest.mark.parametrize("m", [1, 10, 17.5])
def test_one_magnitude_is_one_strength(m: float) -> None:
    program = sampled(f"rand(1,m={m},among=" + "|".join(OPERATIONS) + ")")
    for code, name in NAMES.items():
        o = OPERATIONS[name]
        far = np.abs(program.operand[program.code[:, 0] == code, 0, 0] - o.neutral)
        np.testing.assert_allclose(far, m / 30 * abs(o.extreme - o.neutral), atol=1e-4)


def test_a_range_of_magnitudes_is_filled_evenly() -> None:
    """Of either sign, and independently of it."""
    strength = sampled("rand(1,m=6..24,among=rotate)").operand[:, 0, 0].astype(np.float64)
    far = np.abs(strength)
    assert far.min() == pytest.approx(6, abs=0.01)
    assert far.max() == pytest.approx(24, abs=0.01)
    assert abs(far.mean() - 15) < 4 * 18 * (12 * N) ** -0.5
    assert abs((strength > 0).mean() - 0.5) < 4 * 0.5 * N**-0.5
    assert abs(np.corrcoef(far, strength > 0)[0, 1]) < 4 * N**-0.5


def test_the_two_scales_of_strength_agree_where_they_should() -> None:
    """FixMatch's strengths only weaken colours (factors below 1), RandAugment's go both ways."""
    for name in ("brightness", "contrast", "saturation", "sharpness"):
        assert OPERATIONS[name].high < 1 < OPERATIONS[name].extreme
    for name in ("rotate", "shear_x", "shear_y", "add"):
        o = OPERATIONS[name]
        assert (-o.low, o.neutral, o.extreme) == (o.high, 0, o.high)


@pytest.mark.parametrize("name", [name for name, o in OPERATIONS.items() if o.has_strength])
def test_an_operation_by_itself_has_its_strength_and_probability(name: str) -> None:
    low, high = OPERATIONS[name].low, OPERATIONS[name].high
    for text, least, most, p in [
        (name, low, high, 1.0),
        (f"{name}({high},p=0.25)", high, high, 0.25),
        (f"{name}({low}..{(low + high) / 2})", low, (low + high) / 2, 1.0),
    ]:
        program = sampled(text)
        done = program.code[:, 0] == OPERATIONS[name].code
        assert (program.code[~done, 0] == op.IDENTITY).all()
        assert abs(done.mean() - p) <= 4 * (p * (1 - p) / N) ** 0.5
        strength = program.operand[done, 0, 0].astype(np.float64)
        slack = 1e-6 * max(abs(low), abs(high))
        assert least - slack <= strength.min() <= least + 0.02 * (most - least) + slack
        assert most - 0.02 * (most - least) - slack <= strength.max() <= most + slack


def test_turns_are_quarters_each_as_often() -> None:
    program = sampled("turn")
    assert (program.code == op.ROTATE).all()
    count = np.bincount((program.operand[:, 0, 0] / 90).astype(np.int64))
    assert len(count) == 4
    assert (program.operand[:, 0, 0] % 90 == 0).all()
    assert ((count - N / 4) ** 2 / (N / 4)).sum() < chi2.ppf(1 - 1e-4, 3)
    assert abs((sampled("turn(0.3)").code == op.ROTATE).mean() - 0.3) < 4 * (0.21 / N) ** 0.5


@pytest.mark.parametrize("area", ["0.08..1", "0.25", "0.9..1", "1", "0.001"])
@pytest.mark.parametrize("size", [(32, 32), (33, 57), (1000, 37), (1, 1)])
def test_resized_crops_are_windows_of_the_image(area: str, size: tuple[int, int]) -> None:
    """Inside it, of the area, and between 3:4 and 4:3 or as near to that as so large a window of an
    oblong can be.
    """
    height, width = size
    low, high = (float(part) for part in (area + ".." + area).split("..")[:2])
    program = sampled(f"resized_crop({area})", size=width, height=height)
    assert (program.code == op.WARP).all()
    warp = program.operand[:, 0].astype(np.float64)
    assert not warp[:, [1, 3, 6, 7]].any()  # neither turned nor sheared
    w, x, h, y = warp[:, 0], warp[:, 2], warp[:, 4], warp[:, 5]
    for side, middle in ((w, x), (h, y)):
        assert (side > 0).all()
        assert (np.abs(middle) + side / 2 <= 0.5 + 1e-6).all()
    assert (w * h >= low - 1e-6).all()
    assert (w * h <= high + 1e-6).all()
    assert abs((w * h).mean() - (low + high) / 2) <= 4 * (high - low) / (12 * N) ** 0.5 + 1e-6
    ratio = w * width / (h * height)
    whole = (w > 1 - 1e-6) | (h > 1 - 1e-6)
    assert ((ratio > 3 / 4 - 1e-5) & (ratio < 4 / 3 + 1e-5) | whole).all()
    if height == width:
        assert (ratio > 3 / 4 - 1e-5).all()
        assert (ratio < 4 / 3 + 1e-5).all()


@pytest.mark.parametrize(("name", "points"), [("affine", 3), ("perspective", 4)])
def test_warps_move_their_corners_by_up_to_their_part(name: str, points: int) -> None:
    warp = sampled(f"{name}(0.2)").operand[:, 0].astype(np.float64)
    maps = np.concatenate([warp, np.ones((N, 1))], 1).reshape(N, 3, 3)
    corners = np.column_stack([CORNERS[:points], np.ones(points)])
    looked_at = np.einsum("bij,nj->bni", maps, corners)
    shift = looked_at[:, :, :2] / looked_at[:, :, 2:] - CORNERS[:points]
    assert np.abs(shift).max() <= 0.2 + 1e-5
    assert np.abs(shift).max() > 0.199
    flat = shift.reshape(N, -1)
    assert (np.abs(flat.mean(0)) < 4 * 0.4 * (12 * N) ** -0.5).all()
    between = np.corrcoef(flat.T) - np.eye(2 * points)
    assert np.abs(between).max() < 4.5 * N**-0.5  # of 28 pairs
    assert not (name == "affine" and warp[:, 6:].any())


def test_elastic_draws_its_two_seeds() -> None:
    """Whole numbers that single precision holds, and no two images alike."""
    program = sampled("elastic(0.2,cells=7)")
    assert (program.code == op.ELASTIC).all()
    assert (program.operand[:, 0, 0] == np.float32(0.2)).all()
    assert (program.operand[:, 0, 1] == 7).all()
    seeds = program.operand[:, 0, 2:4].astype(np.int64)
    assert (seeds == program.operand[:, 0, 2:4]).all()
    assert seeds.min() >= 0
    assert seeds.max() < 2**24
    assert len(np.unique(seeds, axis=0)) == N


def test_cutout_is_up_to_its_side_and_anywhere() -> None:
    program = sampled("cutout(0.4)")
    assert (program.code == op.CUTOUT).all()
    u = program.operand[:, 0, :3] / np.array([0.4, 1, 1])
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
            program.operand[:, 5, :3],
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
