"""Seconds and memory of scanning and splitting pools of up to a million images.

    python benchmarks/scan.py [--sizes 10000,100000,1000000 --beside OTHER/src]

Makes what it scans, in a temporary folder: a CSV and a Parquet table of paths, with as many empty
files in 100 folders (a million take about a minute), and ten Parquet shards with images of eight
bytes. 20 classes, one image in 25 labelled for the tables and every one for the shards, groups of
five; one image in a hundred is a copy of another. Every row of the result is a process of its own:
seconds of the scan, of `tied`, `assign`, `holdout`, `keep_labels` and `counts`, the memory by which
the process grew, and how much of that is still held after the scan. `--beside` runs another
checkout's code on the same files.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

FOLDERS, SHARDS, CLASSES = 100, 10, 20
ONE = "one"  # as an argument: measure one pool in this process


def make(root: Path, count: int) -> dict[str, Path]:
    """The pools of `count` images, by kind."""
    rng = np.random.default_rng(0)
    names = [f"images/{row % FOLDERS:02d}/IMG_{row:08d}.jpg" for row in range(count)]
    for number in range(FOLDERS):
        (root / f"images/{number:02d}").mkdir(parents=True)
    for name in names:
        os.close(os.open(root / name, os.O_CREAT))
    label = rng.integers(0, CLASSES, count)
    known = np.arange(count) % 25 == 0
    table = pa.table(
        {
            "image": names,
            "label": [f"class {c}" if k else "" for c, k in zip(label, known, strict=True)],
            "group": [f"place {row // 5}" for row in range(count)],
        }
    )
    pa_csv.write_csv(table, root / "table.csv")
    pq.write_table(table, root / "table.parquet")
    shards = root / "shards"
    shards.mkdir()
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    for number, rows in enumerate(np.array_split(np.arange(count), SHARDS)):
        images = [{"bytes": row.to_bytes(8), "path": names[row]} for row in rows.tolist()]
        shard = pa.table({"image": pa.array(images, kind), "label": label[rows]})
        pq.write_table(shard, shards / f"{number:04d}.parquet", row_group_size=1000)
    return {
        "CSV of paths": root / "table.csv",
        "Parquet of paths": root / "table.parquet",
        "shards": shards,
    }


def megabytes(what: str) -> float:
    """VmRSS (now) or VmHWM (at most) of this process. Linux."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(what))


def measure(data: str) -> dict[str, float]:
    """Seconds by step, and megabytes."""
    import pyarrow.compute  # noqa: F401  imports are not what is measured
    import scipy.sparse.csgraph
    import scipy.stats  # noqa: F401

    from fewlabels.pool import shards, split  # noqa: F401
    from fewlabels.pool.pool import Pool

    pa.array([0])  # imports pandas, where that is installed
    found: dict[str, float] = {}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        result = work()
        found[name] = time.perf_counter() - start
        return result

    before = megabytes("VmRSS")
    pool = timed("scan", lambda: Pool.scan(data))
    found["MB"], found["MB held"] = megabytes("VmHWM") - before, megabytes("VmRSS") - before
    number = np.arange(len(pool))
    digests = [f"{n:064x}" for n in np.where(number % 100, number, number // 200).tolist()]
    keys = timed("tied", lambda: split.tied(pool, digests))
    pool = timed("assign", lambda: split.assign(pool, 0, split.tied(pool, digests)))
    timed("holdout", lambda: split.holdout(pool.label, pool.split, 0, keys, most=10**9))
    timed("keep", lambda: split.keep_labels(pool, 5, 0))
    timed("counts", pool.counts)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--sizes", default="10000,100000,1000000")
    parser.add_argument("--beside", type=Path)
    options = parser.parse_args()
    codes = {"": Path(__file__).parents[1] / "src"}
    if options.beside:
        codes |= {" (other)": options.beside}
    print(f"{'images':>9}  {'pool':<26}{'scan':>7}{'MB':>6}{'held':>6}", end="")
    print("".join(f"{name:>9}" for name in ("tied", "assign", "holdout", "keep", "counts")))
    for count in map(int, options.sizes.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            for kind, data in make(Path(folder), count).items():
                for which, source in codes.items():
                    command = [sys.executable, __file__, ONE, str(data)]
                    env = os.environ | {"PYTHONPATH": str(source)}
                    done = subprocess.run(command, env=env, capture_output=True, check=True)
                    found = json.loads(done.stdout)
                    print(f"{count:>9,}  {kind + which:<26}{found['scan']:>7.2f}", end="")
                    print(f"{found['MB']:>6.0f}{found['MB held']:>6.0f}", end="")
                    names = ("tied", "assign", "holdout", "keep", "counts")
                    print("".join(f"{found[name]:>9.2f}" for name in names), flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == [ONE]:
        print(json.dumps(measure(sys.argv[2])))
    else:
        main()
