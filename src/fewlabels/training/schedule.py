"""Learning-rate schedules: the factor on the rate as a function of progress in [0, 1]."""

import math


def cosine(progress: float, warmup: float = 0.0) -> float:
    """Linear from 0 over the first `warmup` of training, then half a cosine to 0."""
    if progress < warmup:
        return progress / warmup
    return 0.5 * (1.0 + math.cos(math.pi * (progress - warmup) / (1.0 - warmup)))
