"""The operations a policy can name, their codes in the kernel and the ranges of their strengths.

The ranges are those of FixMatch's RandAugment (Sohn et al. 2020, appendix D, table 12).
"""

from dataclasses import dataclass

# The kernel is compiled with these numbers and kept by its own file's date: append new ones at the
# end, where the kernel must change for them anyway.
IDENTITY, FLIP, ROTATE, SHEAR_X, SHEAR_Y, TRANSLATE_X, TRANSLATE_Y = range(7)
BRIGHTNESS, CONTRAST, POSTERIZE, SOLARIZE, AUTOCONTRAST, EQUALIZE, INVERT = range(7, 14)
SATURATION, SHARPNESS, CUTOUT = range(14, 17)
ZOOM, GAIN = range(17, 19)


@dataclass(frozen=True)
class Operation:
    """One operation of the kernel; a strength in [0, 1] maps linearly onto [low, high]."""

    code: int
    low: float = 0.0
    high: float = 0.0


OPERATIONS: dict[str, Operation] = {
    "identity": Operation(IDENTITY),
    "autocontrast": Operation(AUTOCONTRAST),
    "equalize": Operation(EQUALIZE),
    "invert": Operation(INVERT),
    "brightness": Operation(BRIGHTNESS, 0.05, 0.95),  # factor; 1 leaves the image as it is
    "contrast": Operation(CONTRAST, 0.05, 0.95),  # factor
    "saturation": Operation(SATURATION, 0.05, 0.95),  # factor; 0 is grey
    "sharpness": Operation(SHARPNESS, 0.05, 0.95),  # factor; 0 is smoothed
    "posterize": Operation(POSTERIZE, 4, 8),  # bits kept
    "solarize": Operation(SOLARIZE, 0, 256),  # inverted from this value on
    "rotate": Operation(ROTATE, -30, 30),  # degrees
    "shear_x": Operation(SHEAR_X, -0.3, 0.3),
    "shear_y": Operation(SHEAR_Y, -0.3, 0.3),
    "translate_x": Operation(TRANSLATE_X, -0.3, 0.3),  # fraction of the width
    "translate_y": Operation(TRANSLATE_Y, -0.3, 0.3),
}

FIXMATCH = tuple(name for name in OPERATIONS if name != "invert")
