"""How many threads compute: decided by the time steps take, and again while training goes on.

Threads wait for each other hundreds of times a step. While a core is wanted by another program, or
by another virtual machine, each of those waits lasts until the core is given back: measured on two
cores, two threads are 1.27 times as fast as one when both are free, and up to ten times slower when
one is not. No number of threads is right for a whole run.
"""

from dataclasses import dataclass, field

TRIAL = 3  # steps with each number of threads; the fastest counts
PERIOD = 15.0  # seconds between two trials
ALARM = 3.0  # a step so many times slower than it was calls for a trial at once


@dataclass
class ThreadChoice:
    """Which of `candidates` to use for the next step; `now` and durations are in seconds."""

    candidates: tuple[int, ...]
    threads: int = field(init=False)
    _trials: list[tuple[float, int]] = field(default_factory=list)  # (duration, threads)
    _usual: float = float("inf")  # duration of a step when it was last decided
    _again: float = 0.0  # when to try again; 0: a trial is on

    def __post_init__(self) -> None:
        self.threads = self.candidates[0]

    @classmethod
    def up_to(cls, most: int) -> "ThreadChoice":
        """All threads, half of them, or one."""
        return cls(tuple(dict.fromkeys((most, max(1, most // 2), 1))))

    def after_step(self, duration: float, now: float) -> int:
        """The number of threads for the next step, after one that took `duration`."""
        if len(self.candidates) == 1:
            return self.threads
        if self._again:
            if now < self._again and duration < ALARM * self._usual:
                return self.threads
            self._again, self._trials, self.threads = 0.0, [], self.candidates[0]
            return self.threads
        self._trials.append((duration, self.threads))
        turn = len(self._trials) // TRIAL
        if turn < len(self.candidates):
            self.threads = self.candidates[turn]
        else:
            self._usual, self.threads = min(self._trials)
            self._again = now + PERIOD
        return self.threads
