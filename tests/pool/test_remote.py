"""Parquet behind a URL: fsspec's memory and local file systems, and one that counts and fails."""

import io
import json
import re
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.registry import known_implementations
from PIL import Image

from fewlabels.errors import UserError
from fewlabels.pool import Pool, remote_file
from fewlabels.pool.source import ParquetImages

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
BIG = 20_000  # bytes an image, so that images and the rest cannot be confused


class Watched(LocalFileSystem):  # type: ignore[misc]
    """Local files, with what was read of them, and with failures in a row where asked for."""

    protocol = "watched"
    read: ClassVar[list[tuple[str, int, int]]] = []
    failures: ClassVar[list[Exception]] = []  # raised, one a request, before anything is read
    short: int = 0  # so many requests come a byte short

    def cat_file(self, path: str, start: Any = None, end: Any = None, **kwargs: Any) -> bytes:
        if Watched.failures:
            raise Watched.failures.pop(0)
        data: bytes = super().cat_file(path, start=start, end=end, **kwargs)
        Watched.read.append((Path(path).name, start or 0, (start or 0) + len(data)))
        if Watched.short:
            Watched.short -= 1
            return data[:-1]
        return data


@pytest.fixture(autouse=True)
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    fsspec.register_implementation("watched", Watched, clobber=True)
    monkeypatch.setattr(remote_file, "WAIT", 0.0)
    Watched.read.clear()
    Watched.failures.clear()
    Watched.short = 0
    yield
    fsspec.filesystem("memory").store.clear()


def image(shard: str, row: int) -> bytes:
    """Random, so that no compression makes it small."""
    return np.random.default_rng([len(shard), row]).bytes(BIG)


def shard(file: Any, name: str, labels: list[Any], names: list[str] | None = None) -> None:
    cells = [{"bytes": image(name, row), "path": f"{row}.jpg"} for row in range(len(labels))]
    table = pa.table({"image": pa.array(cells, IMAGE), "label": labels, "note": ["x"] * len(cells)})
    if names:
        features = {"label": {"names": names, "_type": "ClassLabel"}}
        about = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": about})
    pq.write_table(table, file, row_group_size=2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "set/data").mkdir(parents=True)
    for name, labels in (("train-0", [0, 1, None, 1, 0]), ("train-1", [1]), ("test-0", [1, 0])):
        path = tmp_path / f"set/data/{name}.parquet"
        shard(path, name, labels, ["zebra", "ant"])
    (tmp_path / "set/README.md").write_text("about")
    shard(tmp_path / "set/.old.parquet", "train-0", [0])  # hidden, as what tools leave behind
    return tmp_path / "set"


def in_memory(folder: Path) -> str:
    memory = fsspec.filesystem("memory")
    memory.put(f"{folder}/", "/bucket/set/", recursive=True)
    return "memory://bucket/set"


def same(found: Pool, local: Pool) -> None:
    assert found.classes == local.classes
    assert found.label.tolist() == local.label.tolist()
    assert found.split.tolist() == local.split.tolist()
    for row in range(len(local)):
        assert found.source.name(row) == local.source.name(row)
        assert found.source.read(row) == local.source.read(row)
    assert found.skipped == local.skipped


def test_memory_and_local_file_systems_are_as_the_folder_itself(folder: Path) -> None:
    local = Pool.scan(folder)
    for url in (in_memory(folder), f"file://{folder}", f"watched://{folder}/"):
        pool = Pool.scan(url)
        assert pool.origin == url
        same(pool, local)


def test_one_file_is_still_to_be_split(folder: Path) -> None:
    file = folder / "data/train-0.parquet"
    same(Pool.scan(f"watched://{file}"), Pool.scan(file))
    assert Pool.scan(f"watched://{file}").split.tolist() == ["", "", "train", "", ""]


def pixel_ranges(file: Path) -> list[tuple[int, int]]:
    """Where the bytes of images lie in a Parquet file."""
    metadata = pq.read_metadata(file)
    ranges = []
    for group in range(metadata.num_row_groups):
        for number in range(metadata.num_columns):
            chunk = metadata.row_group(group).column(number)
            if chunk.path_in_schema == "image.bytes":
                start = chunk.dictionary_page_offset or chunk.data_page_offset
                ranges.append((start, start + chunk.total_compressed_size))
    return ranges


