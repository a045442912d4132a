"""The kernel against Pillow and NumPy, operation by operation and in sequence.

With mean 0 and standard deviation 1 the kernel writes levels of 0..255, which are compared with
Pillow's. What is taken from a table or moved by whole pixels must agree bit for bit; the tolerance
of everything else is derived where it is used.
"""

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps

from fewlabels.augment import operations as op
from fewlabels.augment.kernel import render

Bytes = NDArray[np.uint8]
Levels = NDArray[np.float64]
Instruction = tuple[float, ...]  # code and up to three operands
Enhance = Callable[[Image.Image], Image.Image]
Matrix = tuple[float, float, float, float, float, float]

BLACK = (0.0, 0.0, 0.0)
SIDE = 32


def programs(*lines: list[Instruction]) -> tuple[NDArray[np.int16], NDArray[np.float32]]:
    """Programs of one length, the shorter ones filled up with `identity`."""
    longest = max(map(len, lines))
    code = np.full((len(lines), longest), op.IDENTITY, np.int16)
    operand = np.zeros((len(lines), longest, 3), np.float32)
    for b, line in enumerate(lines):
        for k, (what, *values) in enumerate(line):
            code[b, k] = what
            operand[b, k, : len(values)] = values
    return code, operand


def read_only(images: Bytes) -> Bytes:
    """As the cache's images are, and as the kernel is compiled for."""
    view = np.ascontiguousarray(images).view()
    view.flags.writeable = False
    return view


