"""Draws docs/methods/<name>.svg: what one step of each method looks like.

    python docs/methods/figures.py

A figure is a list of boxes on a grid, five columns from the images to the losses, and the arrows
between them. Dashed is what no gradient flows through.
"""

# the times sign and Greek letters belong in formulas
# ruff: noqa: RUF001

from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

HERE = Path(__file__).parent
COLUMNS = ((14, 98), (142, 110), (282, 96), (408, 164), (604, 138))  # left edge, width
HEIGHT, GAP = 54, 18  # of a row, and between rows
TOP, WIDTH, LINE, SIZE = 16, 760, 16, 13
STYLE = """
  :root { color-scheme: light dark }
  .paper { fill: #ffffff } .line, .dashed { stroke: #57606a; fill: none; stroke-width: 1.5 }
  .dashed { stroke-dasharray: 5 4 } .tip { fill: #57606a }
  text { fill: #1f2328; font: 13px system-ui, -apple-system, "Segoe UI", Helvetica, sans-serif;
         text-anchor: middle }
  .note { fill: #57606a; font-size: 12px; text-anchor: start }
  rect { stroke-width: 1.5 }
  .labelled { fill: #ddf4ff; stroke: #0969da } .unlabelled { fill: #eaeef2; stroke: #6e7781 }
  .view { fill: #ffffff; stroke: #8c959f } .student { fill: #0969da; stroke: #0969da }
  .teacher { fill: #8250df; stroke: #8250df } .on { fill: #ffffff; font-weight: 600 }
  .output { fill: #f6f8fa; stroke: #8c959f }
  .target { fill: #fbefff; stroke: #8250df; stroke-dasharray: 5 4 }
  .memory { fill: #fff8c5; stroke: #9a6700 } .loss { fill: #ffebe9; stroke: #cf222e }
  @media (prefers-color-scheme: dark) {
    .paper { fill: #0d1117 } .line, .dashed { stroke: #9198a1 } .tip { fill: #9198a1 }
    text { fill: #e6edf3 } .note { fill: #9198a1 }
    .labelled { fill: #0c2d6b; stroke: #58a6ff } .unlabelled { fill: #21262d; stroke: #8b949e }
    .view { fill: #0d1117; stroke: #6e7681 } .student { fill: #1f6feb; stroke: #1f6feb }
    .teacher { fill: #8957e5; stroke: #8957e5 } .on { fill: #ffffff }
    .output { fill: #161b22; stroke: #6e7681 } .target { fill: #271052; stroke: #a371f7 }
    .memory { fill: #341a00; stroke: #d29922 } .loss { fill: #490202; stroke: #f85149 }
  }"""


@dataclass(frozen=True)
class Box:
    """Text in a cell of the grid; `rows` is how many it covers, downwards."""

    kind: str  # one of the classes of STYLE
    column: int
    row: int
    text: str
    rows: int = 1

    @property
    def left(self) -> int:
        return COLUMNS[self.column][0]

    @property
    def right(self) -> int:
        return self.left + COLUMNS[self.column][1]

    @property
    def top(self) -> int:
        return TOP + self.row * (HEIGHT + GAP)

    @property
    def bottom(self) -> int:
        return self.top + self.rows * (HEIGHT + GAP) - GAP

    @property
    def middle(self) -> float:
        return (self.top + self.bottom) / 2


@dataclass(frozen=True)
class Arrow:
    """From one box to another: to the right, then up or down; in a column up or down; around the
    right edge in the last one."""

    start: str
    end: str
    dashed: bool = False
    both: bool = False  # a tip at each end


@dataclass(frozen=True)
class Figure:
    title: str
    about: str  # the same in words
    boxes: dict[str, Box]
    arrows: list[Arrow]
    losses: str = "the losses add up"  # where there are several: how they go together
    height: int = field(init=False)

    def __post_init__(self) -> None:
        lowest = max(box.bottom for box in self.boxes.values())
        object.__setattr__(self, "height", lowest + 44)


def chain(text: str, dashed: bool = False) -> list[Arrow]:
    """ "a > b > c": an arrow from each to the next"""
    return [Arrow(a, b, dashed) for a, b in pairwise(text.split(" > "))]


