"""The geometry of the kernel against Pillow and NumPy, and what a batch is.

What is moved by whole pixels must agree bit for bit; the tolerance of everything else is derived
where it is used. Warps look at multiples of 1/64 pixel, so at most 1/128 off along each axis.
"""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps
from rendering import (
    SIDE,
    Bytes,
    Enhance,
    Instruction,
    Levels,
    by,
    natural,
    noise,
    programs,
    rendered,
    rendered_batch,
    sharpness,
    waves,
)

from fewlabels.augment import operations as op
from fewlabels.augment.points import CORNERS, through_points
from fewlabels.augment.views import execute

Matrix = tuple[float, float, float, float, float, float]

# ---- whole pixels: bit exact ----

FILL = (11.0, 222.0, 133.0)


def moved(image: Bytes, right: int, down: int) -> Levels:
    """NumPy's shift by whole pixels, FILL where nothing was."""
    height, width = image.shape[:2]
    result = np.tile(np.array(FILL), (height, width, 1))
    to_x, from_x = slice(max(right, 0), width + min(right, 0)), slice(max(-right, 0), None)
    to_y, from_y = slice(max(down, 0), height + min(down, 0)), slice(max(-down, 0), None)
    part = image[from_y, from_x]
    result[to_y, to_x] = part[: height - abs(down), : width - abs(right)]
    return result


either_way = pytest.mark.parametrize("nearest", [False, True], ids=["bilinear", "nearest"])


@either_way
@pytest.mark.parametrize("size", [(1, 1), (9, 9), (28, 28), (33, 33), (7, 40), (16, 3)])
def test_flip(size: tuple[int, int], nearest: bool) -> None:
    image = noise(size=size)

    def result(*line: Instruction) -> Levels:
        return rendered(image, *line, fill=FILL, nearest=nearest)

    assert (result((op.FLIP,)) == image[:, ::-1]).all()
    assert (result((op.FLIP_Y,)) == image[::-1]).all()
    assert (result((op.FLIP,), (op.FLIP_Y,)) == image[::-1, ::-1]).all()
    assert (result((op.FLIP,), (op.FLIP,)) == image).all()


@either_way
@pytest.mark.parametrize("size", [(9, 9), (28, 28), (33, 57), (224, 224)])
@pytest.mark.parametrize(("right", "down"), [(0, 0), (1, 0), (-3, 0), (0, 2), (0, -4), (3, -2)])
def test_whole_shifts(size: tuple[int, int], right: int, down: int, nearest: bool) -> None:
    """A positive strength looks to the right and down, so that the content goes left and up."""
    image = noise(size=size)
    line = [(op.TRANSLATE_X, -right / size[1]), (op.TRANSLATE_Y, -down / size[0])]
    result = rendered(image, *line, fill=FILL, nearest=nearest)
    assert (result == moved(image, right, down)).all()


@either_way
@pytest.mark.parametrize("side", [1, 9, 32])
@pytest.mark.parametrize("turns", [0, 1, 2, 3, -1, -4, 5])
def test_quarter_turns(side: int, turns: int, nearest: bool) -> None:
    """Counter-clockwise, as Pillow's and NumPy's."""
    image = noise(size=side)
    result = rendered(image, (op.ROTATE, 90 * turns), fill=FILL, nearest=nearest)
    assert (result == np.rot90(image, turns)).all()
    assert (result == by(image, lambda picture: picture.rotate(90 * turns))).all()


@either_way
@pytest.mark.parametrize("turns", range(4))
def test_quarter_turns_of_an_oblong(turns: int, nearest: bool) -> None:
    """About the centre: what a quarter turn puts beyond the edge is lost, the rest is fill."""
    image = noise(size=(9, 21))
    result = rendered(image, (op.ROTATE, 90 * turns), fill=FILL, nearest=nearest)
    if turns % 2 == 0:
        assert (result == np.rot90(image, turns)).all()
    else:
        assert (result[:, 6:15] == np.rot90(image, turns)[6:15]).all()
        assert (result[:, :6] == FILL).all()
        assert (result[:, 15:] == FILL).all()


