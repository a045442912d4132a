"""`fewlabels methods` as a user meets it."""

import json
import resource
import subprocess
import sys

import pytest

from fewlabels import cli
from fewlabels.methods import METHODS
from fewlabels.procedures.probes import FROZEN
from fewlabels.procedures.sequences import SEQUENCES
from fewlabels.report.essence import essence
from fewlabels.report.methods import sees, written


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Runs the command line in this process; returns its exit code."""
    monkeypatch.setattr(sys, "argv", ["fewlabels", "methods", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert isinstance(stop.value.code, int)
    return stop.value.code


def said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> str:
    """What it prints when all is well."""
    assert call(monkeypatch, *arguments) == 0
    out, error = capsys.readouterr()
    assert error == ""
    return out


@pytest.mark.parametrize("name", [*METHODS, *FROZEN, *SEQUENCES])
def test_the_list_has_a_whole_line_for_each(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    out, one = said(monkeypatch, capsys), essence(name)
    row = next(line for line in out.splitlines() if line.startswith(f"{name} "))
    for cell in (one.sentence.removesuffix("."), one.paper, ", ".join(one.tasks), *one.needs):
        assert cell in row
    assert "On frozen features of the model, in seconds: linear_probe, knn, label_spreading." in out
    assert "Sequences of runs, or made of runs: self_train, noisy_student, pretrain," in out


@pytest.mark.parametrize("columns", ["60", "80", "140"])
def test_the_list_fits_a_terminal(columns: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fewlabels", "methods"],
        env={"FORCE_COLOR": "1", "NO_COLOR": "1", "COLUMNS": columns, "PATH": "/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    table = done.stdout.split("\n\n")[0].replace("\x1b[2m", "").replace("\x1b[0m", "")
    assert max(map(len, table.splitlines())) <= int(columns)
    assert "…" not in table
    assert all(f"\n{name} " in table for name in METHODS)


@pytest.mark.parametrize("name", [*METHODS, *FROZEN])
def test_one_method(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    out, one = said(monkeypatch, capsys, name), essence(name)
    assert out.startswith(f"{one.title} ({one.paper}): ")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    for equation in one.formula.splitlines():
        assert " ".join(equation.split()) in lines
    for setting in one.settings:
        assert f"{setting.name} {written(setting)} {setting.meaning}" in lines
    text = " ".join(out.split())
    assert sees(one) in text
    assert " ".join(one.text.split()) in text
    assert (one.page in text) == (name in METHODS or not one.page)


def test_what_it_sees_in_words() -> None:
    assert sees(essence("supervised")) == "the strong view of a labelled image"
    assert "the strong and another strong views" in sees(essence("simclr"))
    assert sees(essence("knn")) == "every image once, as it is"


def test_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    rows = json.loads(said(monkeypatch, capsys, "--json"))
    assert [row["name"] for row in rows] == [*METHODS, *FROZEN, *SEQUENCES]
    one = json.loads(said(monkeypatch, capsys, "fixmatch", "--json"))
    assert one == rows[[*METHODS].index("fixmatch")]
    assert one["paper"] == "Sohn et al. 2020"


def test_it_is_quick() -> None:
    def cpu(*arguments: str) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(cpu("-m", "fewlabels", "methods") for _ in range(3)) < 0.8


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["fixmach"], "did you mean fixmatch"),
        (["mean-teacher"], "did you mean mean_teacher"),
        (["nothing-like-it"], "`fewlabels methods` lists them"),
        (["fixmatch", "--all"], "--all"),
    ],
)
def test_wrong_use_gets_one_line_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    says: str,
) -> None:
    assert call(monkeypatch, *arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("fewlabels: ")
    assert error.count("\n") == 1
    assert says in error
