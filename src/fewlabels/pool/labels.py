"""What labels say: one class an image, several, or numbers."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fewlabels.errors import UserError
from fewlabels.pool.pool import MULTI, REGRESSION, SINGLE, TASKS, Pool, sort_classes

BAR = "|"  # between the labels of an image; alone it says: none of the classes

# "other" and "background" may be meant
NO_CLASS = frozenset(
    """ambiguous don't_know do_not_know dont_know na n/a nan nil no_class no_label none not_labeled
    not_labelled not_sure null skip tbd to_do todo uncertain unclassified unclear undecided
    undefined undetermined unidentified unk unknown unlabeled unlabelled unsure""".split()  # noqa: SIM905
)


@dataclass(frozen=True, eq=False)
class Labels:
    """The labels of N images; what the fields are, `Pool` tells."""

    task: str
    classes: tuple[str, ...]
    label: NDArray[np.int64]
    target: NDArray[np.bool_] | NDArray[np.float64] | None


def read_labels(texts: Sequence[str], task: str | None, place: Callable[[int], str]) -> Labels:
    """Labels as text [N], "" = unlabelled.

    Without a task it is multi where a label holds `|`, else single. `place(row)` begins the line
    of a UserError.
    """
    index: dict[str, int] = {}
    numbers = (index.setdefault(text, len(index)) for text in texts)
    number = np.fromiter(numbers, np.int64, len(texts))
    written = list(index)
    if task is None:
        task = MULTI if any(BAR in text for text in written) else SINGLE
    if task == SINGLE:
        return _single(number, written)
    if task == MULTI:
        return _multi(number, written)
    if task == REGRESSION:
        return _regression(number, written, place)
    raise UserError(f"task {task!r}; it is {', '.join(TASKS)}")


def _single(number: NDArray[np.int64], written: list[str]) -> Labels:
    classes = sort_classes([name for name in written if name])
    index = {name: n for n, name in enumerate(classes)} | {"": -1}
    label = np.array([index[name] for name in written], dtype=np.int64)
    return Labels(SINGLE, classes, label[number], None)


def _multi(number: NDArray[np.int64], written: list[str]) -> Labels:
    sets = [{name for part in text.split(BAR) if (name := part.strip())} for text in written]
    classes = sort_classes(sorted(set[str]().union(*sets)))
    index = {name: n for n, name in enumerate(classes)}
    target = np.zeros((len(written), len(classes)), dtype=np.bool_)
    for row, names in enumerate(sets):
        target[row, [index[name] for name in names]] = True
    label = np.array([0 if text else -1 for text in written], dtype=np.int64)
    return Labels(MULTI, classes, label[number], target[number])


def _regression(
    number: NDArray[np.int64], written: list[str], place: Callable[[int], str]
) -> Labels:
    """Numbers separated by `|`, as many in every row that has any."""

    def where(code: int) -> str:
        return place(int(np.flatnonzero(number == code)[0]))

    # A list has a bar at its end (texts.told).
    parts = {n: text.rstrip(BAR).split(BAR) for n, text in enumerate(written) if text}
    width = len(next(iter(parts.values()), [""]))
    target = np.full((len(written), width), np.nan)
    for n, numbers in parts.items():
        if len(numbers) != width:
            raise UserError(
                f"{where(n)} has {len(numbers)} numbers as its label, others have {width}; "
                "give all images as many"
            )
        target[n] = [_number(text) for text in numbers]
        if not np.isfinite(target[n]).all():
            raise UserError(
                f"{where(n)} has the label {written[n]!r}, which is no number; "
                "write it with a decimal point, or leave it empty if it is not known"
            )
    label = np.array([0 if text else -1 for text in written], dtype=np.int64)
    return Labels(REGRESSION, (), label[number], target[number])


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def need_no_bar(owner: str, names: Iterable[str]) -> None:
    """UserError where a class has a bar in its name; `owner`, whose it is, begins the line."""
    for name in names:
        if BAR in name:
            raise UserError(
                f"{owner} has a class {name!r}, but {BAR} stands between labels; rename it"
            )


def says_no_class(name: str) -> bool:
    """Whether a class's name says that the image has none: "Not sure", "?", "unknown", "N/A"."""
    words = re.sub(r"[\s_-]+", "_", name.casefold()).strip("_.?!")
    return words in NO_CLASS or not words


def no_classes(pool: Pool) -> tuple[str, ...]:
    """The classes whose name says that they are none."""
    return tuple(name for name in pool.classes if says_no_class(name))
