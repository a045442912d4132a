"""`hf:<id>`: image data sets of the Hugging Face hub, by its own library `datasets`."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from fewlabels.errors import UserError, one_line
from fewlabels.pool import address
from fewlabels.pool.labels import BAR, need_no_bar
from fewlabels.pool.pool import SPLIT_NAMES, UNLABELLED_NAMES, Pool, Skipped, assemble
from fewlabels.pool.source import Joined
from fewlabels.pool.table import as_meant, number_groups, sides
from fewlabels.pool.texts import Texts, as_texts, told

FORM = "hf:<id>[:config][@revision]"
OPTIONS = ("image", "label", "group", "split")
ANSWER = 5.0  # seconds in which the hub says whether it is there
WITHOUT_LABELS = (*UNLABELLED_NAMES, "unsupervised")


def scan(data: str, task: str | None = None) -> Pool:
    """The Pool of `hf:<id>[:config][@revision][?label=COLUMN&…]`. Raises UserError.

    The images stay encoded, in files that are mapped and not loaded. A split of a known name takes
    its side, any other is left out; images without a label train. The options name a column (image,
    label, group) or the one split to take. One split alone is still to be split.
    """
    body, options = address.parse(data)
    address.need_known(data, options, OPTIONS)
    splits, away = _load(data, body)
    if "split" in options:
        if options["split"] not in splits:
            raise UserError(f"{data}: no split {options['split']!r}; there are {', '.join(splits)}")
        splits = {options["split"]: splits[options["split"]]}
    features = next(iter(splits.values())).features
    image = _image_column(data, features, options.get("image"))
    label = _label_column(data, features, options.get("label"))
    absent = "" if label else f"no column of labels (found: {', '.join(features)})"
    if "group" in options and options["group"] not in features:
        raise _no_column(data, options["group"], features)

    sources: list[HubImages] = []
    labels: list[str] = []
    words: list[str] = []
    groups: list[str] = []
    skipped: list[Skipped] = []
    for name, split in splits.items():
        word = "" if len(splits) == 1 else SPLIT_NAMES.get(name.casefold())
        unlabelled = name.casefold() in WITHOUT_LABELS
        if word is None and not unlabelled:
            skipped.append(Skipped(name, "no split that is known; name it: ?split=" + name))
            continue
        nothing = [""] * len(split)
        sources.append(HubImages.of(name, split, image))
        labels += nothing if unlabelled or not label else _labels(data, split, label)
        words += [word or ""] * len(split)
        groups += _texts(split, options["group"]) if "group" in options else nothing
    if not labels:
        raise UserError(
            f"{data}: no images in a split of a known name ({', '.join(splits)}); "
            "name one: ?split=…"
        )
    text = as_texts(labels)
    notes: tuple[str, ...] = (f"{absent}: its images are unlabelled",) if absent else ()
    if away:
        notes += (f"{data}: as it was downloaded before; {away}",)
    if label and not _class_names(features[label]):
        text, hidden = as_meant(text, task)
        notes += hidden
    return assemble(
        data,
        Joined(tuple(sources)),
        Texts(text),
        sides(as_texts(words), text, str),
        group=number_groups(as_texts(groups)),
        skipped=skipped,
        hint=absent or f"the column {label} is empty",
        task=task,
        notes=notes,
    )


@dataclass(frozen=True, eq=False)
class HubImages:
    """The images of one split."""

    split: str
    rows: Any  # datasets.Dataset, of the one column `image`
    image: str

    @classmethod
    def of(cls, name: str, split: Any, image: str) -> "HubImages":
        from datasets import Image

        encoded = split.select_columns([image]).cast_column(image, Image(decode=False))
        return cls(name, encoded, image)

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, row: int) -> str:
        return f"{self.split}#{row}"

    def read(self, row: int) -> bytes:
        cell = self.rows[row][self.image] or {}
        if cell.get("bytes") is not None:
            return bytes(cell["bytes"])
        if cell.get("path"):  # a set whose images lie in files of their own
            return Path(cell["path"]).read_bytes()
        raise OSError("the data set has no image in this row")


def _load(data: str, body: str) -> tuple[dict[str, Any], str]:
    """{split: datasets.Dataset}; downloaded once, by `datasets` into its own cache. And why the hub
    was not asked for it, "" where it was."""
    try:
        import datasets
    except ImportError:
        raise UserError(
            f"{data}: needs the package datasets; install it: pip install 'fewlabels[hub]'"
        ) from None
    parts = re.fullmatch(r"([^:@]+)(?::([^@]+))?(?:@(.+))?", body)
    if parts is None:
        raise UserError(f"{data}: write {FORM}")
    away = "" if Path(parts[1]).is_dir() else _unreachable(parts[1])
    try:
        with _settings(offline=bool(away)):
            return dict(datasets.load_dataset(parts[1], parts[2], revision=parts[3])), away
    except Exception as error:  # of `datasets`, of the hub's client, of its HTTP library, …
        if away:
            raise UserError(
                f"{data}: is not here yet, and cannot be downloaded; {away}; check the connection"
            ) from error
        raise UserError(
            f"{data}: cannot be loaded ({one_line(error)}); check the name ({FORM}) and the "
            "connection"
        ) from error


def _unreachable(name: str) -> str:
    """Why the hub cannot be asked for a set; "" where it answers, whatever it says.

    Asked once: `datasets` itself would try for half a minute, and tell of each attempt.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    try:
        HfApi().dataset_info(name, timeout=ANSWER)
    except (HfHubHTTPError, ValueError):  # no such set, or no such name: `datasets` tells more
        return ""
    except Exception as error:  # of its HTTP library
        return f"the hub cannot be reached ({one_line(error)})"
    return ""


