"""What a check found, in words: for the terminal and for the page."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fewlabels.curate.check import Checked, Far
from fewlabels.pool.copies import Copy
from fewlabels.pool.pool import Skipped
from fewlabels.report import form

SHOWN = 5  # groups of a finding in the terminal; --json and the page have more
NAMED = 4  # images of a group


@dataclass(frozen=True)
class Shown:
    """An image of a finding: its name, and what stands beside it."""

    name: str
    note: str = ""

    def __str__(self) -> str:
        return f"{self.name} ({self.note})" if self.note else self.name


@dataclass(frozen=True)
class Finding:
    """One kind of problem: what it is called, what it means and what to do, groups of images."""

    key: str
    title: str
    means: str
    groups: tuple[tuple[Shown, ...], ...]
    pictures: bool = True  # False where there is nothing to be seen
    equal: bool = True  # whether the images of a group are of one picture


def told(checked: Checked) -> list[Finding]:
    """What is wrong, the worst first; nothing that was not found."""
    near = checked.near
    worse = {
        tuple(copy.name for copy in group)
        for group in (
            *checked.leaks,
            *checked.contradictions,
            *near.leaks,
            *near.contradictions,
        )
    }
    looked = [
        Finding(
            "leaks",
            "The same picture in several splits",
            "What is measured on an image that was learnt from says nothing about new ones. "
            "Keep one of each group, or all of it in one split.",
            _copies([*checked.leaks, *near.leaks]),
        ),
        Finding(
            "groups",
            "Groups in several splits",
            "What belongs together, of one patient or one camera, must be on one side. "
            "Put each group into one split.",
            _copies(checked.divided),
            equal=False,
        ),
        Finding(
            "contradictions",
            "The same picture with different labels",
            "At most one of the labels is right. Look at them, and correct or remove.",
            _copies([*checked.contradictions, *near.contradictions]),
        ),
        Finding(
            "no_class",
            "Classes whose name says that they are none",
            "They would be learnt like any other. Make their images unlabelled, if that is meant.",
            tuple((Shown(name),) for name in checked.no_class),
            pictures=False,
        ),
        Finding(
            "unreadable",
            "Files that cannot be read",
            "They are left out of everything. Restore or remove them.",
            _skipped(checked.unreadable),
            pictures=False,
        ),
        Finding(
            "far_from_class",
            "Labelled images that are far from their class",
            "Perhaps of another class, perhaps of none. Look at them.",
            _far(checked.far_from_class),
        ),
        Finding(
            "far",
            "Images far from all others",
            "Perhaps not of this pool: a screenshot, a thumbnail, a test card. Look at them.",
            _far(checked.far),
        ),
        Finding(
            "blank",
            "Images that show nothing",
            "Of one grey all over: the lens cap, an empty page. Remove them, if they are no class.",
            tuple((Shown(name),) for name in checked.blank),
        ),
        Finding(
            "duplicates",
            "Other copies" if worse else "Copies",
            "They tell nothing new, and make their kind count more than once.",
            _named(group for group in checked.duplicates if group not in worse),
        ),
        Finding(
            "near",
            "Nearly the same picture",
            "Encoded again, resized, cropped a little, mirrored, or taken a moment later. "
            "They tell little new.",
            _named(group for group in near.duplicates if group not in worse),
        ),
        Finding(
            "skipped",
            "Files that were left out",
            "",
            _skipped(checked.skipped),
            pictures=False,
        ),
    ]
    return [finding for finding in looked if finding.groups]


def verdict(checked: Checked) -> str:
    """The most important thing, in one sentence."""
    leaking = " and ".join(
        f"{form.count(n)} {'validation' if split == 'val' else split} image{'s' if n > 1 else ''}"
        for split, n in checked.leaking.items()
    )
    if leaking:
        return (
            f"{leaking} stand{'s' if sum(checked.leaking.values()) == 1 else ''} in another split "
            "too, exactly or nearly: accuracies measured on them will look better than they are."
        )
    if checked.divided:
        return (
            "Groups stand in several splits: accuracies measured so will look better than they are."
        )
    if set(checked.counts) - {"", "train"}:
        return "No picture stands in more than one split."
    return "The pool is not split yet: `train` keeps copies on one side."


def classes(checked: Checked) -> tuple[list[str], list[tuple[str, list[int]]]]:
    """The table of counts: its columns, and a row a class, of those that have images."""
    names = {"": "to be split", "val": "validation"}
    columns = [names.get(split, split) for split in checked.counts]
    every = next(iter(checked.counts.values()), {})
    rows = [(name, [of[name] for of in checked.counts.values()]) for name in every]
    return columns, [(name, numbers) for name, numbers in rows if any(numbers)]


def print_check(checked: Checked, console: Console) -> None:
    """Counts by class and split, then what is wrong, the worst first."""

    def line(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    line(f"{checked.origin}: {form.count(checked.images)} images")
    if checked.sizes:
        of = checked.sizes
        low, middle, high = (f"{w} x {h}" for w, h in (of.least, of.median, of.most))
        all_one = of.least == of.most
        line(f"{low} pixels" if all_one else f"{low} to {high} pixels, median {middle}")
        if len(of.shape) > 1:
            line(", ".join(f"{form.count(n)} {name}" for name, n in of.shape.items()))
    table = Table(box=None, pad_edge=False, header_style="dim")
    columns, rows = classes(checked)
    table.add_column("class")
    for name in columns:
        table.add_column(name, justify="right")
    for name, numbers in rows:
        cells = [form.count(n) if n else "·" for n in numbers]
        table.add_row(Text(name, "dim" if name == "unlabelled" else ""), *cells)
    console.print()
    console.print(table)
    line(f"\n{verdict(checked)}")
    for note in checked.notes:
        line(f"Note: {note}.")
    if checked.lacks:
        line(f"No classifier can be trained from it: {checked.lacks}.")
    for finding in told(checked):
        line(f"\n{finding.title}: {form.count(len(finding.groups))}")
        if finding.means:
            line(f"  {finding.means}")
        for group in finding.groups[:SHOWN]:
            line(f"  - {in_line(group, finding.equal)}")
        if len(finding.groups) > SHOWN:
            line(f"  and {form.count(len(finding.groups) - SHOWN)} more (--json lists them)")
    shares = checked.balance.shares
    if shares:
        line(f"\n{of_the_unlabelled(checked)}")
        for name, share in sorted(shares.items(), key=lambda item: -item[1].value)[: 2 * SHOWN]:
            line(f"  {name}: {form.whole(share.value)} ({form.span((share.low, share.high))})")
        if len(shares) > 2 * SHOWN:
            line(f"  and {form.count(len(shares) - 2 * SHOWN)} more (--json lists them)")
    elif "unlabelled" in dict(rows):
        line(f"\n{of_the_unlabelled(checked)}")


def of_the_unlabelled(checked: Checked) -> str:
    """What heads the classes' shares among the unlabelled images, or stands in their place."""
    found = checked.balance
    if not found.shares:
        return f"How the unlabelled images are distributed cannot be told: {found.why}."
    assert found.probe is not None
    return (
        "The unlabelled images, by class, in per cent (95 % intervals), if those of a class look "
        f"like its labelled ones; told by a probe that is right {form.whole(found.probe.value)} of "
        "the time, and from how it errs:"
    )


def in_line(group: Sequence[Shown], equal: bool) -> str:
    """a (train, cat) = b (test, cat) = 3 more; with commas where they are not equal."""
    more = [f"{form.count(len(group) - NAMED)} more"] if len(group) > NAMED else []
    return (" = " if equal else ", ").join([*map(str, group[:NAMED]), *more])


def _copies(groups: Iterable[tuple[Copy, ...]]) -> tuple[tuple[Shown, ...], ...]:
    return tuple(
        tuple(
            Shown(copy.name, f"{copy.split or 'undecided'}, {copy.label or 'unlabelled'}")
            for copy in group
        )
        for group in groups
    )


def _named(groups: Iterable[Iterable[str]]) -> tuple[tuple[Shown, ...], ...]:
    return tuple(tuple(Shown(name) for name in group) for group in groups)


def _skipped(files: Iterable[Skipped]) -> tuple[tuple[Shown, ...], ...]:
    return tuple((Shown(file.name, file.reason),) for file in files)


def _far(images: Iterable[Far]) -> tuple[tuple[Shown, ...], ...]:
    return tuple(
        (Shown(each.name, f"{each.label or 'unlabelled'}, {each.times:.1f} times as far as usual"),)
        for each in images
    )
