"""Problems in the data: what a run has found out about the folder that it was given."""

from dataclasses import dataclass
from typing import Any

from fewlabels.report import form
from fewlabels.report.pictures import shown
from fewlabels.report.read import Row, Run

CUT = 100  # result.json lists so many groups of copies
NAMED = 6  # of the images with one content
MOST = 500  # rows of a table; result.json has all
AT_ONCE = 20  # rows that stand outside of details


@dataclass(frozen=True)
class Finding:
    """One kind of problem: how many, what it means, and a row each."""

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
    copies = result.get("copies")
    groups = copies or {}
    leaks, contradictions = groups.get("leaks") or [], groups.get("contradictions") or []
    # copies that are told as something worse are not told twice
    worse = {tuple(_names(group)) for group in (*leaks, *contradictions)}
    plain = [group for group in groups.get("duplicates") or [] if tuple(group) not in worse]
    doubtful, skipped = result.get("doubtful_labels"), result.get("skipped")
    kinds: list[tuple[bool, str, Finding]] = [
        (
            copies is not None,
            "copies in more than one split",
            Finding(
                "The same image in more than one split",
                _at_least(len(leaks)),
                "What is measured on an image that was learnt from says nothing about new ones.",
                ("images", "splits"),
                [(_equal(_names(g)), _listed(g, "split", "undecided")) for g in leaks],
            ),
        ),
        (
            copies is not None,
            "copies with different labels",
            Finding(
                "The same image with different labels",
                _at_least(len(contradictions)),
                "At most one of the labels is right.",
                ("images", "labels"),
                [(_equal(_names(g)), _listed(g, "label", "none")) for g in contradictions],
            ),
        ),
        (
            doubtful is not None,
            "labels that look wrong",
            Finding(
                "Labels that look wrong",
                form.count(len(doubtful or [])),
                "The model had not seen these labels, and is sure of another class. It may be it "
                "that errs: look at the image.",
                ("image", "given", "looks like", "confidence"),
                [
                    (
                        str(row["name"]),
                        str(row["label"]),
                        str(row["predicted"]),
                        form.percent(row["confidence"]),
                    )
                    for row in doubtful or []
                ],
            ),
        ),
        (
            copies is not None,
            "other copies",
            Finding(
                "Copies",
                _at_least(len(plain)),
                "They tell nothing new, and make their kind count more than once.",
                ("images",),
                [(_equal(group),) for group in plain],
            ),
        ),
        (
            skipped is not None,
            "files that cannot be used",
            Finding(
                "Files that were left out",
                form.count(len(skipped or [])),
                "",
                ("file", "reason"),
                [(str(row["name"]), str(row["reason"])) for row in skipped or []],
            ),
        ),
    ]
    none = [name for looked, name, finding in kinds if looked and not finding.rows]
    guard = result.get("guard")
    if guard and not guard["left_out"]:
        none.append("unlabelled images that look like none of the classes")
    return {
        "findings": [finding for _, _, finding in kinds if finding.rows],
        "none": none,
        "guard": guard if guard and guard["left_out"] else None,
        "strangers": [shown(row, run) for row in run.gallery.get("stranger", [])],
    }


def _at_least(count: int) -> str:
    return f"at least {count}" if count >= CUT else str(count)


def _names(group: list[Row]) -> list[str]:
    return [str(copy["name"]) for copy in group]


def _equal(names: list[str]) -> str:
    more = f" = {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return " = ".join(names[:NAMED]) + more


def _listed(group: list[Row], key: str, nothing: str) -> str:
    """The different splits, or labels, of copies, in their order."""
    return ", ".join(dict.fromkeys(str(copy[key] or nothing) for copy in group))
