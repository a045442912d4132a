"""The pages of methods: each is there, whole, and what is made in it is as it would be made now."""

import importlib.util
import re
import shlex
import unicodedata
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest
from typer.main import get_command

from fewlabels import cli
from fewlabels.methods import METHODS, resolve
from fewlabels.report.essence import essences

FOLDER = Path(__file__).parents[1] / "docs" / "methods"


def script(name: str) -> ModuleType:
    """One of the scripts beside the pages."""
    about = importlib.util.spec_from_file_location(f"docs_methods_{name}", FOLDER / f"{name}.py")
    assert about is not None
    assert about.loader is not None
    module = importlib.util.module_from_spec(about)
    about.loader.exec_module(module)
    return module


figures, tables = script("figures"), script("tables")


def test_every_method_has_a_figure_and_a_page_and_nothing_else_has() -> None:
    assert list(figures.FIGURES) == list(METHODS)
    assert {path.stem for path in FOLDER.glob("*.svg")} == set(METHODS)
    assert {path.stem for path in FOLDER.glob("*.md")} == {"README", *METHODS}


@pytest.mark.parametrize("name", METHODS)
def test_a_page_has_all_parts(name: str) -> None:
    page = (FOLDER / f"{name}.md").read_text(encoding="utf-8")
    for head in ("The loss", "When", "Settings", "Example", "Measured"):
        assert f"\n## {head}\n" in page
    assert f"`--method {name}`" in page
    assert f"]({name}.svg)" in page
    assert f"\n<!-- results:{name} -->\n" in page
    assert "- **Take it**" in page
    assert "- **Leave it**" in page
    assert "```python\n" in page


def test_the_command_tells_what_the_code_says() -> None:
    again = "run python docs/methods/tables.py"
    assert list(essences()) == tables.essences(), again


@pytest.mark.parametrize("path", tables.pages(), ids=lambda path: path.stem)
def test_formulas_settings_and_list_are_those_of_the_code(path: Path) -> None:
    again = "run python docs/methods/tables.py"
    assert path.read_text(encoding="utf-8") == tables.pages()[path], again
    marks = {"list"} if path.stem == "README" else {"formula", "settings"}
    assert set(re.findall(r"<!-- (formula|settings|list) -->", path.read_text())) == marks


@pytest.mark.parametrize("name", METHODS)
def test_settings_that_a_page_speaks_of_exist(name: str) -> None:
    page = (FOLDER / f"{name}.md").read_text(encoding="utf-8")
    known = {setting.name for setting in tables.essences()[list(METHODS).index(name)].settings}
    assert set(re.findall(r"--set (\w+)=", page)) <= known


def commands() -> list[str]:
    text = "\n".join(path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.md")))
    found = re.findall(r"^fewlabels (train .*)$|`fewlabels\s(train [^`]+)`", text, re.MULTILINE)
    return sorted({" ".join((block or beside).split()) for block, beside in found} - {"train"})


def test_commands_are_found() -> None:
    assert len(commands()) >= len(METHODS)


@pytest.mark.parametrize("line", commands())
def test_commands_are_right(line: str) -> None:
    train, *arguments = shlex.split(line)
    command = get_command(cli.app).commands[train]  # type: ignore[attr-defined]
    given = command.make_context(train, arguments).params
    resolve(given["method"], dict(map(cli._pair, given["method_settings"])))


def test_links_lead_somewhere() -> None:
    for page in FOLDER.glob("*.md"):
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("name", METHODS)
def test_the_figure_is_what_the_script_draws(name: str) -> None:
    drawn = figures.draw(figures.FIGURES[name])
    path = FOLDER / f"{name}.svg"
    assert path.read_text(encoding="utf-8") == drawn, "run python docs/methods/figures.py"
    root = ElementTree.fromstring(drawn)
    of = "{http://www.w3.org/2000/svg}"
    assert root.find(f"{of}title") is not None
    assert root.find(f"{of}desc") is not None
    assert "prefers-color-scheme: dark" in drawn


@pytest.mark.parametrize("name", METHODS)
def test_boxes_do_not_overlap_and_hold_their_text(name: str) -> None:
    boxes = list(figures.FIGURES[name].boxes.values())
    for i, a in enumerate(boxes):
        for b in boxes[:i]:
            apart = a.column != b.column or a.bottom < b.top or b.bottom < a.top
            assert apart, f"{a.text} and {b.text}"
        lines = a.text.split("\n")
        longest = max(sum(not unicodedata.combining(c) for c in line) for line in lines)
        assert longest * 7.4 <= a.right - a.left - 4, a.text  # a wide font's letters
        assert len(lines) * figures.LINE <= a.bottom - a.top - 10, a.text


@pytest.mark.parametrize("name", METHODS)
def test_arrows_cross_no_box(name: str) -> None:
    figure = figures.FIGURES[name]
    for arrow in figure.arrows:
        corners = figures.route(figure, arrow)
        for (x, y), (to_x, to_y) in pairwise(corners):
            assert x == to_x or y == to_y
            left, right, top, bottom = min(x, to_x), max(x, to_x), min(y, to_y), max(y, to_y)
            for key, box in figure.boxes.items():
                meets = left < box.right and right > box.left and top < box.bottom
                assert not (meets and bottom > box.top), f"{arrow}: {key}"
