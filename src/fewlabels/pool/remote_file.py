"""A Parquet file behind a URL, read by ranges of bytes: what pathlib.Path is for a local one."""

import io
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from fewlabels.errors import UserError, one_line

ATTEMPTS = 4
WAIT = 0.5  # seconds before the second attempt, and twice as many before each further one
_TAIL = 8  # the last bytes of a Parquet file: the length of the footer before them, and PAR1

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class RemoteFile:
    """A file in an fsspec file system, with as much of Path's interface as is needed here."""

    fs: Any  # fsspec.AbstractFileSystem
    path: str
    size: int = -1  # bytes; -1 = unknown
    metadata: Any = None  # pyarrow's FileMetaData, from `with_metadata`
    known: dict[int, bytes] = field(default_factory=dict)  # {start: bytes}, from `prefetch`

    def __str__(self) -> str:
        return str(self.fs.unstrip_protocol(self.path))

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def parent(self) -> "RemoteFile":
        return RemoteFile(self.fs, self.path.rpartition("/")[0])

    def __truediv__(self, path: str) -> "RemoteFile":
        return RemoteFile(self.fs, f"{self.path.rstrip('/')}/{path}")

    def read_bytes(self) -> bytes:
        """The whole file; errors are those of `patient`."""
        return bytes(patient(lambda: self.fs.cat_file(self.path), lambda: str(self)))

    def parquet(self) -> Any:
        """Opened by pyarrow, which then reads what it is asked for and no more."""
        import pyarrow.parquet as pq

        # pre_buffer asks for neighbouring columns at once, and for small gaps between them too:
        # not where the columns are here already and the gaps are pixels.
        file = _Reader(self)
        return pq.ParquetFile(file, metadata=self.metadata, pre_buffer=not self.known)


@dataclass(frozen=True)
class RemoteFolder:
    """A folder whose files are known: {name relative to it: file}."""

    fs: Any
    path: str
    files: dict[str, RemoteFile]

    def __str__(self) -> str:
        return str(self.fs.unstrip_protocol(self.path))

    def __truediv__(self, name: str) -> RemoteFile:
        return self.files[name]


def patient(call: Callable[[], T], place: Callable[[], str]) -> T:
    """The call's result; asked for again, a few times, where the connection breaks.

    Raises FileNotFoundError as it comes, and for all else UserError; `place` begins its line.
    """
    for attempt in range(ATTEMPTS):
        try:
            return call()
        except (FileNotFoundError, UserError):
            raise
        except PermissionError as error:
            raise UserError(
                f"{place()}: no right to read it ({one_line(error)}); check your credentials"
            ) from error
        except Exception as error:  # each file system has errors of its own
            if attempt == ATTEMPTS - 1:
                raise UserError(
                    f"{place()}: could not be read in {ATTEMPTS} attempts ({one_line(error)}); "
                    "check the address and the connection, and run the command again"
                ) from error
            time.sleep(WAIT * 2**attempt)
    raise AssertionError("the last attempt returns or raises")


def fetch(wanted: Sequence[tuple[RemoteFile, int, int]]) -> list[bytes]:
    """The bytes [start, end) of each (file, start, end), asked for together.

    Files are of one file system. Errors are those of `patient`.
    """
    got: dict[int, bytes] = {}

    def left() -> list[int]:
        return [number for number in range(len(wanted)) if number not in got]

    def ask() -> None:
        numbers = left()
        files, starts, ends = map(list, zip(*(wanted[n] for n in numbers), strict=True))
        paths = [file.path for file in files]
        answers = files[0].fs.cat_ranges(paths, starts, ends, on_error="return")
        failures: list[BaseException] = []
        for number, answer in zip(numbers, answers, strict=True):
            file, start, end = wanted[number]
            if isinstance(answer, BaseException):
                failures.append(answer)
            elif len(answer) > end - start:
                raise UserError(f"{file}: its server gives no parts of files; download it first")
            elif len(answer) < end - start:
                failures.append(EOFError(f"{len(answer)} of {end - start} bytes came"))
            else:
                got[number] = bytes(answer)
        if failures:
            raise failures[0]

    if wanted:
        patient(ask, lambda: str(wanted[left()[0]][0]))
    return [got[number] for number in range(len(wanted))]


def with_metadata(files: Sequence[RemoteFile]) -> list[RemoteFile]:
    """The same files with their Parquet metadata: two requests a file, those of all together.

    UserError where a file is not Parquet.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    for file in files:
        if file.size < 0:
            raise UserError(f"{file}: its server does not tell its size; download it first")
    damaged = "not a Parquet file, or damaged"
    tails = fetch([(file, max(0, file.size - _TAIL), file.size) for file in files])
    wanted = []
    for file, tail in zip(files, tails, strict=True):
        length = int.from_bytes(tail[:4], "little")
        if tail[4:] != b"PAR1" or length + _TAIL > file.size:
            raise UserError(f"{file}: {damaged} (it has no footer)")
        wanted.append((file, file.size - _TAIL - length, file.size - _TAIL))
    found = []
    for file, footer, tail in zip(files, fetch(wanted), tails, strict=True):
        try:
            metadata = pq.read_metadata(io.BytesIO(b"PAR1" + footer + tail))
        except (OSError, pa.ArrowException) as error:
            raise UserError(f"{file}: {damaged} ({one_line(error)})") from None
        found.append(RemoteFile(file.fs, file.path, file.size, metadata))
    return found


def prefetch(
    files: Sequence[RemoteFile], wanted: Callable[[RemoteFile], Callable[[str], bool]]
) -> None:
    """Gets columns of all files together, into `known`: those whose path `wanted(file)` takes."""
    ranges = []
    for file in files:
        chunks = []
        wants = wanted(file)
        for group in range(file.metadata.num_row_groups):
            row_group = file.metadata.row_group(group)
            for number in range(row_group.num_columns):
                chunk = row_group.column(number)
                if wants(chunk.path_in_schema):
                    start = chunk.data_page_offset
                    if chunk.has_dictionary_page:
                        start = min(start, chunk.dictionary_page_offset)
                    chunks.append((start, start + chunk.total_compressed_size))
        ranges += [(file, start, end) for start, end in _without_seams(sorted(chunks))]
    for (file, start, _), data in zip(ranges, fetch(ranges), strict=True):
        file.known[start] = data


def _without_seams(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Sorted ranges, those that touch each other joined."""
    joined: list[tuple[int, int]] = []
    for start, end in ranges:
        if joined and joined[-1][1] == start:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return joined


class _Reader(io.RawIOBase):
    """A RemoteFile as the file object that pyarrow reads from."""

    def __init__(self, file: RemoteFile) -> None:
        self._file = file
        self._at = 0
        self._starts = sorted(file.known)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + (0, self._at, self._file.size)[whence]
        return self._at

    def read(self, count: int = -1) -> bytes:
        start = self._at
        end = self._file.size if count < 0 else min(start + count, self._file.size)
        self._at = end
        before = bisect_right(self._starts, start) - 1
        if before >= 0:
            at = self._starts[before]
            part = self._file.known[at]
            if end <= at + len(part):
                return part[start - at : end - at]
        return fetch([(self._file, start, end)])[0]
