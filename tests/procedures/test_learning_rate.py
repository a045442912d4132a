"""`--lr auto` in a run: what it changes, what it leaves alone, and that it is found once."""

import json
from pathlib import Path
from typing import Any

import backbones
import pytest
import torch
import yaml
from safetensors.torch import load_file
from typer.testing import CliRunner

import fewlabels as fl
from fewlabels import api
from fewlabels.cli import app
from fewlabels.errors import UserError
from fewlabels.procedures import learning_rate
from fewlabels.training.range_test import RangeTest, chosen

QUICK: dict[str, Any] = {"steps": 8, "batch_size": 4, "img_size": 16, "weights": "none"}
QUICK |= {"flip": "off", "rotate": "off", "method": "fixmatch"}


@pytest.fixture(autouse=True)
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fewlabels.training.range_test.STEPS", 30)


def weights(run: fl.Run) -> dict[str, torch.Tensor]:
    return load_file(run.path / "artefact" / "weights.safetensors")


def found(run: fl.Run) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((run.path / "learning_rate.json").read_text())
    return told


def same(one: fl.Run, other: fl.Run) -> bool:
    a, b = weights(one), weights(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_the_run_is_the_one_with_that_rate_given(split_folders: Path, tmp_path: Path) -> None:
    """All stages take it, and nothing else of the test reaches them, not even a random number."""
    run = fl.train(split_folders, out=tmp_path / "auto", lr="auto", **QUICK)
    told = found(run)
    assert told["chosen"] == chosen(RangeTest(*(told[n] for n in ("rates", "losses", "smoothed"))))
    given = fl.train(split_folders, out=tmp_path / "given", lr=told["chosen"], **QUICK)
    usual = fl.train(split_folders, out=tmp_path / "usual", **QUICK)
    assert same(run, given)
    assert not same(run, usual)
    assert yaml.safe_load((run.path / "config.yaml").read_text())["lr"] == "auto"
    assert told["said"] in (run.path / "train.log").read_text()
    assert "Learning rate" in (run.path / "report.html").read_text()
    again = fl.train(split_folders, out=tmp_path / "again", lr="auto", **QUICK)
    assert found(again) == told


def test_a_run_that_is_cut_off_does_not_search_again(
    split_folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = fl.train(split_folders, out=tmp_path / "whole", lr="auto", **QUICK)
    run = api.registry.run

    def killed(context: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(api.registry, "run", killed)
    with pytest.raises(KeyboardInterrupt):
        fl.train(split_folders, out=tmp_path / "cut", lr="auto", **QUICK)
    monkeypatch.setattr(api.registry, "run", run)
    monkeypatch.setattr(learning_rate, "range_test", killed)
    assert same(whole, fl.resume(tmp_path / "cut"))


def test_neither_test_images_nor_held_out_ones_are_looked_at(
    split_folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}
    real = learning_rate.ingredients

    def watched(context: Any, name: str, rows: Any, seed: int) -> Any:
        seen.update(rows=set(rows.tolist()), data=context.data, name=name)
        return real(context, name, rows, seed)

    monkeypatch.setattr(learning_rate, "ingredients", watched)
    fl.train(split_folders, out=tmp_path / "run", lr="auto", **QUICK)
    data = seen["data"]
    assert len(data.held_out)
    assert seen["name"] == "supervised"
    assert seen["rows"] == set(data.labelled.tolist()) - set(data.held_out.tolist())
    assert not seen["rows"] & set(data.test.tolist())


def test_pretrained_weights_start_from_their_linear_probe(
    split_folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts: list[dict[str, torch.Tensor]] = []
    probed, real = learning_rate.probed, learning_rate.range_test

    def kept(*args: Any) -> Any:
        starts.append(probed(*args) or {})
        return starts[0]

    def watched(model: torch.nn.Module, *rest: Any) -> RangeTest:
        starts.append({name: value.clone() for name, value in model.state_dict().items()})
        return real(model, *rest)

    monkeypatch.setattr(learning_rate, "probed", kept)
    monkeypatch.setattr(learning_rate, "range_test", watched)
    model = backbones.backbone(tmp_path / "backbone")
    settings = QUICK | {"weights": "auto", "img_size": 32, "method": "supervised", "model": model}
    run = fl.train(split_folders, out=tmp_path / "run", lr="auto", **settings)
    probe, start = starts
    assert probe
    assert all(torch.equal(start[name], probe[name]) for name in start)
    assert found(run)["usual"] == 0.0003


def test_without_time_the_usual_rate_is_taken_and_that_is_said(
    split_folders: Path, tmp_path: Path
) -> None:
    settings = {name: value for name, value in QUICK.items() if name != "steps"}
    settings |= {"time_limit": 0.5, "method": "supervised"}
    run = fl.train(split_folders, out=tmp_path / "run", lr="auto", **settings)
    assert found(run)["chosen"] == 0.003
    assert "no time" in found(run)["said"]


def test_the_command_line_takes_a_number_or_auto(tmp_path: Path) -> None:
    for option, text, what in (
        ("--lr", "fast", "--lr fast: must be a number or auto"),
        ("--batch-size", "1.5", "--batch-size 1.5: must be a whole number or auto"),
        ("--lr", "nan", "--lr nan: must be a number or auto"),
        ("--clip", "nan", "--clip nan: must be a number"),
        ("--ema-decay", "inf", "--ema-decay inf: must be a number"),
    ):
        said = CliRunner().invoke(app, ["train", "digits", option, text])
        assert isinstance(said.exception, UserError)
        assert str(said.exception) == what
