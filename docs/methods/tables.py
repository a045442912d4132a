"""Writes what the pages of methods take from the code: formulas, settings, the list.

    python docs/methods/tables.py

It stands between `<!-- formula -->`, `<!-- settings -->` or `<!-- list -->` and `<!-- end -->`, and
comes from the docstrings, the Settings and the comments beside their fields.
"""

import re
from pathlib import Path

from fewlabels.report.essence import Essence, essences
from fewlabels.report.methods import needs, written

HERE = Path(__file__).parent


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
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
