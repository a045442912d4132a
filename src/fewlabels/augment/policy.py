"""Policies: frozen, serialisable descriptions of an augmentation, with a short text form.

>>> str(Policy.parse("flip+crop(0.125)+rand(n=2)+cutout(0.5)"))
'flip(0.5)+crop(0.125)+rand(2)+cutout(0.5)'
"""

import re
from dataclasses import dataclass

from fewlabels.augment.operations import FIXMATCH, OPERATIONS
from fewlabels.errors import UserError


@dataclass(frozen=True)
class Stage:
    """One stage of a policy: what it does, and how much."""

    name: str
    value: float
    operations: tuple[str, ...] = ()

    def __str__(self) -> str:
        among = ",among=" + "|".join(self.operations) if self.operations else ""
        value = int(self.value) if self.value == int(self.value) else self.value
        return f"{self.name}({value}{among})"


# name -> (the argument's name, its default, its largest value)
STAGES: dict[str, tuple[str, float, float]] = {
    "flip": ("p", 0.5, 1.0),  # mirrored left to right with this probability
    "crop": ("shift", 0.125, 1.0),  # shifted by whole pixels, up to this fraction of the side
    "zoom": ("by", 0.2, 0.9),  # larger or smaller, by a factor of 1 - by to 1 / (1 - by)
    "light": ("by", 0.3, 0.9),  # each channel multiplied by 1 - by to 1 / (1 - by), and all of them
    "rand": ("n", 2, 8),  # n operations, each with a random strength (FixMatch, appendix D)
    "cutout": ("side", 0.5, 1.0),  # a filled square, its side up to this fraction
}


@dataclass(frozen=True)
class Policy:
    """Stages, executed in order. What they draw comes from `fewlabels.augment.sampler`."""

    stages: tuple[Stage, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "Policy":
        """A policy from its text form; `none` is the empty one. UserError names what is wrong."""
        text = " ".join(text.split())
        parts = [part.strip() for part in text.split("+")]
        if parts == ["none"]:
            return cls()
        stages = tuple(_parse_stage(part, text) for part in parts)
        if any(stage.name == "cutout" for stage in stages[:-1]):
            raise UserError(f"augmentation '{text}': cutout must be the last stage")
        return cls(stages)

    def without(self, *names: str) -> "Policy":
        """The policy less the stages of these names."""
        return Policy(tuple(stage for stage in self.stages if stage.name not in names))

    def __str__(self) -> str:
        return "+".join(map(str, self.stages)) or "none"


def _parse_stage(part: str, text: str) -> Stage:
    match = re.fullmatch(r"(\w+)(?:\(([^()]*)\))?", part)
    if not match or match[1] not in STAGES:
        known = ", ".join(STAGES)
        raise UserError(f"augmentation '{text}': '{part}' is no stage; the stages are {known}")
    name, arguments = match[1], match[2]
    argument, value, largest = STAGES[name]
    among: tuple[str, ...] = ()
    seen: set[str] = set()
    for item in filter(None, (arguments or "").replace(" ", "").split(",")):
        key, _, content = item.rpartition("=")
        key = key or argument
        if key in seen:
            raise UserError(f"augmentation '{text}': {name} is given '{key}' twice")
        seen.add(key)
        if key == "among" and name == "rand":
            among = tuple(content.split("|"))
        elif key == argument:
            try:
                value = float(content)
            except ValueError:
                raise UserError(
                    f"augmentation '{text}': '{content}' in '{part}' is no number"
                ) from None
        else:
            raise UserError(f"augmentation '{text}': '{name}' has no argument '{key}'")
    unknown = [operation for operation in among if operation not in OPERATIONS]
    if unknown:
        raise UserError(f"augmentation '{text}': no operation is named '{unknown[0]}'")
    if not 0 <= value <= largest:
        raise UserError(f"augmentation '{text}': {argument} of {name} must be 0 to {largest:g}")
    if name == "rand" and value != int(value):
        raise UserError(f"augmentation '{text}': n of rand must be a whole number")
    return Stage(name, value, () if among == FIXMATCH else among)


# Beyond FixMatch's own views, which shift and flip: a few labels of a class may all have been taken
# in one light and from one distance, and would then be learnt by those.
WEAK = Policy.parse("flip(0.5)+zoom(0.2)+light(0.3)+crop(0.125)")
STRONG = Policy.parse("flip(0.5)+zoom(0.2)+light(0.3)+crop(0.125)+rand(2)+cutout(0.5)")
