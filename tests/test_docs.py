"""The Python in README and docs runs as it stands, on a small folder; only time limits and steps
are cut."""

import re
from pathlib import Path

import pytest
import torch
from conftest import Paint, picture

from fewlabels.methods import METHODS
from fewlabels.models import catalog
from fewlabels.procedures import self_train
from fewlabels.procedures.config import Config, read_recipe, seconds
from fewlabels.settings import make

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))


def blocks() -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        code = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
        where = page.relative_to(ROOT).with_suffix("").as_posix().removeprefix("docs/")
        found += [(f"{where}-{i}", text) for i, text in enumerate(code)]
    return found


def test_the_readme_has_its_example() -> None:
    assert any(name.startswith("README") for name, _ in blocks())


@pytest.mark.parametrize(("name", "code"), blocks(), ids=[name for name, _ in blocks()])
def test_code_blocks_run(
    name: str, code: str, tmp_path: Path, paint: Paint, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind, label in enumerate(("left", "right")):
        paint(tmp_path / "photos" / "train" / label, kind, 4)
        paint(tmp_path / "photos" / "test" / label, kind, 4)
        paint(tmp_path / "photos" / "unlabelled", kind, 8)
    picture(0, 99).save(tmp_path / "new.jpg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(self_train, "LEARNT", 0.0)  # eight steps are not enough to learn labels
    code, cut = re.subn(r'time_limit="\w+"', 'time_limit="12s"', code)
    assert cut <= 1
    code = re.sub(r"\bsteps=\d+", "steps=8", code)
    exec(compile(code, name, "exec"), {})
    if "fl.train(" in code:
        assert (tmp_path / "runs" / "1" / "report.html").exists()


def models() -> list[str]:
    """The names of models that README and docs mention: as `--model NAME` or in tables."""
    pages = [page for page in PAGES if page.parent.name != "methods"]  # whose tables list settings
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    named = re.findall(r"--model '?([a-z][\w:.]*(?:\([\w=.,]+\))?)", text)
    listed = re.findall(r"^\| `([a-z]\w+(?:\([\w=.,]+\))?)` \| \d", text, re.MULTILINE)
    prefixes = ("auto", "hf", "local")  # the latter two are of one's own
    return sorted({name for name in [*named, *listed] if not name.startswith(prefixes)})


def test_models_are_mentioned() -> None:
    assert {"resnet18(se=16)", "mobilenet_v2", "efficientnet_l2", "vit_b_16"} <= set(models())


@pytest.mark.parametrize("name", models())
def test_every_model_that_is_mentioned_builds(name: str) -> None:
    with torch.device("meta"):  # without the memory
        assert catalog.build(name, 3, "none").model


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_a_recipe(name: str) -> None:
    assert any(read_recipe(path).get("method") == name for path in RECIPES)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_recipes_resolve_and_are_headed_by_command_time_and_accuracy(path: Path) -> None:
    settings = read_recipe(path)
    if "time_limit" in settings:
        settings["time_limit"] = seconds(settings["time_limit"])
    make(Config, {"data": "photos"} | settings, path.name)  # transfer is for data of one's own
    header = [line for line in path.read_text().splitlines() if line.startswith("#")]
    text = "\n".join(header)
    assert f"fewlabels train -c recipes/{path.name}" in text
    assert re.search(r"\d+ s", text)
    assert re.search(r"\d+\.\d ± \d+\.\d %", text)
