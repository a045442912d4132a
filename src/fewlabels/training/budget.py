"""How long to train: a number of steps, or seconds on a clock that stands still in a pause.

The clock is the machine's monotonic one: setting the time of day changes nothing. It also counts
while the process is stopped (`kill -STOP`, Ctrl-Z), and some systems' while the machine sleeps; so
what has passed unread when SIGCONT comes is taken out again.
"""

import time
from dataclasses import dataclass

PAUSE = 3.0  # seconds; what is shorter may be a step of a process that was not stopped

_paused = 0.0  # seconds, in all
_read = time.monotonic()  # the last reading


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
    """Seconds since a start, which may lie in an earlier process; pauses are not among them."""

    def __init__(self, already: float = 0.0) -> None:
        self._zero = _now() - already

    def __call__(self) -> float:
        return _now() - self._zero


def continued(*_: object) -> None:
    """Hears SIGCONT: what has passed since the last reading of any clock was a pause."""
    global _paused, _read
    now = time.monotonic()
    if now - _read > PAUSE:
        _paused += now - _read
        _read = now


def _now() -> float:
    global _read
    while True:
        paused, now = _paused, time.monotonic()
        if paused == _paused:  # else a pause has ended between the two
            _read = now
            return now - paused
