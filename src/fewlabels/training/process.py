"""Which process trains a run, and whether it is still there: `process.json` of the run folder.

A number alone would not do: numbers are given again to other processes. So the moment at which the
process began goes with it, where the system tells (Linux), in ticks since the machine began.
"""

import errno
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fewlabels.errors import UserError
from fewlabels.training.folder import RunFolder

fcntl: Any = None
with suppress(ImportError):  # Windows
    import fcntl

PROCESS = "process.json"
RUNNING, PAUSED, GONE, UNKNOWN = "running", "paused", "gone", "unknown"


@contextmanager
def locked(folder: RunFolder) -> Iterator[None]:
    """Inside, no other process can enter with this folder: UserError where one has, or works on the
    run. Where the system locks no folders, only the record tells."""
    handle, number = _lock(folder), other(folder)
    if handle is None or number:
        it = f"process {number}" if number else "another process"
        raise UserError(
            f"{folder.path}: {it} works on it; look with: fewlabels status {folder.path}"
        )
    try:
        yield
    finally:
        os.close(handle)


def _lock(folder: RunFolder) -> int | None:
    """The folder, open and locked, until it is closed or the process ends; None where another one
    has it."""
    handle = os.open(folder.path if fcntl else os.devnull, os.O_RDONLY)
    try:
        if fcntl:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            os.close(handle)
            return None
    return handle


@contextmanager
def recorded(folder: RunFolder) -> Iterator[None]:
    """What happens inside is this process's work on the run. It is over at the end, although the
    process may go on, as that of a notebook does."""
    pid = os.getpid()
    about = {"pid": pid, "host": platform.node(), "boot": _boot(), "began": _about(pid)[1]}
    folder.write_json(PROCESS, about)
    try:
        yield
    finally:
        if folder.path.exists():  # else nothing came of it
            with suppress(OSError):  # a full disk; the process will be seen to be gone
                folder.write_json(PROCESS, about | {"over": True})


def state(about: dict[str, Any] | None) -> str:
    """`running`, `paused` (stopped by a signal), `gone`, or `unknown`: on another machine, or not
    recorded. `about` is what `recorded` has written."""
    if not about:
        return UNKNOWN
    if about.get("over"):
        return GONE
    if about.get("host") != platform.node() or os.name == "nt":  # where to ask would be to end it
        return UNKNOWN
    if about.get("boot") != _boot():  # the machine was started anew
        return GONE
    pid = int(about["pid"])
    try:
        os.kill(pid, 0)  # asks only
    except ProcessLookupError:
        return GONE
    except PermissionError:  # another user's, and there
        pass
    letter, began = _about(pid)
    if began != about.get("began") or letter in ("Z", "X"):  # another one's number; or dead
        return GONE
    return PAUSED if letter in ("T", "t") else RUNNING


def other(folder: RunFolder) -> int | None:
    """The number of another process that works on the run now, or is paused."""
    about = folder.read_json(PROCESS) or {}
    there = state(about) in (RUNNING, PAUSED) and about["pid"] != os.getpid()
    return int(about["pid"]) if there else None


def _about(pid: int) -> tuple[str, int | None]:
    """Its state, as a letter of proc(5), and when it began; ("", None) where that is not told."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "", None
    fields = text.rpartition(")")[2].split()  # a name may hold blanks and brackets
    return fields[0], int(fields[19])


def _boot() -> str | None:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
