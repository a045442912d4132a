"""Kills: at every step of a checkpoint's writing, and of whole runs at any moment, which end as if
they had never been killed."""

import errno
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from interrupted import Command, after, commands, cut_off, differences, drawn, in_a_write, result

from fewlabels.errors import UserError
from fewlabels.training import checkpoint

KILLED = """
from pathlib import Path
from fewlabels.training import checkpoint
left = {call}
def counted(real):
    def call(*given, **named):
        global left
        if not left:
            os._exit(9)
        left -= 1
        return real(*given, **named)
    return call
checkpoint.save_file = counted(checkpoint.save_file)
os.fsync, os.replace = counted(os.fsync), counted(os.replace)
checkpoint.save(Path({folder!r}), {{"w": torch.full((2,), 2.0)}})
os._exit(0)
"""
CALLS = 7  # of one save over another: the tensors, three fsyncs, two renames, the parent's fsync
KILLS, MOST = 20, 7  # in all, and of one run
METHODS = {
    "supervised": (),
    "fixmatch": (),
    "flexmatch": (),
    "meta_pseudo_labels": (),
    "noisy_student": ("--set", "rounds=2"),
    "auto": (),
}


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    with commands(tmp_path_factory.mktemp("processes")) as run:
        yield run


def value(folder: Path) -> float:
    kept = checkpoint.load(folder)
    assert kept is not None
    return float(kept["w"][0])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    checkpoint.save(tmp_path / "last", {"w": torch.full((2,), 1.0)})
    return tmp_path / "last"


@pytest.mark.parametrize("call", [0, 2, 4, 5, 6, CALLS])
def test_a_process_that_dies_in_a_write_leaves_a_whole_checkpoint(
    command: Command, folder: Path, call: int
) -> None:
    ended = command(first=KILLED.format(folder=str(folder), call=call))
    assert ended.code == (0 if call == CALLS else 9)
    assert value(folder) == (2.0 if call >= 6 else 1.0)
    checkpoint.save(folder, {"w": torch.full((2,), 3.0)})
    assert value(folder) == 3.0
    assert [path.name for path in folder.parent.iterdir()] == ["last"]  # nothing piles up


@pytest.mark.parametrize("call", range(6))
def test_a_full_disk_keeps_the_earlier_checkpoint(
    folder: Path, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    calls = []

    def full(real):  # type: ignore[no-untyped-def]
        def write(*given, **named):  # type: ignore[no-untyped-def]
            calls.append(real)
            if len(calls) == call + 1:
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(*given, **named)

        return write

    monkeypatch.setattr(checkpoint, "save_file", full(checkpoint.save_file))
    monkeypatch.setattr(os, "fsync", full(os.fsync))
    monkeypatch.setattr(os, "replace", full(os.replace))
    with pytest.raises(UserError, match="No space left") as told:
        checkpoint.save(folder, {"w": torch.full((2,), 2.0)})
    assert "\n" not in str(told.value)
    assert value(folder) == 1.0
    assert [path.name for path in folder.parent.iterdir()] == ["last"]


@pytest.mark.parametrize("call", [4, 5])
def test_a_kill_while_a_torn_checkpoint_is_replaced_loses_nothing(
    command: Command, folder: Path, call: int
) -> None:
    checkpoint.save(folder.with_name(".last-old"), {"w": torch.full((2,), 0.5)})
    (folder / "state.json").write_text("{")
    assert command(first=KILLED.format(folder=str(folder), call=call)).code == 9
    assert value(folder) in (0.5, 2.0)


def test_a_torn_checkpoint_gives_way_to_the_older_one_or_is_named(folder: Path) -> None:
    older = folder.with_name(".last-old")
    checkpoint.save(older, {"w": torch.full((2,), 0.5)})
    tensors = folder / "tensors.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-3])
    assert value(folder) == 0.5
    (older / "state.json").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        checkpoint.load(folder)


def test_a_run_that_is_killed_thrice_ends_as_one_that_is_not(
    command: Command, split_folders: Path, tmp_path: Path
) -> None:
    quick = ["--img-size", "16", "--batch-size", "4", "--weights", "none", "--steps", "60"]
    arguments = ["train", str(split_folders), "--method", "flexmatch", *quick]
    whole = command(*arguments, "--out", tmp_path / "whole")
    assert whole.code == 0, whole.shown
    run = tmp_path / "cut"
    kills = [
        in_a_write(run, 4, 0.002, signal.SIGKILL),
        after(0.6 * whole.seconds, signal.SIGKILL),
        in_a_write(run, 2, 0.0, signal.SIGTERM),
    ]
    assert cut_off(command, arguments, run, kills) > 1
    assert differences(result(tmp_path / "whole"), result(run)) == []


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_runs_that_are_killed_twenty_times_end_as_one_that_is_not(
    command: Command, tmp_path: Path, method: str
) -> None:
    """Of digits; a run that has finished before its twentieth kill is begun anew, elsewhere."""
    arguments = ["train", "digits", "--labels-per-class", "2", "--steps", "40"]
    arguments += ["--method", method, *METHODS[method]]
    with commands(tmp_path) as another:  # with other hash seeds
        whole = another(*arguments, "--out", tmp_path / "whole")
    assert whole.code == 0, whole.shown
    done = number = 0
    while done < KILLS:
        number += 1
        run = tmp_path / str(number)
        kills = drawn(run, min(KILLS - done, MOST), 0.9 * whole.seconds, seed=number)
        done += cut_off(command, arguments, run, kills)
        assert differences(result(tmp_path / "whole"), result(run)) == [], f"run {number}"
        print(f"{method}: run {number} is the same, {done} kills so far", flush=True)
