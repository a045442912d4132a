"""Learning-rate schedules: the factor on the rate as a function of progress in [0, 1].

All begin with a linear warm-up from 0 over the first `warmup` of training, but for one-cycle, which
has a longer one of its own.
"""

import math
from collections.abc import Callable

Schedule = Callable[[float], float]  # progress after the warm-up, 0 to 1 -> factor
DROPS = (1 / 3, 2 / 3)  # progress at which `step` divides the rate by ten
RISE, FALL = 0.3, 1e-4  # of one-cycle: the part in which the rate rises, and what it ends at


def cosine(t: float) -> float:
    """Half a cosine, from 1 to 0 (Loshchilov and Hutter 2017, equation 5)."""
    return 0.5 * (1.0 + math.cos(math.pi * t))


def seven_sixteenths(t: float) -> float:
    """cos(7πt/16), from 1 to 0.195 (Sohn et al. 2020, FixMatch, section 2.3)."""
    return math.cos(7 * math.pi * t / 16)


def step(t: float) -> float:
    """A tenth after a third of the way, a hundredth after two."""
    return 0.1 ** sum(t >= drop for drop in DROPS)


def one_cycle(t: float) -> float:
    """Up by half a cosine over RISE of training, from 1/25, and down to almost nothing (Smith and
    Topin 2019, section 4)."""
    if t < RISE:
        return 1 / 25 + (1 - 1 / 25) * (1 - cosine(t / RISE))
    return FALL + (1 - FALL) * cosine((t - RISE) / (1 - RISE))


def constant(t: float) -> float:
    """1 throughout."""
    return 1.0


SCHEDULES: dict[str, Schedule] = {
    "cosine": cosine,
    "seven_sixteenths": seven_sixteenths,
    "step": step,
    "one_cycle": one_cycle,
    "constant": constant,
}


def factor(name: str, progress: float, warmup: float = 0.0) -> float:
    """The factor of the schedule of that name."""
    if SCHEDULES[name] is one_cycle:
        return one_cycle(progress)
    if progress < warmup:
        return progress / warmup
    return SCHEDULES[name]((progress - warmup) / (1.0 - warmup))