@contextmanager
def _settings(offline: bool) -> Iterator[None]:
    """For one call: the libraries' loggers tell errors only; `offline`, as HF_HUB_OFFLINE=1."""
    import datasets
    import huggingface_hub

    homes: tuple[Any, ...] = (datasets.config, huggingface_hub.constants)
    loggers: tuple[Any, ...] = (datasets.logging, huggingface_hub.logging)
    before = [home.HF_HUB_OFFLINE for home in homes]
    levels = [logger.get_verbosity() for logger in loggers]
    try:
        for home in homes:
            home.HF_HUB_OFFLINE |= offline
        for logger in loggers:
            logger.set_verbosity_error()
        yield
    finally:
        for home, value in zip(homes, before, strict=True):
            home.HF_HUB_OFFLINE = value
        for logger, level in zip(loggers, levels, strict=True):
            logger.set_verbosity(level)


def _image_column(data: str, features: Any, asked: str | None) -> str:
    from datasets import Image

    found = [name for name, kind in features.items() if isinstance(kind, Image)]
    if asked is not None and asked not in found:
        raise UserError(
            f"{data}: {asked!r} is no column of images; there are {', '.join(found) or 'none'}"
        )
    return asked or _only(data, "image", found, features)


def _label_column(data: str, features: Any, asked: str | None) -> str:
    """The column asked for; or the only one of classes; or else the column named label; "" where
    there is none."""
    if asked is not None and asked not in features:
        raise _no_column(data, asked, features)
    found = [name for name, kind in features.items() if _class_names(kind)]
    found = found or [name for name in features if name == "label"]
    return asked or (_only(data, "label", found, features) if found else "")


def _only(data: str, what: str, found: list[str], features: Any) -> str:
    if len(found) == 1:
        return found[0]
    if not found:
        raise UserError(f"{data}: no column of {what}s (found: {', '.join(features)})")
    joint = "&" if "?" in data else "?"
    raise UserError(
        f"{data}: {len(found)} columns of {what}s, {', '.join(found)}; choose one: "
        f"{data}{joint}{what}={found[0]}"
    )


def _no_column(data: str, name: str, features: Any) -> UserError:
    return UserError(f"{data}: no column {name!r} (found: {', '.join(features)})")


def _class_names(kind: Any) -> list[str]:
    """Of a column of classes, one or several an image; none for any other."""
    from datasets import ClassLabel

    kind = getattr(kind, "feature", kind)  # of a list
    return list(kind.names) if isinstance(kind, ClassLabel) else []


def _labels(data: str, split: Any, column: str) -> list[str]:
    """Labels as text [N]; "" where one is null, and where names are declared also where one is -1;
    a bar after each of several."""
    names = _class_names(split.features[column])
    need_no_bar(f"{data}: the column {column!r}", names)
    if not names:
        try:
            return _texts(split, column)
        except pa.ArrowException:
            kind = split.features[column]
            raise UserError(f"{data}: the column {column!r} is {kind}, no label") from None

    def text(value: int | list[int] | None) -> str:
        if isinstance(value, list):
            return "".join(names[number] + BAR for number in value if number >= 0) or BAR
        return "" if value is None or value < 0 else names[value]

    return [text(value) for batch in _batches(split, column) for value in batch.to_pylist()]


def _texts(split: Any, column: str) -> list[str]:
    return [text for batch in _batches(split, column) for text in told(batch).to_pylist()]


def _batches(split: Any, column: str) -> Iterator[Any]:
    """A column as arrow arrays."""
    for batch in split.select_columns([column]).with_format("arrow").iter(batch_size=10_000):
        yield batch[column].combine_chunks()
