"""Imports go one way through the house, top to bottom; and the cheap things stay cheap."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "fewlabels"
HOUSE = [
    "errors",
    "settings",
    "torchvision_repair",
    "pool",
    "pixels",
    "augment",
    "models",
    "methods",
    "training",
    "evaluate",
    "procedures",
    "curate",
    "report",
    "deploy",
    "scale",
    "web",
    "api",
    "cli",
]


def imported(file: Path) -> list[str]:
    """The rooms that a file imports, wherever in the file it does."""
    names = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "fewlabels":
                names += [f"fewlabels.{alias.name}" for alias in node.names]
            names.append(node.module)
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
    return [name.split(".")[1] for name in names if name.startswith("fewlabels.")]


FILES = sorted(f for f in SOURCE.rglob("*.py") if f.name not in ("__main__.py",))


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(SOURCE)))
def test_imports_go_one_way(file: Path) -> None:
    room = file.relative_to(SOURCE).parts[0].removesuffix(".py")
    if room == "__init__":
        return
    for other in imported(file):
        assert HOUSE.index(other) <= HOUSE.index(room), f"{room} imports {other}"


def test_every_room_is_in_the_house() -> None:
    rooms = {f.relative_to(SOURCE).parts[0].removesuffix(".py") for f in FILES} - {"__init__"}
    assert rooms <= set(HOUSE)


@pytest.mark.parametrize("module", ["fewlabels", "fewlabels.cli", "fewlabels.pool"])
def test_torch_is_imported_only_by_what_needs_it(module: str) -> None:
    code = (
        f"import sys, {module}; print([m for m in ('torch', 'numba', 'PIL') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
