from pathlib import Path

import pytest
from rich.console import Console

from fewlabels.errors import UserError
from fewlabels.training.events import Events
from fewlabels.training.folder import RunFolder


def test_runs_are_counted_up_and_never_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert [str(RunFolder.create(None).path) for _ in range(3)] == ["runs/1", "runs/2", "runs/3"]


def test_out_must_be_absent_or_empty(tmp_path: Path) -> None:
    RunFolder.create(tmp_path / "new")
    RunFolder.create(tmp_path / "new")  # it is empty
    (tmp_path / "new" / "mine.txt").write_text("kept")
    with pytest.raises(UserError, match="not empty"):
        RunFolder.create(tmp_path / "new")
    assert (tmp_path / "new" / "mine.txt").read_text() == "kept"


def test_out_that_is_a_file_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be made"):
        RunFolder.create(tmp_path / "file")


def test_a_folder_without_config_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"config\.yaml"):
        RunFolder.open(tmp_path)


def test_a_resumed_stage_takes_back_what_it_will_do_again(tmp_path: Path) -> None:
    events = Events(RunFolder(tmp_path), Console(quiet=True))
    with events.stage("first"):
        events.metrics({"step": 9})
    with events.stage("second"):
        for step in (1, 2, 3):
            events.metrics({"step": step})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"stage": "seco')  # a kill
    with events.stage("second"):
        events.resumed(2)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert lines == [
        '{"stage": "first", "step": 9}',
        '{"stage": "second", "step": 1}',
        '{"stage": "second", "step": 2}',
    ]
