"""The listing of methods in the terminal, and the page of one."""

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fewlabels.report.essence import TEACHER, Essence, Setting
from fewlabels.report.listing import show

PROSE = 100  # columns, where there is room for them
WITH_PAPERS = 120  # columns of a terminal that leave room for them
NEEDS = 18  # columns for what a method needs, where there are fewer
FILE = 280  # columns where there is no terminal: whole lines, to be searched


def print_methods(rows: Sequence[Essence], console: Console) -> None:
    """A row a method, then what holds for all."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("method", no_wrap=True)
    whole = not console.is_terminal
    wide = whole or console.width >= WITH_PAPERS
    for name in ("what it does", "paper", "tasks") if wide else ("what it does",):
        table.add_column(name, no_wrap=whole)
    table.add_column("needs", no_wrap=whole, max_width=None if wide else NEEDS)
    for each in rows:
        about = [each.paper, ", ".join(each.tasks)] if wide else []
        cells = [each.name, each.sentence.removesuffix("."), *about, needs(each)]
        table.add_row(*map(escape, cells))
    show(table, console, FILE)
    frozen = ", ".join(each.name for each in rows if each.frozen)
    sequences = ", ".join(each.name for each in rows if each.sequence)
    for line in (
        "",
        f"{len(rows)} methods. On frozen features of the model, in seconds: {frozen}.",
        f"Sequences of runs, or made of runs: {sequences}.",
        f"{TEACHER.capitalize()} is the labels-only model that every run trains first; distill "
        "takes others with --run.",
        "train takes one class an image; the other tasks are for a training loop of one's own.",
        "train DATA --method NAME takes one, --set NAME=VALUE changes a setting of it; methods "
        "NAME shows the formula and the settings.",
    ):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def print_method(one: Essence, console: Console) -> None:
    """The page of one method: what it does, the formula, what it takes."""

    def line(text: str = "", whole: bool = True) -> None:
        """Whole lines, or prose that is broken where the terminal ends."""
        width = None if whole else min(PROSE, console.width)
        console.print(text, highlight=False, markup=False, soft_wrap=whole, width=width)

    line(f"{one.title} ({one.paper}): {one.sentence}", whole=False)
    line()
    for equation in one.formula.splitlines():
        line(f"    {equation}".rstrip())
    line()
    line(one.text, whole=False)
    line()
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True, style="dim")
    table.add_column()
    table.add_row("tasks", ", ".join(one.tasks))
    table.add_row("needs", needs(one))
    table.add_row("sees", sees(one))
    if one.page:
        table.add_row("more", one.page)
    console.print(table)
    line()
    if not one.settings:
        line("It takes no settings.")
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("setting", no_wrap=True)
    table.add_column("default", no_wrap=True)
    table.add_column("meaning")
    for setting in one.settings:
        table.add_row(setting.name, written(setting), escape(setting.meaning))
    show(table, console)
    line()
    example = one.settings[-1]
    line(f"--set NAME=VALUE changes one, such as --set {example.name}={written(example)}")


def needs(one: Essence) -> str:
    """ "unlabelled images, a teacher" """
    return ", ".join(one.needs) or "labels only"


def sees(one: Essence) -> str:
    """Which views of which images, in words."""
    views = one.views
    if not views.labelled:
        return "what its runs see" if one.sequence else "every image once, as it is"
    text = f"the {views.labelled} view of a labelled image"
    if not views.unlabelled:
        return text
    words = " and ".join("another strong" if v == "other" else v for v in views.unlabelled)
    plural = "views" if len(views.unlabelled) > 1 else "view"
    said = ", with what a teacher said of them" if views.given else ""
    return (
        f"{text}; the {words} {plural} of {views.ratio} unlabelled images for each labelled one"
        f"{said}"
    )


def written(setting: Setting) -> str:
    """The default as `--set` takes it."""
    if setting.default == "":
        return '""'
    return str(setting.default).lower() if setting.kind == "bool" else str(setting.default)
