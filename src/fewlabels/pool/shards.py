"""Parquet: the Hugging Face image layout in one or several files, and tables of paths."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fewlabels.errors import UserError, one_line
from fewlabels.pool.columns import ALSO, Columns, find_columns
from fewlabels.pool.folder import Listing, unread_format
from fewlabels.pool.labels import need_no_bar
from fewlabels.pool.pool import (
    REGRESSION,
    SPLIT_NAMES,
    UNLABELLED_NAMES,
    Pool,
    Skipped,
    assemble,
)
from fewlabels.pool.remote_file import RemoteFile, RemoteFolder
from fewlabels.pool.source import ParquetImages, open_parquet
from fewlabels.pool.table import Rows, as_meant, from_rows, listed, number_groups, sides
from fewlabels.pool.texts import TEXT, Texts, is_list, repeated, starts, told


def scan_file(path: Path | RemoteFile, task: str | None = None) -> Pool:
    """The Pool of one Parquet file; without a column `split` it is still to be split."""
    schema = _schema(path)
    if not _holds_images(path, schema):
        if isinstance(path, RemoteFile):
            raise UserError(
                f"{path}: a table of paths; behind a URL, images must be in the Parquet"
            )
        return from_rows(path, _path_rows(path, schema, task), task)
    return _scan_images(str(path), {path.name: path}, [""], (), task)


def names_files(path: Path) -> Iterator[tuple[str, Path]] | None:
    """All images that a table of paths names, as `listed`; None where the images are in the
    file."""
    schema = _schema(path)
    if _holds_images(path, schema):
        return None
    return listed(path, _path_rows(path, schema, None, ("image",)))


def scan_folder(root: Path | RemoteFolder, listing: Listing, task: str | None = None) -> Pool:
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
    words = [_split_word(name) for name in names]
    return _scan_images(str(root), files, words, skipped, task)


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
    task: str | None,
) -> Pool:
    """`files`: by their names below the folder; `words`: the split that each one's name says."""
    import pyarrow as pa
    import pyarrow.compute as pc

    names, labels, groups, splits = [], [], [], []
    begins = [0]  # the first row of each file
    notes: dict[str, None] = {}
    hints: dict[str, None] = {}
    image = ""
    declared = False  # whether a file names its classes
    for (below, file), word in zip(files.items(), words, strict=True):
        schema = _schema(file)
        columns = find_columns(file, schema.names)
        if image not in ("", columns.name["image"]):
            raise UserError(
                f"{file}: the images' column is {columns.name['image']!r}, in "
                f"{next(iter(files))} it is {image!r}; give it one name in all files"
            )
        image = columns.name["image"]
        # Pixels are not read: a column, and a field of a struct, is stored apart.
        table = _read(file, [f"{image}.path", *columns.others])
        texts, named = _texts(file, table, columns, task)
        declared |= named
        paths = pc.fill_null(table.column(image).combine_chunks().field("path").cast(TEXT), "")
        shard = pa.scalar(below, TEXT)
        names.append(pc.if_else(pc.equal(paths, ""), _hashed(shard, len(paths)), paths))
        if word in UNLABELLED_NAMES:
            word, texts["label"] = "train", repeated("", len(paths))
        splits.append(pc.if_else(pc.equal(texts["split"], ""), word, texts["split"]))
        labels.append(texts["label"])
        groups.append(texts["group"])
        begins.append(begins[-1] + len(paths))
        notes |= dict.fromkeys(columns.notes)
        hints |= dict.fromkeys([columns.unlabelled])
    if not begins[-1]:
        raise UserError(f"{origin}: no rows in {len(files)} Parquet files")
    name = pa.concat_arrays(names)
    if pc.count_distinct(name).as_py() < len(name):  # paths in different shards may be the same
        name = _hashed(name, len(name))

    def place(row: int) -> str:
        number = int(np.searchsorted(begins, row, side="right")) - 1
        at = f"row {row - begins[number]}"
        return at if len(files) == 1 else f"{list(files)[number]}: {at}"

    label = pa.concat_arrays(labels)
    label, hidden = (label, ()) if declared else as_meant(label, task)
    side = sides(pa.concat_arrays(splits), label, lambda row: f"{origin}: {place(row)}")
    return assemble(
        origin,
        ParquetImages(list(files.values()), Texts(name), image),
        Texts(label),
        side,
        group=number_groups(pa.concat_arrays(groups)),
        skipped=skipped,
        hint="; ".join(filter(None, hints)) or "the column label of the training rows is empty",
        task=task,
        notes=(*notes, *hidden),
        place=place,
    )


