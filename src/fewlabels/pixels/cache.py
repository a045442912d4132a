"""Every image of a source decoded once, into one file of 8-bit pixels that is mapped, not read.

The file holds the pixels [N, S, S, 3], then where the picture lies in each square [N, 4]. A journal
beside it gets a line for each block of images that is written, with a checksum. To open a cache is
to check all blocks against their lines, and to decode those that are not there or not what they
were. So a build that was killed goes on where it was, damage is mended, and nothing has to be
written in a certain order: what a power cut has taken fails its check.
"""

import errno
import hashlib
import json
import os
import time
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from fewlabels.errors import UserError
from fewlabels.pixels import cache_folder
from fewlabels.pixels.cache_folder import default_folder
from fewlabels.pixels.decode import Square
from fewlabels.pixels.decoded import Decoded, Pixels, decoded
from fewlabels.pool.source import Source, content_digest, slowness
from fewlabels.pool.threads import THREADS, each

VERSION = 5  # counts up when the same bytes give other pixels: `square`, the file itself
BLOCK = 2**20  # bytes of pixels that are checked together
BOX = np.dtype("<u2")  # each of the four numbers of a box
WAIT = 0.2  # seconds between two looks at what another process has built

Progress = Callable[[int, int], None]  # (done, total), called from the calling thread


@dataclass(frozen=True, eq=False)
class Cache:
    """The pixels of N images; a row that cannot be decoded holds zeros and a reason."""

    images: Pixels  # [N, size, size, 3]: a read-only map of the file, or decoded on the fly
    box: NDArray[np.int64]  # [N, 4]: left, top, width, height of the picture in its square
    readable: NDArray[np.bool_]  # [N]
    reason: tuple[str, ...]  # [N], "" where readable
    digest: tuple[str, ...]  # [N], SHA-256 of the encoded bytes, "" where there are none
    size: int
    note: str = ""  # why there is no file, in one line


def fingerprint(
    source: Source, workers: int = THREADS, progress: Progress | None = None
) -> tuple[str, ...]:
    """The content digest of each image [N], "" where it cannot be read at all."""

    def one(row: int) -> str:
        try:
            return content_digest(source.read(row))
        except OSError:
            return ""  # build() tells the reason

    digests = []
    for digest in each(one, len(source), workers):
        digests.append(digest)
        if progress:
            progress(len(digests), len(source))
    return tuple(digests)


def build(
    source: Source,
    digest: tuple[str, ...],
    size: int,
    workers: int = THREADS,
    progress: Progress | None = None,
    folder: Path | None = None,
    limit: int | None = None,
    origin: str = "",
) -> Cache:
    """The pixels of `source`, size x size; decoded now, or mapped if they were decoded before.

    The file lies in `folder` (default: $FEWLABELS_CACHE, else the user's cache folder) and is
    named by what it holds: `digest` (from fingerprint), `size` and VERSION; `origin` says for
    people which pool that is. `limit` is the folder's, in bytes (default: `limit_of` it): what
    was used longest ago makes room. Where there is too little, or the folder cannot be written,
    images are decoded now to see which can be, and again whenever they are asked for. Raises
    UserError when an image changed since its digest was taken.
    """
    if len(digest) != len(source):
        raise ValueError(f"{len(digest)} digests for {len(source)} images")
    folder = folder or default_folder()
    task = _Task(source, digest, size, workers, progress)
    images: Pixels = Decoded(source, digest, size, workers)
    note = ""
    try:
        if len(source):  # an empty file cannot be mapped
            images = _mapped_file(task, folder / f"{_key(digest, size)}.u8", limit, origin)
    except (cache_folder.NoRoom, OSError) as error:
        full = isinstance(error, OSError) and error.errno == errno.ENOSPC
        why = "no space left" if full else getattr(error, "strerror", None) or str(error)
        note = (
            "images are decoded each time they are needed, which is slower: no cache of "
            f"{cache_folder.in_words(task.bytes)} could be made in {folder} ({why}); set "
            "FEWLABELS_CACHE to another folder, or --cache-limit to more"
        )
        if isinstance(error, cache_folder.NoRoom) and cache_folder.asked_for(limit) == 0:
            note = "images are decoded each time they are needed, as asked: the cache's limit is 0"
        note = "; ".join(filter(None, (note, slowness(source))))
        for _ in task.decode(np.flatnonzero(~task.known)):
            pass
    reasons = tuple(task.reason)
    readable = np.array([not reason for reason in reasons], dtype=np.bool_)
    return Cache(images, task.box, readable, reasons, digest, size, note)


