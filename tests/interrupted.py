"""Real training processes that are killed: for the tests of exact resuming.

Importing everything takes seconds, so one process does it once and forks for each command: each is
a process of its own, which a signal ends as any other.
"""

import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FORKS = """
import json, os, sys
import captum.attr, scipy.stats, sklearn.mixture, torch
from fewlabels import api, cli
from fewlabels.augment.views import compile_kernel
compile_kernel()
torch.set_num_threads(1)
for line in sys.stdin:
    asked = json.loads(line)
    child = os.fork()
    if not child:
        shown = os.open(asked["shown"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for stream in (1, 2):
            os.dup2(shown, stream)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.argv = ["fewlabels", *asked["arguments"]]
        exec(asked["first"])
        code = 1
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code
        except BaseException:
            import traceback
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    print(json.dumps(child), flush=True)
    _, status, used = os.wait4(child, 0)
    seconds = used.ru_utime + used.ru_stime
    print(json.dumps([os.waitstatus_to_exitcode(status), seconds]), flush=True)
"""
TIMES = ("seconds", "training_seconds", "images_per_second", "peak_memory_mb")
WRITING = "**/.*-new"  # what a checkpoint is called while it is written
PATIENCE = 300.0  # seconds
# a checkpoint after each step or two, so that short stages too are resumed in their middle
OFTEN = """
from fewlabels.training.lead import Pace
validations, _, _, patience = Pace.__init__.__defaults__
Pace.__init__.__defaults__ = (validations, 0.0, 1.0, patience)
"""


@dataclass(frozen=True)
class Ended:
    code: int  # of the exit; minus the signal that killed it
    shown: str
    seconds: float  # of a processor


@dataclass(frozen=True)
class Kill:
    """What ends a process, whose number it is given, by the signal `how`."""

    act: Callable[[int], None]
    how: int


# the arguments, what to run before them, and what is done to the process meanwhile
Command = Callable[..., Ended]


@contextmanager
def commands(home: Path) -> Iterator[Command]:
    """Yields what runs a command line, `fewlabels …`, in a process of its own, and waits for it."""
    driver = subprocess.Popen(
        [sys.executable, "-c", FORKS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "FEWLABELS_CACHE": str(home / "images")},
    )
    assert driver.stdin is not None
    assert driver.stdout is not None
    asks, answers, shown = driver.stdin, driver.stdout, home / "shown.txt"

    def run(
        *arguments: object, first: str = "", meanwhile: Callable[[int], None] | None = None
    ) -> Ended:
        """`first` is run in the process before anything else; `meanwhile` has its number."""
        shown.unlink(missing_ok=True)
        asked = {"arguments": list(map(str, arguments)), "shown": str(shown), "first": first}
        print(json.dumps(asked), file=asks, flush=True)
        child = json.loads(answers.readline())
        try:
            if meanwhile is not None:
                meanwhile(child)
        except BaseException:
            send(child, signal.SIGKILL)
            raise
        finally:
            code, used = json.loads(answers.readline())
        return Ended(code, shown.read_text() if shown.exists() else "", used)

    try:
        yield run
    finally:
        asks.close()
        driver.wait()


def gone(child: int) -> bool:
    """Whether the process has ended."""
    return _stat(child)[0] == "Z"


def _stat(child: int) -> list[str]:
    try:
        return Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ["Z"]


def after(seconds: float, how: int) -> Kill:
    """Sends the signal when the process has used so many seconds of a processor: a moment of its
    own work, however busy the machine is."""
    ticks = seconds * os.sysconf("SC_CLK_TCK")

    def kill(child: int) -> None:
        while not gone(child):
            if sum(map(int, _stat(child)[11:13])) >= ticks:
                return send(child, how)
            time.sleep(0.002)
        return None

    return Kill(kill, how)


def in_a_write(run: Path, number: int, seconds: float, how: int) -> Kill:
    """Sends the signal so many seconds after the checkpoint of that number has begun to be
    written."""

    def kill(child: int) -> None:
        seen, now, writes, start = False, False, 0, time.monotonic()
        while not gone(child) and time.monotonic() - start < PATIENCE:
            with suppress(FileNotFoundError):  # a folder that was replaced just now
                now = next(run.glob(WRITING), None) is not None
            writes += now and not seen
            seen = now
            if writes == number:
                time.sleep(seconds)
                return send(child, how)
            time.sleep(0.0005)
        return None

    return Kill(kill, how)


def send(child: int, how: int) -> None:
    if not gone(child):
        os.kill(child, how)


def drawn(run: Path, count: int, seconds: float, seed: int) -> Iterator[Kill]:
    """So many kills, at moments drawn uniformly over so many seconds of work, every third in
    the writing of a checkpoint. Half of them are kill -9."""
    draw = random.Random(seed)
    for _ in range(count):
        how = draw.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
        if draw.random() < 1 / 3:
            yield in_a_write(run, draw.randint(1, 30), draw.uniform(0, 0.008), how)
        else:
            yield after(draw.uniform(0.05, seconds), how)


def cut_off(command: Command, arguments: list[str], run: Path, kills: Iterable[Kill]) -> int:
    """Trains into `run`, resumed after each kill, until it has finished; returns how many processes
    were killed."""
    for done, kill in enumerate([*kills, None]):
        begun = (run / "config.yaml").exists()
        what = ["train", "--resume", str(run)] if begun else [*arguments, "--out", str(run)]
        ended = command(*what, first=OFTEN, meanwhile=kill and kill.act)
        assert "Traceback" not in ended.shown, ended.shown
        if ended.code == 0:
            return done
        assert kill is not None, ended
        assert ended.code in ((-kill.how,) if kill.how == signal.SIGKILL else (130, -kill.how))
        if ended.code == 130 and ended.shown:  # it had begun to say something
            assert f"go on with: fewlabels train --resume {run}" in ended.shown
    raise AssertionError("unreachable")


def result(run: Path) -> dict[str, Any]:
    """What a run has come to, but for times: weights and predictions as digests, the rows of every
    metrics.jsonl, result.json."""
    files = sorted([*run.glob("artefact/*"), *run.rglob("predictions.parquet")])
    found: dict[str, Any] = {
        str(file.relative_to(run)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files
    }
    assert any(name.endswith(".safetensors") for name in found)
    for file in sorted(run.rglob("metrics.jsonl")):
        found[str(file.relative_to(run))] = [timeless(json.loads(line)) for line in file.open()]
    return found | {"result": timeless(json.loads((run / "result.json").read_text()))}


def timeless(value: Any) -> Any:
    """Without the seconds that something took, the verdict's too."""
    if isinstance(value, dict):
        return {name: timeless(item) for name, item in value.items() if name not in TIMES}
    if isinstance(value, str):
        return re.sub(r"\(\d+ s\)", "", value)
    return [timeless(item) for item in value] if isinstance(value, list) else value


def differences(one: Any, two: Any, where: str = "") -> list[str]:
    """Where two results differ, by name."""
    if isinstance(one, dict) and isinstance(two, dict):
        names = dict.fromkeys([*one, *two])
        return [d for n in names for d in differences(one.get(n), two.get(n), f"{where}/{n}")]
    if isinstance(one, list) and isinstance(two, list) and len(one) == len(two):
        pairs = enumerate(zip(one, two, strict=True))
        return [d for i, (a, b) in pairs for d in differences(a, b, f"{where}[{i}]")]
    return [] if one == two else [f"{where}: {str(one)[:80]} / {str(two)[:80]}"]
