import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from fewlabels.errors import UserError
from fewlabels.procedures.config import Config
from fewlabels.training import events as heard
from fewlabels.training.events import Events, Page
from fewlabels.training.folder import RunFolder
from fewlabels.training.tensorboard import need_tensorboard


@pytest.fixture
def board(tmp_path: Path) -> Events:
    pytest.importorskip("tensorboard")
    return Events(RunFolder(tmp_path), Console(quiet=True), log="tensorboard")


def later() -> None:
    """Event files are told apart by the second, and read in that order."""
    second = int(time.time())
    while int(time.time()) == second:
        time.sleep(0.02)


def points(run: Path, stage: str, name: str) -> list[tuple[int, float]]:
    """As TensorBoard itself reads them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(run / "tensorboard" / stage))
    found.Reload()
    return [(event.step, round(event.value, 3)) for event in found.Scalars(name)]


def test_every_number_of_a_row_is_a_point_of_its_stage(board: Events, tmp_path: Path) -> None:
    with board.stage("labels only"):
        board.metrics({"step": 10, "loss": 0.5, "val_accuracy": 0.75, "confident": 0.25})
        board.metrics({"step": 20, "loss": 0.25, "val_accuracy": 1.0, "confident": float("nan")})
    with board.stage("fixmatch"):
        board.metrics({"step": 10, "loss": 2.0})
    assert points(tmp_path, "labels-only", "loss") == [(10, 0.5), (20, 0.25)]
    assert points(tmp_path, "labels-only", "val_accuracy") == [(10, 0.75), (20, 1.0)]
    assert points(tmp_path, "labels-only", "confident") == [(10, 0.25)]
    assert points(tmp_path, "fixmatch", "loss") == [(10, 2.0)]


@pytest.mark.parametrize("how", ["resumed", "went_back"])
def test_steps_done_anew_have_one_point(board: Events, tmp_path: Path, how: str) -> None:
    with board.stage("fixmatch"):
        for step in (10, 20, 30):
            board.metrics({"step": step, "loss": float(step)})
        later()
        if how == "went_back":
            board.went_back(20, "the loss exploded")
            board.metrics({"step": 30, "loss": 3.0})
    if how == "resumed":
        again = Events(RunFolder(tmp_path), Console(quiet=True), log="tensorboard")
        with again.stage("fixmatch"):
            again.resumed(20)
            again.metrics({"step": 30, "loss": 3.0})
    assert points(tmp_path, "fixmatch", "loss") == [(10, 10.0), (20, 20.0), (30, 3.0)]


def test_a_stage_begun_anew_has_its_own_points_only(board: Events, tmp_path: Path) -> None:
    with board.stage("fixmatch"):
        board.metrics({"step": 10, "loss": 1.0})
    later()
    again = Events(RunFolder(tmp_path), Console(quiet=True), log="tensorboard")
    with again.stage("fixmatch"):  # killed before its first checkpoint
        again.metrics({"step": 10, "loss": 2.0})
    assert points(tmp_path, "fixmatch", "loss") == [(10, 2.0)]


def test_without_tensorboard_one_line_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(UserError, match=r"fewlabels\[tensorboard\]"):
        need_tensorboard()


def test_another_log_is_refused() -> None:
    with pytest.raises(UserError, match="--log wandb"):
        Config(data="photos", log="wandb")
    with pytest.raises(UserError, match="no effect"):
        Config(data="photos", method="knn", log="tensorboard")


def test_without_log_there_is_no_board(tmp_path: Path) -> None:
    events = Events(RunFolder(tmp_path), Console(quiet=True))
    with events.stage("fixmatch"):
        events.metrics({"step": 1, "loss": 1.0})
    assert not (tmp_path / "tensorboard").exists()


def test_a_page_that_fails_is_said_and_does_not_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heard, "PAGE_SECONDS", 0.0)

    def draw() -> None:
        raise OSError("no space left")

    events = Events(RunFolder(tmp_path), Console(quiet=True), page=Page(draw))
    with events.stage("fixmatch"):
        pass
    assert "no space left" in (tmp_path / "train.log").read_text()


@pytest.mark.parametrize(("cost", "most"), [(0.05, 60), (0.5, 12)])  # every 10 s; every 50 s
def test_a_page_is_drawn_every_ten_seconds_and_a_slow_one_less_often(
    cost: float, most: int
) -> None:
    now, drawn = 0.0, list[float]()

    def draw() -> None:
        nonlocal now
        drawn.append(now)
        now += cost

    page = Page(draw, lambda: now)
    while now < 600:
        now += 0.25
        page.refresh()
    assert most - 3 <= len(drawn) <= most + 1  # whose first one pays for set-up
    assert min(b - a for a, b in zip([0.0, *drawn], drawn, strict=False)) >= 10
    assert len(drawn) * cost <= 0.011 * 600
