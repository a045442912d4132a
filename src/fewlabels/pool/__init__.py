"""Which images there are, what is known about each, and on which side of a split it stands."""

from fewlabels.pool.pool import Pool, Skipped

__all__ = ["Pool", "Skipped"]
