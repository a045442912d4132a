"""Images by number, as the cache has them, but decoded whenever they are asked for.

For pools that are larger than the cache may be, or where nothing can be written. What is seen is
the same to the bit; it only takes longer.
"""

import threading
from collections import OrderedDict
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fewlabels.errors import UserError
from fewlabels.pixels.decode import Square, Unreadable, square
from fewlabels.pool.source import Source, content_digest
from fewlabels.pool.threads import THREADS, each

KEPT = 256 * 2**20  # bytes of squares that were asked for last; few labelled ones come often


class Pixels(Protocol):
    """uint8 images [N, S, S, 3]: an array, a map of a file, or `Decoded`.

    `images[rows]` is an array for a number, a slice, or an array of numbers or booleans [N].
    """

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> Any: ...


class Decoded:
    """Pixels of a source, whose contents must be those of `digest` [N]."""

    def __init__(
        self, source: Source, digest: tuple[str, ...], size: int, workers: int = THREADS
    ) -> None:
        self._about = source, digest, size, workers
        self._kept: OrderedDict[int, NDArray[np.uint8]] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def shape(self) -> tuple[int, ...]:
        _, digest, size, _ = self._about
        return len(digest), size, size, 3

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any, /) -> NDArray[np.uint8]:
        """Raises UserError where a file is not what it was."""
        numbers = np.arange(len(self))[rows]
        if not numbers.ndim:
            return self._one(int(numbers)).copy()
        images = np.empty((len(numbers), *self.shape[1:]), np.uint8)
        found = each(lambda i: self._one(int(numbers[i])), len(numbers), self._about[3])
        for place, image in enumerate(found):
            images[place] = image
        return images

    def __reduce__(self) -> Any:  # what is kept stays here
        return Decoded, self._about

    def _one(self, row: int) -> NDArray[np.uint8]:
        with self._lock:
            image = self._kept.get(row)
            if image is not None:
                self._kept.move_to_end(row)
                return image
        source, digest, size, _ = self._about
        found = decoded(source, digest, size, row)
        image = np.zeros(self.shape[1:], np.uint8) if isinstance(found, str) else found.pixels
        with self._lock:
            self._kept[row] = image
            while len(self._kept) > max(1, KEPT // image.nbytes):
                self._kept.popitem(last=False)
        return image


def decoded(source: Source, digest: tuple[str, ...], size: int, row: int) -> Square | str:
    """One image, or why it cannot be read. UserError where it is not what `digest` [N] says."""
    try:
        data = source.read(row)
    except OSError as error:
        # Without this, a file share that was away for a moment would be remembered as damage.
        if digest[row]:
            raise _changed(source, row) from error
        return " ".join((error.strerror or str(error)).split())
    if content_digest(data) != digest[row]:
        raise _changed(source, row)
    try:
        return square(data, size)
    except Unreadable as error:
        return str(error)


def _changed(source: Source, row: int) -> UserError:
    return UserError(f"{source.name(row)}: changed while it was being read; run the command again")