def _key(digest: tuple[str, ...], size: int) -> str:
    text = "\n".join((f"fewlabels {VERSION} {size}", *digest))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


class _Task:
    """What is to be decoded, how it lies in the file, and what has become known of it."""

    def __init__(
        self,
        source: Source,
        digest: tuple[str, ...],
        size: int,
        workers: int,
        progress: Progress | None,
    ) -> None:
        self.source, self.digest, self.size = source, digest, size
        self.workers, self.progress = workers, progress
        count = len(digest)
        self.shape = count, size, size, 3
        self.image = size * size * 3  # bytes of one
        self.rows_a_block = max(1, BLOCK // self.image)
        self.blocks = -(-count // self.rows_a_block)
        self.bytes = count * (self.image + 4 * BOX.itemsize)
        self.box = np.zeros((count, 4), np.int64)
        self.reason = [""] * count
        self.known = np.zeros(count, np.bool_)  # whether box and reason are
        self._done = 0

    def rows(self, block: int) -> slice:
        first = block * self.rows_a_block
        return slice(first, min(first + self.rows_a_block, len(self.digest)))

    def places(self, rows: slice) -> tuple[int, int]:
        """Where in the file the pixels and the boxes of these rows begin."""
        boxes = len(self.digest) * self.image
        return rows.start * self.image, boxes + rows.start * 4 * BOX.itemsize

    def missing(self) -> list[int]:
        """The blocks that are not known to be in the file."""
        return [block for block in range(self.blocks) if not self.known[self.rows(block)].all()]

    def decode(self, rows: NDArray[np.int64]) -> Generator[NDArray[np.uint8] | None, None, None]:
        """The pixels of these rows, one after another; None where one cannot be decoded."""

        def one(place: int) -> Square | str:
            return decoded(self.source, self.digest, self.size, int(rows[place]))

        for row, found in zip(rows.tolist(), each(one, len(rows), self.workers), strict=True):
            if isinstance(found, str):
                self.reason[row] = found
            else:
                self.box[row] = found.box
            self.learnt(slice(row, row + 1))
            yield None if isinstance(found, str) else found.pixels

    def forget(self) -> None:
        """Nothing is known."""
        self.box[:], self.known[:], self._done = 0, False, 0
        self.reason = [""] * len(self.digest)

    def learnt(self, rows: slice) -> None:
        """Box and reason of these are known now."""
        self.known[rows] = True
        self._done += rows.stop - rows.start
        if self.progress:
            self.progress(self._done, len(self.digest))


def _mapped_file(task: _Task, file: Path, limit: int | None, origin: str) -> "_Mapped":
    """The file, whole. NoRoom or OSError where it cannot be made; then nothing of it is left."""
    try:
        held = cache_folder.hold(file)
    except FileNotFoundError:
        held = None
    else:
        _check(task, file)
    if task.missing():
        seen = os.fstat(held.fileno()).st_ino if held else None
        if held:
            held.close()
        held = cache_folder.reserve(file, task.bytes, limit)
        if os.fstat(held.fileno()).st_ino != seen:
            task.forget()  # another process has deleted the file that was looked at
        try:
            _fill(task, file, origin)
        except OSError:  # a disk that is full must not stay full: a run writes there too
            cache_folder.discard(file, held)
            raise
    assert held is not None
    cache_folder.touch(cache_folder.journal_of(file))
    return _map(held, task.shape)


def _check(task: _Task, file: Path) -> None:
    """Learns of the blocks that are in the file and what their lines in the journal say."""
    missing = set(task.missing())
    lines = {
        line["block"]: line
        for line in cache_folder.records(cache_folder.journal_of(file))
        if isinstance(line.get("block"), int) and line["block"] in missing
    }
    blocks = list(lines)

    def read(place: int) -> NDArray[np.uint16] | None:
        rows = task.rows(blocks[place])
        count = rows.stop - rows.start
        at, at_box = task.places(rows)
        with file.open("rb", buffering=0) as handle:
            handle.seek(at)
            pixels = handle.read(count * task.image)
            handle.seek(at_box)
            boxes = handle.read(count * 4 * BOX.itemsize)
        line = lines[blocks[place]]
        if line.get("crc") != _checksum(pixels, boxes, line.get("unreadable")):
            return None
        return np.frombuffer(boxes, BOX).reshape(count, 4)

    for block, boxes in zip(blocks, each(read, len(blocks), task.workers), strict=True):
        if boxes is not None:
            rows = task.rows(block)
            task.box[rows] = boxes
            for row, reason in lines[block]["unreadable"].items():
                task.reason[int(row)] = reason
            task.learnt(rows)


def _checksum(pixels: Any, boxes: Any, unreadable: Any) -> int:
    reasons = json.dumps(unreadable).encode()
    return zlib.crc32(reasons, zlib.crc32(boxes, zlib.crc32(pixels)))


def _fill(task: _Task, file: Path, origin: str) -> None:
    """Decodes what is not in the file yet; while another process does so, waits for it."""
    journal = cache_folder.journal_of(file)
    with journal.open("a+b") as log, file.open("r+b") as pixels:
        while not cache_folder.lock(log, exclusive=True, wait=False):
            time.sleep(WAIT)
            _check(task, file)
        _check(task, file)
        missing = task.missing()
        about = {"images": len(task.digest), "size": task.size, "blocks": task.blocks}
        _note(log, about | {"version": VERSION, "origin": origin})
        rows = [np.arange(part.start, part.stop) for part in map(task.rows, missing)]
        with closing(task.decode(np.concatenate(rows or [np.zeros(0, np.int64)]))) as images:
            for block in missing:
                _write(task, block, images, pixels, log)


def _write(
    task: _Task,
    block: int,
    decoding: Iterator[NDArray[np.uint8] | None],
    pixels: BinaryIO,
    log: BinaryIO,
) -> None:
    """A block, then its line. Not through a map: a full disk is then an error, not a crash."""
    rows = task.rows(block)
    images = np.zeros((rows.stop - rows.start, *task.shape[1:]), np.uint8)
    for image in images:
        found = next(decoding)
        if found is not None:
            image[:] = found
    boxes = task.box[rows].astype(BOX)
    for place, content in zip(task.places(rows), (images, boxes), strict=True):
        pixels.seek(place)
        pixels.write(content.data)
    pixels.flush()
    names = range(rows.start, rows.stop)
    unreadable = {str(row): task.reason[row] for row in names if task.reason[row]}
    crc = _checksum(images, boxes, unreadable)
    _note(log, {"block": block, "crc": crc, "unreadable": unreadable})


def _note(log: BinaryIO, line: dict[str, Any]) -> None:
    # a line feed before it too: a kill may have cut off the line before
    log.write(f"\n{json.dumps(line)}\n".encode())
    log.flush()


class _Mapped(np.memmap[Any, np.dtype[np.uint8]]):
    """A file of pixels. What is sent to another process is where it lies, not what is in it."""

    def __reduce__(self) -> Any:
        whole: Any = vars(self).get("_mmap")  # None of a copy
        if whole is None or self.nbytes != len(whole):
            return np.asarray(self).__reduce__()
        return _opened, (self.filename, self.shape)


def _map(held: BinaryIO, shape: tuple[int, ...]) -> _Mapped:
    """The pixels of an open file. The map has a handle of its own, so that what `held` has locked
    stays locked for as long as there is the map."""
    with held:
        return _Mapped(held, dtype=np.uint8, mode="r", shape=shape)


def _opened(file: str, shape: tuple[int, ...]) -> _Mapped:
    try:
        return _map(cache_folder.hold(Path(file)), shape)
    except OSError as error:
        raise UserError(
            f"{file}: cannot be opened ({error.strerror}); FEWLABELS_CACHE must name a folder that "
            "all machines share"
        ) from error
