"""The page of a comparison: what `compare` tells, drawn, with the curves of all its runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from fewlabels.errors import UserError
from fewlabels.report import form, learning, plots, read
from fewlabels.report.answer import accuracies, whisker
from fewlabels.report.compare import IMAGES
from fewlabels.report.compared import differing, names, not_common, said_of, verdict
from fewlabels.report.html import template
from fewlabels.training.folder import write_text

# of the runs, in order; s1, grey, is labels only
STYLES = ("s0", "s2", "s3", "s4", "s5", "s6", "s7", "s8")
LONGEST = 44  # characters that a phone has room for above a whisker


def need_page(target: Path) -> None:
    """UserError where a page cannot be written there: said before any work is done."""
    if target.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"-o {target}: must end in .html")
    if not target.parent.is_dir():
        raise UserError(f"-o {target}: there is no folder {target.parent}")


def write(told: dict[str, Any], target: Path) -> None:
    """Writes the page, which loads nothing and runs no script. `told` is of `compare`; the curves
    come from the run folders that it names. UserError where it cannot be written."""
    need_page(target)
    page = render(told, [read.load(Path(row["run"])) for row in told["runs"]])
    try:
        write_text(target, page)
    except OSError as error:
        raise UserError(f"-o {target}: cannot be written ({error.strerror})") from error


def render(told: dict[str, Any], runs: Sequence[read.Run]) -> str:
    """The page as text; `runs` in the order of the rows."""
    rows = told["runs"]
    name = names([row["run"] for row in rows])
    style = {row["run"]: STYLES[i % len(STYLES)] for i, row in enumerate(rows)}
    called, base = labels(told), name[told["against"]]
    scored = [row for row in rows if row["accuracy"] is not None]
    whiskers = [whisker(called[row["run"]], row, style[row["run"]]) for row in scored]
    compared = [row for row in told["differences"] if row["n"]]
    notes = [not_common(row, told["against"], name) for row in told["differences"]]
    return template("comparison.html").render(
        told=told,
        rows=rows,
        name=name,
        style=style,
        styles=STYLES,
        label=called,
        base=base,
        data=list(dict.fromkeys(form.place(run.config.get("data", "images")) for run in runs)),
        verdict=verdict(told),
        apart=differing(told),
        judged=" and ".join(dict.fromkeys(IMAGES[row["estimate"]] for row in scored)),
        accuracies=accuracies(whiskers) if whiskers else None,
        compared=compared,
        differences=_differences(compared, called, style, base) if compared else None,
        notes=[note for note in notes if note],
        learning=learning.told(runs, name, style),
    )


def labels(told: dict[str, Any]) -> dict[str, str]:
    """The runs as a plot calls them: the folder, and what tells the run from the others."""
    apart, out = differing(told), {}
    name = names([row["run"] for row in told["runs"]])
    for row in told["runs"]:
        more = [one for one in said_of(row, apart) if one not in name[row["run"]]]
        text = ", ".join([name[row["run"]], *more])
        out[row["run"]] = text if len(text) <= LONGEST else f"…{text[-LONGEST + 1 :]}"
    return out


def _differences(
    rows: Sequence[read.Row], called: dict[str, str], style: dict[str, str], base: str
) -> Markup:
    whiskers = []
    for row in rows:
        low, high = row["interval"]
        run = row["run"]
        whiskers.append(plots.Whisker(called[run], row["difference"], low, high, style[run]))
    text = f"Difference from {base} in points, with 95 % intervals: " + "; ".join(
        f"{one.name} {form.points(one.value)}, {form.span((one.low, one.high), signed=True)}"
        for one in whiskers
    )
    return plots.intervals(whiskers, text, form.point_tick, around=0.0)
