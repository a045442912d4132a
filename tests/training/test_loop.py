"""The loop on a small problem: it learns, it resumes exactly, it refuses to go on from NaN."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from torch import nn

from fewlabels.errors import UserError
from fewlabels.methods import Batch, Facts, Method, create, resolve
from fewlabels.training import checkpoint
from fewlabels.training.budget import Budget
from fewlabels.training.loop import Fitted, TrainSettings, fit
from fewlabels.training.optimiser import OptimiserSettings


class Heard:
    """A listener that remembers, and may interrupt."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.rows: list[dict[str, Any]] = []
        self.resumed_at: int | None = None
        self.stop_at = stop_at
        self.last = 0.0

    def resumed(self, step: int) -> None:
        self.resumed_at = step

    def step(self, progress: float, step: int, rate: float, loss: float) -> None:
        self.last = progress
        if step == self.stop_at:
            raise KeyboardInterrupt

    def metrics(self, row: dict[str, Any]) -> None:
        self.rows.append(row)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 4, 2), nn.BatchNorm2d(4), nn.Flatten(), nn.Dropout(0.1), nn.Linear(4, 2)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layers(x)
        return logits


def batch_of(step: int) -> Batch:
    """Two classes that differ in their mean; a function of the step's number alone."""
    g = torch.Generator().manual_seed(step)
    y = torch.arange(8) % 2
    x = torch.randn(8, 1, 2, 2, generator=g) + 3.0 * y[:, None, None, None]
    u = torch.randn(8, 1, 2, 2, generator=g) + 3.0 * y[:, None, None, None]
    return Batch(x, y, u, u + 0.1, torch.arange(8))


def train(
    folder: Path,
    listener: Heard,
    steps: int = 40,
    method: str = "fixmatch",
    make: Callable[[int], Batch] = batch_of,
    seed: int = 0,
    lr: float = 0.01,
) -> tuple[Fitted, Method]:
    torch.manual_seed(seed)
    its = create(method, Facts(2, (4, 4), 8), resolve(method, {}))
    settings = TrainSettings(
        optimiser=OptimiserSettings("adamw", lr),
        validations=10,
        checkpoint_seconds=0.0,  # after every step
        checkpoint_share=float("inf"),
    )
    fabric = Fabric(accelerator="cpu", devices=1)

    def validate(model: nn.Module) -> dict[str, float]:
        batch = batch_of(10_000)
        return {"val_accuracy": float((model(batch.x).argmax(1) == batch.y).float().mean())}

    budget = Budget(steps=steps)
    fitted = fit(
        Net(), its, make, budget, settings, fabric, folder / "last", validate, listener, "stage"
    )
    return fitted, its


def weights(fitted: Fitted) -> torch.Tensor:
    return torch.cat([value.flatten().double() for value in fitted.model.state_dict().values()])


def test_it_learns_and_tells(tmp_path: Path) -> None:
    heard = Heard()
    fitted, _ = train(tmp_path, heard)
    assert fitted.steps == 40
    assert fitted.images == 40 * 24
    assert not fitted.model.training
    assert heard.last == 1.0
    assert [row["step"] for row in heard.rows] == list(range(4, 41, 4))
    assert heard.rows[-1]["val_accuracy"] == 1.0
    assert heard.rows[-1]["loss"] < heard.rows[0]["loss"]
    assert heard.rows[-1]["lr"] < heard.rows[2]["lr"]


def test_a_run_cut_off_and_resumed_ends_as_the_uncut_one(tmp_path: Path) -> None:
    whole, its = train(tmp_path / "a", Heard())
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "b", Heard(stop_at=17))
    heard = Heard()
    resumed, other = train(tmp_path / "b", heard)
    assert heard.resumed_at == 16  # the checkpoint before the step that was cut off
    assert torch.equal(weights(whole), weights(resumed))
    assert torch.equal(its.alignment.running, other.alignment.running)  # type: ignore[operator]


def test_the_checkpoint_of_another_stage_is_not_taken_up(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "last", {"tag": "another", "step": 30})
    heard = Heard()
    fitted, _ = train(tmp_path, heard, steps=3)
    assert heard.resumed_at is None
    assert fitted.steps == 3


def test_the_same_seed_gives_the_same_weights_and_another_others(tmp_path: Path) -> None:
    one, two, other = (
        weights(train(tmp_path / str(i), Heard(), steps=5, seed=seed)[0])
        for i, seed in enumerate((0, 0, 1))
    )
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_a_loss_that_is_no_number_stops_with_a_line(tmp_path: Path) -> None:
    def broken(step: int) -> Batch:
        batch = batch_of(step)
        return Batch(batch.x * float("nan"), batch.y)

    with pytest.raises(UserError, match=r"nan at step 0.*--lr"):
        train(tmp_path, Heard(), method="supervised", make=broken)
