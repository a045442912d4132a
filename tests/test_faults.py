"""What goes wrong around a run ends in one line and loses nothing; with room made it goes on, and
ends as if nothing had happened."""

import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import picture
from interrupted import Command, Ended, commands, differences, gone, result, send

import fewlabels as fl
from fewlabels import api

METHOD = ["--method", "flexmatch", "--flip", "off", "--rotate", "off", "--guard", "off"]
QUICK = ["--img-size", "16", "--batch-size", "4", "--weights", "none", "--steps", "60"]
ROOM = 12_000  # bytes of a file, where there is room for lines and none for weights
PLENTY = resource.RLIM_INFINITY

linux = pytest.mark.skipif(sys.platform != "linux", reason="limits another process: Linux only")


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    with commands(tmp_path_factory.mktemp("processes")) as run:
        yield run


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """8 labels, 12 test images, 24 unlabelled ones; each test works on a copy."""
    root = tmp_path_factory.mktemp("data") / "photos"
    for kind, name in enumerate(("left", "right")):
        for place, count in ((f"train/{name}", 4), (f"test/{name}", 6), ("unlabelled", 12)):
            (root / place).mkdir(parents=True, exist_ok=True)
            for seed in range(count):
                picture(kind, seed + 100 * len(place)).save(root / place / f"{kind}-{seed}.png")
    return root


@pytest.fixture(scope="module")
def whole(command: Command, photos: Path) -> dict[str, object]:
    """What the run comes to that nothing happens to."""
    out = photos.parent / "whole"
    assert command("train", photos, *METHOD, *QUICK, "--out", out).code == 0
    return result(out)


@pytest.fixture
def data(photos: Path, tmp_path: Path) -> Path:
    """The images in a folder of this test's own."""
    return Path(shutil.copytree(photos, tmp_path / "photos"))


def train(command: Command, data: Path, run: Path, **more: object) -> Ended:
    return command("train", data, *METHOD, *QUICK, "--out", run, **more)


def told(ended: Ended, code: int = 2) -> str:
    """The one line of an error."""
    assert ended.code == code, ended
    assert "Traceback" not in ended.shown, ended.shown
    lines = [line for line in ended.shown.splitlines() if line.startswith("fewlabels: ")]
    assert len(lines) == 1, ended.shown
    assert ended.shown.splitlines()[-1] == lines[0]
    return lines[0]


def goes_on(command: Command, run: Path, whole: dict[str, object]) -> None:
    ended = command("train", "--resume", run)
    assert ended.code == 0, ended.shown
    found = result(run)
    for one in (found, whole):  # where the images lie is the test's own
        one["result"].pop("data", None)  # type: ignore[attr-defined]
    assert differences(whole, found) == []


def once(there: Callable[[], bool], act: Callable[[], None]) -> Callable[[int], None]:
    """Acts when that is so, once, while the process runs."""

    def watch(child: int) -> None:
        start = time.monotonic()
        while not there() and time.monotonic() - start < 300:
            assert not gone(child), "it ended before anything could happen"
            time.sleep(0.002)
        act()

    return watch


def limited(there: Callable[[], bool], room: int) -> Callable[[int], None]:
    """From that moment on no file of the process can be larger than `room`."""
    numbers: list[int] = []
    watch = once(there, lambda: resource.prlimit(numbers[0], resource.RLIMIT_FSIZE, (room, PLENTY)))

    def limit(child: int) -> None:
        numbers.append(child)
        watch(child)

    return limit


@linux
@pytest.mark.parametrize(
    "moment",
    [
        pytest.param("checkpoints/last", marks=pytest.mark.slow),
        pytest.param("stages/labels-only", marks=pytest.mark.slow),
        "stages/flexmatch",
    ],
)
def test_a_write_that_fails_stops_the_run_which_goes_on_later(
    command: Command, data: Path, tmp_path: Path, whole: dict[str, object], moment: str
) -> None:
    run = tmp_path / "run"
    ended = train(command, data, run, meanwhile=limited((run / moment).exists, ROOM))
    line = told(ended)
    assert "File too large" in line
    assert "resume" in line
    assert not list(run.rglob(".*-new")), "half of a checkpoint is left"
    # again, from the start of a process on
    limits = f"import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, ({ROOM}, -1))"
    assert "File too large" in told(command("train", "--resume", run, first=limits))
    goes_on(command, run, whole)


