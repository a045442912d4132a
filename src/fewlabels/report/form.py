"""How numbers are written."""

import re
from collections.abc import Sequence
from typing import Any

JOINED = " + "  # between the places of a pool of several


def percent(value: float) -> str:
    """0.965 -> 96.5 %"""
    return f"{100 * value:.1f} %"


def unbroken(value: float) -> str:
    """As `percent`, for running text: the number and its sign stay on one line."""
    return percent(value).replace(" ", "\N{NO-BREAK SPACE}")


def tick(value: float) -> str:
    """0.9 -> 90 %, 0.965 -> 96.5 %: as short as it can be"""
    return f"{round(100 * value, 1):g} %"


def point_tick(value: float) -> str:
    """0.05 -> +5"""
    text = points(value)
    return text.removesuffix(".0")


def whole(value: float) -> str:
    """0.962 -> 96 %; nothing but none is 0 %, nothing but all is 100 %"""
    if 0 < value < 0.01:
        return "<1 %"
    return ">99 %" if 0.99 < value < 1 else f"{100 * value:.0f} %"


def span(interval: Sequence[float], signed: bool = False) -> str:
    """[0.94, 0.98] -> 94.0 to 98.0"""
    low, high = interval
    return f"{points(low)} to {points(high)}" if signed else f"{100 * low:.1f} to {100 * high:.1f}"


def points(value: float) -> str:
    """0.083 -> +8.3; -0.01 -> −1.0, with a true minus sign; what rounds to nothing has no sign"""
    text = f"{100 * value:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "\N{MINUS SIGN}")


def plain_points(value: float) -> str:
    """0.0213 -> 2.1, of a gap that has no sign"""
    return f"{100 * value:.1f}"


def count(value: float) -> str:
    """40000 -> 40,000"""
    return f"{value:,.0f}"


def duration(seconds: float) -> str:
    """271.6 -> 4 min 32 s"""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def spread(value: float | None) -> str:
    """0.0412 -> ± 4.1"""
    return "" if value is None else f"± {100 * value:.1f}"


def beside(result: dict[str, Any]) -> str:
    """What the run is compared with: labels only, or a run as it was before."""
    before = (result.get("baseline") or {}).get("method") == "before"
    return "the run before" if before else "labels only"


def last_part(path: str) -> str:
    """photos/birds/ -> birds: what people call their data"""
    parts = path.split(JOINED)
    return JOINED.join(re.split(r"[/\\]", part.rstrip("/\\"))[-1] or part for part in parts)


def place(data: object) -> str:
    """Where a run's images lie, as its settings have it: one place, or a list of several."""
    return JOINED.join(map(str, data)) if isinstance(data, list) else str(data)
