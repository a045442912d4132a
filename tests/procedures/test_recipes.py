"""Every recipe in a short form: its settings, but for the images and the number of steps."""

from pathlib import Path

import pytest
from backbones import backbone

import fewlabels as fl
from fewlabels.procedures.config import EARLIER, read_recipe

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))


@pytest.mark.slow
@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_runs(path: Path, split_folders: Path, tmp_path: Path) -> None:
    settings = read_recipe(path)
    own = settings.pop("settings", {})
    for limit in ("data", "time_limit", "epochs", "labels_per_class"):
        settings.pop(limit, None)
    if settings.get("model", "").startswith("timm:"):
        settings |= {"model": backbone(tmp_path / "model"), "img_size": 32}
    if settings["method"] in EARLIER:
        plain = {"method": "supervised", "model": "cnn_small", "steps": 4, "img_size": 32}
        settings["runs"] = [str(fl.train(split_folders, out=tmp_path / "first", **plain).path)]
    settings["steps"] = 4
    run = fl.train(split_folders, out=tmp_path / "run", settings=own, **settings)
    assert 0 <= run.result["test"]["accuracy"] <= 1
    assert run.result["method"] in (settings["method"], "before")
    assert fl.load(run).predict([split_folders / "test" / "left" / "left-0-0.png"])[0].label
