"""The report: what a run folder says, as one HTML file that loads nothing and runs no script."""

from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, Template

from fewlabels.pool.pool import SINGLE
from fewlabels.report import (
    answer,
    breaks,
    failures,
    form,
    found,
    problems,
    pseudo,
    read,
    status,
    sure,
    tables,
    tasks,
    timeline,
    tried,
)
from fewlabels.training.folder import write_text


def write(run: Path) -> Path:
    """Writes `run/report.html` from what the run folder holds, finished or not; returns its path.

    Raises UserError when `run` is no run folder.
    """
    page = render(read.load(run))
    target = run / "report.html"
    write_text(target, page)
    return target


def template(name: str) -> Template:
    """A page of this room, with its filters."""
    return _pages().get_template(name)


@cache
def _pages() -> Environment:  # that a page which is drawn again and again is compiled once
    pages = Environment(
        loader=PackageLoader("fewlabels.report", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.filters |= {
        "percent": form.unbroken,
        "whole": form.whole,
        "span": form.span,
        "points": form.points,
        "gap": form.plain_points,
        "count": form.count,
        "duration": form.duration,
        "spread": form.spread,
        "short": form.last_part,
    }
    return pages


def render(run: read.Run) -> str:
    """The page as text."""
    facts = run.config | run.result
    stages = timeline.stages(run)
    if tasks.task_of(run.config) != SINGLE:
        return template("task.html").render(
            data=form.place(facts.get("data", "images")),
            finished=bool(run.result),
            goes_on=run.state in (read.RUNNING, read.PAUSED),
            state=run.state,
            facts=facts,
            classes=run.classes,
            about=tasks.told(run),
            stages=stages,
            charts=timeline.charts(stages),
            problems=problems.told(run),
            resume=status.resume(Path(run.folder), run.config),
            settings=list(tables.flatten(run.config)),
            command=run.config.get("command"),
        )
    return template("template.html").render(
        data=form.place(facts.get("data", "images")),
        finished=bool(run.result),
        goes_on=run.state in (read.RUNNING, read.PAUSED),
        state=run.state,
        facts=facts,
        classes=run.classes,
        **answer.told(run),
        sure=sure.told(run),
        tried=tried.told(run),
        found=found.told(run),
        stages=stages,
        charts=timeline.charts(stages),
        log=timeline.table(stages),
        fails=failures.told(run),
        breaks=breaks.told(run),
        pseudo=pseudo.told(run),
        problems=problems.told(run),
        commands=tables.commands(run.folder),
        settings=list(tables.flatten(run.config)),
        command=run.config.get("command"),
    )