@linux
def test_a_disk_that_is_full_at_the_start_leaves_nothing(
    command: Command, data: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    limits = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (300, -1))"
    ended = train(command, data, run, first=limits)
    line = told(ended)
    assert "File too large" in line
    assert str(run) in line
    assert not run.exists()


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("what", ["cannot be written", "no such thing"])
def test_a_folder_that_was_there_stays_where_nothing_comes_of_a_run(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: bool, what: str
) -> None:
    """And it is empty, so that the same command can be given again."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def refused(*_: object) -> None:
        raise fl.UserError("no such thing")

    name, instead = {"cannot be written": ("keep_settings", full)}.get(what, ("_execute", refused))
    monkeypatch.setattr(api, name, instead)
    run = tmp_path / "run"
    if before:
        run.mkdir()
    with pytest.raises(fl.UserError, match=what):
        fl.train(photos, out=run, method="supervised", steps=1, img_size=16, weights="none")
    assert run.exists() == before
    assert not before or not list(run.iterdir())


@pytest.mark.slow
def test_a_full_disk_stops_a_run_which_goes_on_when_room_is_made(
    command: Command, data: Path, small_disk: Path, whole: dict[str, object]
) -> None:
    run, filler = small_disk / "run", small_disk / "filler"

    def fill() -> None:
        with filler.open("wb", buffering=0) as file:
            try:
                while file.write(bytes(1 << 16)):
                    pass
            except OSError:
                pass

    ended = train(command, data, run, meanwhile=once((run / "checkpoints/last").exists, fill))
    assert "No space left on device" in told(ended)
    assert "No space left on device" in told(command("train", "--resume", run))
    filler.unlink()
    goes_on(command, run, whole)


def remounted(disk: Path, how: str) -> None:
    """Read-only, or not; again and again while a file there is open for writing."""
    command = ["mount", "-o", f"remount,{how}", str(disk)]
    for _ in range(5000):
        if subprocess.run(command, capture_output=True).returncode == 0:
            return
    raise AssertionError("the disk is always busy")


def test_a_run_folder_that_becomes_read_only_stops_the_run(
    command: Command, data: Path, small_disk: Path, whole: dict[str, object]
) -> None:
    run = small_disk / "run"
    there = (run / "checkpoints/last").exists
    ended = train(command, data, run, meanwhile=once(there, lambda: remounted(small_disk, "ro")))
    assert "Read-only file system" in told(ended)
    assert "Read-only file system" in told(command("train", "--resume", run))
    other = train(command, data, small_disk / "other")
    assert "cannot be made (Read-only file system)" in told(other)
    remounted(small_disk, "rw")
    goes_on(command, run, whole)
    remounted(small_disk, "ro")  # one that is finished can be looked at
    assert command("train", "--resume", run).code == 0


@pytest.mark.slow
def test_images_on_a_read_only_disk_are_learnt_from(
    command: Command, photos: Path, small_disk: Path, tmp_path: Path, whole: dict[str, object]
) -> None:
    data = Path(shutil.copytree(photos, small_disk / "photos"))
    remounted(small_disk, "ro")
    assert train(command, data, tmp_path / "run").code == 0
    goes_on(command, tmp_path / "run", whole)


def test_images_that_vanish_or_break_while_it_trains_change_nothing(
    command: Command, data: Path, tmp_path: Path, whole: dict[str, object]
) -> None:
    run = tmp_path / "run"
    files = [next((data / name).iterdir()) for name in ("unlabelled", "test/left", "train/right")]
    kept = [file.read_bytes() for file in files]

    def spoil() -> None:
        files[0].unlink()
        files[1].write_bytes(b"no picture")
        files[2].write_bytes(b"")

    ended = train(command, data, run, meanwhile=once((run / "checkpoints/last").exists, spoil))
    assert ended.code == 0, ended.shown
    goes_on(command, run, whole)
    (run / "result.json").unlink()  # but another process would have to read them again
    assert "1 removed" in told(command("train", "--resume", run))
    files[0].write_bytes(kept[0])
    assert "2 changed" in told(command("train", "--resume", run))
    for file, content in zip(files, kept, strict=True):
        file.write_bytes(content)
    goes_on(command, run, whole)


@pytest.mark.parametrize("how", ["unlink", pytest.param("write_text", marks=pytest.mark.slow)])
def test_an_image_that_breaks_while_they_are_read_is_named(
    command: Command, data: Path, tmp_path: Path, whole: dict[str, object], how: str
) -> None:
    """Between the two times that it is read: for its digest, and to be decoded."""
    run, file = tmp_path / "run", next((data / "unlabelled").iterdir())
    content = file.read_bytes()
    first = f"""
