"""Budgets, and a clock that pauses with its process: faked, and a real process that is stopped."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from fewlabels import cli
from fewlabels.training import budget
from fewlabels.training.budget import Budget, Clock


class Machine:
    """A monotonic clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    fake = Machine()
    monkeypatch.setattr(budget, "time", fake)
    monkeypatch.setattr(budget, "_paused", 0.0)
    monkeypatch.setattr(budget, "_read", fake.now)
    return fake


@pytest.mark.parametrize(
    ("limit", "step", "seconds", "progress"),
    [
        (Budget(steps=40), 10, 99.0, 0.25),
        (Budget(steps=40), 50, 0.0, 1.0),
        (Budget(steps=0), 0, 0.0, 1.0),
        (Budget(seconds=8.0), 99, 2.0, 0.25),
        (Budget(seconds=8.0), 0, 9.0, 1.0),
        (Budget(seconds=0.0), 0, 0.0, 1.0),
    ],
)
def test_progress(limit: Budget, step: int, seconds: float, progress: float) -> None:
    assert limit.progress(step, seconds) == progress


def test_a_clock_goes_on_where_an_earlier_process_stood(machine: Machine) -> None:
    clock = Clock(12.5)
    machine.now += 2.0
    assert clock() == 14.5


def test_a_pause_is_not_counted(machine: Machine) -> None:
    whole = Clock()
    machine.now += 5.0
    stage = Clock()
    machine.now += 1.0
    assert (whole(), stage()) == (6.0, 1.0)
    machine.now += 3600.0  # stopped
    budget.continued(signal.SIGCONT, None)
    budget.continued(signal.SIGCONT, None)  # a second signal takes nothing more away
    machine.now += 2.0
    assert (whole(), stage()) == (8.0, 3.0)
    later = Clock()  # what begins after a pause knows nothing of it
    machine.now += 1.0
    assert later() == 1.0


def test_a_signal_to_a_process_that_was_not_stopped_changes_nothing(machine: Machine) -> None:
    clock = Clock()
    machine.now += budget.PAUSE  # a long step
    budget.continued()
    assert clock() == budget.PAUSE


def test_a_pause_that_ends_in_the_middle_of_a_reading(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    machine.now += 1.0
    assert clock() == 1.0
    readings = [101.0]

    def monotonic() -> float:
        if readings:  # the machine's clock is read after the pause, and before the signal is heard
            machine.now += readings.pop()
            budget.continued()
        return machine.now

    monkeypatch.setattr(machine, "monotonic", monotonic)
    assert clock() == 1.0


def test_the_time_of_day_has_no_part_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 0.0)
    clock = Clock()
    before = clock()
    monkeypatch.setattr(time, "time", lambda: 1e12)
    assert 0.0 <= clock() - before < 1e6


WORKS = """
import sys, time
from fewlabels import cli
from fewlabels.training import budget
budget.PAUSE = 0.5
def app(**_):
    before = time.monotonic() - cli.CLOCK()
    print("ready", flush=True)
    end = cli.CLOCK() + 0.5
    while cli.CLOCK() < end:
        time.sleep(0.01)
    print(time.monotonic() - cli.CLOCK() - before)
cli.app = app
cli.main()
"""


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="this system stops no process")
def test_a_process_that_was_stopped_has_lost_no_time() -> None:
    child = subprocess.Popen([sys.executable, "-c", WORKS], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    try:
        assert child.stdout.readline() == "ready\n"
        os.kill(child.pid, signal.SIGSTOP)
        os.waitpid(child.pid, os.WUNTRACED)  # until it has stopped
        time.sleep(1.5)
        os.kill(child.pid, signal.SIGCONT)
        assert float(child.stdout.read()) >= 1.5 - 0.01
        assert child.wait() == 0
    finally:
        child.kill()
        child.wait()


def test_signals_are_left_alone_where_they_cannot_be_heard(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["fewlabels", "status", "nowhere"])
    codes = []

    def call() -> None:
        try:
            cli.main()
        except SystemExit as stop:
            codes.append(stop.code)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    assert codes == [2]
    assert "no run folder" in capsys.readouterr().err
