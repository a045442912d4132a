"""What a method is, in a page: read from its source, so that nothing need be imported, torch least.

The one source of truth is the module's docstring, `Title (Citation): one sentence`, an indented
formula, then text; the fields of its Settings with the comments beside them; and what its class
says of tasks and views. Methods on frozen features say the same in the docstring of their settings.
"""

import ast
import difflib
import re
import textwrap
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from fewlabels.errors import UserError

PACKAGE = "fewlabels"
SOURCE = Path(__file__).parents[1]
METHODS, PROBES = f"{PACKAGE}.methods", f"{PACKAGE}.procedures.probes"
UNLABELLED, TEACHER, PRETRAINED = "unlabelled images", "a teacher", "a pretrained model"


@dataclass(frozen=True)
class Setting:
    """One that `--set NAME=VALUE` takes."""

    name: str
    kind: str  # float, int, bool, str
    default: Any
    meaning: str


@dataclass(frozen=True)
class Seen:
    """Which augmented views of which images a step sees; of frozen features none."""

    labelled: str = ""
    unlabelled: tuple[str, ...] = ()
    ratio: int = 0  # unlabelled images for each labelled one


@dataclass(frozen=True)
class Essence:
    """What there is to know of a method before one takes it."""

    name: str  # as --method takes it
    title: str
    paper: str  # authors and year
    sentence: str
    formula: str  # with the numbers of its equations
    text: str  # paragraphs
    tasks: tuple[str, ...]
    needs: tuple[str, ...]
    views: Seen
    settings: tuple[Setting, ...]
    page: str  # in the repository; empty where there is none

    @property
    def frozen(self) -> bool:
        """Whether it is fitted to frozen features."""
        return PRETRAINED in self.needs


@cache
def essences() -> tuple[Essence, ...]:
    """Of all that `--method` takes but auto, which is a choice among them."""
    return (*map(_of_method, *_table(METHODS, "METHODS")), *map(_frozen, *_table(PROBES, "FROZEN")))


def essence(name: str) -> Essence:
    """UserError, with what is near, for an unknown one."""
    found = {each.name: each for each in essences()}
    if name in found:
        return found[name]
    if name == "auto":
        raise UserError(
            "methods auto: auto is no method; it trains labels only, then one that learns from the "
            "unlabelled images too, and keeps the better"
        )
    close = difflib.get_close_matches(name, found, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}" if close else "`fewlabels methods` lists them"
    raise UserError(f"methods {name}: no such method; {hint}")


def _of_method(name: str, entry: ast.expr) -> Essence:
    """`Entry(module.Class, module.Settings)` under its name in METHODS."""
    assert isinstance(entry, ast.Call)
    classes, options = (_lineage(*_class(arg, _parsed(METHODS))) for arg in entry.args)
    settings, home = _settings(options), classes[0][1]
    views = _views(classes, {each.name: each.default for each in settings})
    needs = (UNLABELLED,) * bool(views.unlabelled) + (TEACHER,) * bool(_member("taught", classes))
    return Essence(
        name,
        *_parts(ast.get_docstring(home.tree) or "", home.name),
        tasks=_member("tasks", classes),
        needs=needs,
        views=views,
        settings=settings,
        page=f"docs/methods/{name}.md",
    )


def _frozen(name: str, entry: ast.expr) -> Essence:
    kind, home = _class(entry, _parsed(PROBES))
    spreads = _value(ast.Name("SPREADS"), home)
    return Essence(
        name,
        *_parts(ast.get_docstring(kind) or "", f"{home.name}.{kind.name}"),
        tasks=("single",),
        needs=(PRETRAINED, *((UNLABELLED,) if name in spreads else ())),
        views=Seen(),
        settings=_settings([(kind, home)]),
        page="",
    )


def _parts(docstring: str, where: str) -> tuple[str, str, str, str, str]:
    """Title, paper, sentence, formula and text of "Title (Paper 2020): a sentence", a formula …"""
    head, *rest = docstring.split("\n\n")
    found = re.fullmatch(r"([^(]+) \(([^()]+ \d{4})\): (.+)", " ".join(head.split()))
    if found is None:
        raise ValueError(f"{where}: the docstring begins with 'Title (Author 2020): sentence'")
    formula = [part for part in rest if part.startswith("    ")]
    text = [" ".join(part.split()) for part in rest if part not in formula]
    lines = textwrap.dedent("\n\n".join(formula))
    return found[1], found[2], found[3], lines, "\n\n".join(text)


