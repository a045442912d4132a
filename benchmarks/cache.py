"""Images a second that a cache is built with, and what it costs to open one.

    python benchmarks/cache.py --signs FOLDER --cifar train.parquet [--against COMMIT --rounds 3]

Each number is the best of several rounds; all ways of building take turns. `before` is `cache.py`
as it was at COMMIT, beside today's `square`. Opening is measured on a cache of 50,000 images of 64
pixels, with all of its file in memory, against mapping it unchecked, and again where the last block
is damaged. The last table is training without a cache: (weak, strong) views a second.
"""

import argparse
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fewlabels.augment.policy import STRONG, WEAK
from fewlabels.augment.views import Augmenter, compile_kernel
from fewlabels.pixels import cache
from fewlabels.pixels.cache_folder import clear
from fewlabels.pixels.preprocess import Preprocess
from fewlabels.pool import Pool
from fewlabels.pool.source import Source, Subset

BATCH = 64


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--signs", type=Path, help="a folder of images; at 64 px")
    parser.add_argument("--cifar", type=Path, help="train.parquet of CIFAR-10; at 32 px")
    parser.add_argument("--against", default="0d070aa", help="a commit")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    ways = {"before": as_it_was(asked.against).build, "now": cache.build}
    sets = [("hand signs", asked.signs, 64), ("CIFAR-10", asked.cifar, 32)]
    print("images | px | count | threads | before | now | ratio")
    for name, data, size in sets:
        if data is None:
            continue
        source = Pool.scan(data).source
        digest = cache.fingerprint(source)
        for threads in (1, 2):
            rate = dict.fromkeys(ways, 0.0)
            for _ in range(asked.rounds):
                for way, build in ways.items():
                    with tempfile.TemporaryDirectory() as folder:
                        took = seconds(build, source, digest, size, threads, None, Path(folder))
                    rate[way] = max(rate[way], len(source) / took)
            row = (name, size, len(source), threads, *(f"{rate[way]:,.0f}" for way in ways))
            print(*row, f"{rate['now'] / rate['before']:.2f}", sep=" | ", flush=True)
    if asked.signs is not None:
        source = Pool.scan(asked.signs).source
        opening(Subset(source, np.resize(np.arange(len(source)), 50_000)), asked.rounds)
        on_the_fly(source)


def as_it_was(commit: str) -> Any:
    """The module as it was at that commit."""
    command = ["git", "show", f"{commit}:src/fewlabels/pixels/cache.py"]
    here = Path(__file__).parent
    text = subprocess.run(command, cwd=here, capture_output=True, text=True, check=True).stdout
    module = sys.modules["before"] = types.ModuleType("before")
    exec(compile(text, "before", "exec"), vars(module))
    return module


def opening(source: Source, rounds: int) -> None:
    """Seconds, with the checks and without."""
    digest = cache.fingerprint(source)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        cache.build(source, digest, 64, 2, None, folder)
        file = next(folder.glob("*.u8"))
        print(f"\nto open {len(source):,} images of 64 px, {file.stat().st_size / 1e6:,.0f} MB: s")
        for threads in (1, 2):
            build = (source, digest, 64, threads, None, folder)
            best = min(seconds(cache.build, *build) for _ in range(rounds))
            print(f"checked, {threads} threads | {best:.2f}")
        bare = min(seconds(first_image, file) for _ in range(rounds))
        print(f"mapped, unchecked | {bare:.4f}")
        with file.open("r+b") as handle:
            handle.seek(-1, 2)
            handle.write(b"\xff")
        print(f"with a damaged block, 2 threads | {seconds(cache.build, *build):.2f}")
        clear(folder)


def first_image(file: Path) -> None:
    np.memmap(file, np.uint8, "r")[: 64 * 64 * 3].sum()


def on_the_fly(source: Source) -> None:
    """(Weak, strong) views a second of images in turn, and of 50 labelled ones again and again."""
    compile_kernel()
    digest = cache.fingerprint(source)
    print("\nviews a second | from the cache | on the fly")
    with tempfile.TemporaryDirectory() as folder:
        rows = {"of all images": np.arange(len(source)), "of 50": np.resize(np.arange(50), 1920)}
        for name, order in rows.items():
            found = []
            for limit in (None, 0):
                place = Path(folder) / str(
                    limit
                )  # what is there already is used, whatever the limit
                images = cache.build(source, digest, 64, folder=place, limit=limit).images
                found.append(2 * len(order) / seconds(views, images, order))
            print(name, *(f"{rate:,.0f}" for rate in found), sep=" | ")


def views(images: Any, order: Any) -> None:
    augment = Augmenter(images, Preprocess(64), np.zeros(3), 0)
    for start in range(0, len(order), BATCH):
        rows = order[start : start + BATCH]
        for number, policy in enumerate((WEAK, STRONG)):
            augment(policy, rows, np.zeros_like(rows), number)


def seconds(work: Callable[..., Any], *arguments: Any) -> float:
    start = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
