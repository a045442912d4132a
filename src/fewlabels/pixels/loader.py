"""The order of the images, and batches made ahead of time.

What a step sees is a function of the step's number alone, so that a run resumed at step 1,000 sees
what the uninterrupted run would have seen, whatever the number of workers.
"""

from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")


@dataclass(frozen=True, eq=False)  # compared by identity: a million rows are not hashed a step
class Stream:
    """An endless order of `rows`: one seeded permutation after another, none dropped.

    A batch may span epochs, so that 20 labels fill a batch of 32. `name` keeps two streams of one
    run apart.
    """

    rows: NDArray[np.int64]
    seed: int
    name: int

    def at(self, start: int, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The rows at positions start..start+count-1 and the epochs they lie in, both [count]."""
        position = np.arange(start, start + count, dtype=np.int64)
        epoch, offset = np.divmod(position, len(self.rows))
        rows = np.empty(count, np.int64)
        for number in np.unique(epoch):
            here = epoch == number
            rows[here] = _permuted(self, int(number))[offset[here]]
        return rows, epoch


@lru_cache(maxsize=8)
def _permuted(stream: Stream, epoch: int) -> NDArray[np.int64]:
    rng = np.random.default_rng((stream.seed, stream.name, epoch))
    return rng.permutation(stream.rows)


def prefetch(make: Callable[[int], T], start: int, workers: int) -> Generator[T, None, None]:
    """Yields make(start), make(start + 1), … in order, made ahead by `workers` threads."""
    with ThreadPoolExecutor(workers, "fewlabels-loader") as pool:
        ahead: deque[Future[T]] = deque(pool.submit(make, start + i) for i in range(workers + 1))
        following = start + workers + 1
        try:
            while True:
                yield ahead.popleft().result()
                ahead.append(pool.submit(make, following))
                following += 1
        finally:
            for future in ahead:
                future.cancel()
