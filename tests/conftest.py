"""Small pools of real files, made by the tests: bright squares above, or below.

Not left and right: views are mirrored.
"""

import os
import shutil
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fewlabels import cli

# Models this small are slower on two threads than on one, and the suite may not be alone.
os.environ.setdefault("OMP_NUM_THREADS", "1")

Paint = Callable[[Path, int, int], None]


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's cache of images or labels."""
    monkeypatch.setenv("FEWLABELS_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("FEWLABELS_LABELS", str(tmp_path_factory.mktemp("labels")))


def picture(kind: int, seed: int, side: int = 16) -> Image.Image:
    """Noise with a bright square: above for kind 0, below for kind 1, in the middle for kind 2."""
    rng = np.random.default_rng((kind, seed))
    pixels = rng.integers(0, 90, (side, side, 3), np.uint8)
    top, left = ((1, 5), (9, 5), (5, 5))[kind]
    pixels[top : top + 6, left : left + 6] = 230
    return Image.fromarray(pixels)


@pytest.fixture
def paint() -> Paint:
    """paint(folder, kind, count): writes `count` PNG files of that kind into the folder."""

    def write(folder: Path, kind: int, count: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for seed in range(count):
            name = f"{folder.name}-{kind}-{seed}.png"
            picture(kind, zlib.crc32(str(folder).encode()) + seed).save(folder / name)

    return write


@pytest.fixture
def split_folders(tmp_path: Path, paint: Paint) -> Path:
    """train/, test/ and unlabelled/: 8 labels, 12 test images, 24 unlabelled ones."""
    root = tmp_path / "photos"
    for kind, name in enumerate(("left", "right")):
        paint(root / "train" / name, kind, 4)
        paint(root / "test" / name, kind, 6)
        paint(root / "unlabelled", kind, 12)
    return root


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Runs the command line `fewlabels …` in this process; returns its exit code."""
    monkeypatch.setattr(sys, "argv", ["fewlabels", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert isinstance(stop.value.code, int)
    return stop.value.code


@pytest.fixture
def small_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A new folder that is a disk of its own, of 64 MB or of another size as its parameter; skips
    where that may not be made."""
    disk, size = tmp_path / "disk", getattr(request, "param", "64m")
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a disk is not permitted here")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)