def test_scan_reads_no_byte_of_an_image_and_nothing_twice(folder: Path) -> None:
    pool = Pool.scan(f"watched://{folder}")
    assert isinstance(pool.source, ParquetImages)
    assert len(Watched.read) > 0
    for name, start, end in Watched.read:
        for first, last in pixel_ranges(folder / "data" / name):
            assert end <= first or last <= start, f"{name}: {start}..{end} holds pixels"
    assert sum(end - start for _, start, end in Watched.read) < BIG
    assert len(set(Watched.read)) == len(Watched.read)
    assert all(not file.known for file in pool.source.files)  # nothing is kept of it
    # two for the footer, one for each row group's columns beside the pixels
    assert len([name for name, _, _ in Watched.read if name == "train-0.parquet"]) == 2 + 3


def test_nor_of_images_so_small_that_a_gap_would_be_read_along(tmp_path: Path) -> None:
    cells = [{"bytes": bytes([row] * 50), "path": f"{row}.jpg"} for row in range(100)]
    table = pa.table({"image": pa.array(cells, IMAGE), "label": ["a", "b"] * 50})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=10, use_dictionary=False)
    Pool.scan(f"watched://{tmp_path}/t.parquet")
    for _, start, end in Watched.read:
        for first, last in pixel_ranges(tmp_path / "t.parquet"):
            assert end <= first or last <= start


def test_images_come_by_row_group_when_they_are_asked_for(folder: Path) -> None:
    pool = Pool.scan(f"watched://{folder}")
    Watched.read.clear()
    assert pool.source.read(2) == image("train-0", 0)
    assert pool.source.read(3) == image("train-0", 1)
    assert len(Watched.read) == 1  # one request for both, without the footer again
    name, start, end = Watched.read[0]
    assert name == "train-0.parquet"
    assert 2 * BIG <= end - start < 2 * BIG + 1000


def test_a_path_without_bytes_is_read_beside_the_shard(tmp_path: Path) -> None:
    cells = [{"bytes": None, "path": "x/1.png"}, {"bytes": None, "path": "gone.png"}]
    table = pa.table({"image": pa.array(cells, IMAGE), "label": ["a", "b"]})
    pq.write_table(table, tmp_path / "t.parquet")
    (tmp_path / "x").mkdir()
    (tmp_path / "x/1.png").write_bytes(b"beside")
    source = Pool.scan(f"watched://{tmp_path}/t.parquet").source
    assert source.read(0) == b"beside"
    with pytest.raises(OSError, match=r"gone\.png"):
        source.read(1)


def test_a_connection_that_breaks_is_tried_again(folder: Path) -> None:
    Watched.failures += [ConnectionError("reset"), TimeoutError("slow"), ConnectionError("reset")]
    pool = Pool.scan(f"watched://{folder}")
    same(pool, Pool.scan(folder))
    Watched.failures += [ConnectionError("reset")]
    Watched.short = 2  # and then half an answer
    pool = Pool.scan(f"watched://{folder}")
    Watched.failures += [TimeoutError("slow")]
    assert pool.source.read(0) == image("test-0", 0)


def test_a_connection_that_stays_broken_is_one_line_also_in_the_middle(folder: Path) -> None:
    source = Pool.scan(f"watched://{folder}").source
    source.read(0)
    Watched.failures += [ConnectionError("reset by peer")] * 100
    with pytest.raises(UserError) as error:  # not OSError: the image is not at fault
        source.read(5)
    said = str(error.value)
    assert said.startswith("watched://")
    assert "train-0.parquet: could not be read in 4 attempts (reset by peer); check" in said
    Watched.failures.clear()
    assert source.read(5) == image("train-0", 3)


def user_error(url: str) -> str:
    with pytest.raises(UserError) as error:
        Pool.scan(url)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(url.partition(":")[0])
    return str(error.value)


