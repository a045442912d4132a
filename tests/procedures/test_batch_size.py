"""`--batch-size auto`: when it doubles, when it stops, and that it is measured once."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Paint
from safetensors.torch import load_file

import fewlabels as fl
from fewlabels import api
from fewlabels.procedures import batch_size
from fewlabels.procedures.batch_size import Size, scale

QUICK: dict[str, Any] = {"steps": 2, "img_size": 16, "weights": "none", "method": "supervised"}
QUICK |= {"flip": "off", "rotate": "off"}
Speed = Callable[[int], float]


@pytest.fixture
def many(tmp_path: Path, paint: Paint) -> Path:
    """272 labelled images: a quarter of them is 68."""
    root = tmp_path / "many"
    for kind, name in enumerate(("left", "right")):
        paint(root / "train" / name, kind, 136)
        paint(root / "val" / name, kind, 2)
        paint(root / "test" / name, kind, 2)
    return root


def fake(monkeypatch: pytest.MonkeyPatch, speed: Speed, memory: Speed, free: float = 1e12) -> None:
    def measure(context: Any, size: int) -> Size:
        return Size(size, speed(size), memory(size))

    monkeypatch.setattr(batch_size, "measure", measure)
    monkeypatch.setattr(batch_size, "free_memory", lambda device: free)
    monkeypatch.setattr(batch_size, "used_memory", lambda device: 0.0)


def found(run: fl.Run) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((run.path / "batch_size.json").read_text())
    return told


def nothing(size: int) -> float:
    return 0.0


def test_it_doubles_while_that_pays(
    many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    speeds = {16: 100.0, 32: 150.0, 64: 180.0}
    fake(monkeypatch, speeds.__getitem__, nothing)
    told = found(fl.train(many, out=tmp_path / "run", batch_size="auto", **QUICK))
    assert [one["batch_size"] for one in told["sizes"]] == [16, 32, 64]
    assert told["chosen"] == 32
    assert "64 are only 1.20 times as fast" in told["said"]
    assert told["lr"] == pytest.approx(0.003 * 2**0.5)  # adamw


def test_never_more_than_a_quarter_of_the_labels(
    many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(monkeypatch, float, nothing)
    assert found(fl.train(many, out=tmp_path / "a", batch_size="auto", **QUICK))["chosen"] == 64

    def unasked(context: Any, size: int) -> Size:
        raise AssertionError(size)

    monkeypatch.setattr(batch_size, "measure", unasked)
    few = QUICK | {"labels_per_class": 60}
    told = found(fl.train(many, out=tmp_path / "b", batch_size="auto", **few))
    assert (told["chosen"], told["sizes"]) == (16, [])


def test_it_stops_before_memory_is_full(
    many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """16 images take 16 MB, 32 take 32, 64 would take 64 of 79: over 80 %."""
    fake(monkeypatch, float, float, free=79e6)
    told = found(fl.train(many, out=tmp_path / "run", batch_size="auto", **QUICK))
    assert told["chosen"] == 32
    assert "memory" in told["said"]


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError(), RuntimeError("x")]
)
def test_an_out_of_memory_error_ends_it_and_another_is_raised(
    many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def full(size: int) -> float:
        if size > 32:
            raise error
        return float(size)

    fake(monkeypatch, full, nothing)
    if type(error) is RuntimeError:
        with pytest.raises(RuntimeError, match="x"):
            fl.train(many, out=tmp_path / "run", batch_size="auto", **QUICK)
        return
    told = found(fl.train(many, out=tmp_path / "run", batch_size="auto", **QUICK))
    assert told["chosen"] == 32
    assert "64 are too many for the memory" in told["said"]


def test_the_rate_follows_where_none_is_given(
    many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the run is the one with both given: nothing of the measuring reaches it."""
    fake(monkeypatch, float, nothing)
    run = fl.train(many, out=tmp_path / "a", batch_size="auto", **QUICK)
    told = found(run)
    given = fl.train(many, out=tmp_path / "b", batch_size=64, lr=told["lr"], **QUICK)
    fixed = fl.train(many, out=tmp_path / "c", batch_size="auto", lr=0.003, **QUICK)
    weights = [
        load_file(one.path / "artefact" / "weights.safetensors") for one in (run, given, fixed)
    ]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not all(torch.equal(weights[0][name], weights[2][name]) for name in weights[0])
    assert told["said"] in (run.path / "train.log").read_text()
    assert "Batch size" in (run.path / "report.html").read_text()


def test_how_the_rate_grows() -> None:
    assert scale("adamw", 16) == scale("sgd", 16) == 1.0
    assert scale("adamw", 64) == 2.0
    assert scale("sgd", 64) == scale("nesterov", 64) == 4.0


def test_a_run_that_is_cut_off_does_not_measure_again(
    many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(monkeypatch, float, nothing)
    run = api.registry.run

    def killed(context: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(api.registry, "run", killed)
    with pytest.raises(KeyboardInterrupt):
        fl.train(many, out=tmp_path / "cut", batch_size="auto", **QUICK)
    seen: list[tuple[int, float]] = []

    def watched(context: Any) -> Any:
        seen.append((context.config.batch, context.config.rate))
        return run(context)

    monkeypatch.setattr(api.registry, "run", watched)
    monkeypatch.setattr(batch_size, "measure", killed)
    fl.resume(tmp_path / "cut")
    assert seen == [(64, 0.006)]


@pytest.mark.parametrize("method", ["supervised", "flexmatch", "noisy_student"])
def test_what_is_measured_is_the_method_and_random_numbers_stay(
    split_folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    sizes: list[Size] = []

    def measured(context: Any) -> Any:
        before = torch.get_rng_state()
        weights = {n: v.clone() for n, v in context.start.model.state_dict().items()}
        sizes.append(batch_size.measure(context, 16))
        assert torch.equal(before, torch.get_rng_state())
        now = context.start.model.state_dict()
        assert all(torch.equal(weights[name], now[name]) for name in weights)
        raise KeyboardInterrupt  # that is all

    monkeypatch.setattr(api, "with_batch_size", measured)
    settings = QUICK | {"method": method, "batch_size": 4}
    with pytest.raises(KeyboardInterrupt):
        fl.train(split_folders, out=tmp_path / "run", **settings)
    assert sizes[0].batch_size == 16
    assert sizes[0].images_per_second > 0
    assert sizes[0].memory_mb > 10


@pytest.mark.skipif(sys.platform != "linux", reason="other systems tell the peak only")
def test_what_was_used_before_is_not_in_use() -> None:
    """The process has once held 400 MB."""
    cpu = torch.device("cpu")
    before = batch_size.used_memory(cpu)
    much = torch.ones(100_000_000)
    assert batch_size.used_memory(cpu) > before + 3.9e8
    del much
    assert batch_size.used_memory(cpu) < before + 1e8


def test_it_is_imported_where_there_is_no_resource_module() -> None:
    code = "import sys; sys.modules['resource'] = None; import fewlabels.procedures.batch_size"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_the_system_says_is_free() -> None:
    assert 1e8 < batch_size.free_memory(torch.device("cpu")) < 1e14
    assert 1e7 < batch_size.used_memory(torch.device("cpu")) < 1e12