def test_whole_shears() -> None:
    """Row y looks y pixels further to the right of the middle row, column x further down."""
    image = noise(size=9)
    across = rendered(image, (op.SHEAR_X, 1), fill=FILL)
    down = rendered(image, (op.SHEAR_Y, 1), fill=FILL)
    for k in range(9):
        assert (across[k] == moved(image, 4 - k, 0)[k]).all()
        assert (down[:, k] == moved(image, 0, 4 - k)[:, k]).all()


@pytest.mark.parametrize("seed", range(20))
def test_geometry_runs_in_order(seed: int) -> None:
    """Random programs of five whole moves equal NumPy's one after another, bit for bit.

    The picture is small in a field of the fill, so that nothing leaves the image on its way.
    """
    rng = np.random.default_rng(seed)
    image = np.tile(np.array(FILL, np.uint8), (33, 33, 1))
    image[12:21, 12:21] = noise(seed, size=9)
    line: list[Instruction] = []
    expected = image
    for _ in range(5):
        kind = rng.integers(4)
        amount = int(rng.integers(-2, 3))
        if kind == 0:
            line.append((op.FLIP,))
            expected = expected[:, ::-1]
        elif kind == 1:
            line.append((op.ROTATE, 90 * amount))
            expected = np.rot90(expected, amount)
        elif kind == 2:
            line.append((op.TRANSLATE_X, amount / 33))
            expected = np.roll(expected, -amount, 1)
        else:
            line.append((op.TRANSLATE_Y, amount / 33))
            expected = np.roll(expected, -amount, 0)
    assert (rendered(image, *line, fill=FILL) == expected).all()


def test_order_of_two_moves_matters() -> None:
    image = noise(10)
    shift: Instruction = (op.TRANSLATE_X, 5 / SIDE)
    turn: Instruction = (op.ROTATE, 90)
    first = rendered(image, shift, turn, fill=FILL)
    second = rendered(image, turn, shift, fill=FILL)
    assert (first == np.rot90(moved(image, -5, 0))).all()
    assert (second == moved(np.rot90(image), -5, 0)).all()
    assert (first != second).any()


# ---- between pixels ----


def rotation(degrees: float) -> Matrix:
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return (cos, -sin, 0, sin, cos, 0)


WARPS: dict[str, tuple[Instruction, Matrix]] = {}
for degrees in (-30, -7, 3, 17, 30, 90):
    WARPS[f"rotate {degrees}"] = ((op.ROTATE, degrees), rotation(degrees))
for v in (-0.3, 0.11, 0.3):
    WARPS[f"shear_x {v}"] = ((op.SHEAR_X, v), (1, v, 0, 0, 1, 0))
    WARPS[f"shear_y {v}"] = ((op.SHEAR_Y, v), (1, 0, 0, v, 1, 0))
    WARPS[f"translate_x {v}"] = ((op.TRANSLATE_X, v), (1, 0, v * SIDE, 0, 1, 0))
    WARPS[f"translate_y {v}"] = ((op.TRANSLATE_Y, v), (1, 0, 0, 0, 1, v * SIDE))
every_warp = pytest.mark.parametrize(("instruction", "matrix"), WARPS.values(), ids=WARPS)


def warp(matrix: Matrix) -> Enhance:
    """Pillow's affine transform about the centre of the image. Its origin is the outer corner."""
    a, b, tx, c, d, ty = matrix
    half = SIDE / 2
    data = (a, b, half - (a + b) * half + tx, c, d, half - (c + d) * half + ty)
    return lambda picture: picture.transform(
        picture.size, Image.Transform.AFFINE, data, Image.Resampling.BILINEAR
    )


def source(matrix: Matrix, x: Levels, y: Levels) -> tuple[Levels, Levels]:
    """Where in the source, from its centre, the pixels at (x, y) from the centre look."""
    a, b, tx, c, d, ty = matrix
    return a * x + b * y + tx, c * x + d * y + ty


def beyond(x: Levels, y: Levels) -> Levels:
    """How far outside the centres of the outermost pixels; negative inside."""
    return np.maximum(np.abs(x), np.abs(y)) - (SIDE - 1) / 2


def steepest(image: Bytes) -> float:
    """The largest step from a pixel to the next one, along both axes together."""
    levels = image.astype(np.float64)
    return float(sum(np.abs(np.diff(levels, axis=axis)).max() for axis in (0, 1)))


GRID_Y, GRID_X = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2


