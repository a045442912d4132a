"""The run folder: where everything of one run lies, and how it gets there.

Files that say something final are written whole or not at all; `metrics.jsonl` and `train.log` are
appended to.
"""

import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from fewlabels.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class RunFolder:
    """Paths and plain files of one run."""

    path: Path

    @classmethod
    def create(cls, out: Path | None, home: Path = Path("runs")) -> "RunFolder":
        """`out`, which must be absent or empty; without it the next free <home>/<n>."""
        if out is not None:
            # what is left where a process was killed at once is nothing
            if out.is_dir() and any(not p.name.startswith(".config.yaml-") for p in out.iterdir()):
                raise UserError(f"--out {out}: is not empty; name a new folder, or --resume {out}")
            try:
                out.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise UserError(f"--out {out}: cannot be made ({error.strerror})") from error
            return cls(out)
        number = 1
        while True:
            path = home / str(number)
            try:
                path.mkdir(parents=True)
                return cls(path)
            except FileExistsError:
                number += 1
            except OSError as error:
                raise UserError(
                    f"{path}: cannot be made ({error.strerror}); name a folder with --out"
                ) from error

    @classmethod
    def open(cls, path: Path) -> "RunFolder":
        """A run that exists."""
        if not (path / "config.yaml").is_file():
            raise UserError(f"{path}: is no run folder: it holds no config.yaml")
        return cls(path)

    @property
    def last(self) -> Path:
        return self.path / "checkpoints" / "last"

    @property
    def best(self) -> Path:
        return self.path / "checkpoints" / "best"

    @property
    def artefact(self) -> Path:
        return self.path / "artefact"

    def stage(self, name: str) -> Path:
        """Where a stage of this name is put when it is done."""
        return self.path / "stages" / name.replace(" ", "-")

    def write_json(self, name: str, value: Any) -> None:
        write_text(self.path / name, json.dumps(value, indent=2, ensure_ascii=False) + "\n")

    def read_json(self, name: str) -> Any:
        """What the file holds; None where it is absent."""
        file = self.path / name
        return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None

    def write_config(self, config: dict[str, Any]) -> None:
        text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
        write_text(self.path / "config.yaml", text)

    def read_config(self) -> dict[str, Any]:
        config: dict[str, Any] = yaml.safe_load(
            (self.path / "config.yaml").read_text(encoding="utf-8")
        )
        return config


def write_text(path: Path, text: str) -> None:
    """The whole file or none of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _whole(path) as fresh:
        fresh.write_text(text, encoding="utf-8")


def write_table(table: "pa.Table", path: Path) -> None:
    """The whole Parquet file or none of it."""
    import pyarrow.parquet as pq  # not needed to look at a run

    with _whole(path) as fresh:
        pq.write_table(table, fresh)


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """Another name to write to; what is there afterwards takes the place of `path` at once."""
    fresh = path.with_name(f".{path.name}-{uuid.uuid4().hex[:8]}")
    try:
        yield fresh
        sync(fresh)  # else a power cut can leave the name without the content
        os.replace(fresh, path)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise


def sync(path: Path) -> None:
    """Waits until a file, or the names in a folder, would outlast a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
