"""Plots as inline SVG: no library, crisp at any size, and coloured by the page's style sheet.

Places are in per cent of the plot, not in a viewBox's units: so a plot takes the width of a phone
or a desk and its text stays of one size. Only curves, which SVG cannot draw in per cent, stand in
an inner stretched viewBox.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

Format = Callable[[float], str]

# of a reliability diagram, in per cent of its height: where the square ends, where the bars begin
SQUARE, STRIP = 78.0, 84.0


@dataclass(frozen=True)
class Whisker:
    """A dot at `value` with its interval. The style is "main" or "plain"."""

    name: str
    value: float
    low: float
    high: float
    style: str = "plain"


@dataclass(frozen=True)
class Curve:
    """Points (x, y) in the order of x, and perhaps a band (x, low, high) around them."""

    name: str
    points: list[tuple[float, float]]
    style: str  # classes of the style sheet
    dots: bool = False
    band: list[tuple[float, float, float]] = field(default_factory=list)


@dataclass(frozen=True)
class Bin:
    """n images of alike confidence, 0 to 1, and how many of them were right, with its interval."""

    confidence: float
    accuracy: float
    low: float
    high: float
    n: int


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers that enclose low..high, at most `about` + 2 of them."""
    width = max(high - low, 1e-9)
    power = 10.0 ** math.floor(math.log10(width / about))
    step = power * next(m for m in (1, 2, 5, 10) if width / (power * m) <= about)
    # the small slack keeps 0.9 / 0.1 = 9.000000000000002 from opening one more step
    first, last = math.floor(low / step + 1e-6), math.ceil(high / step - 1e-6)
    return [round(i * step, 10) for i in range(first, max(last, first + 1) + 1)]


def intervals(rows: list[Whisker], text: str, tick: Format, around: float | None = None) -> Markup:
    """Dots with whiskers, one under another, on a common axis, which takes in `around`."""
    also = [] if around is None else [around]
    marks = ticks(min([row.low for row in rows] + also), max([row.high for row in rows] + also))
    height = 46 * len(rows) + 26

    def place(value: float) -> float:
        return _place(value, marks[0], marks[-1])

    parts = [_gridline(place(mark), tick(mark), height, mark == 0) for mark in marks]
    for i, row in enumerate(rows):
        y = 46 * i + 30
        left, at, right = (place(x) for x in (row.low, row.value, row.high))
        parts.append(
            Markup(
                '<g class="whisker {style}"><title>{text}</title>'
                '<text x="0" dx="-16" y="{above}">{name}</text>'
                '<line x1="{left}%" x2="{right}%" y1="{y}" y2="{y}"/>'
                '<circle cx="{at}%" cy="{y}" r="6"/></g>'
            ).format(
                style=row.style,
                text=f"{row.name}: {tick(row.value)} ({tick(row.low)} to {tick(row.high)})",
                above=y - 14,
                name=row.name,
                left=left,
                right=right,
                at=at,
                y=y,
            )
        )
    return _svg(parts, text, "whiskers", height)


def curves(
    rows: list[Curve],
    text: str,
    x_tick: Format,
    y_tick: Format,
    y_low: float,
    x_marks: Sequence[float] = (),
) -> Markup:
    """Lines over a common x that starts at 0; y starts at `y_low` or at the smallest value.

    x has marks at `x_marks`, or at round numbers.
    """
    values = [y for row in rows for _, y in row.points]
    values += [end for row in rows for _, low, high in row.band for end in (low, high)]
    end = max(x for row in rows for x, _ in row.points) or 1.0
    y_marks = ticks(min([y_low, *values]), max(values), 4)

    def across(x: float) -> float:
        return _place(x, 0.0, end)

    def down(y: float) -> float:
        return round(100 - _place(y, y_marks[0], y_marks[-1]), 2)

    def points(pairs: Iterable[tuple[float, float]]) -> str:
        return " ".join(f"{across(x)},{down(y)}" for x, y in pairs)

    parts = [
        Markup(
            '<line class="grid" x1="0" x2="100%" y1="{y}%" y2="{y}%"/>'
            '<text class="tick y" x="0" dx="-8" y="{y}%" dy="4">{text}</text>'
        ).format(y=down(mark), text=y_tick(mark))
        for mark in y_marks
    ]
    parts += [
        Markup('<text class="tick x" x="{x}%" y="100%" dy="20">{text}</text>').format(
            x=across(mark), text=x_tick(mark)
        )
        for mark in x_marks or ticks(0.0, end, 5)
        if mark <= end
    ]
    parts.append(Markup('<svg viewBox="0 0 100 100" preserveAspectRatio="none">'))
    for row in rows:
        if row.band:
            top = [(x, high) for x, _, high in row.band]
            bottom = [(x, low) for x, low, _ in reversed(row.band)]
            area = points(top + bottom)
            parts.append(Markup('<polygon class="band {}" points="{}"/>').format(row.style, area))
        parts.append(
            Markup('<polyline class="{}" points="{}"/>').format(row.style, points(row.points))
        )
    parts.append(Markup("</svg>"))
    for row in rows:
        parts += [
            Markup(
                '<circle class="{}" cx="{}%" cy="{}%" r="2.5"><title>{}</title></circle>'
            ).format(row.style, across(x), down(y), f"{row.name}, {x_tick(x)}: {y_tick(y)}")
            for x, y in (row.points if row.dots or len(row.points) == 1 else [])
        ]
    return _svg(parts, text, "curves")


