"""Encoded images a second, read shuffled, from Parquet shards that are larger than what is kept.

    python benchmarks/shuffled.py [--data SHARDS --kept MB]

By row groups, as a first and a second reading are; from the temporary file, as all later ones are;
and, as the peer, from an Arrow file that is mapped into memory. Without --data on random bytes: 500
MB of 100 kB each, 100 in a row group, as the hub writes photographs. The best of five rounds.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fewlabels.pool import Pool
from fewlabels.pool import source as home
from fewlabels.pool.source import Source

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
ROUNDS = 5


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path)
    parser.add_argument("--kept", type=float, default=256, help="of row groups in memory, in MB")
    asked = parser.parse_args()
    home.KEPT_BYTES = int(asked.kept * 2**20)
    with tempfile.TemporaryDirectory() as folder:
        data = asked.data or made(Path(folder) / "train.parquet")
        groups, later = Pool.scan(data).source, Pool.scan(data).source
        rows = np.random.default_rng(0).permutation(len(groups)).tolist()
        home.SPOOLED_AT = len(rows) * ROUNDS  # never
        print(f"by row groups: {best(groups.read, rows[:100]):,.0f}")
        home.SPOOLED_AT = 3
        for _ in range(3):
            rate(later.read, range(len(rows)))
        print(f"from the temporary file: {best(later.read, rows[:5000]):,.0f}")
        mapped = mapped_file(later, Path(folder) / "images.arrow")
        print(f"from a mapped file: {best(lambda row: mapped[row].as_py(), rows[:5000]):,.0f}")


def made(path: Path) -> Path:
    rng = np.random.default_rng(0)
    schema = pa.schema([("image", IMAGE), ("label", pa.string())])
    with pq.ParquetWriter(path, schema) as writer:
        for _ in range(50):
            images = [{"bytes": rng.bytes(100_000), "path": None} for _ in range(100)]
            writer.write_table(
                pa.Table.from_pydict({"image": images, "label": ["a", "b"] * 50}, schema)
            )
    return path


def mapped_file(source: Source, path: Path) -> pa.ChunkedArray:
    schema = pa.schema([("image", pa.binary())])
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, schema) as writer:
        for start in range(0, len(source), 1000):
            rows = range(start, min(start + 1000, len(source)))
            writer.write_batch(pa.record_batch([[source.read(row) for row in rows]], schema))
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()["image"]


def best(read: Callable[[int], object], rows: list[int]) -> float:
    return max(rate(read, rows) for _ in range(ROUNDS))


def rate(read: Callable[[int], object], rows: Iterable[int]) -> float:
    start, count = time.perf_counter(), 0
    for row in rows:
        read(row)
        count += 1
    return count / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
