"""Where the encoded images come from: files, Parquet shards or memory, all read by row."""

import hashlib
import os
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fewlabels.pool.remote_file import RemoteFile
from fewlabels.pool.spool import Spool, has_room

# Decoded row groups kept by a ParquetImages; more than one, so that threads which read a little
# ahead of each other and shuffled rows of a small data set do not load them again and again.
KEPT_BYTES = 256 * 2**20
# A run reads all images in order to know their contents, and again to decode them into the cache;
# what is read more often has no room there, and is read shuffled. Networks are slower than disks.
SPOOLED_AT, REMOTE_SPOOLED_AT = 3, 2


class Source(Protocol):
    """N encoded images, numbered 0 .. N-1. Threads may read at the same time."""

    def __len__(self) -> int: ...

    def name(self, row: int) -> str:
        """A stable name: the path relative to DATA, or what the table calls the image."""
        ...

    def read(self, row: int) -> bytes:
        """The encoded file. Raises OSError when it cannot be read, and UserError when the place
        that it lies in is out of reach: that is no fault of the image."""
        ...


def content_digest(data: bytes) -> str:
    """SHA-256 of the encoded bytes, in hex: equal for exact copies."""
    return hashlib.sha256(data).hexdigest()


def shown(name: str) -> str:
    """A file's name as text: one that is not UTF-8 is escaped, to fit tables, JSON, terminals."""
    return os.fsencode(name).decode(errors="backslashreplace")


@dataclass(frozen=True)
class Files:
    """One file an image; `paths` are relative to `root` (with `/`) or absolute."""

    root: Path
    paths: Sequence[str]

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, row: int) -> str:
        return shown(self.paths[row])

    def read(self, row: int) -> bytes:
        return (self.root / self.paths[row]).read_bytes()


@dataclass(frozen=True)
class Encoded:
    """Encoded images in memory."""

    names: tuple[str, ...]
    blobs: tuple[bytes, ...]

    def __len__(self) -> int:
        return len(self.names)

    def name(self, row: int) -> str:
        return self.names[row]

    def read(self, row: int) -> bytes:
        return self.blobs[row]


@dataclass(frozen=True, eq=False)
class Subset:
    """Some rows of another source, in the order of `rows` [n]."""

    source: Source
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, row: int) -> str:
        return self.source.name(int(self.rows[row]))

    def read(self, row: int) -> bytes:
        return self.source.read(int(self.rows[row]))


@dataclass(frozen=True, eq=False)
class Joined:
    """The rows of several sources, one source after the other."""

    sources: tuple[Source, ...]
    prefixes: tuple[str, ...] = ()  # one a source, in front of its names

    def __len__(self) -> int:
        return self._starts[-1]

    @cached_property
    def _starts(self) -> list[int]:
        """The first row of each source, and where the last one ends."""
        return [0, *accumulate(len(source) for source in self.sources)]

    def _at(self, row: int) -> tuple[int, int]:
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        number = bisect_right(self._starts, row) - 1
        return number, row - self._starts[number]

    def name(self, row: int) -> str:
        number, own = self._at(row)
        name = self.sources[number].name(own)
        return self.prefixes[number] + name if self.prefixes else name

    def read(self, row: int) -> bytes:
        number, own = self._at(row)
        return self.sources[number].read(own)


def open_parquet(file: Path | RemoteFile) -> Any:
    """A pyarrow ParquetFile, to be closed. Raises OSError or ArrowException on a broken file."""
    import pyarrow.parquet as pq

    return file.parquet() if isinstance(file, RemoteFile) else pq.ParquetFile(file)