def _settings(classes: "list[Home]") -> tuple[Setting, ...]:
    """The fields of a dataclass, those of its bases first; a field that is there again is changed
    where it stands, as in the dataclass itself."""
    found: dict[str, Setting] = {}
    for kind, home in reversed(classes):
        for field in kind.body:
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                assert field.value is not None
                line = home.lines[(field.end_lineno or 0) - 1].encode()
                beside = line[field.end_col_offset :].decode().strip().removeprefix("#").strip()
                name, kept = field.target.id, ast.unparse(field.annotation)
                found[name] = Setting(name, kept, _value(field.value, home), beside)
    return tuple(found.values())


def _views(classes: "list[Home]", settings: dict[str, Any]) -> Seen:
    """Of `self.views = Views(labelled, unlabelled, ratio)`, with the settings' defaults."""
    for kind, home in classes:
        for node in ast.walk(kind):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "Views":
                values = [_value(arg, home, classes, settings) for arg in node.args]
                named = {w.arg: _value(w.value, home, classes, settings) for w in node.keywords}
                return Seen(*values, **{str(key): value for key, value in named.items()})
    raise ValueError(f"{classes[0][0].name} says nowhere which Views it takes")


# How Python finds what a name stands for, for the little that methods use of it.


@dataclass(frozen=True)
class Module:
    name: str
    tree: ast.Module
    lines: tuple[str, ...]


Home = tuple[ast.ClassDef, Module]  # a class and where it stands


@cache
def _parsed(name: str) -> Module:
    path = SOURCE.joinpath(*name.split(".")[1:])
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    text = path.read_text(encoding="utf-8")
    return Module(name, ast.parse(text), tuple(text.split("\n")))


def _table(module: str, name: str) -> tuple[list[str], list[ast.expr]]:
    """The keys and the unevaluated values of a dictionary."""
    found = _named(name, _parsed(module))
    assert found is not None
    table = found[0]
    assert isinstance(table, ast.Dict)
    return [ast.literal_eval(key) for key in table.keys if key is not None], table.values


def _named(name: str, home: Module) -> tuple[ast.AST, Module] | None:
    """What a name stands for in a module, and where that stands; None for other packages'."""
    for node in home.tree.body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return node, home
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PACKAGE):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return _named(alias.name, _parsed(str(node.module)))
        if (value := _assigned(name, node)) is not None:
            return value, home
    return None


def _assigned(name: str, node: ast.stmt) -> ast.expr | None:
    """What the statement assigns to the name: `a = 1`, `a: int = 1`, or of `a, b = 1, 2`."""
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    value = getattr(node, "value", None)
    for target in targets:
        pairs = [(target, value)]
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            pairs = list(zip(target.elts, value.elts, strict=True))
        for one, its in pairs:
            if isinstance(one, ast.Name) and one.id == name:
                return its
    return None


def _class(expression: ast.expr, home: Module) -> Home:
    """`Class`, or `module.Class` of a module beside -> the class and where it stands."""
    module, _, name = ast.unparse(expression).rpartition(".")
    found = _named(name, _parsed(f"{home.name}.{module}") if module else home)
    assert found is not None
    assert isinstance(found[0], ast.ClassDef)
    return found[0], found[1]


def _lineage(kind: ast.ClassDef, home: Module) -> list[Home]:
    """The class and its bases, the nearest first; nothing beyond the package."""
    found = [(kind, home)]
    for base in kind.bases:
        if isinstance(base, ast.Name) and _named(base.id, home) is not None:
            found += _lineage(*_class(base, home))
    return found


def _member(name: str, classes: list[Home]) -> Any:
    """The value of a class attribute."""
    for kind, home in classes:
        for node in kind.body:
            if (value := _assigned(name, node)) is not None:
                return _value(value, home)
    raise ValueError(f"{classes[0][0].name} has no {name}")


def _value(
    node: ast.expr,
    home: Module,
    classes: list[Home] | None = None,
    settings: dict[str, Any] | None = None,
) -> Any:
    """A literal, a name that stands for one, `self.attribute` or `settings.name`."""
    if isinstance(node, ast.Name) and (found := _named(node.id, home)) is not None:
        assert isinstance(found[0], ast.expr)
        return _value(found[0], found[1])
    if isinstance(node, ast.Tuple):
        return tuple(_value(one, home, classes, settings) for one in node.elts)
    if isinstance(node, ast.Attribute) and settings is not None and classes is not None:
        of_settings = ast.unparse(node.value) == "settings"
        return settings[node.attr] if of_settings else _member(node.attr, classes)
    return ast.literal_eval(node)