def rendered_batch(
    images: Bytes,
    lines: list[list[Instruction]],
    fill: tuple[float, float, float] = BLACK,
    mean: tuple[float, float, float] = BLACK,
    std: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> NDArray[np.float32]:
    """lines[b] on images[b]: [B, 3, S, S], begun as NaN so that an unwritten pixel shows."""
    code, operand = programs(*lines)
    out = np.full((len(lines), 3, *images.shape[1:3]), np.nan, np.float32)
    rows = np.arange(len(lines))
    reals = (np.array(v, np.float64) for v in (fill, mean, std))
    render(read_only(images), rows, code, operand, *reals, out)
    return out


def rendered(image: Bytes, *line: Instruction, fill: tuple[float, float, float] = BLACK) -> Levels:
    """The levels [S, S, 3], channels last, of one program on one image."""
    out = rendered_batch(image[None], [list(line)], fill)[0]
    levels: Levels = np.moveaxis(out, 0, -1).astype(np.float64)
    return levels


def noise(seed: int = 0, low: int = 0, high: int = 256, side: int = SIDE) -> Bytes:
    """Every level in every place, but none whose luma lies within 0.01 of a half.

    There Pillow, in integers, and the kernel, in floating point, may round to different greys.
    """
    rng = np.random.default_rng(seed)
    image = rng.integers(low, high, (side, side, 3), np.uint8)
    while (near := np.abs((image @ (0.299, 0.587, 0.114)) % 1 - 0.5) < 0.01).any():
        image[near] = rng.integers(low, high, (int(near.sum()), 3), np.uint8)
    return image


def waves(side: int = SIDE) -> Bytes:
    """Smooth in both directions, another in each channel, and without symmetry."""
    y, x = np.mgrid[:side, :side] * (2 * np.pi / side)
    phases = [100 * np.sin(y + p) * np.cos(x + 2 * p + 0.5) for p in range(3)]
    return (127 + np.stack(phases, -1)).astype(np.uint8)


IMAGES = {
    "noise": noise(),
    "dull": noise(1, 60, 150),
    "waves": waves(),
    "cast": noise(2) // np.array([1, 3, 9], np.uint8) + np.array([0, 40, 200], np.uint8),
    "two levels": np.where(noise(3) < 90, 50, 201).astype(np.uint8),
    "flat": np.full((SIDE, SIDE, 3), (10, 128, 250), np.uint8),
}
every_image = pytest.mark.parametrize("image", IMAGES.values(), ids=IMAGES)


def by(image: Bytes, *steps: Enhance) -> Levels:
    """The steps one after another, each rounding to bytes, as Pillow does them."""
    picture = Image.fromarray(image)
    for step in steps:
        picture = step(picture)
    return np.asarray(picture).astype(np.float64)


def brightness(factor: float) -> Enhance:
    return lambda picture: ImageEnhance.Brightness(picture).enhance(factor)


def contrast(factor: float) -> Enhance:
    return lambda picture: ImageEnhance.Contrast(picture).enhance(factor)


def saturation(factor: float) -> Enhance:
    return lambda picture: ImageEnhance.Color(picture).enhance(factor)


def sharpness(factor: float) -> Enhance:
    return lambda picture: ImageEnhance.Sharpness(picture).enhance(factor)


def posterize(bits: int) -> Enhance:
    return lambda picture: ImageOps.posterize(picture, bits)


def solarize(threshold: int) -> Enhance:
    return lambda picture: ImageOps.solarize(picture, threshold)


# ---- colours, one by one ----

FACTORS = (0.0, 0.05, 0.3, 0.5, 0.77, 0.95, 1.0, 1.4, 1.9)


@every_image
@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("kind", ["brightness", "contrast", "saturation", "sharpness"])
def test_blends(kind: str, factor: float, image: Bytes) -> None:
    """Pillow's Image.blend cuts off the fraction, the kernel rounds: the kernel is 0 or 1 above.

    Where both blend with the mean luma or with grey, that grey may besides be one apart (Pillow
    rounds each pixel's luma before it takes the mean), which the blend scales by |1 - factor| <= 1.
    """
    codes = {
        "brightness": (op.BRIGHTNESS, brightness),
        "contrast": (op.CONTRAST, contrast),
        "saturation": (op.SATURATION, saturation),
        "sharpness": (op.SHARPNESS, sharpness),
    }
    code, enhance = codes[kind]
    above = rendered(image, (code, factor)) - by(image, enhance(factor))
    apart = 1 if kind in ("contrast", "saturation") and factor != 1 else 0
    assert above.min() >= -apart
    assert above.max() <= (0 if factor == 1 else 1) + apart


@every_image
def test_without_a_fraction_blends_are_exact(image: Bytes) -> None:
    even = image & np.uint8(254)
    assert (rendered(even, (op.BRIGHTNESS, 0.5)) == even // 2).all()
    assert not rendered(image, (op.BRIGHTNESS, 0)).any()
    assert (rendered(image, (op.SHARPNESS, 0)) == by(image, sharpness(0))).all()


@pytest.mark.parametrize("seed", range(3))
def test_grey_is_exact(seed: int) -> None:
    image = noise(seed)
    assert (rendered(image, (op.SATURATION, 0)) == by(image, saturation(0))).all()


def test_brightness_clips() -> None:
    image = np.full((4, 4, 3), (0, 100, 200), np.uint8)
    assert (rendered(image, (op.BRIGHTNESS, 1.5)) == (0, 150, 255)).all()


def test_contrast_by_hand() -> None:
    """Half black, half (100, 100, 100): the mean is 50, and a factor of 0.5 halves the way."""
    image = np.zeros((4, 4, 3), np.uint8)
    image[:2] = 100
    result = rendered(image, (op.CONTRAST, 0.5))
    assert (result[:2] == 75).all()
    assert (result[2:] == 25).all()


@every_image
def test_invert(image: Bytes) -> None:
    assert (rendered(image, (op.INVERT,)) == by(image, ImageOps.invert)).all()
    assert (rendered(image, (op.INVERT,)) == 255 - image).all()
    assert (rendered(image, (op.INVERT,), (op.INVERT,)) == image).all()


@every_image
@pytest.mark.parametrize("bits", range(1, 9))
def test_posterize(bits: int, image: Bytes) -> None:
    expected = by(image, posterize(bits))
    assert (rendered(image, (op.POSTERIZE, bits)) == expected).all()
    if bits < 8:  # a strength between two numbers of bits means the smaller
        assert (rendered(image, (op.POSTERIZE, bits + 0.9)) == expected).all()


@every_image
@pytest.mark.parametrize("threshold", [0, 1, 77, 128, 255, 256])
def test_solarize(threshold: int, image: Bytes) -> None:
    result = rendered(image, (op.SOLARIZE, threshold))
    assert (result == by(image, solarize(threshold))).all()


def test_solarize_with_a_fraction() -> None:
    image = np.full((4, 4, 3), (99, 100, 101), np.uint8)
    assert (rendered(image, (op.SOLARIZE, 99.5)) == (99, 155, 154)).all()


@every_image
def test_equalize(image: Bytes) -> None:
    assert (rendered(image, (op.EQUALIZE,)) == by(image, ImageOps.equalize)).all()


@every_image
def test_autocontrast(image: Bytes) -> None:
    """Both cut off the fraction, of the same number computed in another order: where it is whole,
    either may come out a rounding error below it, and one level too low.
    """
    result = rendered(image, (op.AUTOCONTRAST,))
    expected = by(image, ImageOps.autocontrast)
    assert np.abs(result - expected).max() <= 1
    # against the exact quotient: never above, and one below in whole numbers at most
    low, high = (f(image, axis=(0, 1)).astype(np.int64) for f in (np.min, np.max))
    wide = np.maximum(high - low, 1)
    exact = (image - low) * 255 / wide
    below = exact - result
    assert (below[:, :, high > low] <= 1).all()
    assert (below[:, :, high > low] >= 0).all()


def test_statistics_of_a_single_level_change_nothing() -> None:
    """Nor does a channel that is flat change in an image that is not."""
    flat = IMAGES["flat"]
    for what in (op.AUTOCONTRAST, op.EQUALIZE):
        assert (rendered(flat, (what,)) == flat).all()
    mixed = noise(4, 50, 100)
    mixed[:, :, 1] = 77
    for what in (op.AUTOCONTRAST, op.EQUALIZE):
        result = rendered(mixed, (what,))
        assert (result[:, :, 1] == 77).all()
        assert result[:, :, 0].min() == 0
        assert result[:, :, 0].max() >= 254


def test_sharpness_leaves_the_border() -> None:
    image = noise(5)
    result = rendered(image, (op.SHARPNESS, 0))
    inner = np.zeros((SIDE, SIDE), bool)
    inner[1:-1, 1:-1] = True
    assert (result[~inner] == image[~inner]).all()
    assert (result[inner] != image[inner]).mean() > 0.9


# ---- colours in sequence ----

# operations whose result agrees with Pillow's bit for bit on any image
EXACT: list[tuple[Instruction, Enhance]] = [
    ((op.POSTERIZE, 4), posterize(4)),
    ((op.POSTERIZE, 6), posterize(6)),
    ((op.SOLARIZE, 100), solarize(100)),
    ((op.SOLARIZE, 200), solarize(200)),
    ((op.EQUALIZE,), ImageOps.equalize),
    ((op.INVERT,), ImageOps.invert),
    ((op.SHARPNESS, 0), sharpness(0)),
    ((op.SATURATION, 1), saturation(1)),
]


@pytest.mark.parametrize("seed", range(40))
def test_colours_run_in_order(seed: int) -> None:
    """Random programs of four, with statistics and flushes in between, agree bit for bit."""
    rng = np.random.default_rng(seed)
    chosen = [EXACT[k] for k in rng.integers(len(EXACT), size=4)]
    image = noise(seed, int(rng.integers(100)), int(rng.integers(150, 257)))
    result = rendered(image, *(instruction for instruction, _ in chosen))
    assert (result == by(image, *(enhance for _, enhance in chosen))).all()


def test_posterize_then_equalize() -> None:
    """The histogram is that of the posterised image; the other way round is another image."""
    image = noise(6, 30, 180)
    first = rendered(image, (op.POSTERIZE, 4), (op.EQUALIZE,))
    second = rendered(image, (op.EQUALIZE,), (op.POSTERIZE, 4))
    assert (first == by(image, posterize(4), ImageOps.equalize)).all()
    assert (second == by(image, ImageOps.equalize, posterize(4))).all()
    assert (first != second).mean() > 0.5


def test_histogram_is_taken_anew_after_a_flush() -> None:
    image = noise(7, 80, 160)
    grey = rendered(image, (op.EQUALIZE,), (op.SHARPNESS, 0), (op.EQUALIZE,))
    expected = by(image, ImageOps.equalize, sharpness(0), ImageOps.equalize)
    assert (grey == expected).all()
    stale = by(image, ImageOps.equalize, sharpness(0))
    assert np.abs(grey - stale).max() > 20  # the second one had something to do


def test_contrast_takes_the_mean_of_what_came_before() -> None:
    """Levels 40 and 80 at half brightness are 20 and 40, their mean 30."""
    image = np.full((4, 4, 3), 40, np.uint8)
    image[:2] = 80
    result = rendered(image, (op.BRIGHTNESS, 0.5), (op.CONTRAST, 0.5))
    assert (result[:2] == 35).all()
    assert (result[2:] == 25).all()


def test_saturation_and_sharpness_flush_in_their_turn() -> None:
    """Exact: even levels halve exactly, and `noise` has no grey that rounds two ways."""
    image = noise(8)
    line: list[Instruction] = [(op.SATURATION, 0), (op.POSTERIZE, 7), (op.BRIGHTNESS, 0.5)]
    line += [(op.SHARPNESS, 0), (op.SOLARIZE, 60), (op.EQUALIZE,)]
    steps = [saturation(0), posterize(7), brightness(0.5)]
    steps += [sharpness(0), solarize(60), ImageOps.equalize]
    assert (rendered(image, *line) == by(image, *steps)).all()


@pytest.mark.parametrize("factor", [0.3, 0.6, 0.9])
def test_brightness_saturation_solarize(factor: float) -> None:
    """Brightness is one level apart at most; saturation adds one of the grey and one of the blend.

    Solarisation keeps these three levels, but for pixels within three of the threshold, which may
    fall on either side of it.
    """
    image = noise(9)
    before = by(image, brightness(0.8), saturation(factor))
    sure = np.abs(before - 99.5) > 3.5
    assert sure.mean() > 0.9
    result = rendered(image, (op.BRIGHTNESS, 0.8), (op.SATURATION, factor), (op.SOLARIZE, 100))
    expected = by(image, brightness(0.8), saturation(factor), solarize(100))
    assert np.abs(result - expected)[sure].max() <= 3
    for wrong in (
        by(image, solarize(100), brightness(0.8), saturation(factor)),
        by(image, saturation(factor), solarize(100), brightness(0.8)),
    ):
        assert np.abs(result - wrong)[sure].max() > 30


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


@pytest.mark.parametrize("side", [9, 28, 32, 33])
def test_flip(side: int) -> None:
    image = noise(side=side)
    assert (rendered(image, (op.FLIP,), fill=FILL) == image[:, ::-1]).all()
    assert (rendered(image, (op.FLIP,), (op.FLIP,), fill=FILL) == image).all()


@pytest.mark.parametrize("side", [9, 28, 33, 224])
@pytest.mark.parametrize(("right", "down"), [(0, 0), (1, 0), (-3, 0), (0, 2), (0, -4), (3, -2)])
def test_whole_shifts(side: int, right: int, down: int) -> None:
    """A positive strength looks to the right and down, so that the content goes left and up."""
    image = noise(side=side)
    line = [(op.TRANSLATE_X, -right / side), (op.TRANSLATE_Y, -down / side)]
    assert (rendered(image, *line, fill=FILL) == moved(image, right, down)).all()


@pytest.mark.parametrize("side", [9, 32])
@pytest.mark.parametrize("turns", [0, 1, 2, 3, -1])
def test_quarter_turns(side: int, turns: int) -> None:
    """Counter-clockwise, as Pillow's and NumPy's."""
    image = noise(side=side)
    result = rendered(image, (op.ROTATE, 90 * turns), fill=FILL)
    assert (result == np.rot90(image, turns)).all()
    assert (result == by(image, lambda picture: picture.rotate(90 * turns))).all()


def test_whole_shears() -> None:
    """Row y looks y pixels further to the right of the middle row, column x further down."""
    image = noise(side=9)
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
    image[12:21, 12:21] = noise(seed, side=9)
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


GRID_Y, GRID_X = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2


@every_warp
@pytest.mark.parametrize("image", [noise(11), waves()], ids=["noise", "waves"])
def test_warp(instruction: Instruction, matrix: Matrix, image: Bytes) -> None:
    """Pillow cuts off the fraction, so that the kernel, which keeps it, is 0 to 1 above.

    The kernel looks at multiples of 1/1024 pixel: at most 1/2048 off along each axis, which is
    2 * 255 / 2048 < 0.25 levels where black meets white.
    """
    inside = beyond(*source(matrix, GRID_X, GRID_Y)) < -0.001
    assert inside.mean() > 0.5
    above = (rendered(image, instruction) - by(image, warp(matrix)))[inside]
    assert above.min() > -0.25
    assert above.max() < 1.25


@every_warp
def test_fill_where_the_warp_looks_outside(instruction: Instruction, matrix: Matrix) -> None:
    """The image inside, the fill a pixel and more beyond the edge, both exactly; else between."""
    outside = beyond(*source(matrix, GRID_X, GRID_Y))
    image = np.full((SIDE, SIDE, 3), 77, np.uint8)
    result = rendered(image, instruction, fill=FILL)
    assert (result[outside < -0.001] == 77).all()
    assert (result[outside > 1.001] == FILL).all()
    share = (result - 77) / (np.array(FILL) - 77)
    between = share[(outside > 0.001) & (outside < 0.999)]
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
    So the two passes may be 4 levels off, the kernel's single one 1 (and the snapping of
    coordinates 0.1): 5.1 in all, where the other order is off by more than 20.
    """
    image = waves()
    one, by_one = WARPS[first]
    two, by_two = WARPS[second]
    x, y = source(by_two, GRID_X, GRID_Y)
    # and the four pixels of the first pass that the second one blends: 1.4 along an axis, turned
    inside = (beyond(x, y) < -0.1) & (beyond(*source(by_one, x, y)) < -1.5)
    assert inside.mean() > 0.3
    result = rendered(image, one, two)
    assert np.abs(result - by(image, warp(by_one), warp(by_two)))[inside].max() < 5.1
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
    expected[max(0, top) : top + length, max(0, left) : left + length] = (201, 202, 203.5)
    result = rendered(image, (op.CUTOUT, side, x, y), fill=(201, 202, 203.5))
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
    """Programs of four operations of every kind, with strengths in their ranges, and a cutout."""
    rng = np.random.default_rng(3)
    every = list(op.OPERATIONS.values())
    result: list[list[Instruction]] = []
    for _ in range(count):
        kinds = [every[k] for k in rng.integers(len(every), size=4)]
        line = [(kind.code, float(rng.uniform(kind.low, kind.high))) for kind in kinds]
        result.append([*line, (op.CUTOUT, *rng.uniform(0, 0.5, 3).tolist())])
    return result


def test_images_of_a_batch_do_not_disturb_each_other() -> None:
    """Neither tables nor histograms, warps or cutouts are carried to the next image."""
    images = np.stack([noise(seed) for seed in range(40)])
    lines = [*random_lines(39), []]
    whole = rendered_batch(images, lines, FILL, MEAN, STD)
    assert np.isfinite(whole).all()
    for b in range(40):
        alone = rendered_batch(images[b : b + 1], lines[b : b + 1], FILL, MEAN, STD)
        assert (alone[0] == whole[b]).all()
    backwards = rendered_batch(images[::-1], lines[::-1], FILL, MEAN, STD)
    assert (backwards[::-1] == whole).all()


def test_rows_choose_the_images() -> None:
    images = np.stack([noise(seed) for seed in range(4)])
    code, operand = programs([], [], [])
    out = np.zeros((3, 3, SIDE, SIDE), np.float32)
    rows = np.array([3, 0, 3])
    zero, one = np.zeros(3), np.ones(3)
    render(read_only(images), rows, code, operand, zero, zero, one, out)
    assert (out.transpose(0, 2, 3, 1) == images[rows]).all()


def test_sources_stay_as_they_are() -> None:
    """Of writable images, for which nothing but the kernel's own care speaks."""
    images = np.stack([noise(seed) for seed in range(40)])
    before = images.copy()
    lines = random_lines(40)
    code, operand = programs(*lines)
    kept = code.copy(), operand.copy()
    reals = [np.array(v) for v in (FILL, MEAN, STD)]
    out = np.empty((40, 3, SIDE, SIDE), np.float32)
    render(images, np.arange(40), code, operand, *reals, out)
    assert (images == before).all()
    assert (code == kept[0]).all()
    assert (operand == kept[1]).all()
    assert [tuple(v) for v in reals] == [FILL, MEAN, STD]
    assert (out == rendered_batch(before, lines, FILL, MEAN, STD)).all()
