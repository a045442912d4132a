"""`torchvision:<name>`: the image sets that torchvision knows by name.

Each is opened by torchvision's own class, so that splits, labels and checks of the files are its
own.
"""

import contextlib
import inspect
import io
import os
import shutil
import sys
import tempfile
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs

from fewlabels.errors import UserError, one_line
from fewlabels.pool import address, table
from fewlabels.pool.address import ROOT, TORCHVISION
from fewlabels.pool.pool import Pool, assemble
from fewlabels.pool.source import Joined
from fewlabels.pool.texts import as_texts

# Constructed like the others, but without one class an image: attributes, boxes, pairs, films, …
OTHER_TASKS = {
    "CelebA",
    "Kitti",
    "LFWPairs",
    "Middlebury2014Stereo",
    "MovingMNIST",
    "SBDataset",
    "SBU",
    "VOCDetection",
    "VOCSegmentation",
    "WIDERFace",
}
# A mirrored digit, letter or traffic sign is another one.
WRITTEN = {
    "EMNIST",
    "GTSRB",
    "KMNIST",
    "MNIST",
    "Omniglot",
    "QMNIST",
    "RenderedSST2",
    "SEMEION",
    "SVHN",
    "USPS",
}
UNLABELLED = "unlabelled"
# Our splits, and what torchvision's sets call them; of several words the first that a set knows.
SIDES = {
    "train": ("train", "trainval", "train-standard"),
    "val": ("val", "valid"),
    "test": ("test",),
    UNLABELLED: ("unlabeled",),
}
# Parameters that we set ourselves, or that change what is asked of an image.
OURS = {
    "self",
    "root",
    "train",
    "download",
    "loader",
    "transform",
    "target_transform",
    "target_type",
    "target_types",
    "what",
    "compat",
    "kwargs",
}


def names() -> tuple[str, ...]:
    """The sets with one class an image that torchvision can download."""
    from fewlabels.torchvision_repair import repair  # imports torch

    repair()
    from torchvision import datasets

    kinds = {name: getattr(datasets, name) for name in datasets.__all__}
    return tuple(
        sorted(n for n, kind in kinds.items() if inspect.isclass(kind) and _classifies(n, kind))
    )


def scan(data: str, task: str | None = None) -> Pool:
    """The Pool of `torchvision:<name>[?option=value&…]`. Raises UserError.

    Downloaded once, into the user's cache folder; with `?root=DIR` read from there. Other options
    go to the set's constructor. `?split=` takes one split alone, which is still to be split.
    """
    name, options = address.parse(data)
    kind = _kind(data, name)
    parameters = _parameters(kind)
    address.need_known(data, options, (ROOT, *(p for p in parameters if p not in OURS)))
    given = options.pop(ROOT, None)
    arguments = {key: _value(data, key, text, parameters[key]) for key, text in options.items()}
    sides = _sides(data, kind, arguments)
    root = _downloaded(data, kind, options, sides) if given is None else Path(given)
    sources: list[NamedImages] = []
    labels: list[str] = []
    split: list[str] = []
    for name_of, own in sides:
        rows = _opened(data, kind, root, own)
        sources.append(NamedImages(name_of or "image", rows, root, "loader" in parameters))
        hidden = name_of == UNLABELLED
        labels += [""] * len(rows) if hidden else _labels(data, rows)
        split += ["train" if hidden else name_of] * len(rows)
    return assemble(
        data,
        Joined(tuple(sources)),
        labels,
        table.sides(as_texts(split), as_texts(labels), str),
        mirror=name not in WRITTEN,
        task=task,
    )


@dataclass(frozen=True, eq=False)
class NamedImages:
    """The images of one of torchvision's sets."""

    word: str  # begins the names of images that lie in no file
    rows: Any  # the torchvision dataset
    root: Path
    files: bool  # whether it gives paths, by `_path`; other images are given as PNG

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, row: int) -> str:
        if self.files:
            return Path(os.path.relpath(self.rows[row][0], self.root)).as_posix()
        return f"{self.word}#{row}"

    def read(self, row: int) -> bytes:
        if self.files:
            return Path(self.rows[row][0]).read_bytes()
        try:
            image = self.rows[row][0]
            if path := getattr(image, "filename", ""):  # opened, and not decoded yet
                return Path(path).read_bytes()
            file = io.BytesIO()
            image.save(file, "PNG")
        except Exception as error:  # a damaged file, which its set has decoded
            raise OSError(one_line(error)) from error
        return file.getvalue()


def _path(path: str) -> str:
    """In the place of torchvision's loader: the file's own bytes are read, not its pixels."""
    return path


def _classifies(name: str, kind: Any) -> bool:
    parameters = _parameters(kind)
    needed = {n for n, p in parameters.items() if p.default is p.empty} - OURS - {"split"}
    return name not in OTHER_TASKS and not needed and {"root", "download"} <= parameters.keys()


def _parameters(kind: Any) -> dict[str, inspect.Parameter]:
    """Of the constructor, and of those that it passes its **kwargs on to."""
    found: dict[str, inspect.Parameter] = {}
    for base in kind.__mro__:
        if "__init__" in vars(base):
            own = dict(inspect.signature(base.__init__).parameters)
            found = own | found
            if not any(p.kind is p.VAR_KEYWORD for p in own.values()):
                break
    return found


