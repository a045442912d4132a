"""How long each corruption takes, for an image of 224 and of 32 pixels, on one core.

    python benchmarks/corruptions.py [--repeats 15]

A corruption's time is that of its slowest severity: the median of the repeats, by the wall clock,
from uint8 to uint8. Compiling, and drawing the pictures of ice, are done before. Ends with an error
if any takes more than 20 ms at 224 pixels.
"""

import argparse
import os
import statistics
import sys
import time

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from fewlabels.evaluate.corruptions import CORRUPTIONS, EXTRA, SEVERITIES, corrupt
from fewlabels.evaluate.corruptions.frost import ice

LIMIT = 20.0  # milliseconds, at 224 pixels


def picture(side: int) -> NDArray[np.uint8]:
    """Coloured clouds."""
    noise = np.random.default_rng(0).standard_normal((side, side, 3))
    clouds = gaussian_filter(noise, (side / 16, side / 16, 0))
    return np.clip(128 + 50 * clouds / clouds.std(), 0, 255).astype(np.uint8)


def milliseconds(image: NDArray[np.uint8], name: str, severity: int, repeats: int) -> float:
    times = []
    for number in range(repeats + 1):
        start = time.perf_counter()
        corrupt(image, name, severity, number=number)
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=15)
    repeats = parser.parse_args().repeats
    if hasattr(os, "sched_setaffinity"):  # where not, NumPy's matrix products may take more cores
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    for which in range(5):
        ice(which, small=False)
        ice(which, small=True)
    print("| group | corruption | 224 px, ms | its severity | 32 px, ms |")
    print("|---|---|---|---|---|")
    slow = []
    for group, names in {**CORRUPTIONS, "extra": EXTRA}.items():
        for name in names:
            large, small = (
                max((milliseconds(image, name, s, repeats), s) for s in SEVERITIES)
                for image in (picture(224), picture(32))
            )
            print(f"| {group} | `{name}` | {large[0]:.1f} | {large[1]} | {small[0]:.2f} |")
            if large[0] > LIMIT:
                slow.append(name)
    if slow:
        sys.exit(f"over {LIMIT:g} ms at 224 pixels: {', '.join(slow)}")


if __name__ == "__main__":
    main()
