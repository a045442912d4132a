"""The methods: one training step each, one file each."""

from dataclasses import dataclass, fields
from typing import Any

from fewlabels.errors import UserError
from fewlabels.methods import fixmatch, supervised
from fewlabels.methods.method import Batch, Facts, Method, Step, Views
from fewlabels.settings import make

__all__ = ["METHODS", "Batch", "Facts", "Method", "Step", "Views", "create", "resolve"]


@dataclass(frozen=True)
class Entry:
    """A method and the settings it takes."""

    method: type[Any]
    settings: type[Any]


METHODS: dict[str, Entry] = {
    "supervised": Entry(supervised.Supervised, supervised.Settings),
    "fixmatch": Entry(fixmatch.FixMatch, fixmatch.Settings),
}


def resolve(name: str, settings: dict[str, Any]) -> Any:
    """The method's own Settings with these values; UserError for what it does not know."""
    if name not in METHODS:
        raise UserError(f"no method is named '{name}'; there are auto, {', '.join(METHODS)}")
    known = {field.name: field.type for field in fields(METHODS[name].settings)}
    for key in settings:
        if key not in known:
            raise UserError(
                f"setting '{key}' has no effect in the method {name}; it takes {', '.join(known)}"
            )
    return make(METHODS[name].settings, settings, f"method {name}")


def create(name: str, facts: Facts, settings: Any) -> Method:
    """The method with its state at the beginning."""
    method: Method = METHODS[name].method(facts, settings)
    return method