def _kind(data: str, name: str) -> Any:
    known = names()
    from torchvision import datasets

    right = {one.casefold(): one for one in known}.get(name.casefold())
    if name not in known:
        meant = f"did you mean {TORCHVISION}{right}?" if right else f"there are {', '.join(known)}"
        raise UserError(f"{data}: not a torchvision set of images with one class each; {meant}")
    return getattr(datasets, name)


def _value(data: str, name: str, text: str, parameter: inspect.Parameter) -> Any:
    """The text as what the parameter's default is, or is said to be: bool, int or str."""
    try:
        if isinstance(parameter.default, bool):
            return {"true": True, "false": False}[text.lower()]
        if isinstance(parameter.default, int) or "int" in str(parameter.annotation):
            return int(text)
    except (KeyError, ValueError):
        raise UserError(f"{data}: {name}={text} is not a value that it takes") from None
    return text


def _sides(data: str, kind: Any, arguments: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """[(our split, the constructor's arguments)]; the split is "" where it is still to be split."""
    parameters = _parameters(kind)
    if "train" in parameters:
        if "split" in parameters and "split" not in arguments:
            choices = ", ".join(getattr(kind, "splits", ()))
            raise UserError(f"{data}: choose one of its parts by ?split=…: {choices}")
        return [
            ("train", arguments | {"train": True}),
            ("test", arguments | {"train": False}),
        ]
    if "split" not in parameters or "split" in arguments:
        return [("", arguments)]
    found = []
    refused = ""
    with tempfile.TemporaryDirectory() as nowhere:
        for side, words in SIDES.items():
            for word in words:
                own = arguments | {"split": word}
                try:
                    kind(root=nowhere, download=False, **own)
                except ValueError as error:  # torchvision's answer to a word that it does not know
                    refused = refused or one_line(error)
                    continue
                except Exception:  # no such files: but the word is one
                    pass
                found.append((side, own))
                break
    if not found:
        raise UserError(f"{data}: {refused}")
    return found


def _downloaded(
    data: str, kind: Any, options: dict[str, str], sides: list[tuple[str, dict[str, Any]]]
) -> Path:
    """The folder in the user's cache that holds the set; got now if it is not there yet.

    Other options have a folder of their own: a set may download other files for them.
    """
    name = "-".join([kind.__name__, *(f"{key}={text}" for key, text in sorted(options.items()))])
    folder = default_folder() / name
    if folder.is_dir():
        return folder
    # Under a name of its own first: torchvision takes a folder that was half unpacked for whole.
    part = folder.with_name(f"{name}.{uuid.uuid4().hex}.part")
    try:
        part.mkdir(parents=True)
        for _, own in sides:
            with contextlib.redirect_stdout(sys.stderr):  # ours may be JSON
                kind(root=str(part), download=True, **own)
        try:
            part.rename(folder)
        except OSError:
            if not folder.is_dir():  # another process was faster
                raise
    except Exception as error:  # no network, no space, a wrong checksum, a set that is gone, …
        local = address.unparse(TORCHVISION, kind.__name__, {ROOT: "DIR"})
        raise UserError(
            f"{data}: cannot be downloaded into {folder} ({one_line(error)}); if you have its "
            f"files, name their folder: {local}"
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder


def default_folder() -> Path:
    """`torchvision` in $FEWLABELS_CACHE, or in the user's cache folder."""
    chosen = os.environ.get("FEWLABELS_CACHE")
    return Path(chosen or platformdirs.user_cache_dir("fewlabels")) / "torchvision"


def _opened(data: str, kind: Any, root: Path, own: dict[str, Any]) -> Any:
    loader: dict[str, Callable[[str], str]] = (
        {"loader": _path} if "loader" in _parameters(kind) else {}
    )
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return kind(root=str(root), download=False, **loader, **own)
    except Exception as error:  # what torchvision raises for files that are absent or damaged
        raise UserError(f"{data}: cannot be read from {root} ({one_line(error)})") from error


def _labels(data: str, rows: Any) -> list[str]:
    """Class names [N]; "" where there is none."""
    numbers = _numbers(rows)
    if not all(n is None or isinstance(n, int) for n in numbers):
        raise UserError(f"{data}: its labels are no classes")
    classes = getattr(rows, "classes", None) or getattr(rows, "categories", None) or ()
    # some have several words for one class
    words = [str(one[0] if isinstance(one, tuple) else one) for one in classes]
    if len(set(words)) < len(words):
        words = [f"{word} ({number})" for number, word in enumerate(words)]

    def name(number: int | None) -> str:
        if number is None or number < 0:
            return ""
        return words[number] if number < len(words) else str(number)

    return [name(number) for number in numbers]


def _numbers(rows: Any) -> list[Any]:
    """The class numbers, without decoding images where the set has them in a list."""
    for attribute in ("targets", "labels", "_labels", "y"):
        values = getattr(rows, attribute, None)
        if values is not None and len(values) == len(rows):
            numbers: list[Any] = np.asarray(values).tolist()
            return numbers
    if (samples := getattr(rows, "_samples", None)) is not None:
        return [label for _, label in samples]
    return [rows[row][1] for row in range(len(rows))]
