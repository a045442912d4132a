"""What is read of a method's source is what the method is, and says all that a reader needs."""

import dataclasses
import inspect
import json
import re
import subprocess
import sys

import pytest

from fewlabels.errors import UserError
from fewlabels.methods import METHODS, Facts, create, resolve
from fewlabels.procedures.probes import FROZEN
from fewlabels.procedures.sequences import SEQUENCES
from fewlabels.report.essence import PRETRAINED, TEACHER, UNLABELLED, essence, essences

FACTS = Facts(num_classes=4, label_counts=(3, 3, 3, 3), num_images=40, num_unlabelled=28)
ALL = [*METHODS, *FROZEN, *SEQUENCES]


def test_every_method_is_there_in_order() -> None:
    assert [one.name for one in essences()] == ALL


@pytest.mark.parametrize("name", ALL)
def test_all_parts_are_there(name: str) -> None:
    one = essence(name)
    assert one.title
    assert re.search(r"\b(19|20)\d\d$", one.paper), one.paper
    assert one.sentence.endswith(".")
    assert "\n" not in one.sentence
    assert one.formula
    assert not one.formula.startswith(" ")
    assert one.text
    assert len({setting.name for setting in one.settings}) == len(one.settings)


@pytest.mark.parametrize("name", METHODS)
def test_the_formula_says_where_it_stands_in_the_paper(name: str) -> None:
    one = essence(name)
    assert re.search(r"\b(equations?|section|algorithm) \d", f"{one.formula} {one.text}")


@pytest.mark.parametrize("name", ALL)
def test_every_setting_says_what_it_means(name: str) -> None:
    for setting in essence(name).settings:
        assert re.search(r"[a-z]{3}", setting.meaning), f"{name} {setting.name}: say it beside it"


@pytest.mark.parametrize("name", ALL)
def test_settings_are_those_of_the_code(name: str) -> None:
    kind = METHODS[name].settings if name in METHODS else (FROZEN | SEQUENCES)[name]
    told = [(s.name, s.default, s.kind) for s in essence(name).settings]
    fields = dataclasses.fields(kind)
    assert told == [(f.name, f.default, f.type.__name__) for f in fields]
    assert kind(**{s.name: s.default for s in essence(name).settings}) == kind()


@pytest.mark.parametrize("name", METHODS)
def test_tasks_needs_and_views_are_those_of_the_code(name: str) -> None:
    one, entry = essence(name), METHODS[name]
    assert one.tasks == entry.method.tasks
    assert (TEACHER in one.needs) == entry.method.taught
    views = create(name, FACTS, resolve(name, {})).views
    assert (UNLABELLED in one.needs) == bool(views.unlabelled)
    assert dataclasses.asdict(one.views) == dataclasses.asdict(views)
    assert not one.frozen


@pytest.mark.parametrize("name", METHODS)
def test_the_docstring_is_that_of_the_module_of_the_same_name(name: str) -> None:
    module = sys.modules[METHODS[name].method.__module__]
    assert module.__name__ == f"fewlabels.methods.{name}"
    told = " ".join((inspect.getdoc(module) or "").split())
    one = essence(name)
    for part in (one.title, one.paper, one.sentence, one.formula, one.text):
        assert " ".join(part.split()) in told


def test_frozen_ones_are_marked() -> None:
    assert [one.name for one in essences() if one.frozen] == list(FROZEN)
    assert essence("label_spreading").needs == (PRETRAINED, UNLABELLED)
    assert essence("knn").needs == (PRETRAINED,)


@pytest.mark.parametrize("name", ALL)
def test_json_holds_it(name: str) -> None:
    about = dataclasses.asdict(essence(name))
    again = json.loads(json.dumps(about))
    assert again["name"] == name
    assert again["settings"] == [dataclasses.asdict(s) for s in essence(name).settings]
    assert tuple(again["tasks"]) == essence(name).tasks


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("fixmach", "did you mean fixmatch"),
        ("zzz", "`fewlabels methods` lists them"),
        ("auto", "auto is no method"),
    ],
)
def test_unknown_names(name: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        essence(name)


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys; from fewlabels.report.essence import essences; essences()\n"
        "print([m for m in ('torch', 'numpy', 'scipy', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
