"""From a policy to a program: which operations, how strong, for each image of a batch.

Shapes: B images, M instructions each; an instruction is a code and three operands.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fewlabels.augment import operations as op
from fewlabels.augment.draws import uniforms
from fewlabels.augment.policy import Policy, Stage


@dataclass(frozen=True)
class Program:
    """What the kernel executes: `code` [B, M], `operand` [B, M, 3]."""

    code: NDArray[np.int16]
    operand: NDArray[np.float32]


_DRAWS = {
    "flip": 1,
    "crop": 2,
    "zoom": 1,
    "light": 4,
    "rand": 2,
    "cutout": 3,
}  # per stage; `rand`: per operation
_CODES = np.array([o.code for o in op.OPERATIONS.values()], np.int16)
_LOWS = np.array([o.low for o in op.OPERATIONS.values()], np.float32)
_HIGHS = np.array([o.high for o in op.OPERATIONS.values()], np.float32)
_INDEX = {name: i for i, name in enumerate(op.OPERATIONS)}


def sample(
    policy: Policy,
    seed: int,
    epoch: NDArray[np.int64],
    image: NDArray[np.int64],
    view: int,
    size: int,
) -> Program:
    """Draws a program for `image` [B] (numbers in the pool) in their `epoch` [B], as view `view`.

    `size` is the side of the image in pixels: crops shift by whole ones.
    """
    draws = uniforms(seed, epoch, image, view, sum(map(_count, policy.stages)))
    codes: list[NDArray[np.int16]] = []
    operands: list[NDArray[np.float32]] = []
    used = 0
    for stage in policy.stages:
        u = draws[:, used : used + _count(stage)]
        used += _count(stage)
        for code, values in _instructions(stage, u, size):
            operand = np.zeros((len(image), 3), np.float32)
            operand[:, : values.shape[1]] = values
            codes.append(np.broadcast_to(code, len(image)).astype(np.int16))
            operands.append(operand)
    if not codes:
        return Program(
            np.zeros((len(image), 0), np.int16), np.zeros((len(image), 0, 3), np.float32)
        )
    return Program(np.stack(codes, 1), np.stack(operands, 1))


def _count(stage: Stage) -> int:
    return _DRAWS[stage.name] * (int(stage.value) if stage.name == "rand" else 1)


def _instructions(
    stage: Stage, u: NDArray[np.float64], size: int
) -> list[tuple[NDArray[np.int16] | int, NDArray[np.float64]]]:
    """The instructions of one stage: pairs of codes ([B] or one for all) and operands [B, <= 3]."""
    if stage.name == "flip":
        return [(np.where(u[:, 0] < stage.value, op.FLIP, op.IDENTITY).astype(np.int16), u[:, :0])]
    if stage.name == "crop":
        reach = round(stage.value * size)
        shift = np.floor(u * (2 * reach + 1)) - reach  # whole pixels in -reach..reach
        fraction = shift / size
        return [(op.TRANSLATE_X, fraction[:, :1]), (op.TRANSLATE_Y, fraction[:, 1:])]
    if stage.name in ("zoom", "light"):
        # even on a logarithmic scale: as likely twice as large as half as large
        factor = np.exp((2 * u - 1) * -np.log(1 - stage.value))
        if stage.name == "zoom":
            return [(op.ZOOM, factor)]
        return [(op.GAIN, factor[:, :1] * factor[:, 1:])]
    if stage.name == "cutout":
        # side, and the centre anywhere in the image: the square may hang over the edge
        return [(op.CUTOUT, np.column_stack([u[:, 0] * stage.value, u[:, 1], u[:, 2]]))]
    among = np.array([_INDEX[name] for name in stage.operations or op.FIXMATCH])
    result: list[tuple[NDArray[np.int16] | int, NDArray[np.float64]]] = []
    for n in range(int(stage.value)):
        which = among[np.floor(u[:, 2 * n] * len(among)).astype(np.int64)]
        strength = _LOWS[which] + u[:, 2 * n + 1] * (_HIGHS[which] - _LOWS[which])
        result.append((_CODES[which], strength[:, None]))
    return result
