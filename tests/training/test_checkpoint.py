import os
from pathlib import Path
from typing import Any

import pytest
import torch

from fewlabels.training import checkpoint


def state(value: float) -> dict[str, Any]:
    return {
        "step": 3,
        "nothing": None,
        "model": {"w": torch.full((2, 2), value), "n": torch.tensor(4)},
        "optimiser": {"state": {0: {"step": torch.tensor(1.0)}}, "groups": [{"lr": 0.1}]},
    }


def test_a_state_comes_back_as_it_was(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "last", state(1.5))
    loaded = checkpoint.load(tmp_path / "last")
    assert loaded is not None
    assert loaded["step"] == 3
    assert loaded["nothing"] is None
    assert torch.equal(loaded["model"]["w"], torch.full((2, 2), 1.5))
    assert loaded["optimiser"]["state"][0]["step"].item() == 1.0  # the key is still a number
    assert loaded["optimiser"]["groups"] == [{"lr": 0.1}]


def test_no_pickle_lies_in_a_checkpoint(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "last", state(1.0))
    names = sorted(path.name for path in (tmp_path / "last").iterdir())
    assert names == ["state.json", "tensors.safetensors"]


def test_nothing_saved_is_none(tmp_path: Path) -> None:
    assert checkpoint.load(tmp_path / "last") is None


@pytest.mark.parametrize("moment", [0, 1])
def test_a_kill_between_the_renames_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    folder = tmp_path / "last"
    checkpoint.save(folder, state(1.0))
    real, calls = os.replace, []

    def killed(source: Path, target: Path) -> None:
        if len(calls) == moment:
            raise KeyboardInterrupt
        calls.append(source)
        real(source, target)

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(folder, state(2.0))
    monkeypatch.undo()
    loaded = checkpoint.load(folder)
    assert loaded is not None
    assert loaded["model"]["w"][0, 0].item() == 1.0
    checkpoint.save(folder, state(3.0))
    loaded = checkpoint.load(folder)
    assert loaded is not None
    assert loaded["model"]["w"][0, 0].item() == 3.0


def test_shared_tensors_are_saved(tmp_path: Path) -> None:
    shared = torch.ones(3)
    checkpoint.save(tmp_path / "last", {"a": shared, "b": shared})
    loaded = checkpoint.load(tmp_path / "last")
    assert loaded is not None
    assert torch.equal(loaded["a"], loaded["b"])


def test_two_kills_in_a_row_lose_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first between the renames, the second before anything of the next save is in place."""
    folder = tmp_path / "last"
    checkpoint.save(folder, state(1.0))
    real, calls = os.replace, []

    def killed(source: Path, target: Path) -> None:
        calls.append(source)
        if len(calls) == allowed + 1:
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr(os, "replace", killed)
    for allowed in (1, 0):  # noqa: B007
        calls.clear()
        with pytest.raises(KeyboardInterrupt):
            checkpoint.save(folder, state(2.0))
        loaded = checkpoint.load(folder)
        assert loaded is not None
        assert loaded["model"]["w"][0, 0].item() == 1.0
