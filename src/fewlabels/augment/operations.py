"""The operations that a policy can name: their codes in the kernel and how strong they may be.

Two scales of strength are in use. FixMatch draws each evenly from a range of its own (Sohn et al.
2020, appendix D, table 12); RandAugment names one magnitude M for all of them (Cubuk et al. 2020),
here from 0, which changes nothing, to 30, the most, as in the paper.
"""

from dataclasses import dataclass

# The kernel is compiled with these numbers and kept by its own file's date: append new ones at the
# end, where the kernel must change for them anyway.
IDENTITY, FLIP, ROTATE, SHEAR_X, SHEAR_Y, TRANSLATE_X, TRANSLATE_Y = range(7)
BRIGHTNESS, CONTRAST, POSTERIZE, SOLARIZE, AUTOCONTRAST, EQUALIZE, INVERT = range(7, 14)
SATURATION, SHARPNESS, CUTOUT = range(14, 17)
SCALE, GAIN, ADD, FLIP_Y, WARP, ELASTIC = range(17, 23)

MOST = 30.0  # RandAugment's largest M
OPERANDS = 8  # of an instruction; most operations take one


@dataclass(frozen=True)
class Operation:
    """One operation of the kernel with one operand, its strength.

    `low` and `high`: FixMatch's range. RandAugment's runs from `neutral`, at M = 0, to `extreme`,
    at M = 30; a `signed` one goes as far to the other side of `neutral`, as often.
    """

    code: int
    low: float = 0.0
    high: float = 0.0
    neutral: float = 0.0
    extreme: float = 0.0
    signed: bool = False

    @property
    def has_strength(self) -> bool:
        return self.low != self.high


def _factor(code: int) -> Operation:
    """1 leaves the image as it is, 0 leaves black, grey or smoothed; 1.9 exaggerates."""
    return Operation(code, 0.05, 0.95, neutral=1.0, extreme=1.9, signed=True)


OPERATIONS: dict[str, Operation] = {
    "identity": Operation(IDENTITY),
    "autocontrast": Operation(AUTOCONTRAST),
    "equalize": Operation(EQUALIZE),
    "invert": Operation(INVERT),
    "brightness": _factor(BRIGHTNESS),  # multiplied
    "contrast": _factor(CONTRAST),
    "saturation": _factor(SATURATION),
    "sharpness": _factor(SHARPNESS),
    "posterize": Operation(POSTERIZE, 4, 8, neutral=8, extreme=4),  # bits kept
    "solarize": Operation(SOLARIZE, 0, 256, neutral=256, extreme=0),  # inverted from here on
    "rotate": Operation(ROTATE, -30, 30, 0, 30, signed=True),  # degrees
    "shear_x": Operation(SHEAR_X, -0.3, 0.3, 0, 0.3, signed=True),
    "shear_y": Operation(SHEAR_Y, -0.3, 0.3, 0, 0.3, signed=True),
    "translate_x": Operation(TRANSLATE_X, -0.3, 0.3, 0, 0.45, signed=True),  # part of the width
    "translate_y": Operation(TRANSLATE_Y, -0.3, 0.3, 0, 0.45, signed=True),
    "add": Operation(ADD, -0.4, 0.4, 0, 0.4, signed=True),  # brightness added, part of 255
    "scale": Operation(SCALE, 0.7, 1.4, 1.0, 1.5, signed=True),  # how large things appear
}

# both papers' fourteen
FIXMATCH = tuple(name for name in OPERATIONS if name not in ("invert", "add", "scale"))