def reliability(bins: list[Bin], text: str, tick: Format) -> Markup:
    """Accuracy over confidence, both 0 to 1, on a square, and below it how many images there are.

    A dot's area grows with its number of images; where it lies on the dotted line, both agree.
    """
    most = max(one.n for one in bins)

    def down(y: float) -> float:
        return round(SQUARE * (1 - y), 2)

    parts = [
        Markup(
            '<line class="grid" x1="0" x2="100%" y1="{y}%" y2="{y}%"/>'
            '<text class="tick y" x="0" dx="-8" y="{y}%" dy="4">{text}</text>'
            '<line class="grid" x1="{x}%" x2="{x}%" y1="0" y2="100%"/>'
            '<text class="tick x" x="{x}%" y="100%" dy="20">{text}</text>'
        ).format(x=100 * mark, y=down(mark), text=tick(mark))
        for mark in (0.0, 0.25, 0.5, 0.75, 1.0)
    ]
    parts.append(Markup('<line class="equal" x1="0" y1="{}%" x2="100%" y2="0"/>').format(SQUARE))
    for one in bins:
        x, height = round(100 * one.confidence, 2), max((100 - STRIP) * one.n / most, 0.7)
        parts.append(
            Markup(
                '<g class="bin"><title>{title}</title>'
                '<line x1="{x}%" x2="{x}%" y1="{high}%" y2="{low}%"/>'
                '<circle cx="{x}%" cy="{at}%" r="{r}"/>'
                '<line class="bar" x1="{x}%" x2="{x}%" y1="{top}%" y2="100%"/></g>'
            ).format(
                title=f"confidence {tick(one.confidence)}: {tick(one.accuracy)} right "
                f"({tick(one.low)} to {tick(one.high)}), {one.n:,} images",
                x=x,
                low=down(one.low),
                high=down(one.high),
                at=down(one.accuracy),
                r=round(2.5 + 4.5 * math.sqrt(one.n / most), 1),
                top=round(100 - height, 2),
            )
        )
    return _svg(parts, text, "reliability")


def scatter(points: Sequence[tuple[float, float]], text: str, tick: Format) -> Markup:
    """Dots (x, y) on a square with the same axis both ways; on the dotted line x is y."""
    values = [value for point in points for value in point]
    marks = ticks(min(values), max(values))
    low, high = marks[0], marks[-1]

    def down(y: float) -> float:
        return round(100 - _place(y, low, high), 2)

    parts = [
        Markup(
            '<line class="grid" x1="0" x2="100%" y1="{y}%" y2="{y}%"/>'
            '<text class="tick y" x="0" dx="-8" y="{y}%" dy="4">{text}</text>'
            '<line class="grid" x1="{x}%" x2="{x}%" y1="0" y2="100%"/>'
            '<text class="tick x" x="{x}%" y="100%" dy="20">{text}</text>'
        ).format(x=_place(mark, low, high), y=down(mark), text=tick(mark))
        for mark in marks
    ]
    parts.append(Markup('<line class="equal" x1="0" y1="100%" x2="100%" y2="0"/>'))
    parts += [
        Markup('<circle class="s0" cx="{}%" cy="{}%" r="3"><title>{}</title></circle>').format(
            _place(x, low, high), down(y), f"true {tick(x)}, predicted {tick(y)}"
        )
        for x, y in points
    ]
    return _svg(parts, text, "scatter")


def _place(value: float, start: float, end: float) -> float:
    """Where a value lies between both ends of an axis, in per cent, held inside of it."""
    return round(min(max(100 * (value - start) / (end - start), 0.0), 100.0), 2)


def _gridline(x: float, text: str, height: int, zero: bool) -> Markup:
    return Markup(
        '<line class="grid{}" x1="{x}%" x2="{x}%" y1="22" y2="{end}"/>'
        '<text class="tick x" x="{x}%" y="{below}">{text}</text>'
    ).format(" zero" if zero else "", x=x, end=height - 18, below=height - 2, text=text)


def _svg(parts: list[Markup], text: str, style: str, height: int | None = None) -> Markup:
    head = Markup('<svg class="plot {}" role="img" aria-label="{}"').format(style, text)
    head += Markup(' height="{}">').format(height) if height else Markup(">")
    return head + Markup("").join(escape(part) for part in parts) + Markup("</svg>")