class ParquetImages:
    """The rows of several Parquet files one after the other; `column` is struct{bytes, path}.

    A row group is read at the first row asked of it and kept while all that are kept fit in
    `KEPT_BYTES`, so reading in row order reads each once. One that is read for the third time (a
    remote one: the second) goes into a temporary file, if the images of all fit there.
    """

    def __init__(
        self, files: Sequence[Path | RemoteFile], names: Sequence[str], column: str = "image"
    ) -> None:
        """`names` [N]: one a row, over all files. Raises OSError or ValueError on a broken file."""
        self.files = tuple(files)
        self.names = names
        self.column = column
        # One entry a row group: which file, which group in it. `starts[i]` is its first row.
        self._groups: list[tuple[int, int]] = []
        self._bytes = 0  # of all encoded images
        starts = [0]
        for number, file in enumerate(self.files):
            with open_parquet(file) as table:
                metadata = table.metadata
            for group in range(metadata.num_row_groups):
                about = metadata.row_group(group)
                self._groups.append((number, group))
                self._bytes += _size(about, f"{column}.bytes")
                starts.append(starts[-1] + about.num_rows)
        self._starts = np.array(starts, dtype=np.int64)
        if starts[-1] != len(self.names):
            raise ValueError(f"{len(self.names)} names for {starts[-1]} rows")
        self._kept: OrderedDict[int, Any] = OrderedDict()  # group number -> pyarrow column
        self._times_read = np.zeros(len(self._groups), np.int64)
        self._spool: Spool | None = None
        self._may_spool = True
        self._lock = threading.Lock()

    def __reduce__(self) -> Any:  # a lock, and what was read, stay in their process
        return ParquetImages, (self.files, self.names, self.column)

    def __len__(self) -> int:
        return len(self.names)

    def name(self, row: int) -> str:
        return self.names[row]

    def read(self, row: int) -> bytes:
        if not 0 <= row < len(self.names):
            raise IndexError(f"row {row} of {len(self.names)}")
        if self._spool is not None and (spooled := self._spool.read(row)) is not None:
            return spooled
        number = int(np.searchsorted(self._starts, row, side="right")) - 1
        cell = self._column(number)[row - int(self._starts[number])].as_py() or {}
        data = cell.get("bytes")
        if data is not None:
            return bytes(data)
        if cell.get("path"):  # the layout allows a path alone: a file beside the shard
            shard = self.files[self._groups[number][0]]
            return (shard.parent / str(cell["path"])).read_bytes()
        raise OSError("the table has no image in this row")

    def _column(self, number: int) -> Any:
        import pyarrow as pa

        with self._lock:  # one thread decodes, the others wait for what it decoded
            column = self._kept.get(number)
            if column is None:
                file, group = self._groups[number]
                try:
                    with open_parquet(self.files[file]) as table:
                        column = table.read_row_group(group, columns=[self.column])[0]
                except pa.ArrowInvalid as error:
                    raise OSError(f"{self.files[file].name}: {error}") from error
                self._times_read[number] += 1
                remote = isinstance(self.files[file], RemoteFile)
                now = REMOTE_SPOOLED_AT if remote else SPOOLED_AT
                if self._may_spool and self._times_read[number] == now:
                    self._add_to_spool(number, column)
                self._kept[number] = column
                while len(self._kept) > 1 and self._kept_bytes() > KEPT_BYTES:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(number)
            return column

    def _add_to_spool(self, number: int, column: Any) -> None:
        import pyarrow.compute as pc

        data = pc.struct_field(column, "bytes")
        if data.null_count:  # an image without bytes is a file beside the shard
            return
        # Asked each time: others may write there too, first of all the pool's other sources.
        self._may_spool = has_room(self._bytes - (self._spool.size if self._spool else 0))
        if not self._may_spool:
            return
        try:
            if self._spool is None:
                self._spool = Spool(len(self.names))
            self._spool.add(int(self._starts[number]), (cell.as_py() for cell in data))
        except OSError:  # the disk is full: what was added before stays
            self._may_spool = False

    def slowness(self) -> str:
        """Why reading in any order is slow, in one line; "" where it is not."""
        if self._bytes <= KEPT_BYTES or has_room(self._bytes):
            return ""
        return (
            f"each image is read with its whole row group, since {self._bytes / 1e9:.1f} GB do not "
            "fit into half of what is free for temporary files; set TMPDIR to another disk"
        )

    def _kept_bytes(self) -> int:
        return sum(column.nbytes for column in self._kept.values())


def _size(row_group: Any, path: str) -> int:
    """The bytes of a column, which is named by its path in the schema."""
    columns = (row_group.column(number) for number in range(row_group.num_columns))
    return sum(c.total_uncompressed_size for c in columns if c.path_in_schema == path)


def slowness(source: Source) -> str:
    """Why images are slow to read in any order, in one line; "" where they are not."""
    if isinstance(source, Subset):
        return slowness(source.source)
    if isinstance(source, Joined):
        return next(filter(None, map(slowness, source.sources)), "")
    return source.slowness() if isinstance(source, ParquetImages) else ""
