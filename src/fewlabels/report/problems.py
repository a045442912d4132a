"""Problems in the data: what a run has found out about the folder that it was given."""

from dataclasses import dataclass
from typing import Any

from fewlabels.report import form
from fewlabels.report.pictures import shown
from fewlabels.report.read import Row, Run

NAMED = 6  # of the images with one content
MOST = 500  # rows of a table; result.json has all
AT_ONCE = 20  # rows that stand outside of details


@dataclass(frozen=True)
class Finding:
    """One kind of problem that was looked for: how many, what it means, and a row each."""

    name: str  # where there is none
    title: str
    count: str
    means: str
    head: tuple[str, ...]
    rows: list[tuple[str, ...]]

    @property
    def first(self) -> list[tuple[str, ...]]:
        """What is seen at once."""
        return self.rows[:AT_ONCE]

    @property
    def others(self) -> list[tuple[str, ...]]:
        """What is folded away."""
        return self.rows[AT_ONCE:MOST]

    @property
    def left(self) -> int:
        """How many rows the page does without."""
        return max(0, len(self.rows) - MOST)


def told(run: Run) -> dict[str, Any]:
    """Findings, the worst first, and what was looked for without a finding."""
    result = run.result
    looked: list[Finding] = []
    if result.get("copies") is not None:
        looked += _wrong_copies(result["copies"])
    if result.get("unmeasured") is not None:
        looked.append(_unmeasured(result["unmeasured"]))
    if result.get("doubtful_labels") is not None:
        looked.append(_doubtful(result["doubtful_labels"]))
    if result.get("copies") is not None:
        looked.append(_copies(result["copies"]))
    if result.get("skipped") is not None:
        looked.append(_skipped(result["skipped"]))
    none = [finding.name for finding in looked if not finding.rows]
    guard = result.get("guard")
    if guard and not guard["left_out"]:
        none.append("unlabelled images that look like none of the classes")
    return {
        "findings": [finding for finding in looked if finding.rows],
        "none": none,
        "guard": guard if guard and guard["left_out"] else None,
        "strangers": [shown(row, run) for row in run.gallery.get("stranger", [])],
    }


def _wrong_copies(copies: dict[str, Any]) -> list[Finding]:
    leaks, contradictions = copies["leaks"], copies["contradictions"]
    return [
        Finding(
            "copies in more than one split",
            "The same image in more than one split",
            str(copies["counts"]["leaks"]),
            "What is measured on an image that was learnt from says nothing about new ones.",
            ("images", "splits"),
            [(_equal(_names(g)), _listed(g, "split", "undecided")) for g in leaks],
        ),
        Finding(
            "copies with different labels",
            "The same image with different labels",
            str(copies["counts"]["contradictions"]),
            "At most one of the labels is right.",
            ("images", "labels"),
            [(_equal(_names(g)), _listed(g, "label", "none")) for g in contradictions],
        ),
    ]


def _copies(copies: dict[str, Any]) -> Finding:
    """Those that are not told as something worse."""
    worse = {tuple(_names(g)) for g in (*copies["leaks"], *copies["contradictions"])}
    plain = [group for group in copies["duplicates"] if tuple(group) not in worse]
    return Finding(
        "other copies",
        "Copies",
        str(copies["counts"]["others"]),
        "They tell nothing new, and make their kind count more than once.",
        ("images",),
        [(_equal(group),) for group in plain],
    )


def _unmeasured(classes: list[str]) -> Finding:
    return Finding(
        "classes of which nothing is measured",
        "Classes of which nothing is measured",
        form.count(len(classes)),
        "All of their labelled images were needed for learning. The accuracy says nothing of them.",
        ("class",),
        [(name,) for name in classes],
    )


def _doubtful(labels: list[Row]) -> Finding:
    return Finding(
        "labels that look wrong",
        "Labels that look wrong",
        form.count(len(labels)),
        "The model had not seen these labels, and is sure of another class. It may be the one "
        "that errs: look at the image.",
        ("image", "given", "looks like", "confidence"),
        [
            (*(str(row[key]) for key in ("name", "label", "predicted")), _sure(row))
            for row in labels
        ],
    )


def _skipped(files: list[Row]) -> Finding:
    return Finding(
        "files that cannot be used",
        "Files that were left out",
        form.count(len(files)),
        "",
        ("file", "reason"),
        [(str(row["name"]), str(row["reason"])) for row in files],
    )


def _sure(row: Row) -> str:
    return form.percent(row["confidence"])


def _names(group: list[Row]) -> list[str]:
    return [str(copy["name"]) for copy in group]


def _equal(names: list[str]) -> str:
    more = f" = {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return " = ".join(names[:NAMED]) + more


def _listed(group: list[Row], key: str, nothing: str) -> str:
    """The different splits, or labels, of copies, in their order."""
    return ", ".join(dict.fromkeys(str(copy[key] or nothing) for copy in group))
