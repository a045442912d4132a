"""What lies in the cache folder: how much it is, what is in use, and what is deleted first.

`<key>.u8` holds pixels and `<key>.jsonl` says which (`cache.py` writes both); `features/` holds a
folder for each frozen backbone. A process that has a cache open holds a shared lock on its pixels,
and they are deleted only under an exclusive one. Where the system has no such locks (Windows) it
refuses to delete a mapped file.
"""

import errno
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import platformdirs

from fewlabels.errors import UserError

fcntl: Any = None
with suppress(ImportError):  # Windows
    import fcntl

FEATURES = "features"
PATIENCE = 7 * 24 * 3600  # seconds that an unfinished cache waits for somebody to go on with it
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


class NoRoom(Exception):
    """A cache of this size may not be made; the message is the reason, in one line."""


@dataclass(frozen=True)
class Entry:
    """The pixels of one pool at one size, or the features of one backbone."""

    path: str
    kind: str  # pixels or features
    origin: str  # the pool that it was made for; "" where that is not known
    images: int
    size: int  # side of an image in pixels; 0 of features
    bytes: int
    used: float  # seconds since 1970, when it was last opened
    complete: bool  # whether all images are in it
    in_use: bool  # by a process that runs now


def default_folder() -> Path:
    """$FEWLABELS_CACHE, or `images` in the user's cache folder."""
    chosen = os.environ.get("FEWLABELS_CACHE")
    return Path(chosen) if chosen else Path(platformdirs.user_cache_dir("fewlabels")) / "images"


def limit_of(folder: Path, asked: int | None = None) -> int:
    """The bytes that it may hold: those asked for, else $FEWLABELS_CACHE_LIMIT, else half of what
    would be free if it were empty; and never more than there would be free."""
    return _limit(asked, sum(entry.bytes for entry in entries(folder)) + _free(folder))