@every_warp
@pytest.mark.parametrize("image", [noise(11), waves()], ids=["noise", "waves"])
def test_warp(instruction: Instruction, matrix: Matrix, image: Bytes) -> None:
    """Pillow cuts off the fraction, so that the kernel, which keeps it, is 0 to 1 above.

    The kernel looks at most 1/128 pixel beside it along each axis, where levels differ by no more
    than this part of the steepest step between two pixels.
    """
    inside = beyond(*source(matrix, GRID_X, GRID_Y)) < -0.01
    assert inside.mean() > 0.5
    above = (rendered(image, instruction) - by(image, warp(matrix)))[inside]
    aside = steepest(image) / 128 + 0.001
    assert above.min() > -aside
    assert above.max() < 1 + aside


@every_warp
def test_fill_where_the_warp_looks_outside(instruction: Instruction, matrix: Matrix) -> None:
    """The image inside, the fill a pixel and more beyond the edge, both exactly; else between,
    but where less than 1/128 pixel is missing.
    """
    outside = beyond(*source(matrix, GRID_X, GRID_Y))
    image = np.full((SIDE, SIDE, 3), 77, np.uint8)
    result = rendered(image, instruction, fill=FILL)
    assert (result[outside < -0.001] == 77).all()
    assert (result[outside > 1.001] == FILL).all()
    share = (result - 77) / (np.array(FILL) - 77)
    between = share[(outside > 0.008) & (outside < 0.992)]
    assert ((between > 0) & (between < 1)).all()


def test_edge_blends_with_the_fill() -> None:
    """Half a pixel to the right: the last column is half image, half fill."""
    image = noise(12)
    result = rendered(image, (op.TRANSLATE_X, 0.5 / SIDE), fill=FILL)
    between = (image[:, :-1].astype(np.float64) + image[:, 1:]) / 2
    assert (result[:, :-1] == between).all()
    assert (result[:, -1] == (image[:, -1] + np.array(FILL)) / 2).all()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("rotate 30", "shear_x 0.3"),
        ("shear_x 0.3", "rotate 30"),
        ("shear_x -0.3", "shear_y 0.3"),
        ("rotate 17", "translate_x 0.11"),
        ("translate_y 0.11", "rotate -30"),
    ],
)
def test_two_warps_equal_one_after_the_other(first: str, second: str) -> None:
    """As Pillow does them in two passes, up to what the second interpolation loses.

    A pass of Pillow's cuts off up to one level and, on a surface of curvature 100 (2 pi / 32)^2 =
    3.9 levels a pixel² along either axis, bilinear interpolation is off by up to 2 * 3.9 / 8 = 1.
    So the two passes may be 4 levels off, the kernel's single one 1, and 2 * 20 / 128 = 0.3 as it
    looks at multiples of 1/64 pixel: 5.3 in all, where the other order is off by more than 20.
    """
    image = waves()
    one, by_one = WARPS[first]
    two, by_two = WARPS[second]
    x, y = source(by_two, GRID_X, GRID_Y)
    # and the four pixels of the first pass that the second one blends: 1.4 along an axis, turned
    inside = (beyond(x, y) < -0.1) & (beyond(*source(by_one, x, y)) < -1.5)
    assert inside.mean() > 0.3
    result = rendered(image, one, two)
    assert np.abs(result - by(image, warp(by_one), warp(by_two)))[inside].max() < 5.3
    assert np.abs(result - by(image, warp(by_two), warp(by_one)))[inside].max() > 20


@every_warp
def test_there_and_back(instruction: Instruction, matrix: Matrix) -> None:
    """One warp, not two: nothing is lost between an operation and its inverse."""
    image = noise(13)
    what, strength = instruction
    result = rendered(image, instruction, (what, -strength), fill=FILL)
    assert (result == image).all()


@every_warp
def test_a_constant_image_stays(instruction: Instruction, matrix: Matrix) -> None:
    """With the same fill: the weights of every pixel sum to one."""
    image = np.full((SIDE, SIDE, 3), FILL, np.uint8)
    line = [instruction, (op.ROTATE, 13), (op.CUTOUT, 0.3, 0.2, 0.9)]
    assert (rendered(image, *line, fill=FILL) == image).all()


