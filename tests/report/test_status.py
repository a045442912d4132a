"""A run that is looked at from outside: as files say, and a real one, paused and killed."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fewlabels import cli
from fewlabels.api import resume, train
from fewlabels.errors import UserError
from fewlabels.procedures import config
from fewlabels.report import html, read
from fewlabels.report.status import print_status, status
from fewlabels.training import events, process
from fewlabels.training.events import Events
from fewlabels.training.folder import RunFolder


@pytest.fixture
def at_work() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def begun(run: Path, **settings: Any) -> RunFolder:
    run.mkdir(parents=True, exist_ok=True)
    folder = RunFolder(run)
    folder.write_config({"data": "photos", "time_limit": 60.0} | settings)
    return folder


def printed(run: Path) -> str:
    console = Console(highlight=False, width=100)
    with console.capture() as text:
        print_status(status(run), console)
    return text.get()


def everything(run: Path) -> dict[str, tuple[bytes, int]]:
    files = [file for file in run.rglob("*") if file.is_file()]
    return {str(file): (file.read_bytes(), file.stat().st_mtime_ns) for file in files}


def test_a_run_is_told_in_full(tmp_path: Path, at_work: ExitStack) -> None:
    folder = begun(tmp_path)
    at_work.enter_context(process.recorded(folder))
    said = Events(folder, Console(quiet=True), clock=lambda: 21.0)
    with said.stage("labels only"):
        said.metrics({"step": 30, "loss": 0.1, "val_accuracy": 1.0, "val_n": 10})
    within = begun(tmp_path / "rounds" / "1")
    inside = said.inside(within)
    with inside.stage("round 1"):
        inside.metrics({"step": 40, "loss": 0.4, "val_accuracy": 0.8, "val_n": 10})
        inside._told = 0.0  # a second has gone by
        inside.step(0.25, 50, 120.0, 0.375)
        told = status(tmp_path)
    assert told["state"] == "running"
    assert told["process"]["pid"] == os.getpid()
    assert (told["stage"], told["inside"]) == ("round 1", "rounds/1")
    assert (told["progress"], told["step"], told["loss"]) == (0.25, 50, 0.375)
    assert told["images_per_second"] == 120.0
    assert (told["seconds"], told["time_limit"]) == (21.0, 60.0)
    # Wilson, 8 of 10: (0.8 + z²/20 ± z √(0.016 + z²/400)) / (1 + z²/10), z = 1.96
    assert told["validation"]["interval"] == pytest.approx([0.4902, 0.9433], abs=2e-4)
    assert (told["validation"]["n"], told["validation"]["step"]) == (10, 40)
    stages = [(row["folder"], row["stage"], row["step"]) for row in told["stages"]]
    assert stages == [(".", "labels only", 30), ("rounds/1", "round 1", 40)]
    assert told["resume"] is None  # it needs none


def test_looking_writes_nothing(tmp_path: Path, at_work: ExitStack) -> None:
    folder = begun(tmp_path)
    at_work.enter_context(process.recorded(folder))
    with (said := Events(folder, Console(quiet=True))).stage("supervised"):
        said.metrics({"step": 1, "loss": 1.0})
    before = everything(tmp_path)
    printed(tmp_path)
    assert everything(tmp_path) == before


@pytest.mark.parametrize(
    ("change", "state"),
    [
        ({}, "running"),
        ({"host": "elsewhere"}, "unknown"),
        ({"began": 1}, "stopped"),  # the number has been given to another process
        ({"boot": "another"}, "stopped"),
        ({"pid": 2**22 + 1}, "stopped"),  # more than Linux ever gives
        ({"over": True}, "stopped"),  # interrupted in a process that goes on, as a notebook's
    ],
)
def test_whether_a_process_is_there(
    tmp_path: Path, at_work: ExitStack, change: dict[str, Any], state: str
) -> None:
    if sys.platform != "linux" and "began" in change:
        pytest.skip("this system does not tell when a process began")
    folder = begun(tmp_path)
    at_work.enter_context(process.recorded(folder))
    folder.write_json("process.json", folder.read_json("process.json") | change)
    told = status(tmp_path)
    assert told["state"] == state
    assert (told["resume"] is None) == (state == "running")
    assert printed(tmp_path).startswith(f"{tmp_path}: {state}")


def test_a_run_that_says_little(tmp_path: Path) -> None:
    begun(tmp_path)
    assert status(tmp_path)["state"] == "unknown"
    (tmp_path / "metrics.jsonl").write_text('{"stage": "fixmatch", "step": 3}\n{"stage": "fi')
    (tmp_path / "progress.json").write_text("")
    assert "fixmatch: step 3" in printed(tmp_path)


def test_a_part_is_known_by_what_the_procedures_write() -> None:
    assert read.INSIDE == config.INSIDE


def test_a_part_of_a_run_goes_on_with_the_whole(tmp_path: Path) -> None:
    whole, first, second = (tmp_path / "a b" / place for place in (".", "rounds/1", "rounds/2"))
    said = Events(begun(whole), Console(quiet=True), clock=lambda: 5.0)
    one, two = (said.inside(begun(part, inside="runs/a b")) for part in (first, second))
    with process.recorded(RunFolder(whole)):
        with one.stage("round 1"):
            assert status(first)["stage"] == "round 1"
        with two.stage("round 2"):
            assert [status(part)["state"] for part in (whole, first, second)] == ["running"] * 3
            assert [status(part)["stage"] for part in (whole, first, second)] == [
                *("round 2", None, "round 2")
            ]
            assert (status(whole)["inside"], status(second)["inside"]) == ("rounds/2", ".")
    assert status(second)["state"] == "stopped"
    assert status(second)["resume"] == f"fewlabels train --resume '{whole}'"
    RunFolder(whole).write_json("result.json", {"seconds": 9.0})
    assert (status(whole)["state"], status(whole)["stage"]) == ("finished", None)


@pytest.mark.parametrize(
    ("asked", "there", "state"),
    [(2, False, "finished"), (3, False, "stopped"), (2, True, "running")],
)
def test_a_search_is_finished_when_its_trials_are_done(
    tmp_path: Path, asked: int, there: bool, state: str
) -> None:
    folder = begun(tmp_path, search={"what": "augmentation", "trials": asked})
    folder.write_json("search.json", {"trials": [{"number": 1}, {"number": 2}]})
    with process.recorded(folder):  # it writes search.json after every trial
        if there:
            assert status(tmp_path)["state"] == state
    if not there:
        assert status(tmp_path)["state"] == state
    assert f"2 of {asked} trials are done" in printed(tmp_path)
    if state == "stopped":
        assert status(tmp_path)["resume"] == f"fewlabels search --resume {tmp_path}"


def test_folders_inside_are_told_in_their_order(tmp_path: Path) -> None:
    begun(tmp_path)
    for place in ("folds/10", "folds/9", "rounds/1/folds/1", "rounds/1", "."):
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        (tmp_path / place / "metrics.jsonl").write_text('{"stage": "fixmatch", "step": 3}\n')
    told = [row["folder"] for row in status(tmp_path)["stages"]]
    assert told == [".", "folds/9", "folds/10", "rounds/1", "rounds/1/folds/1"]


def test_no_run_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run folder"):
        status(tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
def test_a_real_run_is_seen_to_train_pause_go_on_and_die(tmp_path: Path) -> None:
    run, seen = tmp_path / "run", []
    settings = (
        "--labels-per-class 2 --method supervised --img-size 16 --batch-size 4 --weights none"
    )
    command = [sys.executable, "-m", "fewlabels"]
    train = [*command, "train", "digits", *settings.split(), "--steps", "100000", "--out", str(run)]
    child = subprocess.Popen(train, stdout=subprocess.DEVNULL)

    def wait(state: str) -> dict[str, Any]:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            if (run / "config.yaml").exists():
                seen.append(told := status(run))
                if told["state"] == state and (told["step"] or 0) > 0:
                    return told
            time.sleep(0.05)
        raise AssertionError(f"was never {state}: {seen[-1:]}")

    try:
        assert wait("running")["process"]["pid"] == child.pid
        child.send_signal(signal.SIGSTOP)
        wait("paused")
        child.send_signal(signal.SIGCONT)
        wait("running")
        child.kill()
        child.wait()
        told = wait("stopped")
    finally:
        child.kill()
        child.wait()
    assert told["resume"] == f"fewlabels train --resume {run}"


def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    begun(tmp_path / "run")
    for folder, code, lines in (("run", 0, 0), ("nothing", 2, 1)):
        monkeypatch.setattr(sys, "argv", ["fewlabels", "status", str(tmp_path / folder), "--json"])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        said = capsys.readouterr()
        assert (stop.value.code, len(said.err.splitlines())) == (code, lines)
        assert code or json.loads(said.out)["state"] == "unknown"


REFRESHES = '<meta http-equiv="refresh" content="10">'


def written(run: Path) -> str:
    """The page, as words."""
    text = html.write(run).read_text()
    return ("refreshes; " if REFRESHES in text else "") + " ".join(
        re.sub("<[^>]*>", "", text.partition("<main>")[2]).split()
    )


def test_the_page_says_where_the_run_is_and_refreshes_while_it_goes_on(tmp_path: Path) -> None:
    folder = begun(tmp_path)
    said = Events(folder, Console(quiet=True), clock=lambda: 21.0)
    fold = said.inside(begun(tmp_path / "folds" / "2"))
    with process.recorded(folder):
        page = written(tmp_path)
        assert page.startswith("refreshes; ")
        assert "This run goes on. Its log is still empty." in page
        with fold.stage("fixmatch"):
            fold.metrics({"step": 40, "loss": 0.4, "seconds": 2.0, "val_accuracy": 1, "val_n": 10})
            fold._told = 0.0  # a second has gone by
            fold.step(0.25, 50, 120.0, 0.375)
            page = written(tmp_path)
    assert "“fixmatch, fold 2”, 25 % through it: step 50, 120 images a second, loss 0.375" in page
    assert "21 s of 1 min 0 s were used" in page
    assert "on 10 validation images 100.0" in page
    page = written(tmp_path)
    assert not page.startswith("refreshes")
    assert f"This run was stopped. At {time.strftime('%Y-')}" in page
    assert f"To go on: fewlabels train --resume {tmp_path}" in page
    (tmp_path / "progress.json").write_text('{"stage": "fixm')  # torn by a power cut
    assert "Its log ends in the stage “fixmatch, fold 2”, 2.0 s in" in written(tmp_path)
    folder.write_json("result.json", {"seconds": 40.0})  # what is chosen is known, and counted
    assert "fold 2" not in written(tmp_path)


SETTINGS: dict[str, Any] = {
    **{"labels_per_class": 2, "img_size": 16, "weights": "none", "method": "supervised"}
}


def test_the_page_refreshes_while_the_run_is_unfinished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "PAGE_SECONDS", 0.0)
    monkeypatch.setattr(events, "PAGE_SHARE", float("inf"))  # however fast the steps are
    monkeypatch.setattr(events, "PROGRESS_SECONDS", 0.0)
    monkeypatch.setattr(Events, "count", lambda *_: None)  # of thousands of images
    pages, write = [], html.write

    def keep(run: Path) -> Path:
        page = write(run)
        pages.append(page.read_text().count(REFRESHES))
        return page

    monkeypatch.setattr(html, "write", keep)
    run = train("digits", steps=2, out=tmp_path / "run", **SETTINGS)
    assert len(pages) > 2
    assert pages == [1] * (len(pages) - 1) + [0]
    assert status(run.path)["state"] == "finished"
    assert status(run.path)["estimate"] == run.result["test"]
    assert printed(run.path).startswith(f"{run.path}: finished")


def test_a_run_that_is_interrupted_says_so_although_its_process_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        assert status(tmp_path / "run")["state"] == "running"
        raise KeyboardInterrupt

    monkeypatch.setattr(Events, "step", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train("digits", steps=2, out=tmp_path / "run", **SETTINGS)
    assert status(tmp_path / "run")["state"] == "stopped"
    text = (tmp_path / "run" / "report.html").read_text()
    assert "This run was stopped" in text
    assert REFRESHES not in text


def test_a_run_that_another_process_works_on_is_not_resumed(tmp_path: Path) -> None:
    folder = begun(tmp_path / "run", data="digits")
    with process.recorded(folder):
        about = folder.read_json("process.json")
        assert process.other(folder) is None
        other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        try:
            began = process._about(other.pid)[1]
            folder.write_json("process.json", about | {"pid": other.pid, "began": began})
            with pytest.raises(UserError, match=f"process {other.pid} works on it"):
                resume(folder.path)
        finally:
            other.communicate()
    assert process.other(folder) is None