def route(figure: Figure, arrow: Arrow) -> list[tuple[float, float]]:
    """The corners of an arrow."""
    a, b = figure.boxes[arrow.start], figure.boxes[arrow.end]
    if a.column == b.column == len(COLUMNS) - 1:
        edge = a.right + 8
        return [(a.right, a.middle), (edge, a.middle), (edge, b.middle), (b.right, b.middle)]
    if a.column == b.column:
        x = (a.left + a.right) / 2
        return [(x, a.bottom), (x, b.top)] if a.row < b.row else [(x, a.top), (x, b.bottom)]
    low, high = max(a.top, b.top), min(a.bottom, b.bottom)
    if low < high:
        return [(a.right, (low + high) / 2), (b.left, (low + high) / 2)]
    x = (b.left + b.right) / 2
    return [(a.right, a.middle), (x, a.middle), (x, b.top if a.row < b.row else b.bottom)]


def labelled_row(student_rows: int, view: str = "weak view") -> dict[str, Box]:
    """What most figures begin with: the labelled images' way to their loss."""
    return {
        "labelled": Box("labelled", 0, 0, "labelled\nimages"),
        "their view": Box("view", 1, 0, view),
        "student": Box("student", 2, 0, "student", student_rows),
        "prediction": Box("output", 3, 0, "prediction"),
        "labels": Box("loss", 4, 0, "cross-entropy\nwith the labels"),
    }


LABELLED = chain("labelled > their view > student > prediction > labels")


def consistency(title: str, about: str, target: str, loss: str, memory: str = "") -> Figure:
    """FixMatch and its family: the weak view teaches the strong one."""
    boxes = labelled_row(3) | {
        "unlabelled": Box("unlabelled", 0, 1, "unlabelled\nimages", 2),
        "strong": Box("view", 1, 1, "strong view"),
        "weak": Box("view", 1, 2, "weak view"),
        "answer": Box("output", 3, 1, "prediction"),
        "target": Box("target", 3, 2, target),
        "loss": Box("loss", 4, 1, loss, 2),
    }
    arrows = [
        *LABELLED,
        *chain("unlabelled > strong > student > answer > loss"),
        *chain("unlabelled > weak"),
        *chain("weak > student", dashed=True),
        *chain("student > target > loss", dashed=True),
    ]
    if memory:
        boxes["memory"] = Box("memory", 3, 3, memory)
        arrows.append(Arrow("memory", "target", dashed=True, both=True))
    return Figure(title, about, boxes, arrows)


def decoded(title: str, about: str, shown: str, loss: str) -> Figure:
    """Tasks whose answer is the picture itself: they come first, the labels after them."""
    boxes = labelled_row(2, "strong view") | {
        "unlabelled": Box("unlabelled", 0, 1, "unlabelled\nimages", 2),
        "shown": Box("view", 1, 1, shown),
        "whole": Box("view", 1, 2, "the same\nweak view"),
        "picture": Box("output", 3, 1, "picture, by one layer\non the last map"),
        "labels": Box("loss", 4, 0, "then cross-entropy\nwith the labels"),
        "loss": Box("loss", 4, 1, f"first the mean\n{loss}", 2),
    }
    arrows = [
        *LABELLED,
        *chain("unlabelled > shown > student > picture > loss"),
        *chain("unlabelled > whole"),
        *chain("whole > loss", dashed=True),
    ]
    after = f"{about} That is the first part of training; the labelled images follow it, alone."
    return Figure(title, after, boxes, arrows, "first the lower loss, then the upper one")


