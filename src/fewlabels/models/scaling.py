"""Compound scaling (Tan and Le 2019, equation 3): depth, width and resolution together.

    depth α^φ · width β^φ · resolution γ^φ     with α·β²·γ² ≈ 2, each at least 1

Multiply-adds grow with depth and with the squares of width and resolution, so that each whole φ
doubles them. The paper found α = 1.2, β = 1.1, γ = 1.15 by a small grid at φ = 1 for B0. What a net
makes of the multipliers is rounded: blocks are whole, channels multiples of 8.
"""

from dataclasses import dataclass

from fewlabels.errors import UserError
from fewlabels.settings import between


@dataclass(frozen=True)
class Base:
    """What a net is scaled from: its side in pixels, the step that sides go in, and the least."""

    size: int
    step: int
    least: int


# The catalogue's models that take `depth` and `width` multipliers.
BASES = {"cnn_small": Base(32, 2, 8), "efficientnet_b0": Base(224, 8, 32)}


@dataclass(frozen=True)
class Scaled:
    """A scaled model by the name that builds it, its images' side in pixels, its multipliers."""

    name: str
    size: int
    depth: float
    width: float


def scale(
    model: str,
    phi: float,
    alpha: float = 1.2,
    beta: float = 1.1,
    gamma: float = 1.15,
    size: int | None = None,
) -> Scaled:
    """`model`, a key of BASES, scaled by φ. size: the side at φ = 0, by default its base's own.

    Multipliers are rounded to four digits, and one that is 1 stays out of the name: at φ = 0 that
    is `model`. UserError for other models, φ below 0 and α, β, γ below 1.
    """
    if model not in BASES:
        raise UserError(f"'{model}' cannot be scaled; there are {' and '.join(BASES)}")
    between("phi", phi, 0, 20)
    for name, value in (("alpha", alpha), ("beta", beta), ("gamma", gamma)):
        between(name, value, 1, 10)
    between("size", size, 1, 4096)
    base = BASES[model]
    depth, width = (float(f"{multiplier**phi:.4g}") for multiplier in (alpha, beta))
    side = base.step * round((size or base.size) * gamma**phi / base.step)
    given = {"depth": depth, "width": width}
    words = ",".join(f"{name}={value:g}" for name, value in given.items() if value != 1)
    return Scaled(f"{model}({words})" if words else model, max(side, base.least), depth, width)


def cost(depth: float, width: float, resolution: float) -> float:
    """Multiply-adds relative to the base; equation 3 wants about 2 of (α, β, γ)."""
    return depth * width**2 * resolution**2
