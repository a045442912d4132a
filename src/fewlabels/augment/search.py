"""The space that augmentation is searched in: N operations in a row, 2N numbers a policy.

An operation is two of these numbers: which one it is, and how strong, from 0, which changes
nothing, to 1, the most that RandAugment would do. `identity` is among them, so that fewer than N
can win.

>>> str(policy_of(["rotate", "posterize", "equalize"], [0.5, 1.0, 0.25]))
'zoom(0.2)+light(0.3)+crop(0.125)+rotate(-15..15)+posterize(4..8)+equalize(p=0.25)+cutout(0.5)'
"""

from collections.abc import Sequence

from fewlabels.augment.operations import OPERATIONS
from fewlabels.augment.policy import WEAK, Policy

CHOICES = tuple(OPERATIONS)  # of `which`
LAST = "cutout(0.5)"


def policy_of(which: Sequence[str], strength: Sequence[float], base: Policy = WEAK) -> Policy:
    """The stages of `base`, the operations `which` with `strength` in 0..1, and cutout.

    Both are N long. Each view draws its strengths evenly from the operations' spans.
    """
    before = [str(stage) for stage in base.without("cutout").stages]
    found = [_span(name, s) for name, s in zip(which, strength, strict=True) if name != "identity"]
    return Policy.parse("+".join(["nearest"] * base.nearest + before + found + [LAST]))


def _span(name: str, strength: float) -> str:
    """An operation as a stage: around what changes nothing, or from there on, as far as asked.

    What has no strength is done so often instead.
    """
    operation = OPERATIONS[name]
    if not operation.has_strength:
        return f"{name}(p={round(strength, 3):g})"
    reach = strength * (operation.extreme - operation.neutral)
    first = operation.neutral - reach if operation.signed else operation.neutral
    ends = sorted((first, operation.neutral + reach))
    low, high = (round(end, 3) + 0.0 for end in ends)  # adding 0 makes 0 of -0
    return f"{name}({low:g}..{high:g})"
