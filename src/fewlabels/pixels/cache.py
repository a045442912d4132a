"""Every image of a source decoded once, into one file of 8-bit pixels that is mapped, not read."""

import errno
import hashlib
import json
import os
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
from numpy.typing import NDArray

from fewlabels.errors import UserError
from fewlabels.pixels.decode import Unreadable, square
from fewlabels.pool.source import Source, content_digest
from fewlabels.pool.threads import each

VERSION = 2  # counts up when the same bytes give other pixels: `square`, the file itself

Progress = Callable[[int, int], None]  # (done, total), called from the calling thread


@dataclass(frozen=True, eq=False)
class Cache:
    """The pixels of N images; a row that cannot be decoded holds zeros and a reason."""

    images: NDArray[np.uint8]  # [N, size, size, 3], a read-only memory map
    readable: NDArray[np.bool_]  # [N]
    reason: tuple[str, ...]  # [N], "" where readable
    digest: tuple[str, ...]  # [N], SHA-256 of the encoded bytes, "" where there are none
    size: int


def fingerprint(
    source: Source, workers: int = 2, progress: Progress | None = None
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
    workers: int = 2,
    progress: Progress | None = None,
    folder: Path | None = None,
) -> Cache:
    """The pixels of `source`, size x size; decoded now, or mapped if they were decoded before.

    The file lies in `folder` (default: $FEWLABELS_CACHE, else the user's cache folder) and is
    named by what it holds: `digest` (from fingerprint), `size` and VERSION. Raises UserError when
    it cannot be written or an image changed since its digest was taken.
    """
    if len(digest) != len(source):
        raise ValueError(f"{len(digest)} digests for {len(source)} images")
    folder = folder or default_folder()
    key = hashlib.blake2b(
        "\n".join((f"fewlabels {VERSION} {size}", *digest)).encode(), digest_size=16
    ).hexdigest()
    pixels, about = folder / f"{key}.u8", folder / f"{key}.json"
    bad = _known(pixels, about, len(source), size)
    if bad is None:
        try:
            bad = _write(source, digest, size, workers, progress, pixels, about)
        except OSError as error:
            full = error.errno == errno.ENOSPC
            reason = "no space left" if full else error.strerror or str(error)
            raise UserError(
                f"{folder}: the image cache cannot be written ({reason}); it needs "
                f"{_bytes(len(source), size) / 1e6:,.0f} MB; set FEWLABELS_CACHE to another folder"
            ) from error
    shape = (len(source), size, size, 3)
    images: NDArray[np.uint8] = np.zeros(shape, dtype=np.uint8)
    if len(source):  # an empty file cannot be mapped
        images = _Mapped(pixels, dtype=np.uint8, mode="r", shape=shape)
    reasons = tuple(bad.get(row, "") for row in range(len(source)))
    readable = np.array([not reason for reason in reasons], dtype=np.bool_)
    return Cache(images, readable, reasons, digest, size)


class _Mapped(np.memmap[Any, np.dtype[np.uint8]]):
    """A file of pixels. What is sent to another process is where it lies, not what is in it."""

    def __reduce__(self) -> Any:
        whole: Any = vars(self).get("_mmap")  # None of a copy
        if whole is None or self.nbytes != len(whole):
            return np.asarray(self).__reduce__()
        return _map, (self.filename, self.shape)


def _map(file: Path, shape: tuple[int, ...]) -> _Mapped:
    try:
        return _Mapped(file, dtype=np.uint8, mode="r", shape=shape)
    except OSError as error:
        raise UserError(
            f"{file}: cannot be opened ({error.strerror}); FEWLABELS_CACHE must name a folder that "
            "all machines share"
        ) from error


def default_folder() -> Path:
    """$FEWLABELS_CACHE, or `images` in the user's cache folder."""
    chosen = os.environ.get("FEWLABELS_CACHE")
    return Path(chosen) if chosen else Path(platformdirs.user_cache_dir("fewlabels")) / "images"


def _bytes(count: int, size: int) -> int:
    return count * size * size * 3


def _known(pixels: Path, about: Path, count: int, size: int) -> dict[int, str] | None:
    """{row: reason} of the unreadable rows if the cache is there and whole, else None."""
    try:
        if pixels.stat().st_size != _bytes(count, size):
            return None
        return {int(row): text for row, text in json.loads(about.read_text())["unreadable"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # absent or damaged: it is written again


def _write(
    source: Source,
    digest: tuple[str, ...],
    size: int,
    workers: int,
    progress: Progress | None,
    pixels: Path,
    about: Path,
) -> dict[int, str]:
    def one(row: int) -> tuple[NDArray[np.uint8] | None, str]:
        try:
            data = source.read(row)
        except OSError as error:
            # Without this, a file share that was away for a moment would be remembered as damage.
            if digest[row]:
                raise _changed(source, row) from error
            return None, " ".join((error.strerror or str(error)).split())
        if content_digest(data) != digest[row]:
            raise _changed(source, row)
        try:
            return square(data, size).pixels, ""
        except Unreadable as error:
            return None, str(error)

    pixels.parent.mkdir(parents=True, exist_ok=True)
    # Two processes may build the same cache: each writes under a name of its own, and the later
    # one replaces a whole file by an equal one. The .json comes last: without it there is no cache.
    unique = uuid.uuid4().hex
    part = pixels.with_suffix(f".{unique}.part")
    part_about = about.with_suffix(f".{unique}.json-part")
    nothing = bytes(_bytes(1, size))
    bad: dict[int, str] = {}
    try:
        # Written in order, not through a map: a full disk is then an error, not a crash (SIGBUS).
        with part.open("wb") as file:
            for row, (image, reason) in enumerate(each(one, len(source), workers)):
                if image is None:
                    bad[row] = reason
                file.write(nothing if image is None else image.data)
                if progress:
                    progress(row + 1, len(source))
            file.flush()
            os.fsync(file.fileno())  # or a power cut could leave the .json and not the pixels
        part_about.write_text(json.dumps({"version": VERSION, "size": size, "unreadable": bad}))
        os.replace(part, pixels)
        os.replace(part_about, about)
    finally:
        part.unlink(missing_ok=True)
        part_about.unlink(missing_ok=True)
    return bad


def _changed(source: Source, row: int) -> UserError:
    return UserError(f"{source.name(row)}: changed while it was being read; run the command again")
