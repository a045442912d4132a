"""The same work for every row, by threads, with little in flight."""

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
# For reading and decoding: the cores that this process may use; more than 16 wait for each other.
_CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
THREADS = min(16, _CORES)
CHUNK = 16  # rows a task: a future costs about as much as decoding one 32 px image


def each(work: Callable[[int], T], count: int, workers: int) -> Iterator[T]:
    """Yields work(0), work(1), … work(count - 1) in order, computed by `workers` threads.

    No more than 4 * workers * CHUNK results wait at a time, so memory does not grow with `count`.
    An exception in `work` comes out here.
    """

    def chunk(start: int) -> list[T]:
        return [work(row) for row in range(start, min(start + CHUNK, count))]

    with ThreadPoolExecutor(max(1, workers)) as threads:
        waiting: deque[Future[list[T]]] = deque()
        try:
            for start in range(0, count, CHUNK):
                waiting.append(threads.submit(chunk, start))
                if len(waiting) >= 4 * max(1, workers):
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:  # Ctrl-C, or the caller stopped early: do not work through what is queued
            for future in waiting:
                future.cancel()