FEEDBACK = "+ (h - h̄) × cross-\nentropy with ŷ"  # Meta Pseudo Labels' own term
FIGURES = {
    "supervised": Figure(
        "Supervised training",
        "A view of each labelled image goes through the student; the loss is the cross-entropy of "
        "its prediction with the label.",
        labelled_row(1, "weak or\nstrong view"),
        LABELLED,
    ),
    "pseudo_label": Figure(
        "Pseudo-label",
        "The likeliest class of a view of an unlabelled image, taken without a gradient, is the "
        "label of that same view; its loss is weighted by α, which grows with time.",
        labelled_row(3, "weak or\nstrong view")
        | {
            "unlabelled": Box("unlabelled", 0, 1, "unlabelled\nimages", 2),
            "view": Box("view", 1, 1, "weak or\nstrong view", 2),
            "answer": Box("output", 3, 1, "prediction p"),
            "target": Box("target", 3, 2, "pseudo-label:\nargmax p"),
            "loss": Box("loss", 4, 1, "α(t) ×\ncross-entropy with\nthe pseudo-label", 2),
        },
        [
            *LABELLED,
            *chain("unlabelled > view > student > answer > loss"),
            *chain("student > target > loss", dashed=True),
        ],
    ),
    "mean_teacher": Figure(
        "Mean Teacher",
        "The student sees the strong view of an unlabelled image, the moving average of its own "
        "weights sees the weak one; the squared difference of what they say is the loss, and its "
        "gradient reaches the student only.",
        labelled_row(2)
        | {
            "unlabelled": Box("unlabelled", 0, 1, "unlabelled\nimages", 2),
            "strong": Box("view", 1, 1, "strong view"),
            "weak": Box("view", 1, 2, "weak view"),
            "average": Box("teacher", 2, 2, "its moving\naverage"),
            "answer": Box("output", 3, 1, "prediction"),
            "target": Box("target", 3, 2, "the average's\nprediction"),
            "loss": Box("loss", 4, 1, "w(t) × squared\ndifference", 2),
        },
        [
            *LABELLED,
            *chain("unlabelled > strong > student > answer > loss"),
            *chain("unlabelled > weak"),
            *chain("weak > average > target > loss", dashed=True),
            Arrow("student", "average", dashed=True),
        ],
    ),
    "uda": consistency(
        "Unsupervised data augmentation",
        "The student's prediction on the weak view of an unlabelled image, sharpened and without a "
        "gradient, is the target of its prediction on the strong view, where the weak one is "
        "confident.",
        "softmax(z / T), kept\nwhere max p > β",
        "λ × divergence\nfrom the target",
    ),
    "fixmatch": consistency(
        "FixMatch",
        "The likeliest class of the weak view of an unlabelled image, where it is probable enough, "
        "is the label of the strong view. Predictions are aligned with how frequent the classes "
        "are by a moving average.",
        "argmax q, kept\nwhere max q ≥ τ",
        "λ × cross-entropy\nwith the\npseudo-label",
        "moving average of q,\nto align it",
    ),
    "flexmatch": consistency(
        "FlexMatch",
        "As FixMatch, with a threshold for each class: lower where fewer images have been learnt, "
        "which a memory of the class last given to every image tells.",
        "argmax q = c, kept\nwhere max q > T(c)",
        "λ × cross-entropy\nwith the\npseudo-label",
        "class last given to\nevery image → T(c)",
    ),
    "freematch": consistency(
        "FreeMatch",
        "As FixMatch, with thresholds that follow moving averages of the weak views' confidence, "
        "and a loss that keeps one class from being named too often.",
        "argmax q = c, kept\nwhere max q > τ(c)",
        "λ × cross-entropy\nwith the pseudo-\nlabel + λ_f ×\nfairness",
        "moving averages of\nthe confidence → τ(c)",
    ),
    "softmatch": consistency(
        "SoftMatch",
        "As FixMatch, with a weight in place of the threshold: it falls off where the weak view is "
        "less confident than the moving average.",
        "argmax p\nwith weight w(a)",
        "λ × w × cross-\nentropy with the\npseudo-label",
        "mean and variance of\nthe confidence → w",
    ),
    "distill": Figure(
        "Distillation",
        "Student and teachers see the same strong views of labelled and unlabelled images; the "
        "student's softened prediction is drawn to the mean of the teachers', and to the labels.",
        {
            "labelled": Box("labelled", 0, 0, "labelled\nimages"),
            "unlabelled": Box("unlabelled", 0, 1, "unlabelled\nimages", 2),
            "view": Box("view", 1, 0, "strong view,\nthe same\nfor both", 3),
            "student": Box("student", 2, 0, "student", 2),
            "teacher": Box("teacher", 2, 2, "teachers"),
            "prediction": Box("output", 3, 0, "prediction\nof labelled images"),
            "soft": Box("output", 3, 1, "softmax(s / T)\nof all images"),
            "target": Box("target", 3, 2, "mean of\nsoftmax(z / T)"),
            "labels": Box("loss", 4, 0, "α × cross-entropy\nwith the labels"),
            "loss": Box("loss", 4, 1, "(1 - α) T² ×\ndivergence from\nthe teachers", 2),
        },
        [
            *chain("labelled > view > student > prediction > labels"),
            *chain("unlabelled > view"),
            *chain("student > soft > loss"),
            *chain("view > teacher > target > loss", dashed=True),
        ],
    ),
    "meta_pseudo_labels": Figure(
        "Meta Pseudo Labels",
        "The teacher learns from the labels, from UDA, and from feedback: it draws a label for the "
        "strong view of an unlabelled image, the student learns that label, and how much the "
        "student's loss on the labelled images fell makes the label more or less probable.",
        {
            "labelled": Box("labelled", 0, 0, "labelled\nimages"),
            "unlabelled": Box("unlabelled", 0, 1, "unlabelled\nimages", 3),
            "again": Box("labelled", 0, 4, "the same\nimages"),
            "weak x": Box("view", 1, 0, "weak view"),
            "weak": Box("view", 1, 1, "weak view"),
            "strong": Box("view", 1, 2, "strong view"),
            "same": Box("view", 1, 3, "the same\nstrong view"),
            "weak again": Box("view", 1, 4, "the same\nweak view"),
            "teacher": Box("teacher", 2, 0, "teacher", 3),
            "student": Box("student", 2, 3, "student", 2),
            "taught": Box("output", 3, 0, "predictions on\nall three views", 2),
            "drawn": Box("target", 3, 2, "drawn label ŷ"),
            "answer": Box("output", 3, 3, "prediction"),
            "tested": Box("target", 3, 4, "its loss on labels,\nbefore and after"),
            "loss": Box("loss", 4, 0, f"cross-entropy\n+ λ(t) × UDA\n{FEEDBACK}", 2),
            "student's": Box("loss", 4, 3, "cross-entropy\nwith ŷ"),
            "feedback": Box("memory", 4, 4, "h: how much\nthe loss fell"),
        },
        [
            *chain("labelled > weak x > teacher > taught > loss"),
            *chain("unlabelled > weak > teacher"),
            *chain("unlabelled > strong > teacher"),
            *chain("unlabelled > same > student > answer > student's"),
            *chain("again > weak again"),
            *chain("teacher > drawn > student's", dashed=True),
            *chain("drawn > loss", dashed=True),
            *chain("weak again > student > tested > feedback > loss", dashed=True),
        ],
        "the upper loss trains the teacher, the lower the student",
    ),
    "self_train": Figure(
        "Self-training",
        "A teacher, trained before, says once what the unlabelled images are, seen as they are; "
        "the student learns that of weak views, and the labels; then the student is the teacher.",
        labelled_row(2)
        | {
            "unlabelled": Box("unlabelled", 0, 1, "unlabelled\nimages", 2),
            "view": Box("view", 1, 1, "weak view"),
            "plain": Box("view", 1, 2, "as it is,\nonce, before"),
            "teacher": Box("teacher", 2, 2, "teacher"),
            "answer": Box("output", 3, 1, "prediction"),
            "target": Box("target", 3, 2, "pseudo-label,\nif sure enough"),
            "loss": Box("loss", 4, 1, "λ ×\ncross-entropy with\nthe pseudo-label", 2),
        },
        [
            *LABELLED,
            *chain("unlabelled > view > student > answer > loss"),
            *chain("unlabelled > plain > teacher > target > loss", dashed=True),
        ],
    ),
    "noisy_student": Figure(
        "Noisy Student",
        "As self-training, but the student is noised: it sees strong views, and dropout and "
        "stochastic depth take parts of it away. The teacher is not noised.",
        labelled_row(2, "strong view")
        | {
            "unlabelled": Box("unlabelled", 0, 1, "unlabelled\nimages", 2),
            "view": Box("view", 1, 1, "strong view"),
            "plain": Box("view", 1, 2, "as it is,\nonce, before"),
            "teacher": Box("teacher", 2, 2, "teacher,\nwhole"),
            "answer": Box("output", 3, 1, "prediction of\na part of it"),
            "target": Box("target", 3, 2, "soft pseudo-label,\nif sure enough"),
            "loss": Box("loss", 4, 1, "λ ×\ncross-entropy with\nthe pseudo-label", 2),
        },
        [
            *LABELLED,
            *chain("unlabelled > view > student > answer > loss"),
            *chain("unlabelled > plain > teacher > target > loss", dashed=True),
        ],
    ),
    "rotation": Figure(
        "Rotation",
        "Each unlabelled image is shown turned by 0, 90, 180 and 270 degrees; a head of its own on "
        "the student's features tells by how much, beside the loss of the labelled images.",
        labelled_row(2, "strong view")
        | {
            "unlabelled": Box("unlabelled", 0, 1, "unlabelled\nimages"),
            "turned": Box("view", 1, 1, "strong view in\nall four turns"),
            "turn": Box("output", 3, 1, "which turn? by a\nhead of its own"),
            "loss": Box("loss", 4, 1, "w × cross-entropy\nwith the turn"),
        },
        [*LABELLED, *chain("unlabelled > turned > student > turn > loss")],
    ),
    "simclr": Figure(
        "SimCLR",
        "Two strong views of each unlabelled image go through the student and a projection; each "
        "is to be told from the views of all other images by its likeness to the other one.",
        labelled_row(3, "strong view")
        | {
            "unlabelled": Box("unlabelled", 0, 1, "unlabelled\nimages", 2),
            "one": Box("view", 1, 1, "strong view"),
            "other": Box("view", 1, 2, "another\nstrong view"),
            "z": Box("output", 3, 1, "projections z,\nby two layers"),
            "z'": Box("output", 3, 2, "projections z'"),
            "loss": Box("loss", 4, 1, "w × which z'\nbelongs to\nwhich z, of all", 2),
        },
        [
            *LABELLED,
            *chain("unlabelled > one > student > z > loss"),
            *chain("unlabelled > other > student > z' > loss"),
        ],
    ),
    "masked": decoded(
        "Masked image modelling",
        "Patches of the weak view of an unlabelled image are hidden; one layer on the student's "
        "last map fills them in, and the difference to the view counts where it was hidden.",
        "weak view,\npatches hidden",
        "difference where\nhidden",
    ),
    "restoration": decoded(
        "Restoration",
        "The weak view of an unlabelled image meets noise, a lower resolution, blur or the loss of "
        "its colours; one layer on the student's last map gives the picture as it was.",
        "weak view,\ndegraded",
        "difference",
    ),
}


