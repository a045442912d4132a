"""Plots as inline SVG: no library, crisp at any size, and coloured by the page's style sheet.

Places are in per cent of the plot, not in a viewBox's units: so a plot takes the width of a phone
or a desk and its text stays of one size. Only curves, which SVG cannot draw in per cent, stand in
an inner stretched viewBox.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from markupsafe import Markup, escape

Format = Callable[[float], str]


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
    return _svg(parts, text, "whiskers", f"height:{height}px")


def curves(rows: list[Curve], text: str, x_tick: Format, y_tick: Format, y_low: float) -> Markup:
    """Lines over a common x that starts at 0; y starts at `y_low` or at the smallest value."""
    values = [y for row in rows for _, y in row.points]
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
        for mark in ticks(0.0, end, 5)
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


def _place(value: float, start: float, end: float) -> float:
    """Where a value lies between both ends of an axis, in per cent, held inside of it."""
    return round(min(max(100 * (value - start) / (end - start), 0.0), 100.0), 2)


def _gridline(x: float, text: str, height: int, zero: bool) -> Markup:
    return Markup(
        '<line class="grid{}" x1="{x}%" x2="{x}%" y1="22" y2="{end}"/>'
        '<text class="tick x" x="{x}%" y="{below}">{text}</text>'
    ).format(" zero" if zero else "", x=x, end=height - 18, below=height - 2, text=text)


def _svg(parts: list[Markup], text: str, style: str, css: str = "") -> Markup:
    head = Markup('<svg class="plot {}" role="img" aria-label="{}" style="{}">').format(
        style, text, css
    )
    return head + Markup("").join(escape(part) for part in parts) + Markup("</svg>")
