"""How long to train: a number of steps, or seconds on the clock."""

import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Budget:
    """Steps or seconds; exactly one of them is set."""

    steps: int | None = None
    seconds: float | None = None

    def progress(self, step: int, seconds: float) -> float:
        """The part of the budget used, 0 to 1, after `step` steps and `seconds` of training."""
        if self.steps is not None:
            return min(1.0, step / self.steps) if self.steps else 1.0
        assert self.seconds is not None
        return min(1.0, seconds / self.seconds) if self.seconds > 0 else 1.0


class Clock:
    """Seconds since a start, which may lie in an earlier process."""

    def __init__(self, already: float = 0.0) -> None:
        self._zero = time.monotonic() - already

    def __call__(self) -> float:
        return time.monotonic() - self._zero