def test_colours_and_moves_of_one_program() -> None:
    """Colours come from the whole source image, whichever part the warp keeps, and not the fill."""
    image = noise(14)
    shift: Instruction = (op.TRANSLATE_X, 8 / SIDE)
    expected = moved(by(image, ImageOps.equalize, sharpness(0)).astype(np.uint8), -8, 0)
    equalize: Instruction = (op.EQUALIZE,)
    sharpen: Instruction = (op.SHARPNESS, 0)
    lines = [equalize, sharpen, shift], [shift, equalize, sharpen], [equalize, shift, sharpen]
    for line in lines:
        assert (rendered(image, *line, fill=FILL) == expected).all()


# ---- the nearest pixel ----

# not round ones, as sin 30 is: where a warp looks midway between two pixels, either is nearest
STRENGTHS = np.random.default_rng(0).uniform(-1, 1, 12)
FARTHEST: dict[int, float] = {op.ROTATE: 30, op.SHEAR_X: 0.3, op.SHEAR_Y: 0.3}


def strengths(what: int) -> list[float]:
    """As the operands hold them, in single precision."""
    result: list[float] = (FARTHEST[what] * STRENGTHS).astype(np.float32).tolist()
    return result


def linear(what: int, strength: float) -> NDArray[np.float64]:
    """The 2 x 2 part of a rotation or shear."""
    if what == op.ROTATE:
        return np.array(rotation(strength)).reshape(2, 3)[:, :2]
    return np.array([[1, strength], [0, 1]] if what == op.SHEAR_X else [[1, 0], [strength, 1]])


def about_the_centre(what: int, strength: float, size: tuple[int, int]) -> list[float]:
    """As Pillow takes it: six numbers, from the outer corner of the image."""
    half = np.array(size[::-1]) / 2
    a = linear(what, strength)
    (b0, b1), (t0, t1) = a.tolist(), (half - a @ half).tolist()
    return [*b0, t0, *b1, t1]


def pillows(image: Bytes, numbers: list[float], kind: Image.Transform) -> Levels:
    """Pillow's warp by the numbers, nearest pixel, into an image of the same size."""
    fill = tuple(map(int, FILL))
    picture = Image.fromarray(image)
    nearest = Image.Resampling.NEAREST
    return np.asarray(picture.transform(picture.size, kind, numbers, nearest, fillcolor=fill))


sizes = pytest.mark.parametrize("size", [(32, 32), (33, 57), (96, 64), (224, 224)])
every_turn = pytest.mark.parametrize("what", FARTHEST, ids=["rotate", "shear_x", "shear_y"])


@sizes
@every_turn
def test_nearest_turns(what: int, size: tuple[int, int]) -> None:
    """At least 99.9 % of the pixels as Pillow, for every strength.

    Pillow's `rotate` and AFFINE compute in multiples of 1/65536, and so does the kernel. A strength
    in single precision may move one of the six numbers to its neighbour: pixels may differ only as
    near to the border of one as that moves it.
    """
    image = noise(21, size=size)
    height, width = size
    reach = (1 + width + height) / 2**16
    y, x = np.mgrid[:height, :width] + 0.5
    for strength in strengths(what):
        result = rendered(image, (what, strength), fill=FILL, nearest=True)
        numbers = about_the_centre(what, strength, size)
        if what == op.ROTATE:
            picture, fill = Image.fromarray(image), tuple(map(int, FILL))
            nearest = Image.Resampling.NEAREST
            expected = np.asarray(picture.rotate(strength, nearest, fillcolor=fill))
        else:
            expected = pillows(image, numbers, Image.Transform.AFFINE)
        a, b, tx, c, d, ty = numbers
        u, v = a * x + b * y + tx, c * x + d * y + ty
        border = np.minimum(np.abs(u - np.round(u)), np.abs(v - np.round(v)))
        other = (result != expected).any(-1)
        assert (border[other] <= reach).all()
        assert other.mean() <= 0.001


