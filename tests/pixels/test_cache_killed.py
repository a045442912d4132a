"""Real processes that build a cache and are killed at any moment; what they decoded is not lost."""

import json
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from fewlabels.pixels.cache_folder import clear, journal_of, records

COUNT, SIZE, ROWS = 360, 8, 4  # images, their side, and how many are in a block
TASK = 16  # images that a thread decodes before it hands them on
# writes the number of each image that it decodes to the end of a file, and gets no further than
# `stop`, so that it can be killed at a certain place however busy the machine is
BUILD = f"""
import io, json, os, sys, time
from pathlib import Path
from PIL import Image
from fewlabels.pixels import cache, decoded
from fewlabels.pool.source import Encoded
folder, told, stop = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
cache.BLOCK, cache.WAIT = {ROWS} * {SIZE} * {SIZE} * 3, 0.01
def png(number):
    file = io.BytesIO()
    Image.new("RGB", (6, 1 + number % 9), (number // 256, number % 256, 7)).save(file, "PNG")
    return file.getvalue()
blobs = tuple(png(n) if n % 50 else b"broken %d" % n for n in range({COUNT}))
names = {{blob: number for number, blob in enumerate(blobs)}}
images = Encoded(tuple(map(str, range({COUNT}))), blobs)
log = os.open(told, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
real = decoded.square
def square(data, size):
    while names[data] >= stop:
        time.sleep(1)
    os.write(log, f"{{names[data]}}\\n".encode())
    return real(data, size)
decoded.square = square
digest = cache.fingerprint(images)
print("ready", flush=True)
sys.stdin.readline()
made = cache.build(images, digest, {SIZE}, folder=folder)
print(json.dumps([made.note, made.reason, made.box.tolist()]), flush=True)
sys.stdin.readline()
"""

Process = subprocess.Popen[str]


def begun(folder: Path, told: Path, stop: int = COUNT) -> Process:
    """A process that is about to build."""
    command = [sys.executable, "-c", BUILD, str(folder), str(told), str(stop)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def go_on(process: Process) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def ended(process: Process) -> list[object]:
    """What it says of its cache."""
    said, _ = process.communicate("\n", timeout=120)
    assert process.returncode == 0
    found: list[object] = json.loads(said)
    return found


def decoded(told: Path) -> Counter[str]:
    return Counter(told.read_text().split()) if told.exists() else Counter()


def once(numbers: range) -> dict[str, int]:
    return {str(number): 1 for number in numbers}


def written(folder: Path) -> int:
    """How many blocks the journal has."""
    lines = [line for file in folder.glob("*.u8") for line in records(journal_of(file))]
    return sum("block" in line for line in lines)


def until(so: Callable[[], bool], process: Process) -> None:
    start = time.monotonic()
    while not so():
        assert process.poll() is None
        assert time.monotonic() - start < 60
        time.sleep(0.0005)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, list[object]]:
    """The pixels of a build that nothing happens to, and what is said of them."""
    folder = tmp_path_factory.mktemp("whole")
    process = begun(folder / "cache", folder / "told")
    go_on(process)
    said = ended(process)
    assert decoded(folder / "told") == once(range(COUNT))
    return next((folder / "cache").glob("*.u8")).read_bytes(), said


SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 10))]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_build_that_is_killed_goes_on(
    tmp_path: Path, whole: tuple[bytes, list[object]], seed: int
) -> None:
    """Killed several times at random moments; in the end the bytes are the same, and each process
    decoded what was missing from the journal when it began, and nothing else."""
    folder, rng = tmp_path / "cache", random.Random(seed)
    for turn in range(4):
        before, told, ahead = written(folder), tmp_path / f"told-{turn}", rng.randrange(TASK, 80)
        process = begun(folder, told, ROWS * before + ahead)
        go_on(process)
        goal = before + rng.randrange(1 + ahead // TASK * TASK // ROWS)
        until(lambda goal=goal: written(folder) >= goal, process)
        time.sleep(rng.random() * 0.003)
        process.kill()
        process.communicate()
        assert goal <= written(folder) < COUNT // ROWS
        assert not once(range(ROWS * before)).keys() & decoded(told).keys()
    before, told = written(folder), tmp_path / "told"
    process = begun(folder, told)
    go_on(process)
    assert ended(process) == whole[1]
    assert decoded(told) == once(range(ROWS * before, COUNT))
    assert next(folder.glob("*.u8")).read_bytes() == whole[0]
    assert len(list(folder.iterdir())) == 2


def test_two_processes_that_build_the_same_share_the_work(
    tmp_path: Path, whole: tuple[bytes, list[object]]
) -> None:
    folder = tmp_path / "cache"
    both = [begun(folder, tmp_path / "told") for _ in range(2)]
    for process in both:
        go_on(process)
    assert [ended(process) for process in both] == [whole[1]] * 2
    assert decoded(tmp_path / "told") == once(range(COUNT))
    assert next(folder.glob("*.u8")).read_bytes() == whole[0]


def test_where_the_one_that_builds_is_killed_the_one_that_waits_goes_on(
    tmp_path: Path, whole: tuple[bytes, list[object]]
) -> None:
    folder = tmp_path / "cache"
    builds, waits = begun(folder, tmp_path / "one", 200), begun(folder, tmp_path / "two")
    go_on(builds)
    goal = 200 // TASK * TASK // ROWS
    until(lambda: written(folder) >= goal, builds)
    go_on(waits)
    time.sleep(0.3)  # else it comes when the other is gone, which must do too
    builds.kill()
    builds.communicate()
    before = goal
    assert ended(waits) == whole[1]
    assert decoded(tmp_path / "two") == once(range(ROWS * before, COUNT))
    assert next(folder.glob("*.u8")).read_bytes() == whole[0]


def test_what_a_process_has_open_is_left_until_it_ends(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    process = begun(folder, tmp_path / "told")
    go_on(process)
    assert process.stdout is not None
    assert process.stdout.readline()  # it is built
    gone, left = clear(folder)
    assert (len(gone), len(left)) == (0, 1)
    assert left[0].in_use
    process.kill()
    process.communicate()
    gone, left = clear(folder)
    assert (len(gone), len(left)) == (1, 0)
    assert not list(folder.iterdir())
