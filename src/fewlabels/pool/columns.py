"""Which column of a table is which: image, label, split, group."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from fewlabels.errors import UserError

# What a column may be called where there is none of the proper name.
ALSO = {
    "image": "img images file filename file_name filepath file_path path image_path image_name "
    "image_file",
    "label": "labels class class_name class_label classes category target",
    "split": "",
    "group": "",
}


@dataclass(frozen=True)
class Columns:
    """Of each column that is there, image, label, split or group: its number and its own name."""

    at: dict[str, int]
    name: dict[str, str]
    notes: tuple[str, ...]  # which names were taken for others, and which columns are not used
    unlabelled: str = ""  # that there is no column of labels

    @property
    def others(self) -> list[str]:
        """The names of all but the images' column."""
        return [name for what, name in self.name.items() if what != "image"]


def find_columns(
    path: object, header: Sequence[str], wanted: Sequence[str] = tuple(ALSO)
) -> Columns:
    """The columns of a table with these names, by default those of `ALSO`.

    Case, spaces, `-` and `_` make no difference. Raises UserError where there are no images, or
    where a column may be one of several.
    """
    names = [_plain(name) for name in header]
    at: dict[str, int] = {}
    notes = []
    for column in wanted:
        found = [n for n, name in enumerate(names) if name == column]
        found = found or [n for n, name in enumerate(names) if name in ALSO.get(column, "").split()]
        if len(found) > 1:
            said = " and ".join(repr(header[n]) for n in found)
            raise UserError(
                f"{path}: columns {said} may all be the {column}; call the right one {column!r} "
                "and the others something else"
            )
        if found:
            at[column] = found[0]
            if names[found[0]] != column:
                notes.append(f"the column {header[found[0]]!r} is read as {column}")
        elif column == "image":
            raise UserError(
                f"{path}: {_absent(column, header)}; the first line of a table names its columns, "
                "image[,label][,split][,group]"
            )
    unlabelled = "" if "label" in at else _absent("label", header)
    if unlabelled:
        notes.append(f"{unlabelled}: its images are unlabelled")
    used = set(at.values())
    spare = [repr(header[n]) for n in range(len(header)) if n not in used and _is_named(names[n])]
    if spare:
        notes.append(f"not used: {'column' if len(spare) == 1 else 'columns'} {', '.join(spare)}")
    names_of = {column: header[n] for column, n in at.items()}
    return Columns(at, names_of, tuple(notes), unlabelled)


def _absent(column: str, header: Sequence[str]) -> str:
    there = ", ".join(name.strip() for name in header) or "none"
    return f"no column {column!r} (found: {there})"


def names_images(header: Sequence[str]) -> bool:
    """Whether one of these names may be the column of the images."""
    return any(_plain(name) in ("image", *ALSO["image"].split()) for name in header)


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", "_", name.strip().casefold())


def _is_named(name: str) -> bool:
    return bool(name) and not re.fullmatch(r"unnamed:_\d+|__index_level_\d+__", name)