def draw(figure: Figure) -> str:
    """The figure as SVG."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {figure.height}" '
        f'width="{WIDTH}" height="{figure.height}" role="img" aria-labelledby="title about">',
        f'<title id="title">What one step of {figure.title} looks like</title>',
        f'<desc id="about">{figure.about}</desc>',
        f"<style>{STYLE}\n</style>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" '
        'markerHeight="8" markerUnits="userSpaceOnUse" orient="auto-start-reverse">'
        '<path class="tip" d="M0 0 8 4 0 8z"/></marker></defs>',
        f'<rect class="paper" width="{WIDTH}" height="{figure.height}" rx="8"/>',
    ]
    parts += [_line(route(figure, arrow), arrow.dashed, arrow.both) for arrow in figure.arrows]
    for box in figure.boxes.values():
        parts += _box(box)
    y = figure.height - 14
    for x, dashed, words in ((14, False, "the gradient flows back"), (222, True, "no gradient")):
        parts.append(_line([(x, y - 4), (x + 30, y - 4)], dashed))
        parts.append(f'<text class="note" x="{x + 38}" y="{y}">{words}</text>')
    if sum(box.kind == "loss" for box in figure.boxes.values()) > 1:
        parts.append(f'<text class="note" x="352" y="{y}">{figure.losses}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _line(corners: list[tuple[float, float]], dashed: bool, both: bool = False) -> str:
    path = " ".join(f"{x:g} {y:g}" for x, y in corners)
    tips = ' marker-end="url(#tip)"' + ' marker-start="url(#tip)"' * both
    return f'<path class="{"dashed" if dashed else "line"}" d="M{path}"{tips}/>'


def _box(box: Box) -> list[str]:
    size = f'width="{box.right - box.left}" height="{box.bottom - box.top}"'
    rounded = {"loss": 18, "student": 4, "teacher": 4}.get(box.kind, 6)
    found = []
    if box.kind in ("labelled", "unlabelled"):  # a pile of them
        found.append(
            f'<rect class="{box.kind}" x="{box.left + 4}" y="{box.top - 4}" {size} rx="3"/>'
        )
        rounded = 3
    found.append(f'<rect class="{box.kind}" x="{box.left}" y="{box.top}" {size} rx="{rounded}"/>')
    lines = box.text.split("\n")
    x, first = (box.left + box.right) / 2, box.middle - (len(lines) - 1) * LINE / 2 + 4.5
    on = ' class="on"' if box.kind in ("student", "teacher") else ""
    found += [
        f'<text{on} x="{x:g}" y="{first + i * LINE:g}">{line}</text>'
        for i, line in enumerate(lines)
    ]
    return found


if __name__ == "__main__":
    for name, figure in FIGURES.items():
        (HERE / f"{name}.svg").write_text(draw(figure), encoding="utf-8")