from pathlib import Path
from fewlabels.pixels import cache
real = cache.fingerprint
def fingerprint(*given, **named):
    found = real(*given, **named)
    Path({str(file)!r}).{how}({"" if how == "unlink" else "'no picture'"})
    return found
cache.fingerprint = fingerprint
cache.default_folder = lambda: Path({str(tmp_path / "images")!r})
"""
    line = told(train(command, data, run, first=first))
    assert f"unlabelled/{file.name}: changed while it was being read" in line
    assert not run.exists()
    file.write_bytes(content)
    assert train(command, data, run).code == 0
    goes_on(command, run, whole)


def test_a_thread_that_dies_is_told_and_the_run_goes_on_later(
    command: Command, data: Path, tmp_path: Path, whole: dict[str, object]
) -> None:
    run = tmp_path / "run"
    first = """
from fewlabels.augment.views import Augmenter
real, left = Augmenter.__call__, [150]
def call(*given, **named):
    left[0] -= 1
    if not left[0]:
        raise MemoryError("no memory\\nfor a batch")
    return real(*given, **named)
Augmenter.__call__ = call
"""
    line = told(train(command, data, run, first=first), code=1)
    assert line == (
        f"fewlabels: MemoryError: no memory for a batch; {run}/train.log has where; go on with: "
        f"fewlabels train --resume {run}"
    )
    assert "Traceback" in (run / "train.log").read_text()
    goes_on(command, run, whole)


def test_a_loss_that_explodes_ends_in_one_line(
    command: Command, data: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    wild = ["--method", "supervised", "--optimiser", "sgd", "--lr", "1e6"]
    line = told(command("train", data, *wild, *QUICK, "--out", run))
    assert "also at 1/8 of the rate: try a lower --lr" in line
    log = (run / "train.log").read_text()
    assert [f"at 1/{n} of the rate" in log for n in (2, 4, 8, 16)] == [True, True, True, False]
    again = told(command("train", "--resume", run))  # it does not begin anew
    assert "also at 1/8 of the rate" in again
    assert "--lr 0.01: the run was begun with 1000000.0" in told(
        command("train", "--resume", run, "--lr", "0.01")
    )


@pytest.mark.slow
def test_an_interrupt_that_is_repeated_says_no_more(data: Path, tmp_path: Path) -> None:
    """In a process of its own to its very end, where threads are waited for."""
    run = tmp_path / "run"
    command = [sys.executable, "-m", "fewlabels", "train", str(data), *METHOD, *QUICK]
    process = subprocess.Popen(
        [*command, "--steps", "100000", "--out", str(run)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    once((run / "checkpoints/last").exists, lambda: None)(process.pid)
    while process.poll() is None:
        process.send_signal(signal.SIGINT)
        time.sleep(0.05)
    shown, errors = process.communicate()
    assert process.returncode == 130
    assert f"go on with: fewlabels train --resume {run}" in shown
    assert errors == ""


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_on_a_full_disk_is_an_interrupt(
    command: Command, data: Path, tmp_path: Path, how: signal.Signals
) -> None:
    if sys.platform != "linux":
        pytest.skip("limits another process: Linux only")
    run = tmp_path / "run"
    shown: list[str] = []

    def interrupt(child: int) -> None:
        once((run / "checkpoints/last").exists, lambda: None)(child)
        os.kill(child, signal.SIGSTOP)  # nothing is written in between
        size = (run / "train.log").stat().st_size
        shown.append(str(size))
        resource.prlimit(child, resource.RLIMIT_FSIZE, (size, PLENTY))
        send(child, how)
        os.kill(child, signal.SIGCONT)

    ended = train(command, data, run, meanwhile=interrupt)
    assert ended.code in (130, 2), ended
    assert "Traceback" not in ended.shown