def _hashed(name: Any, count: int) -> Any:
    """`name#row`, of one name or of one a row."""
    import pyarrow as pa
    import pyarrow.compute as pc

    rows = pa.array(np.arange(count)).cast(TEXT)
    return pc.binary_join_element_wise(name, rows, pa.scalar("#", TEXT))


def _schema(path: Path | RemoteFile) -> Any:
    import pyarrow as pa

    try:
        with open_parquet(path) as table:
            return table.schema_arrow
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path}: not a Parquet file, or damaged ({one_line(error)})") from None


def _holds_images(path: Path | RemoteFile, schema: Any) -> bool:
    """Whether the column of images is struct{bytes, path}; False where it is a path."""
    import pyarrow as pa

    column = find_columns(path, schema.names, ("image",)).name["image"]
    kind = schema.field(column).type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return False
    if pa.types.is_struct(kind) and {"bytes", "path"} <= {field.name for field in kind}:
        return True
    raise UserError(
        f"{path}: the column {column!r} is {kind}; it is a path, or a struct of bytes and path"
    )


def _read(file: Path | RemoteFile, columns: list[str]) -> Any:
    import pyarrow as pa

    try:
        with open_parquet(file) as table:
            return table.read(columns=columns)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{file}: cannot be read ({one_line(error)})") from None


def _texts(
    file: Path | RemoteFile, table: Any, columns: Columns, task: str | None
) -> tuple[dict[str, Any], bool]:
    """The columns beside that of the images as arrow texts [N], by what they are; and whether the
    schema names the classes."""
    import pyarrow as pa

    texts = {}
    named = False
    for what in ("label", "split", "group"):
        if what not in columns.name:
            texts[what] = repeated("", table.num_rows)
            continue
        name = columns.name[what]
        column = table.column(name).combine_chunks()
        try:
            names = class_names(file, table.schema, name) if what == "label" else None
            if names is not None:
                named = True
                column = column if task == REGRESSION else _named(file, column, names)
            texts[what] = told(column)
        except pa.ArrowException:
            raise UserError(f"{file}: the column {name!r} is {column.type}; it is text") from None
    return texts, named


def _named(file: Path | RemoteFile, column: Any, names: list[str]) -> Any:
    """The names [N] for numbers of classes [N], or lists of them; -1 is null."""
    import pyarrow as pa
    import pyarrow.compute as pc

    lists = is_list(column.type)
    flat = pc.fill_null(column.flatten() if lists else column, -1)
    number = flat.cast(pa.int64()).to_numpy()
    if (odd := np.flatnonzero((number < -1) | (number >= len(names)))).size:
        at = int(odd[0])
        row = int(np.searchsorted(starts(column), at, side="right")) - 1 if lists else at
        raise UserError(
            f"{file}: row {row} has the label {number[at]}, but the schema names {len(names)} "
            "classes"
        )
    named = pa.array(names, TEXT).take(pa.array(number, mask=number < 0))
    if not lists:
        return named
    return pa.LargeListArray.from_arrays(starts(column), named, mask=column.is_null())


def class_names(file: Path | RemoteFile, schema: Any, label: str) -> list[str] | None:
    """The names in the schema's `huggingface` metadata, where `label` holds indices into them."""
    import pyarrow as pa

    kind = schema.field(label).type
    if not pa.types.is_integer(kind.value_type if is_list(kind) else kind):
        return None
    try:
        feature = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"][label]
        if is_list(kind):  # of a Sequence, a List, or as a list of one
            feature = feature[0] if isinstance(feature, list) else feature["feature"]
        names = feature["names"]
    except (KeyError, IndexError, TypeError, ValueError):
        return None
    if isinstance(names, dict):  # an older form: {"0": "cat", "1": "dog"}
        names = [names[key] for key in sorted(names, key=int)]
    if not isinstance(names, list):
        return None
    names = [str(name) for name in names]
    need_no_bar(f"{file}: the schema", names)
    return names


def _path_rows(
    path: Path, schema: Any, task: str | None, wanted: Sequence[str] = tuple(ALSO)
) -> Rows:
    columns = find_columns(path, schema.names, wanted)
    table = _read(path, list(columns.name.values()))
    texts, named = _texts(path, table, columns, task)
    texts["label"], hidden = (texts["label"], ()) if named else as_meant(texts["label"], task)
    return Rows(
        told(table.column(columns.name["image"]).combine_chunks()),
        **texts,
        place="row {}".format,
        notes=(*columns.notes, *hidden),
        hint=columns.unlabelled or "fill the column label for some training rows",
    )
