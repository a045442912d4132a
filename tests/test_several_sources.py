"""Several DATA on the command line: checked, trained on, resumed and evaluated as one pool."""

import json
from pathlib import Path

import pytest
import yaml
from conftest import Paint, call

import fewlabels as fl

QUICK = ["--steps", "2", "--img-size", "16", "--batch-size", "4", "--weights", "none"]


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, paint: Paint) -> Path:
    """Two places with images of the same names, below the working directory."""
    for kind, label in enumerate(("left", "right")):
        paint(tmp_path / "one/train" / label, kind, 4)
        paint(tmp_path / "one/test" / label, kind, 4)
        paint(tmp_path / "one/unlabelled", kind, 8)
        paint(tmp_path / "two/train" / label, kind, 3)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_check(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], two: Path
) -> None:
    assert call(monkeypatch, "check", "one", "two", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["origin"] == f"{two}/one + {two}/two"
    assert found["counts"]["train"] == {"left": 7, "right": 7, "unlabelled": 16}
    assert call(monkeypatch, "check", "one", "digts") == 2


def test_train_resume_and_evaluate(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], two: Path
) -> None:
    train = ["train", "one", "two", "--method", "supervised", *QUICK]
    assert call(monkeypatch, *train, "--out", "run") == 0
    config = yaml.safe_load((two / "run/config.yaml").read_text())
    assert config["data"] == [f"{two}/one", f"{two}/two"]
    result = (two / "run/result.json").read_bytes()
    assert json.loads(result)["test"]["n"] == 8
    assert "<h1>one + two</h1>" in (two / "run/report.html").read_text()

    monkeypatch.chdir("/")
    run = two / "run"
    assert fl.api.evaluate(run).result["images"] == 8
    capsys.readouterr()
    for given in (["one"], ["two", "one"], ["one", "two", "digits"]):
        places = [two / name if name != "digits" else name for name in given]
        assert call(monkeypatch, "train", "--resume", run, *places) == 2
        assert "the run was begun with" in capsys.readouterr().err

    monkeypatch.chdir(two)
    (run / "result.json").unlink()  # as if it had been killed before its end
    assert call(monkeypatch, "train", "--resume", "run", "one", "two") == 0
    again = json.loads((run / "result.json").read_text())
    assert again["test"] == json.loads(result)["test"]


def test_python_and_recipes_take_several(monkeypatch: pytest.MonkeyPatch, two: Path) -> None:
    settings = {"steps": 1, "img_size": 16, "batch_size": 4, "weights": "none"}
    run = fl.train(["one", two / "two"], method="supervised", out="python", **settings)
    assert run.result["test"]["n"] == 8
    recipe = yaml.safe_dump(settings | {"method": "supervised", "data": ["one", "two"]})
    (two / "recipe.yaml").write_text(recipe)
    assert call(monkeypatch, "train", "-c", "recipe.yaml", "--out", "recipe") == 0
    config = yaml.safe_load((two / "recipe/config.yaml").read_text())
    assert config["data"] == [f"{two}/one", f"{two}/two"]
    one = fl.train(["one"], method="supervised", out="one-of-one", **settings)
    assert yaml.safe_load((one.path / "config.yaml").read_text())["data"] == f"{two}/one"