def test_user_errors(tmp_path: Path, folder: Path) -> None:
    assert "Protocol not known: nowhere" in user_error("nowhere://bucket/set")
    for url in ("zip://x", "tar://x", "reference://x", "dir://x", "simplecache://x"):
        assert "cannot be opened" in user_error(url)  # fsspec raises whatever it likes
    for url in ("ftp://", "ftp://host.invalid/x.parquet"):
        assert "FTP is not read; download the files first" in user_error(url)
    assert "no such file or folder" in user_error("memory://no/bucket")
    assert "no such file or folder" in user_error(f"watched://{tmp_path}/x.parquet")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.jpg").write_bytes(b"x")
    assert "no .parquet file there" in user_error(f"watched://{tmp_path}/photos")
    for content in (b"", b"PAR1", b"PAR1 not really", b"PAR1" + b"x" * 99 + b"\x10\0\0\0PAR1"):
        (tmp_path / "broken.parquet").write_bytes(content)
        assert "not a Parquet file, or damaged" in user_error(
            f"watched://{tmp_path}/broken.parquet"
        )
    pq.write_table(pa.table({"image": ["a.jpg"], "label": ["a"]}), tmp_path / "t.parquet")
    assert "a table of paths" in user_error(f"watched://{tmp_path}/t.parquet")
    pq.write_table(pa.table({"text": ["a.jpg"], "label": ["a"]}), tmp_path / "t.parquet")
    assert "no column 'image'" in user_error(f"watched://{tmp_path}/t.parquet")
    Watched.failures += [PermissionError("Access Denied")]
    said = user_error(f"watched://{folder}")
    assert said.endswith("no right to read it (Access Denied); check your credentials")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        known_implementations,
        "s4",
        {"class": "s4fs.S4FileSystem", "err": "Install s4fs to access S4"},
    )
    assert user_error("s4://bucket/set") == "s4://bucket/set: Install s4fs to access S4"


def test_a_server_that_gives_whole_files_only_is_told(folder: Path) -> None:
    class Whole(Watched):
        protocol = "whole"

        def cat_file(self, path: str, start: Any = None, end: Any = None, **kwargs: Any) -> bytes:
            return super().cat_file(path)

    fsspec.register_implementation("whole", Whole, clobber=True)
    assert "gives no parts of files" in user_error(f"whole://{folder}/data/train-0.parquet")


def test_pictures_pass_through(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.new("RGB", (5, 4), (9, 8, 7)).save(file, "PNG")
    cells = [{"bytes": file.getvalue(), "path": None}] * 2
    table = pa.table({"image": pa.array(cells, IMAGE), "label": ["a", "b"], "group": [3, 3]})
    pq.write_table(table, tmp_path / "t.parquet")
    pool = Pool.scan(f"file://{tmp_path}/t.parquet")
    assert pool.group is not None
    assert pool.group.tolist() == [0, 0]
    assert pool.source.name(1) == "t.parquet#1"
    assert Image.open(io.BytesIO(pool.source.read(1))).getpixel((2, 2)) == (9, 8, 7)


class Ranges(SimpleHTTPRequestHandler):
    """A web server that gives parts of files, and counts the bytes that it gives."""

    protocol_version = "HTTP/1.1"
    given: ClassVar[list[int]] = []

    def do_GET(self) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        path = Path(self.translate_path(self.path))
        if asked is None or not path.is_file():
            self.send_error(404)
            return
        data = path.read_bytes()[int(asked[1]) : int(asked[2]) + 1]
        Ranges.given.append(len(data))
        self.send_response(206)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """The address of a server of `tmp_path`."""

    class Here(Ranges):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(tmp_path))

    server = ThreadingHTTPServer(("127.0.0.1", 0), Here)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    Ranges.given.clear()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_web_server(web: str, folder: Path) -> None:
    pool = Pool.scan(f"{web}/set/data/train-0.parquet")
    assert sum(Ranges.given) < BIG  # of five images
    same(pool, Pool.scan(folder / "data/train-0.parquet"))
    assert "no such file or folder" in user_error(f"{web}/set/data/train-9.parquet")