@sizes
@pytest.mark.parametrize("points", [3, 4], ids=["affine", "perspective"])
def test_nearest_warps(points: int, size: tuple[int, int]) -> None:
    """Corners of the view that look at other points: Pillow is told which pixels those are."""
    rng = np.random.default_rng(points)
    image = noise(22, size=size)
    for _ in range(8):
        moved = CORNERS[:points] + rng.uniform(-0.2, 0.2, (points, 2))
        warp = through_points(CORNERS[:points], moved).ravel()[:8].tolist()
        result = rendered(image, (op.WARP, *warp), fill=FILL, nearest=True)
        sides = np.array(size[::-1])  # in pixels, from the outer corner
        pixels = through_points((CORNERS[:points] + 0.5) * sides, (moved + 0.5) * sides)
        numbers = pixels.ravel()[: 6 if points == 3 else 8].tolist()
        kind = Image.Transform.AFFINE if points == 3 else Image.Transform.PERSPECTIVE
        expected = pillows(image, numbers, kind)
        assert (result == expected).all(-1).mean() >= 0.999


@pytest.mark.parametrize("size", [(32, 32), (33, 57)])
def test_warps_compose(size: tuple[int, int]) -> None:
    """A warp, a shift and another warp are one warp: the product of their maps."""
    rng = np.random.default_rng(5)
    image = natural(1, *size)
    for _ in range(8):
        first, second = (
            through_points(CORNERS, CORNERS + rng.uniform(-0.1, 0.1, (4, 2))) for _ in range(2)
        )
        shift = np.array([[1, 0, 0.1], [0, 1, 0], [0, 0, 1]])
        product = first @ shift @ second
        line: list[Instruction] = [(op.WARP, *first.ravel()[:8].tolist()), (op.TRANSLATE_X, 0.1)]
        line.append((op.WARP, *second.ravel()[:8].tolist()))
        whole = (op.WARP, *(product / product[2, 2]).ravel()[:8].tolist())
        result = rendered(image, *line, fill=FILL)
        expected = rendered(image, whole, fill=FILL)
        # operands are single precision: one may look 1/64 pixel beside the other, at the fill too
        contrast = 255 + steepest(image)
        assert np.abs(result - expected).max() <= contrast * 2 / 64
        assert (result == expected).mean() > 0.95


@either_way
def test_behind_the_eye_is_fill(nearest: bool) -> None:
    """The horizon stands at a quarter of the width: there the view ends."""
    image = noise(23, size=(20, 64))
    warp = (op.WARP, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, -4.0, 0.0)
    result = rendered(image, warp, fill=FILL, nearest=nearest)
    assert (result[:, 48:] == FILL).all()
    assert (result[:, :40] != FILL).any()
    if nearest:
        centre = np.array([[1, 0, 32], [0, 1, 10], [0, 0, 1]])
        flat = np.array([[1, 0, 0], [0, 1, 0], [-4 / 64, 0, 1]])
        corner = centre @ flat @ np.linalg.inv(centre)
        numbers = (corner / corner[2, 2]).ravel()[:8].tolist()
        expected = pillows(image, numbers, Image.Transform.PERSPECTIVE)
        assert (result[:, :48] == expected[:, :48]).all()


# ---- a result of another size ----


def test_larger_by_whole_factors() -> None:
    image = noise(24, size=(5, 8))
    result = rendered(image, fill=FILL, nearest=True, size=(15, 16))
    assert (result == image.repeat(3, 0).repeat(2, 1)).all()


def test_smaller_by_whole_factors() -> None:
    """The middle one of nine pixels, or the mean of four."""
    image = noise(25, size=(30, 18))
    result = rendered(image, fill=FILL, nearest=True, size=(10, 6))
    assert (result == image[1::3, 1::3]).all()
    mean = image.reshape(15, 2, 9, 2, 3).mean((1, 3))
    assert (rendered(image, fill=FILL, size=(15, 9)) == mean).all()


def test_moves_are_parts_of_the_sides() -> None:
    """Whatever the size of the source, a shift by pixels of the result is one."""
    image = noise(26, size=(5, 8))
    line: list[Instruction] = [(op.TRANSLATE_X, 3 / 16), (op.TRANSLATE_Y, -4 / 15), (op.FLIP,)]
    result = rendered(image, *line, fill=FILL, nearest=True, size=(15, 16))
    larger = image.repeat(3, 0).repeat(2, 1)
    assert (result == moved(larger, -3, 4)[:, ::-1]).all()


