"""Policies: frozen, serialisable descriptions of an augmentation, with a short text form.

>>> str(Policy.parse("flip+crop(0.125)+rand(n=2,m=10)+cutout(0.5)"))
'flip(0.5)+crop(0.125)+rand(2,m=10)+cutout(0.5)'
>>> str(Policy.parse("nearest+rotate(-15..15,p=0.5)+equalize"))
'nearest+rotate(-15..15,p=0.5)+equalize'

A policy is stages with `+` between them, executed in order. An argument is a number, or
`low..high`, from which each view draws evenly. The names of PRESETS stand for their stages.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from fewlabels.augment.operations import FIXMATCH, MOST, OPERATIONS
from fewlabels.errors import UserError

Span = tuple[float, float]  # a single number is a span without width


@dataclass(frozen=True)
class Kind:
    """What a stage takes: its main argument with default and limits, and further ones."""

    argument: str
    default: Span
    limits: Span
    more: dict[str, Span | None]  # name -> default; None: not given

    def limits_of(self, name: str) -> Span:
        return self.limits if name == self.argument else LIMITS[name]


LIMITS: dict[str, Span] = {"p": (0.0, 1.0), "m": (0.0, MOST), "cells": (1.0, 16.0)}
_DRAWN = ("strength", "area", "m")  # may be a range; every other argument is one number
_WHOLE = ("n", "cells")


def _up_to(argument: str, default: float, largest: float, **more: Span | None) -> Kind:
    return Kind(argument, (default, default), (0.0, largest), more)


# beyond these an operation means nothing
_SENSIBLE: dict[str, Span] = {
    "posterize": (1, 8),
    "solarize": (0, 256),
    "add": (-1, 1),
    "scale": (0.05, 20),
} | dict.fromkeys(("brightness", "contrast", "saturation", "sharpness"), (0.0, 10.0))

STAGES: dict[str, Kind] = {
    "flip": _up_to("p", 0.5, 1.0),  # mirrored left to right with this probability
    "flip_y": _up_to("p", 0.5, 1.0),  # upside down
    "turn": _up_to("p", 1.0, 1.0),  # by 0 to 3 quarters of a circle
    "crop": _up_to("shift", 0.125, 1.0),  # by whole pixels, up to this fraction of the sides
    # a window of this part of the area, 3:4 to 4:3, as large as the image (Szegedy et al. 2015)
    "resized_crop": Kind("area", (0.08, 1.0), (0.001, 1.0), {}),
    "zoom": _up_to("by", 0.2, 0.9),  # larger or smaller, by a factor of 1 - by to 1 / (1 - by)
    "light": _up_to("by", 0.3, 0.9),  # each channel by 1 - by to 1 / (1 - by), and all of them
    "affine": _up_to("by", 0.1, 0.25),  # three corners moved by up to this part of the sides
    "perspective": _up_to("by", 0.1, 0.25),  # four corners; further they could cross
    "elastic": _up_to("by", 0.1, 1.0, cells=(4.0, 4.0)),  # smooth displacements on a grid of cells
    # n operations, each with FixMatch's random strength or with RandAugment's magnitude m
    "rand": Kind("n", (2.0, 2.0), (0.0, 8.0), {"m": None}),
    "cutout": _up_to("side", 0.5, 1.0),  # a filled square, its side up to this fraction
} | {
    name: Kind("strength", (o.low, o.high), _SENSIBLE.get(name, (-360.0, 360.0)), {"p": (1.0, 1.0)})
    for name, o in OPERATIONS.items()
}


@dataclass(frozen=True)
class Stage:
    """One stage of a policy: its name, its arguments, and what `rand` chooses among."""

    name: str
    arguments: tuple[tuple[str, Span], ...]
    operations: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> Span:
        return dict(self.arguments)[name]

    def get(self, name: str) -> Span | None:
        return dict(self.arguments).get(name)

    @property
    def value(self) -> float:
        """The main argument, where it is one number."""
        return self.arguments[0][1][1]

    def __str__(self) -> str:
        kind, parts = STAGES[self.name], []
        for name, span in self.arguments:
            if name == kind.argument:
                if self.name not in OPERATIONS or OPERATIONS[self.name].has_strength:
                    parts.append(_text(span))
            elif kind.more[name] != span:
                parts.append(f"{name}={_text(span)}")
        if self.operations:
            parts.append("among=" + "|".join(self.operations))
        return self.name + (f"({','.join(parts)})" if parts else "")


@dataclass(frozen=True)
class Policy:
    """Stages, executed in order. What they draw comes from `fewlabels.augment.sampler`.

    `nearest`: a warp takes the nearest pixel instead of blending four.
    """

    stages: tuple[Stage, ...] = ()
    nearest: bool = False

    @classmethod
    def parse(cls, text: str) -> "Policy":
        """A policy from its text form; `none` is the empty one. UserError names what is wrong."""
        text = " ".join(text.split())
        parts = [part.strip() for part in text.split("+")]
        if parts == ["none"]:
            return cls()
        words: list[str] = []
        for part in parts:
            words += PRESETS[part].split("+") if part in PRESETS else [part]
        stages = tuple(_parse_stage(word, text) for word in words if word != "nearest")
        if any(stage.name == "cutout" for stage in stages[:-1]):
            raise UserError(f"augmentation '{text}': cutout must be the last stage")
        if sum(stage.name == "elastic" for stage in stages) > 1:
            raise UserError(f"augmentation '{text}': elastic may stand once")
        return cls(stages, "nearest" in words)

    @classmethod
    def read(cls, text: str) -> "Policy":
        """A policy from its text form or from a file that holds it; `#` begins a comment there."""
        try:
            return cls.parse(text)
        except UserError:
            path = Path(text)
            if not _is_file(path):
                raise
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: no augmentation can be read from it ({error})") from error
        found = [line for raw in lines if (line := raw.partition("#")[0].strip())]
        if len(found) != 1:
            raise UserError(f"{path}: must hold one line with an augmentation, not {len(found)}")
        return cls.parse(found[0])

    def __contains__(self, name: str) -> bool:
        return any(stage.name == name for stage in self.stages)

    def after(self, *names: str) -> "Policy":
        """The policy with these stages, as they are by default, before its own."""
        first = tuple(_parse_stage(name, name) for name in names)
        return Policy(first + self.stages, self.nearest)

    def without(self, *names: str) -> "Policy":
        """The policy less the stages of these names."""
        stages = tuple(stage for stage in self.stages if stage.name not in names)
        return Policy(stages, self.nearest)

    def __str__(self) -> str:
        words = ["nearest"] * self.nearest + list(map(str, self.stages))
        return "+".join(words) or "none"


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a long policy is no name that a file could have
        return False


def _text(span: Span) -> str:
    """No digit is lost: a policy read back draws the same."""
    low, high = (s if float(s := f"{v:g}") == v else repr(v) for v in span)
    return low if low == high else f"{low}..{high}"


def _parse_stage(part: str, text: str) -> Stage:
    match = re.fullmatch(r"(\w+)(?:\(([^()]*)\))?", part)
    if not match or match[1] not in STAGES:
        raise UserError(
            f"augmentation '{text}': '{part}' is no stage; there are {', '.join(STAGES)}, "
            f"and by themselves none, {', '.join(PRESETS)} or a file"
        )
    name, kind = match[1], STAGES[match[1]]
    given: dict[str, str] = {}
    for item in filter(None, (match[2] or "").replace(" ", "").split(",")):
        key, _, content = item.rpartition("=")
        key = key or kind.argument
        if key in given:
            raise UserError(f"augmentation '{text}': {name} is given '{key}' twice")
        given[key] = content
    listed = "among" in given and name == "rand"
    among = tuple(given.pop("among").split("|")) if listed else ()
    strengthless = name in OPERATIONS and not OPERATIONS[name].has_strength
    known = {*kind.more} if strengthless else {kind.argument, *kind.more}
    wrong = [key for key in given if key not in known]
    if wrong:
        raise UserError(f"augmentation '{text}': '{name}' has no argument '{wrong[0]}'")
    arguments: list[tuple[str, Span]] = []
    for key, default in {kind.argument: kind.default, **kind.more}.items():
        if key in given:
            least, most = kind.limits_of(key)
            arguments.append((key, _parse_span(given[key], name, key, part, text, least, most)))
        elif default is not None:
            arguments.append((key, default))
    for key, (low, high) in arguments:
        if low != high and key not in _DRAWN:
            raise UserError(f"augmentation '{text}': {key} of {name} must be one number")
        if low != int(low) and key in _WHOLE:
            raise UserError(f"augmentation '{text}': {key} of {name} must be a whole number")
    unknown = [operation for operation in among if operation not in OPERATIONS]
    if unknown:
        raise UserError(f"augmentation '{text}': no operation is named '{unknown[0]}'")
    return Stage(name, tuple(arguments), () if among == FIXMATCH else among)


def _parse_span(
    content: str, name: str, key: str, part: str, text: str, least: float, most: float
) -> Span:
    first, dots, second = content.partition("..")
    try:
        low = float(first)
        high = float(second) if dots else low
    except ValueError:
        raise UserError(f"augmentation '{text}': '{content}' in '{part}' is no number") from None
    if not least <= low <= high <= most:
        raise UserError(f"augmentation '{text}': {key} of {name} must be {least:g} to {most:g}")
    return low, high


# `weak` and `strong` go beyond FixMatch's own views: a few labels of a class may all have been
# taken in one light and from one distance, and would then be learnt by those. Mirroring is not in
# them: whether a mirrored image shows the same depends on the data (--flip).
PRESETS = {
    "weak": "zoom(0.2)+light(0.3)+crop(0.125)",
    "strong": "zoom(0.2)+light(0.3)+crop(0.125)+rand(2)+cutout(0.5)",  # FixMatch's strengths
    "randaugment": "crop(0.125)+rand(2,m=10)+cutout(0.5)",  # N, M (Cubuk et al. 2020)
    "trivial": "crop(0.125)+rand(1,m=0..30)",  # TrivialAugment (Mueller and Hutter 2021)
}
WEAK, STRONG = Policy.parse("weak"), Policy.parse("strong")
