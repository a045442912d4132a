"""Bugs that break a method silently, planted one by one: the tests must see them.

Each row is a file, a text that is found in it once, what takes its place, and the tests that must
then fail, each of them. The copy in which it is planted is what the tests import.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from planted import BUGS, Bug

ROOT = Path(__file__).parents[2]


NONE = Bug("no bug", "methods/targets.py", "import torch\n", "import torch\n", ())


def outcome(bug: Bug, tests: tuple[str, ...], home: Path) -> dict[str, str]:
    """passed or failed, by test, with the bug planted in a copy of the package."""
    copy = home / "fewlabels"
    shutil.copytree(ROOT / "src" / "fewlabels", copy, ignore=shutil.ignore_patterns("__pycache__"))
    path = copy / bug.file
    text = path.read_text()
    assert text.count(bug.text) == 1, f"{bug.file} holds {text.count(bug.text)} times: {bug.text}"
    path.write_text(text.replace(bug.text, bug.instead))
    environment = os.environ | {"PYTHONPATH": str(home), "PYTHONDONTWRITEBYTECODE": "1"}

    def python(*arguments: str) -> str:
        command = [sys.executable, *arguments]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        return done.stdout

    imported = python("-c", "import fewlabels; print(fewlabels.__file__)")
    assert Path(imported.strip()) == copy / "__init__.py"
    said = python(
        *("-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=no", "-rpfE"),
        *(f"tests/{test}" for test in tests),
    )
    results = {}
    for line in said.splitlines():
        word, _, rest = line.partition(" ")
        if word in ("PASSED", "FAILED", "ERROR"):
            results[rest.split(" - ")[0].removeprefix("tests/")] = word.lower()
    return results


@pytest.mark.slow
@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_planted_bug_is_seen(bug: Bug, tmp_path: Path) -> None:
    assert outcome(bug, bug.tests, tmp_path) == dict.fromkeys(bug.tests, "failed")


@pytest.mark.slow
def test_without_a_bug_the_same_tests_pass(tmp_path: Path) -> None:
    tests = tuple(sorted({test for bug in BUGS for test in bug.tests}))
    assert outcome(NONE, tests, tmp_path) == dict.fromkeys(tests, "passed")
