"""Encoded images in a temporary file, to be read in any order.

A Parquet file gives whole row groups. Where images are asked for shuffled, and again and again,
each would cost the reading of its whole group.
"""

import shutil
import tempfile
import threading
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

SHARE = 0.5  # of what is free on the disk of temporary files, at most


def has_room(count: int) -> bool:
    """Whether so many bytes may be written to a temporary file."""
    try:
        return count <= SHARE * shutil.disk_usage(tempfile.gettempdir()).free
    except OSError:  # there is no folder for them
        return False


class Spool:
    """The bytes of those of N rows that were added. Threads may read while one adds.

    The file goes with its process; the environment's TMPDIR says where it lies.
    """

    def __init__(self, count: int) -> None:
        """`count` is N. Raises OSError."""
        self._file = tempfile.TemporaryFile(prefix="fewlabels-", buffering=0)  # noqa: SIM115
        self._lock = threading.Lock()
        self._start: NDArray[np.int64] = np.full(count, -1, np.int64)  # -1: was not added
        self._length: NDArray[np.int64] = np.zeros(count, np.int64)
        self.size = 0  # bytes in the file

    def add(self, first: int, blobs: Iterable[bytes]) -> None:
        """Adds rows `first`, `first` + 1, …; where it raises OSError, none of them."""
        starts, end = [], self.size
        with self._lock:
            self._file.seek(end)
            for blob in blobs:
                starts.append(end)
                end += len(blob)
                left = memoryview(blob)
                while left:  # a write may be a part of it
                    left = left[self._file.write(left) :]
        rows = slice(first, first + len(starts))
        self._length[rows] = np.diff([*starts, end])
        self._start[rows] = starts
        self.size = end

    def read(self, row: int) -> bytes | None:
        """None where it was not added."""
        start, length = int(self._start[row]), int(self._length[row])
        if start < 0:
            return None
        with self._lock:
            self._file.seek(start)
            return self._file.read(length)
