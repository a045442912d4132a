"""Parquet: the Hugging Face image layout in one or several files, and tables of paths."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fewlabels.errors import UserError, one_line
from fewlabels.pool.folder import Listing, unread_format
from fewlabels.pool.pool import SPLIT_NAMES, UNLABELLED_NAMES, Pool, Skipped, assemble
from fewlabels.pool.remote_file import RemoteFile, RemoteFolder
from fewlabels.pool.source import ParquetImages, open_parquet
from fewlabels.pool.table import (
    COLUMNS,
    Row,
    cell_text,
    from_rows,
    number_groups,
    require_columns,
    side_of,
)


def scan_file(path: Path | RemoteFile) -> Pool:
    """The Pool of one Parquet file; without a column `split` it is still to be split."""
    schema = _schema(path)
    if not _holds_images(path, schema):
        if isinstance(path, RemoteFile):
            raise UserError(
                f"{path}: a table of paths; behind a URL, images must be in the Parquet"
            )
        return from_rows(path, _path_rows(path, schema))
    return _scan_images(str(path), {path.name: path}, [""], ())


def scan_folder(root: Path | RemoteFolder, listing: Listing) -> Pool:
    """The Pool of a folder of shards, whose file or folder names tell the split.

    `train.parquet`, `test-00000-of-00002.parquet`, `data/train-*.parquet`, `validation/0.parquet`;
    `unlabelled*.parquet` is training data whose labels are not looked at. Raises UserError.
    """
    names = [name for name in listing.others if name.lower().endswith(".parquet")]
    files = {name: root / name for name in names}
    for file in files.values():
        if not _holds_images(file, _schema(file)):
            raise UserError(
                f"{file}: a table of paths among shards; name this file itself, or move it away"
            )
    others = [name for name in listing.others if name not in set(names)]
    skipped = (*listing.skipped, *(Skipped(name, unread_format(name)) for name in others))
    return _scan_images(str(root), files, [_split_word(name) for name in names], skipped)


def _split_word(name: str) -> str:
    """The split that `data/train-00000-of-00002.parquet` says: "train"; "" if it says none."""
    *folders, file = name.lower().split("/")
    for part in (file, *reversed(folders)):
        word = re.split(r"[-_.]", part, maxsplit=1)[0]
        if word in SPLIT_NAMES or word in UNLABELLED_NAMES:
            return word
    return ""


def _scan_images(
    origin: str,
    files: Mapping[str, Path | RemoteFile],
    words: list[str],
    skipped: tuple[Skipped, ...],
) -> Pool:
    """`files`: by their names below the folder; `words`: the split that each one's name says."""
    names: list[str] = []
    labels: list[str] = []
    split: list[str] = []
    groups: list[str] = []
    for (shard, file), word in zip(files.items(), words, strict=True):
        table = _read_small(file)
        count = table.num_rows
        unlabelled = word in UNLABELLED_NAMES
        label = [""] * count if unlabelled else _labels(file, table)
        own = _texts(table, "split", count)
        paths = table.column("image").combine_chunks().field("path").to_pylist()
        names += [path or f"{shard}#{row}" for row, path in enumerate(paths)]
        labels += label
        word = "train" if unlabelled else word
        split += [
            side_of(own[row] or word, label[row], f"{file}: row {row}") for row in range(count)
        ]
        groups += _texts(table, "group", count)
    if not names:
        raise UserError(f"{origin}: no rows in {len(files)} Parquet files")
    if len(set(names)) < len(names):  # paths inside different shards may be the same
        names = [f"{name}#{row}" for row, name in enumerate(names)]
    return assemble(
        origin,
        ParquetImages(list(files.values()), names),
        labels,
        split,
        group=number_groups(groups),
        skipped=skipped,
        hint="the column label of the training rows is empty",
    )


def _schema(path: Path | RemoteFile) -> Any:
    import pyarrow as pa

    try:
        with open_parquet(path) as table:
            return table.schema_arrow
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path}: not a Parquet file, or damaged ({one_line(error)})") from None


def _holds_images(path: Path | RemoteFile, schema: Any) -> bool:
    """Whether `image` is struct{bytes, path}; False where it is a path."""
    import pyarrow as pa

    require_columns(path, schema.names)
    kind = schema.field("image").type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return False
    if pa.types.is_struct(kind) and {"bytes", "path"} <= {field.name for field in kind}:
        return True
    raise UserError(
        f"{path}: the column 'image' is {kind}; it is a path, or a struct of bytes and path"
    )


def _read_small(file: Path | RemoteFile) -> Any:
    """All that is not pixels: a column is stored apart, so this takes no time."""
    import pyarrow as pa

    present = [name for name in COLUMNS[1:] if name in _schema(file).names]
    try:
        with open_parquet(file) as table:
            return table.read(columns=["image.path", *present])
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{file}: cannot be read ({one_line(error)})") from None


def _texts(table: Any, column: str, count: int) -> list[str]:
    if column not in table.column_names:
        return [""] * count
    return [cell_text(value) for value in table.column(column).to_pylist()]


def _labels(file: Path | RemoteFile, table: Any) -> list[str]:
    """Class names [N]; "" where the label is null or -1. Raises UserError."""
    texts = _texts(table, "label", table.num_rows)
    names = class_names(table.schema)
    result = []
    for row, text in enumerate(texts):
        if text in ("", "-1"):
            result.append("")
        elif "|" in text:
            raise UserError(
                f"{file}: row {row} has the label {text!r}; "
                "several labels an image are not supported yet"
            )
        elif names is None:
            result.append(text)
        elif text.isdecimal() and int(text) < len(names):
            result.append(names[int(text)])
        else:
            raise UserError(
                f"{file}: row {row} has the label {text}, but the schema names {len(names)} classes"
            )
    return result


def class_names(schema: Any) -> list[str] | None:
    """The names in the schema's `huggingface` metadata, where `label` is an index into them."""
    import pyarrow as pa

    if not pa.types.is_integer(schema.field("label").type):
        return None
    try:
        about = json.loads((schema.metadata or {})[b"huggingface"])
        names = about["info"]["features"]["label"]["names"]
    except (KeyError, TypeError, ValueError):
        return None
    if isinstance(names, dict):  # an older form: {"0": "cat", "1": "dog"}
        names = [names[key] for key in sorted(names, key=int)]
    return [str(name) for name in names] if isinstance(names, list) else None


def _path_rows(path: Path, schema: Any) -> list[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    present = [name for name in COLUMNS if name in schema.names]
    try:
        with pq.ParquetFile(path) as file:
            table = file.read(columns=present)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path}: cannot be read ({one_line(error)})") from None
    columns = {name: _texts(table, name, table.num_rows) for name in present}
    columns["label"] = _labels(path, table)
    return [
        Row(f"row {row}", **{name: values[row] for name, values in columns.items()})
        for row in range(table.num_rows)
    ]
