"""What a method is, in a page: what `fewlabels methods` shows, without importing torch.

`methods.json` is written by docs/methods/tables.py from the one source of truth: the docstring of a
method's module, `Title (Citation): one sentence`, an indented formula, then text; the fields of its
Settings with the comments beside them; its tasks and views. Tests compare the two.
"""

import difflib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from fewlabels.errors import UserError

FILE = Path(__file__).with_name("methods.json")
UNLABELLED, TEACHER, PRETRAINED = "unlabelled images", "a teacher", "a pretrained model"
RUNS = "runs trained before"
SEQUENCES = ("self_train", "noisy_student", "pretrain", "fixres", "ensemble", "baseline")


@dataclass(frozen=True)
class Setting:
    """One that `--set NAME=VALUE` takes."""

    name: str
    kind: str  # float, int, bool, str
    default: Any
    meaning: str


@dataclass(frozen=True)
class Seen:
    """Which augmented views of which images a step sees; of frozen features none."""

    labelled: str = ""
    unlabelled: tuple[str, ...] = ()
    ratio: int = 0  # unlabelled images for each labelled one
    given: bool = False  # they come with what a teacher has said of them


@dataclass(frozen=True)
class Essence:
    """What there is to know of a method before one takes it."""

    name: str  # as --method takes it
    title: str
    paper: str  # authors and year
    sentence: str
    formula: str  # with the numbers of its equations
    text: str  # paragraphs
    tasks: tuple[str, ...]
    needs: tuple[str, ...]
    views: Seen
    settings: tuple[Setting, ...]
    page: str  # in the repository; empty where there is none

    @property
    def frozen(self) -> bool:
        """Whether it is fitted to frozen features."""
        return PRETRAINED in self.needs and not self.sequence

    @property
    def sequence(self) -> bool:
        """Whether it is a sequence of runs, or is made of runs."""
        return self.name in SEQUENCES


@cache
def essences() -> tuple[Essence, ...]:
    """Of all that `--method` takes but auto, which is a choice among them."""
    return tuple(map(_essence, json.loads(FILE.read_text(encoding="utf-8"))))


def essence(name: str) -> Essence:
    """UserError, with what is near, for an unknown one."""
    found = {each.name: each for each in essences()}
    if name in found:
        return found[name]
    if name == "auto":
        raise UserError(
            "methods auto: auto is no method; it trains labels only, then one that learns from the "
            "unlabelled images too, and keeps the better"
        )
    close = difflib.get_close_matches(name, found, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}" if close else "`fewlabels methods` lists them"
    raise UserError(f"methods {name}: no such method; {hint}")


def _essence(told: dict[str, Any]) -> Essence:
    views = told["views"] | {"unlabelled": tuple(told["views"]["unlabelled"])}
    parts = {
        "tasks": tuple(told["tasks"]),
        "needs": tuple(told["needs"]),
        "views": Seen(**views),
        "settings": tuple(Setting(**setting) for setting in told["settings"]),
    }
    return Essence(**(told | parts))