def _limit(asked: int | None, there: int) -> int:
    """`there`: the bytes that would be free if the folder were empty."""
    asked = asked_for(asked)
    return min(there // 2 if asked is None else asked, there)


def asked_for(limit: int | None) -> int | None:
    """The limit in bytes that somebody has set: this one, else $FEWLABELS_CACHE_LIMIT."""
    chosen = os.environ.get("FEWLABELS_CACHE_LIMIT")
    if limit is None and chosen:
        return parse_bytes(chosen, "FEWLABELS_CACHE_LIMIT")
    return limit


def parse_bytes(text: str, where: str) -> int:
    """ "10G" -> 10,000,000,000. UserError for what is no size; `where` begins its line."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)B?", text.strip().upper())
    if not match:
        raise UserError(f"{where} {text}: write a size such as 10G or 500M")
    return round(float(match[1]) * _UNITS[match[2]])


def entries(folder: Path) -> list[Entry]:
    """All that lies there, what was used last first."""
    found = [_pixels(file) for file in _listed(folder, "*.u8")]
    found += [_features(home) for home in _listed(folder / FEATURES, "*")]
    there = [entry for entry in found if entry is not None]
    return sorted(there, key=lambda entry: -entry.used)


def clear(folder: Path) -> tuple[list[Entry], list[Entry]]:
    """Deletes what no process uses. What was deleted, and what was left."""
    gone: list[Entry] = []
    left: list[Entry] = []
    if not folder.is_dir():
        return gone, left
    with _alone(folder):
        for entry in entries(folder):
            (gone if _delete(entry) else left).append(entry)
    return gone, left


def reserve(file: Path, needed: int, limit: int | None) -> BinaryIO:
    """Makes `file` (a cache's pixels) and room for its `needed` bytes; returns it, held.

    NoRoom as `room`; OSError where the folder cannot be written.
    """
    with room(file.parent, file, needed, limit):
        held = hold(file, make=True)
        os.truncate(file, needed)  # so that the next one to count sees all of it
    return held


@contextmanager
def room(folder: Path, path: Path, needed: int, limit: int | None) -> Iterator[None]:
    """Inside, `path` in the folder may grow to `needed` bytes, and no other process makes room.

    What was given up is deleted, and then what was used longest ago, until the folder holds no more
    than `limit_of` it. NoRoom where that cannot be, and then nothing is deleted.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        found = entries(folder)
        others = [entry for entry in found if entry.path != str(path)]
        total = sum(entry.bytes for entry in others)
        most = _limit(limit, sum(entry.bytes for entry in found) + _free(folder))
        if needed + sum(entry.bytes for entry in others if entry.in_use) > most:
            raise NoRoom(f"{in_words(needed)} where {in_words(most)} are allowed or free")
        for entry in sorted(others, key=lambda entry: (not _given_up(entry), entry.used)):
            if needed + total <= most and not _given_up(entry):
                break
            total -= entry.bytes if _delete(entry) else 0
        yield


def _given_up(entry: Entry) -> bool:
    """Unfinished, and nobody has gone on with it for long."""
    return not (entry.complete or entry.in_use) and time.time() - entry.used > PATIENCE


def hold(file: Path, make: bool = False) -> BinaryIO:
    """The file, open; nobody deletes it until it is closed. OSError where it cannot be opened."""
    while True:
        handle = file.open("a+b" if make else "rb")
        lock(handle, exclusive=False)
        with suppress(OSError):
            if os.path.samestat(os.fstat(handle.fileno()), file.stat()):
                return handle
        handle.close()  # it was deleted between the two


def discard(file: Path, held: BinaryIO) -> None:
    """Deletes a cache that this process holds, unless another one does too."""
    if lock(held, exclusive=True, wait=False):
        with suppress(OSError):
            _unlink(file)


def lock(handle: Any, exclusive: bool, wait: bool = True) -> bool:
    """Locks an open file until it is closed; False where another process has it. Where the system
    does not lock, or not there, it counts as locked."""
    if not fcntl:
        return True
    how = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
    try:
        fcntl.flock(handle, how if wait else how | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EWOULDBLOCK, errno.EACCES)
    return True


def journal_of(file: Path) -> Path:
    """What says which pixels are in the file."""
    return file.with_suffix(".jsonl")


def records(journal: Path) -> Iterator[dict[str, Any]]:
    """Its lines; none where it is absent. A line that a kill has cut off is passed over."""
    try:
        text = journal.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    for line in text.splitlines():
        with suppress(ValueError):
            record = json.loads(line)
            if isinstance(record, dict):
                yield record


def touch(path: Path) -> None:
    """It was used now."""
    with suppress(OSError):  # a folder that can only be read
        os.utime(path)


def in_words(count: float) -> str:
    """Bytes as 1.2 GB."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def _pixels(file: Path) -> Entry | None:
    journal = journal_of(file)
    about: dict[str, Any] = {}
    blocks = set()
    for record in records(journal):
        if "images" in record:
            about = record
        blocks.add(record.get("block"))
    try:
        size = file.stat().st_size
        used = (journal if journal.exists() else file).stat().st_mtime
        with file.open("rb") as handle:
            in_use = not lock(handle, exclusive=True, wait=False)
    except OSError:  # deleted meanwhile
        return None
    return Entry(
        path=str(file),
        kind="pixels",
        origin=str(about.get("origin", "")),
        images=int(about.get("images", 0)),
        size=int(about.get("size", 0)),
        bytes=size,
        used=used,
        complete=len(blocks - {None}) == about.get("blocks"),
        in_use=in_use,
    )


def _features(home: Path) -> Entry | None:
    try:
        total = sum(part.stat().st_size for part in home.iterdir())
        return Entry(str(home), FEATURES, "", 0, 0, total, home.stat().st_mtime, True, False)
    except OSError:
        return None


def _delete(entry: Entry) -> bool:
    """False where a process uses it, or it cannot be deleted."""
    path = Path(entry.path)
    if entry.kind == FEATURES:
        shutil.rmtree(path, ignore_errors=True)
        return not path.exists()
    try:
        with path.open("rb") as handle:
            if not lock(handle, exclusive=True, wait=False):
                return False
            _unlink(path)
    except OSError:
        return False
    return True


def _unlink(file: Path) -> None:
    """The pixels last: without them there is no cache, and nothing is left behind by a kill."""
    for beside in file.parent.glob(f"{file.stem}.*"):
        if beside != file:
            beside.unlink(missing_ok=True)
    file.unlink(missing_ok=True)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Inside, no other process makes room in the folder."""
    handle = os.open(folder if fcntl else os.devnull, os.O_RDONLY)
    try:
        lock(handle, exclusive=True)
        yield
    finally:
        os.close(handle)


def _listed(folder: Path, pattern: str) -> list[Path]:
    return list(folder.glob(pattern)) if folder.is_dir() else []


def _free(folder: Path) -> int:
    """Bytes, of the disk that the folder lies on or would lie on."""
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    return shutil.disk_usage(there).free
