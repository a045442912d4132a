"""Parquet shards behind a URL (s3://, gs://, https://, hf://, memory://, …), through fsspec."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from fewlabels.errors import UserError, one_line
from fewlabels.pool import shards
from fewlabels.pool.columns import find_columns
from fewlabels.pool.folder import Listing
from fewlabels.pool.pool import Pool
from fewlabels.pool.remote_file import (
    RemoteFile,
    RemoteFolder,
    patient,
    prefetch,
    with_metadata,
)


def scan(url: str, task: str | None = None) -> Pool:
    """The Pool of a Parquet file, or of a folder of shards, behind a URL. Raises UserError.

    Of each file the footer and the columns beside the pixels are read, those of all files together;
    the pixels later, by row group, as they are asked for.
    """
    fs, path = _file_system(url)
    try:
        about = patient(lambda: fs.info(path), lambda: url)
        if _is_parquet(path) and about["type"] != "directory":
            found = {path: about}
        else:
            found = patient(lambda: fs.find(path, detail=True), lambda: url)
    except FileNotFoundError:
        raise UserError(
            f"{url}: no such file or folder there, or no connection or right to see it"
        ) from None
    inside = path.rstrip("/") + "/"
    found = {name: about for name, about in found.items() if not _hidden(name.removeprefix(inside))}
    names = sorted(name for name in found if _is_parquet(name))
    if not names:
        raise UserError(
            f"{url}: no .parquet file there; of what lies behind a URL, only Parquet is read"
        )
    files = with_metadata([RemoteFile(fs, name, _size(found[name])) for name in names])
    prefetch(files, _wanted)
    try:
        if names == [path]:
            pool = shards.scan_file(files[0], task)
        else:
            folder = RemoteFolder(fs, path, {f.path.removeprefix(inside): f for f in files})
            others = [name.removeprefix(inside) for name in found if name not in set(names)]
            listing = Listing((), (*folder.files, *sorted(others)), ())
            pool = shards.scan_folder(folder, listing, task)
    finally:
        for file in files:
            file.known.clear()
    return replace(pool, origin=url)


def _file_system(url: str) -> tuple[Any, str]:
    """The fsspec file system, and the path in it. UserError where there is none such."""
    from fsspec.core import url_to_fs

    if url.startswith("ftp://"):  # of an address that is wrong, fsspec tells with a traceback
        raise UserError(f"{url}: FTP is not read; download the files first")
    try:
        fs, path = url_to_fs(url)
    except ImportError as error:  # the message names the package to install
        raise UserError(f"{url}: {one_line(error)}") from None
    except Exception as error:  # each file system has errors of its own
        raise UserError(
            f"{url}: cannot be opened ({one_line(error)}); write s3://…, gs://…, https://…"
        ) from None
    return fs, path


def _is_parquet(path: str) -> bool:
    return path.partition("?")[0].lower().endswith(".parquet")  # ? is of signed https addresses


def _hidden(path: str) -> bool:
    return any(part.startswith(".") for part in path.split("/"))


def _size(about: dict[str, Any]) -> int:
    size = about.get("size")
    return -1 if size is None else int(size)


def _wanted(file: RemoteFile) -> Callable[[str], bool]:
    """Which columns, by dotted paths, `shards` reads of a file when it scans."""
    columns = find_columns(file, file.metadata.schema.to_arrow_schema().names)
    image = columns.name["image"]
    return lambda column: column == f"{image}.path" or column.split(".")[0] in columns.others
