"""Settings are frozen dataclasses; what a user gives for them is checked here, for all of them."""

import math
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from fewlabels.errors import UserError

T = TypeVar("T")
POSITIVE = math.ulp(0.0)  # the least number that is more than 0
_WORDS = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "true or false",
    list: "a list",
}


def make(kind: type[T], values: dict[str, Any], where: str) -> T:
    """An instance of the dataclass `kind`. UserError for an unknown key or a value of a wrong type.

    `where` is what the line begins with: the file or call that the values come from.
    """
    types = get_type_hints(kind)
    for key, value in values.items():
        if key not in types:
            raise UserError(f"{where}: no setting is named '{key}'; there are {', '.join(types)}")
        wanted = [t for t in get_args(types[key]) or (types[key],) if t is not type(None)]
        if get_origin(types[key]) in (dict, list):
            wanted = [get_origin(types[key])]
        if value is None and type(None) in get_args(types[key]):
            continue
        if not any(_is(value, one) for one in wanted):
            words = " or ".join(_words(one) for one in wanted)
            raise UserError(f"{where}: {key} must be {words}, not {value!r}")
    return kind(**values)


def between(name: str, value: float | None, low: float, high: float = math.inf) -> None:
    """UserError unless `value` is None or low <= value <= high; `low` may be POSITIVE."""
    if value is None or low <= value <= high:
        return
    if low == POSITIVE:
        bounds = "more than 0" + (f" and at most {high:g}" if high < math.inf else "")
    else:
        bounds = f"at least {low:g}" if high == math.inf else f"between {low:g} and {high:g}"
    raise UserError(f"{name} {value}: must be {bounds}")


def one_of(name: str, value: str, among: tuple[str, ...]) -> None:
    """UserError unless `value` is among them."""
    if value not in among:
        raise UserError(f"{name} {value}: must be one of {', '.join(among)}")


def _words(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return " or ".join(map(str, get_args(kind)))
    return _WORDS.get(get_origin(kind) or kind) or str(kind.__name__)


def _is(value: Any, kind: Any) -> bool:
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if isinstance(value, bool):
        return kind is bool
    if kind is float:
        return isinstance(value, int | float) and math.isfinite(value)
    return isinstance(value, get_origin(kind) or kind)
