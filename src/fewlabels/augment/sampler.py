"""From a policy to a program: which operations, how strong, for each image of a batch.

Shapes: B images, M instructions each; an instruction is a code and eight operands.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from fewlabels.augment import operations as op
from fewlabels.augment.draws import uniforms
from fewlabels.augment.points import CORNERS, solve
from fewlabels.augment.policy import Policy, Span, Stage

Draws = NDArray[np.float64]


@dataclass(frozen=True)
class Program:
    """What the kernel executes: `code` [B, M], `operand` [B, M, 8]."""

    code: NDArray[np.int16]
    operand: NDArray[np.float32]


# one code for all or [B], and the operands [B, <= 8]
Instruction = tuple[NDArray[np.int16] | int, Draws]

# how many numbers a stage draws; `rand`: an operation, and any other stage is one operation
_DRAWS = {
    "flip": 1,
    "flip_y": 1,
    "turn": 2,
    "crop": 2,
    "resized_crop": 4,
    "zoom": 1,
    "light": 4,
    "affine": 6,
    "perspective": 8,
    "elastic": 2,
    "rand": 2,
    "cutout": 3,
}
_OPERATION_DRAWS = 2
_ALL = list(op.OPERATIONS.values())
_CODES = np.array([o.code for o in _ALL], np.int16)
_LOWS, _HIGHS = np.array([o.low for o in _ALL]), np.array([o.high for o in _ALL])
_NEUTRAL, _EXTREME = np.array([o.neutral for o in _ALL]), np.array([o.extreme for o in _ALL])
_SIGNED = np.array([o.signed for o in _ALL])
_INDEX = {name: i for i, name in enumerate(op.OPERATIONS)}


def sample(
    policy: Policy,
    seed: int,
    epoch: NDArray[np.int64],
    image: NDArray[np.int64],
    view: int,
    height: int,
    width: int,
    inside: Draws | None = None,
) -> Program:
    """Draws a program for `image` [B] (numbers in the pool) in their `epoch` [B], as view `view`.

    `height` and `width` are the result's, in pixels: crops shift by whole ones. `inside` [B, 2] is
    how much of width and height the picture takes that lies in the middle of each image (None: all
    of it). `resized_crop` keeps to it, where nothing but mirroring and turns came before. Of the
    others none does: a shift, a zoom or a warp moves picture and padding together, and a picture
    with padding around it is what the model is asked about in the end; a cutout comes last, when
    the picture is no longer where it was.
    """
    inside = np.ones((len(image), 2)) if inside is None else inside
    draws = uniforms(seed, epoch, image, view, sum(map(_count, policy.stages)))
    instructions: list[Instruction] = []
    used = 0
    for stage in policy.stages:
        u = draws[:, used : used + _count(stage)]
        used += _count(stage)
        made = _instructions(stage, u, height, width, inside)
        if stage.name == "turn":
            code, degrees = made[0]
            on_its_side = (code == op.ROTATE) & (degrees[:, 0] % 180 == 90)
            inside = np.where(on_its_side[:, None], inside[:, ::-1], inside)
        instructions += made
    code = np.zeros((len(image), len(instructions)), np.int16)
    operand = np.zeros((len(image), len(instructions), op.OPERANDS), np.float32)
    for k, (what, values) in enumerate(instructions):
        code[:, k] = what
        operand[:, k, : values.shape[1]] = values
    return Program(code, operand)


def _count(stage: Stage) -> int:
    if stage.name == "rand":
        return _DRAWS["rand"] * int(stage.value)
    return _DRAWS.get(stage.name, _OPERATION_DRAWS)


def _instructions(
    stage: Stage, u: Draws, height: int, width: int, inside: Draws
) -> list[Instruction]:
    name = stage.name
    if name in ("flip", "flip_y"):
        code = op.FLIP if name == "flip" else op.FLIP_Y
        return [(_sometimes(code, u[:, 0], stage.value), u[:, :0])]
    if name == "turn":
        quarters = np.floor(4 * u[:, 1:])
        return [(_sometimes(op.ROTATE, u[:, 0], stage.value), 90 * quarters)]
    if name == "crop":
        return [
            (code, _shift(u[:, axis : axis + 1], stage.value, side) / side)
            for axis, (code, side) in enumerate([(op.TRANSLATE_X, width), (op.TRANSLATE_Y, height)])
        ]
    if name == "resized_crop":
        return [(op.WARP, _window(u, stage["area"], height, width, inside))]
    if name in ("zoom", "light"):
        # even on a logarithmic scale: as likely twice as large as half as large
        factor = np.exp((2 * u - 1) * -np.log(1 - stage.value))
        return [(op.SCALE, factor) if name == "zoom" else (op.GAIN, factor[:, :1] * factor[:, 1:])]
    if name in ("affine", "perspective"):
        corners = CORNERS[: u.shape[1] // 2]
        moved = corners + stage.value * (2 * u.reshape(len(u), len(corners), 2) - 1)
        return [(op.WARP, solve(corners, moved).reshape(len(u), 9)[:, :8])]
    if name == "elastic":
        n = len(u)
        seeds = np.floor(u * 2**24)  # exact in a float32
        amount, cells = np.full(n, stage.value), np.full(n, stage["cells"][0])
        return [(op.ELASTIC, np.column_stack([amount, cells, seeds]))]
    if name == "cutout":
        # side, and the centre anywhere in the image: the square may hang over the edge
        return [(op.CUTOUT, np.column_stack([u[:, 0] * stage.value, u[:, 1], u[:, 2]]))]
    if name == "rand":
        among = _indices(stage.operations or op.FIXMATCH)
        return [
            _random_operation(among, u[:, 2 * n : 2 * n + 2], stage.get("m"))
            for n in range(int(stage.value))
        ]
    code = op.OPERATIONS[name].code
    strength = _between(stage["strength"], u[:, 1:])
    return [(_sometimes(code, u[:, 0], stage["p"][1]), strength)]


@lru_cache(maxsize=64)
def _indices(names: tuple[str, ...]) -> NDArray[np.int64]:
    return np.array([_INDEX[name] for name in names], np.int64)


def _sometimes(code: int, u: Draws, p: float) -> NDArray[np.int16]:
    return np.where(u < p, code, op.IDENTITY).astype(np.int16)


def _between(span: Span, u: Draws) -> Draws:
    return span[0] + u * (span[1] - span[0])


def _shift(u: Draws, part: float, side: int) -> Draws:
    """Whole pixels in -reach..reach, each as likely."""
    reach = round(part * side)
    return np.floor(u * (2 * reach + 1)) - reach


def _window(u: Draws, area: Span, height: int, width: int, inside: Draws) -> Draws:
    """A window anywhere in the part of the image that is `inside`, as a WARP of [B, 8]."""
    across, down = inside.T
    # of its sides, as parts of those of what it lies in
    ratio = np.exp((2 * u[:, 1] - 1) * np.log(4 / 3)) * (height * down) / (width * across)
    part = _between(area, u[:, 0])
    ratio = np.clip(ratio, part, 1 / part)  # the nearest at which so large a window fits
    w, h = np.sqrt(part * ratio), np.sqrt(part / ratio)
    x, y = (2 * u[:, 2] - 1) * (1 - w) / 2, (2 * u[:, 3] - 1) * (1 - h) / 2
    nothing = np.zeros_like(w)
    return np.column_stack(
        [w * across, nothing, x * across, nothing, h * down, y * down, nothing, nothing]
    )


def _random_operation(among: NDArray[np.int64], u: Draws, m: Span | None) -> Instruction:
    which = among[np.floor(u[:, 0] * len(among)).astype(np.int64)]
    if m is None:
        strength = _LOWS[which] + u[:, 1] * (_HIGHS[which] - _LOWS[which])
    else:
        # one draw gives both: its half the sign, its place in the half the magnitude
        sign, place = np.divmod(2 * u[:, 1], 1)
        magnitude = _between(m, place) / op.MOST * np.where(_SIGNED[which], 2 * sign - 1, 1)
        strength = _NEUTRAL[which] + magnitude * (_EXTREME[which] - _NEUTRAL[which])
    return _CODES[which], strength[:, None]
