"""What a run says in a log, and what it leaves for who looks at it from outside."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fewlabels.training import events as heard
from fewlabels.training.events import Events
from fewlabels.training.folder import RunFolder


class Machine:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return 1e9 + self.now

    def strftime(self, form: str) -> str:
        return form


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    fake = Machine()
    monkeypatch.setattr(heard, "time", fake)
    return fake


def quiet(path: Path, machine: Machine, **options: Any) -> tuple[Events, io.StringIO]:
    """Events in a log."""
    log = io.StringIO()
    console = Console(file=log, width=40)  # lines of a log have no width
    return Events(RunFolder(path), console, clock=lambda: machine.now - 90.0, **options), log


def test_a_log_has_a_line_every_ten_seconds_and_one_at_the_end_of_a_stage(
    tmp_path: Path, machine: Machine
) -> None:
    said, log = quiet(tmp_path, machine)
    with said.stage("fixmatch"):
        for step in range(1, 51):  # half a second each
            machine.now += 0.5
            said.step(step / 50, step, 1234.5, 2.0 - step / 50)
            if step % 20 == 0:
                said.metrics({"step": step, "val_accuracy": step / 80, "val_n": 8})
        said.metrics({"step": 50, "val_accuracy": 0.75, "val_n": 8})
    assert log.getvalue().splitlines() == [
        "fixmatch: 42 %  after 20 s  step 21  1,234 images/s  loss 1.580  validation 25.0 %",
        "fixmatch: 84 %  after 31 s  step 42  1,234 images/s  loss 1.160  validation 50.0 %",
        "fixmatch: 100 %  after 35 s  step 50  1,234 images/s  loss 1.000  validation 75.0 %",
    ]
    assert "fixmatch: ends at step 50" in (tmp_path / "train.log").read_text()


def test_a_stage_that_stops_early_ends_where_it_is(tmp_path: Path, machine: Machine) -> None:
    said, log = quiet(tmp_path, machine)
    inside = said.inside(RunFolder(tmp_path / "folds" / "1"))
    inside.folder.path.mkdir(parents=True)
    with inside.stage("fixmatch"):
        inside.step(0.25, 1, 9.0, 1.0)  # the last one, for want of patience
    assert log.getvalue() == "folds/1, fixmatch: 25 %  after 10 s  step 1  9 images/s  loss 1.000\n"


def test_what_is_read_at_once_is_not_said(tmp_path: Path, machine: Machine) -> None:
    said, log = quiet(tmp_path, machine)
    with said.stage("decoding"):
        said.count(10, 10)
    assert log.getvalue() == ""
    with said.stage("reading"):
        machine.now += 11.0
        said.count(1500, 6000)
    assert log.getvalue() == "reading: 25 %  after 21 s  1,500 of 6,000 images\n"


def test_progress_is_told_once_a_second_and_at_the_end(tmp_path: Path, machine: Machine) -> None:
    def told() -> dict[str, Any]:
        found: dict[str, Any] = json.loads((tmp_path / "progress.json").read_text())
        return found

    said, _ = quiet(tmp_path, machine)
    with said.stage("fixmatch"):
        assert (told()["stage"], told()["progress"]) == ("fixmatch", 0.0)
        machine.now += 0.5
        said.step(0.125, 1, 10.0, 1.0)
        assert told()["progress"] == 0.0
        machine.now += 0.5
        said.step(0.25, 2, 10.0, 1.0)
        assert told() == {
            **{"stage": "fixmatch", "folder": ".", "progress": 0.25, "step": 2},
            **{"images_per_second": 10.0, "loss": 1.0, "seconds": 11.0, "at": 1e9 + 101.0},
        }
    assert told()["progress"] == 1.0
    assert sorted(file.name for file in tmp_path.iterdir()) == ["progress.json", "train.log"]


def test_a_stage_that_fails_is_not_said_to_have_ended(tmp_path: Path, machine: Machine) -> None:
    marks: list[float] = []
    said, log = quiet(tmp_path, machine, mark=lambda: marks.append(machine.now))

    def fail() -> None:
        with said.stage("fixmatch"):
            said.step(0.25, 1, 10.0, 1.0)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert (log.getvalue(), marks) == ("", [])
    assert "ends" not in (tmp_path / "train.log").read_text()


def test_steps_that_are_done_anew_leave_the_record(tmp_path: Path, machine: Machine) -> None:
    said, log = quiet(tmp_path, machine)
    with said.stage("labels only"):
        said.metrics({"step": 30, "loss": 1.0})
    with said.stage("fixmatch"):
        for step in (10, 20):
            said.metrics({"step": step, "loss": 1.0})
        (tmp_path / "metrics.jsonl").open("a").write('{"stage": "fixm')  # cut off by a kill
        said.resumed(10)
    assert log.getvalue() == "fixmatch: goes on at step 10\n"
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(row["stage"], row["step"]) for row in rows] == [("labels only", 30), ("fixmatch", 10)]
