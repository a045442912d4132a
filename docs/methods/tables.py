"""Writes what is told of methods from what they are: `fewlabels methods`, and these pages.

    python docs/methods/tables.py

All of it comes from the docstrings, the Settings and the comments beside their fields. The command
reads report/methods.json. In the pages it stands between `<!-- formula -->`, `<!-- settings -->` or
`<!-- list -->` and `<!-- end -->`.
"""

import inspect
import json
import re
import sys
import textwrap
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from fewlabels.methods import METHODS, Facts, create, resolve
from fewlabels.procedures.probes import FROZEN, SPREADS
from fewlabels.procedures.sequences import SEQUENCES
from fewlabels.report import essence
from fewlabels.report.essence import (
    PRETRAINED,
    RUNS,
    TEACHER,
    UNLABELLED,
    Essence,
    Seen,
    Setting,
)
from fewlabels.report.methods import needs, written

HERE = Path(__file__).parent
NEEDS = {
    "pretrain": (UNLABELLED,),
    "fixres": (RUNS,),
    "ensemble": (RUNS,),
    "baseline": (PRETRAINED,),
}


def essences() -> list[Essence]:
    """Of all methods, from the code."""
    return [*map(trained, METHODS), *map(frozen, FROZEN), *map(sequence, SEQUENCES)]


def trained(name: str) -> Essence:
    kind = METHODS[name].method
    settings = METHODS[name].settings
    module = sys.modules[kind.__module__]
    views = create(name, Facts(2, (1, 1), 2, 2), resolve(name, {})).views
    return Essence(
        name,
        *parts(module.__doc__ or "", module.__name__),
        tasks=tuple(kind.tasks),
        needs=(UNLABELLED,) * bool(views.unlabelled) + (TEACHER,) * kind.taught,
        views=Seen(views.labelled, tuple(views.unlabelled), views.ratio, views.given),
        settings=of_fields(settings),
        page=f"docs/methods/{name}.md",
    )


def frozen(name: str) -> Essence:
    """A method on frozen features; its docstring is that of its settings."""
    kind = FROZEN[name]
    return Essence(
        name,
        *parts(inspect.getdoc(kind) or "", kind.__name__),
        tasks=("single",),
        needs=(PRETRAINED,) + (UNLABELLED,) * (name in SPREADS),
        views=Seen(),
        settings=of_fields(kind),
        page="",
    )


def sequence(name: str) -> Essence:
    """A sequence of runs; its docstring is that of its settings."""
    kind = SEQUENCES[name]
    return Essence(
        name,
        *parts(inspect.getdoc(kind) or "", kind.__name__),
        tasks=("single",),
        needs=NEEDS[name],
        views=Seen(),
        settings=of_fields(kind),
        page="",
    )


def parts(docstring: str, where: str) -> tuple[str, str, str, str, str]:
    """Title, paper, sentence, formula and text of "Title (Paper 2020): a sentence", a formula …"""
    head, *rest = docstring.strip().split("\n\n")
    found = re.fullmatch(r"([^(]+) \(([^()]+ \d{4})\): (.+)", " ".join(head.split()))
    if found is None:
        raise ValueError(f"{where}: the docstring begins with 'Title (Author 2020): sentence'")
    formula = [part for part in rest if part.startswith("    ")]
    text = [" ".join(part.split()) for part in rest if part not in formula]
    lines = textwrap.dedent("\n\n".join(formula))
    return found[1], found[2], found[3], lines, "\n\n".join(text)


def of_fields(kind: type[Any]) -> tuple[Setting, ...]:
    """The fields of a dataclass with the comments beside them, its own or its bases'."""
    beside: dict[str, str] = {}
    for one in reversed(kind.__mro__[:-1]):
        for line in inspect.getsource(one).splitlines():
            if said := re.match(r"    (\w+): [^#]+  # (.+)", line):
                beside[said[1]] = said[2]
    return tuple(
        Setting(f.name, f.type.__name__, f.default, beside[f.name])  # type: ignore[union-attr]
        for f in fields(kind)
    )


def formula(one: Essence) -> str:
    return f"```\n{one.formula}\n```"


def settings(one: Essence) -> str:
    rows = [f"| `{s.name}` | {written(s)} | {s.meaning} |" for s in one.settings]
    return "\n".join(["| setting | default | meaning |", "|---|---|---|", *rows])


def listed() -> str:
    rows = [
        f"| [`{e.name}`]({Path(e.page).name}) | {e.sentence.removesuffix('.')} | {e.paper} "
        f"| {', '.join(e.tasks)} | {needs(e)} |"
        for e in essences()
        if e.page
    ]
    head = ["| method | what it does | paper | tasks | needs |", "|---|---|---|---|---|"]
    return "\n".join([*head, *rows])


def filled(page: str, **parts: str) -> str:
    """The page with these parts between their marks."""
    for mark, text in parts.items():
        between = re.compile(rf"(<!-- {mark} -->\n).*?(\n<!-- end -->)", re.DOTALL)
        page = between.sub(lambda found, text=text: found[1] + text + found[2], page)
    return page


def pages() -> dict[Path, str]:
    """What every page should be."""
    found = {HERE / "README.md": {"list": listed()}}
    for one in essences():
        if one.page:
            parts = {"formula": formula(one), "settings": settings(one)}
            found[HERE / Path(one.page).name] = parts
    return {path: filled(path.read_text(encoding="utf-8"), **p) for path, p in found.items()}


if __name__ == "__main__":
    told = json.dumps([asdict(one) for one in essences()], indent=1, ensure_ascii=False)
    essence.FILE.write_text(told + "\n", encoding="utf-8")
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