def test_cutout_is_a_part_of_the_result() -> None:
    image = noise(27, 0, 200, size=(5, 8))
    result = rendered(image, (op.CUTOUT, 0.5, 0.5, 0.5), fill=FILL, nearest=True, size=(20, 16))
    expected = image.repeat(4, 0).repeat(2, 1).astype(np.float64)
    expected[6:14, 4:12] = FILL  # a square: half of the shorter side
    assert (result == expected).all()


# ---- elastic ----


def places(height: int, width: int) -> Bytes:
    """An image that holds its own coordinates: x, y and 255. A blend of them is where it looks."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x, y, np.full_like(x, 255)], -1).astype(np.uint8)


def looked_at(
    *line: Instruction, height: int = 200, width: int = 240
) -> tuple[Levels, Levels, NDArray[np.bool_]]:
    """Where each pixel of the result looks, x and y, from the centre; and whether in the image."""
    result = rendered(places(height, width), *line)
    x, y = result[:, :, 0] - (width - 1) / 2, result[:, :, 1] - (height - 1) / 2
    return x, y, result[:, :, 2] == 255


def elastic(amount: float = 0.05, cells: int = 4, first: int = 1, second: int = 2) -> Instruction:
    return (op.ELASTIC, amount, cells, first, second)


@either_way
@pytest.mark.parametrize("size", [(1, 1), (3, 7), (33, 57)])
def test_elastic_of_nothing_is_the_identity(size: tuple[int, int], nearest: bool) -> None:
    image = noise(28, size=size)
    assert (rendered(image, elastic(0), fill=FILL, nearest=nearest) == image).all()


def test_elastic_is_a_function_of_its_seeds() -> None:
    image = noise(29)
    first = rendered(image, elastic())
    assert (rendered(image, elastic()) == first).all()
    others = elastic(first=3), elastic(second=3), elastic(first=2, second=1), elastic(cells=5)
    for other in others:
        assert (rendered(image, other) != first).mean() > 0.5


@pytest.mark.parametrize("cells", [1, 4, 16])
@pytest.mark.parametrize("amount", [0.02, 0.1])
def test_elastic_moves_by_its_amount_and_smoothly(amount: float, cells: int) -> None:
    """No displacement is larger than the amount, a part of each side.

    The second difference of a cubic B-spline is at most that of its coefficients, which lie in
    -1..1, so at most 4, by the square of cells a pixel. Positions are read to 1/128 pixel.
    """
    seen = []
    y, x = np.mgrid[:200, :240] - np.array([199, 239]).reshape(2, 1, 1) / 2
    for seed in range(4):
        u, v, inside = looked_at(elastic(amount, cells, seed, seed + 9))
        for moved, along, side in ((u - x, 1, 240), (v - y, 0, 200)):
            assert np.abs(moved[inside]).max() <= amount * side + 1 / 128
            seen.append(np.abs(moved[inside]).max() / (amount * side))
            bend = np.diff(np.where(inside, moved, np.nan), 2, axis=along)
            bound = amount * side * 4 * (cells / side) ** 2 + 4 / 128
            assert np.nanmax(np.abs(bend)) <= bound
    assert max(seen) > 0.3


def test_elastic_draws_displacements_of_either_sign() -> None:
    """Their mean over 200 fields is 0 within 4 standard errors of a coefficient, of which a blend
    has less.
    """
    lines = [[elastic(0.1, 4, seed, 0)] for seed in range(200)]
    middle = rendered_batch(np.stack([places(9, 9)] * 200), lines)[:, :2, 4, 4]
    displaced = (middle - 4) / 0.9
    assert (np.abs(displaced.mean(0)) < 4 * (1 / 3 / 200) ** 0.5).all()
    assert (displaced.std(0) > 0.1).all()
    assert abs(np.corrcoef(displaced.T)[0, 1]) < 4 * 200**-0.5


def test_elastic_displaces_by_parts_of_the_sides() -> None:
    """The same field in another shape: what pixel 2 of 5 does there, one does here, in its sides.

    Positions are read to 1/128 pixel in both.
    """
    u, v, inside = looked_at(elastic(), height=40, width=48)
    a, b, also = looked_at(elastic(), height=120, width=240)
    middle = slice(1, None, 3), slice(2, None, 5)
    both = inside & also[middle]
    assert both.mean() > 0.5
    assert np.abs(u / 48 - a[middle] / 240)[both].max() <= (1 / 48 + 1 / 240) / 128
    assert np.abs(v / 40 - b[middle] / 120)[both].max() <= (1 / 40 + 1 / 120) / 128


def test_elastic_stands_in_its_place() -> None:
    """A turn after it turns the result; a move before it moves what the field looks at."""
    image = noise(30)
    bent = rendered(image, elastic(0.1), fill=FILL)
    turned = rendered(image, elastic(0.1), (op.ROTATE, 90), fill=FILL)
    assert (turned == np.rot90(bent)).all()
    u, v, inside = looked_at(elastic(), height=200, width=200)
    a, b, also = looked_at((op.ROTATE, 25), elastic(), height=200, width=200)
    both = inside & also
    assert both.mean() > 0.5
    cos, sin = math.cos(math.radians(25)), math.sin(math.radians(25))
    # the first is read to 1/128 along each axis, then turned; the second to 1/128
    assert np.abs(a - (cos * u - sin * v))[both].max() < (1 + cos + sin) / 128
    assert np.abs(b - (sin * u + cos * v))[both].max() < (1 + cos + sin) / 128


# ---- cutout ----


@pytest.mark.parametrize(
    ("side", "x", "y", "left", "top", "length"),
    [
        (0.25, 0.5, 0.5, 12, 12, 8),
        (0.25, 0.75, 0.25, 20, 4, 8),
        (0.5, 0.3125, 0.6875, 2, 14, 16),
        (0.09375, 0.5, 0.5, 15, 15, 3),  # 14.5 rounds up
        (0.25, 0.0, 0.5, -4, 12, 8),  # hangs over the left edge
        (0.25, 0.984375, 1.0, 28, 28, 8),  # and over the corner; 27.5 rounds up
        (1.0, 0.5, 0.5, 0, 0, 32),
        (0.01, 0.5, 0.5, 0, 0, 0),  # less than half a pixel
        (0.0, 0.5, 0.5, 0, 0, 0),
    ],
)
def test_cutout(side: float, x: float, y: float, left: int, top: int, length: int) -> None:
    image = noise(15, 0, 200)
    expected = image.astype(np.float64)
    expected[max(0, top) : top + length, max(0, left) : left + length] = (201, 202, 204)
    result = rendered(image, (op.CUTOUT, side, x, y), fill=(201, 202.4, 203.5))  # whole levels
    assert (result == expected).all()


def test_cutout_lies_in_the_view() -> None:
    """Neither moved by the warp nor touched by the colours before it."""
    image = noise(16, 0, 200)
    line: list[Instruction] = [(op.TRANSLATE_X, 5 / SIDE), (op.INVERT,), (op.FLIP,)]
    without = rendered(image, *line, fill=FILL)
    result = rendered(image, *line, (op.CUTOUT, 0.25, 0.25, 0.5), fill=FILL)
    square = np.zeros((SIDE, SIDE), bool)
    square[12:20, 4:12] = True
    assert (result[square] == FILL).all()
    assert (result[~square] == without[~square]).all()


# ---- the batch ----

MEAN, STD = (120.0, 110.0, 100.0), (50.0, 60.0, 70.0)


@pytest.mark.parametrize("line", [[], [(op.IDENTITY,)], [(op.IDENTITY, 0.7)] * 3])
def test_identity_only_normalises(line: list[Instruction]) -> None:
    image = noise(17)
    out = rendered_batch(image[None], [line], FILL, MEAN, STD)
    expected = (image.astype(np.float64) - MEAN) * (1 / np.array(STD))
    assert (out[0].transpose(1, 2, 0) == expected.astype(np.float32)).all()


def test_fill_is_normalised_too() -> None:
    line: list[Instruction] = [(op.TRANSLATE_X, 0.5), (op.CUTOUT, 0.5, 0.25, 0.25)]
    out = rendered_batch(noise(18)[None], [line], FILL, MEAN, STD)[0].transpose(1, 2, 0)
    expected = ((np.array(FILL) - MEAN) / STD).astype(np.float32)
    np.testing.assert_allclose(out[:, 16:], np.tile(expected, (32, 16, 1)), rtol=1e-6)
    np.testing.assert_allclose(out[:16, :16], np.tile(expected, (16, 16, 1)), rtol=1e-6)


def random_lines(count: int) -> list[list[Instruction]]:
    """Programs of six operations of every kind, with strengths in their ranges, and a cutout."""
    rng = np.random.default_rng(3)
    every = list(op.OPERATIONS.values())
    result: list[list[Instruction]] = []
    for b in range(count):
        kinds = [every[k] for k in rng.integers(len(every), size=4)]
        line: list[Instruction] = [(k.code, float(rng.uniform(k.low, k.high))) for k in kinds]
        line.insert(2, (op.GAIN, *rng.uniform(0.5, 1.5, 3).tolist()))
        if b % 3 == 0:
            line.insert(b % 5, (op.ELASTIC, 0.1, 1 + b % 16, b, 2 * b))
        if b % 4 == 0:
            target = CORNERS + rng.uniform(-0.1, 0.1, (4, 2))
            line.insert(b % 5, (op.WARP, *through_points(CORNERS, target).ravel()[:8].tolist()))
        result.append([*line, (op.CUTOUT, *rng.uniform(0, 0.5, 3).tolist())])
    return result


@either_way
@pytest.mark.parametrize("size", [(SIDE, SIDE), (17, 40)])
def test_images_of_a_batch_do_not_disturb_each_other(size: tuple[int, int], nearest: bool) -> None:
    """Neither tables nor histograms, warps, fields or cutouts are carried to the next image."""
    images = np.stack([noise(seed) for seed in range(40)])
    lines = [*random_lines(39), []]

    def result(part: slice) -> NDArray[np.float32]:
        return rendered_batch(images[part], lines[part], FILL, MEAN, STD, nearest, size)

    whole = result(slice(None))
    assert np.isfinite(whole).all()
    for b in range(40):
        assert (result(slice(b, b + 1))[0] == whole[b]).all()
    assert (result(slice(None, None, -1))[::-1] == whole).all()


def test_rows_choose_the_images() -> None:
    images = np.stack([noise(seed) for seed in range(4)])
    out = np.zeros((3, 3, SIDE, SIDE), np.float32)
    rows = np.array([3, 0, 3])
    zero, one = np.zeros(3), np.ones(3)
    execute(images, rows, programs([], [], []), False, zero, zero, one, out, planar=True)
    assert (out.transpose(0, 2, 3, 1) == images[rows]).all()


def test_sources_stay_as_they_are() -> None:
    """Of writable images, for which nothing but the kernel's own care speaks."""
    images = np.stack([noise(seed) for seed in range(40)])
    before = images.copy()
    lines = random_lines(40)
    program = programs(*lines)
    kept = program.code.copy(), program.operand.copy()
    fill, mean, std = reals = [np.array(v) for v in (FILL, MEAN, STD)]
    out = np.empty((40, 3, SIDE, SIDE), np.float32)
    execute(images, np.arange(40), program, False, fill, mean, std, out, planar=True)
    assert images.flags.writeable
    assert (images == before).all()
    assert (program.code == kept[0]).all()
    assert (program.operand == kept[1]).all()
    assert [tuple(v) for v in reals] == [FILL, MEAN, STD]
    assert (out == rendered_batch(before, lines, FILL, MEAN, STD)).all()


@either_way
def test_one_program_in_every_form(nearest: bool) -> None:
    """Channels first and last, in real levels and in bytes: the same numbers, bytes rounded."""
    images = np.stack([noise(seed, size=(21, 34)) for seed in range(20)])
    program, fill = programs(*random_lines(20)), np.array(FILL)
    forms: dict[tuple[bool, type], Levels] = {}
    for planar in (False, True):
        for kind in (np.float32, np.uint8):
            out = np.zeros((20, 3, 18, 25) if planar else (20, 18, 25, 3), kind)
            rows, zero, one = np.arange(20), np.zeros(3), np.ones(3)
            execute(images, rows, program, nearest, fill, zero, one, out, planar)
            forms[planar, kind] = out.transpose(0, 2, 3, 1) if planar else out
    levels = forms[True, np.float32]
    assert (forms[False, np.float32] == levels).all()
    assert (forms[True, np.uint8] == np.floor(levels + 0.5)).all()
    assert (forms[False, np.uint8] == np.floor(levels + 0.5)).all()
