import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fewlabels.pixels import cache
from fewlabels.pool import Pool, source, spool
from fewlabels.pool.source import Encoded, Joined, ParquetImages, Subset, slowness
from fewlabels.pool.spool import Spool

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def test_rows_are_read_in_any_order_also_while_others_are_added() -> None:
    blobs = [np.random.default_rng(row).bytes(row * 7 % 50) for row in range(400)]  # some empty
    made = Spool(400)
    assert made.read(3) is None
    made.add(200, iter(blobs[200:]))

    def add() -> None:
        for first in range(0, 200, 10):
            made.add(first, blobs[first : first + 10])

    with ThreadPoolExecutor(3) as threads:
        adding = threads.submit(add)
        rows = np.random.default_rng(0).permutation(np.arange(200, 400)).tolist() * 5
        assert list(threads.map(made.read, rows)) == [blobs[row] for row in rows]
        adding.result()
    assert [made.read(row) for row in range(400)] == blobs


def test_what_could_not_be_written_is_not_there() -> None:
    made = Spool(4)
    made.add(0, [b"zero", b"one"])

    def full() -> Iterator[bytes]:
        yield b"some of it"
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        made.add(2, full())
    assert [made.read(row) for row in range(4)] == [b"zero", b"one", None, None]
    made.add(2, [b"two"])
    assert made.read(2) == b"two"


def shard(path: Path, count: int, cells: list[Any] | None = None) -> ParquetImages:
    """Row r holds "r"; in row groups of ten."""
    cells = cells or [{"bytes": str(row).encode(), "path": None} for row in range(count)]
    table = pa.table({"image": pa.array(cells, IMAGE), "label": ["a", "b"] * (len(cells) // 2)})
    pq.write_table(table, path, row_group_size=10)
    found = Pool.scan(path).source
    assert isinstance(found, ParquetImages)
    return found


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Which row groups were read, one at a time in memory."""
    seen: list[int] = []
    real = pq.ParquetFile.read_row_group

    def read(self: Any, group: int, **options: Any) -> Any:
        seen.append(group)
        return real(self, group, **options)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", read)
    monkeypatch.setattr(source, "KEPT_BYTES", 0)
    return seen


def test_a_row_group_is_read_three_times_and_no_more(tmp_path: Path, reads: list[int]) -> None:
    images = shard(tmp_path / "t.parquet", 50)
    for _ in range(2):  # as a run reads them first: to know them, to decode them
        assert [images.read(row) for row in range(50)] == [b"%d" % row for row in range(50)]
    assert reads == [0, 1, 2, 3, 4] * 2
    assert images._spool is None  # nothing was written for it
    rows = np.random.default_rng(0).permutation(50).tolist() * 4
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(images.read, rows)) == [b"%d" % row for row in rows]
    assert len(reads) <= 15 + 4  # threads that waited for a group may read it once more
    del reads[:]
    assert [images.read(row) for row in rows] == [b"%d" % row for row in rows]
    assert reads == []


def test_one_behind_a_url_twice(tmp_path: Path, reads: list[int]) -> None:
    shard(tmp_path / "t.parquet", 30)
    images = Pool.scan(f"file://{tmp_path}/t.parquet").source
    for _ in range(4):
        assert [images.read(row) for row in range(30)] == [b"%d" % row for row in range(30)]
    assert reads == [0, 1, 2] * 2


def test_rows_without_bytes_are_read_as_before(tmp_path: Path, reads: list[int]) -> None:
    cells = [{"bytes": b"0", "path": None}, {"bytes": None, "path": "x.png"}] * 5
    cells += [None, {"bytes": b"1", "path": None}] * 5  # type: ignore[list-item]
    cells += [{"bytes": b"", "path": None}] * 10
    (tmp_path / "x.png").write_bytes(b"beside")
    images = shard(tmp_path / "t.parquet", 0, cells)
    for _ in range(5):
        assert [images.read(row) for row in range(10)] == [b"0", b"beside"] * 5
        with pytest.raises(OSError, match="no image"):
            images.read(10)
        assert images.read(11) == b"1"
        assert images.read(20) == b""
    assert reads.count(2) == 3


def test_without_room_it_is_slower_and_told(
    tmp_path: Path, reads: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    images = shard(tmp_path / "t.parquet", 20)
    assert slowness(images) == ""
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(spool.shutil, "disk_usage", lambda _: usage._replace(free=50))
    assert slowness(Subset(Joined((Encoded((), ()), images)), np.arange(3))) == (
        "each image is read with its whole row group, since 0.0 GB do not fit into half of what is "
        "free for temporary files; set TMPDIR to another disk"
    )
    for _ in range(5):
        assert [images.read(row) for row in range(20)] == [b"%d" % row for row in range(20)]
    assert len(reads) == 10
    found = cache.build(images, cache.fingerprint(images), 8, folder=tmp_path / "c", limit=0)
    assert found.note.endswith("; set TMPDIR to another disk")
    monkeypatch.setattr(source, "KEPT_BYTES", 2**20)  # all of it stays in memory
    assert slowness(images) == ""


def test_a_disk_that_fills_up_ends_nothing(
    tmp_path: Path, reads: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    images = shard(tmp_path / "t.parquet", 30)
    real, tried = Spool.add, []

    def add(self: Spool, first: int, blobs: Any) -> None:
        tried.append(first)
        if first == 10:
            raise OSError(28, "No space left on device")
        real(self, first, blobs)

    monkeypatch.setattr(Spool, "add", add)
    for _ in range(6):
        assert [images.read(row) for row in range(30)] == [b"%d" % row for row in range(30)]
    assert tried == [0, 10]  # it is not tried again
    assert [reads.count(group) for group in range(3)] == [3, 6, 6]


def test_it_stops_where_others_fill_the_disk(
    tmp_path: Path, reads: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = [{"bytes": b"x" * 1000, "path": None}] * 30
    pq.write_table(
        pa.table({"image": pa.array(cells, IMAGE), "label": ["a", "b"] * 15}),
        tmp_path / "t.parquet",
        row_group_size=10,
        use_dictionary=False,
    )
    images = Pool.scan(tmp_path / "t.parquet").source
    usage = shutil.disk_usage(tmp_path)
    free = iter([10**6, 30_000])  # 20 kB are still to come
    monkeypatch.setattr(spool.shutil, "disk_usage", lambda _: usage._replace(free=next(free)))
    for _ in range(5):
        assert [images.read(row) for row in range(30)] == [b"x" * 1000] * 30
    assert [reads.count(group) for group in range(3)] == [3, 5, 5]


def test_no_folder_for_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    assert not spool.has_room(1)
