"""Which images: those that are to be explained, and those that the run learnt from."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fewlabels.errors import UserError, one_line
from fewlabels.pixels.decode import Unreadable, square
from fewlabels.pool.pool import Pool, Skipped, scan_images
from fewlabels.pool.source import content_digest
from fewlabels.training.folder import RunFolder

MOST = 500  # of the run's images
LABELLED = ("labelled", "held out")  # as `splits.parquet` says


@dataclass(frozen=True, eq=False)
class Given:
    """N images to be explained; `skipped` could not be read, and `more` says that there are others
    which were not looked at."""

    names: tuple[str, ...]
    digests: tuple[str, ...]
    pixels: NDArray[np.uint8]  # [N, S, S, 3]
    skipped: tuple[Skipped, ...]
    more: bool


@dataclass(frozen=True, eq=False)
class Learnt:
    """Training images of a run, those with a label first. `note` says, in one line, what is
    missing; there may be none at all."""

    names: tuple[str, ...] = ()
    digests: tuple[str, ...] = ()
    labels: tuple[int, ...] = ()  # class numbers, -1 without a label
    pixels: NDArray[np.uint8] | None = None  # [M, S, S, 3]
    note: str = ""


def read_given(found: Iterator[tuple[str, Any]], size: int, most: int) -> Given:
    """The first `most` images that can be read, as squares of side `size`; they come with their
    names, as encoded bytes or as paths."""
    read: list[tuple[str, str, NDArray[np.uint8]]] = []
    skipped: list[Skipped] = []
    more = False
    for name, where in found:
        if more := len(read) == most:
            break
        try:
            data = where if isinstance(where, bytes) else Path(where).read_bytes()
            read.append((name, content_digest(data), square(data, size).pixels))
        except (OSError, Unreadable) as error:
            reason = error.strerror if isinstance(error, OSError) else None
            skipped.append(Skipped(name, reason or one_line(error)))
    pixels = (
        np.stack([each[2] for each in read]) if read else np.zeros((0, size, size, 3), np.uint8)
    )
    names, digests = tuple(each[0] for each in read), tuple(each[1] for each in read)
    return Given(names, digests, pixels, tuple(skipped), more)


def read_learnt(run: Path, size: int, seed: int = 0) -> Learnt:
    """At most MOST images that the run in this folder learnt from, as they are today.

    Labelled ones come first; where there are too many, some are drawn. An image that has changed
    since is left out.
    """
    table = run / "splits.parquet"
    if not table.is_file() or not (run / "config.yaml").is_file():
        return Learnt(note="the run does not say which images it learnt from")
    try:
        rows = pq.read_table(table, columns=["name", "digest", "label", "used"]).to_pylist()
        config = RunFolder.open(run).read_config()
        pool = Pool.scan(config["data"], to_train=False)
        if config.get("images"):
            pool = pool.with_unlabelled(scan_images(config["images"]))
    except UserError as error:
        return Learnt(note=f"the run's images are gone ({error})")
    except Exception as error:  # a damaged table or settings must not lose the maps
        return Learnt(note=f"the run's images cannot be found ({one_line(error)})")
    place = {pool.source.name(row): row for row in range(len(pool))}
    rng = np.random.default_rng(seed)
    known = [row for row in rows if row["used"] in LABELLED]
    unknown = [row for row in rows if row["used"] == "unlabelled"]
    wanted = _some(known, MOST, rng)
    wanted += _some(unknown, MOST - len(wanted), rng)
    kept, pixels = [], []
    for row in wanted:
        try:
            data = pool.source.read(place[row["name"]])
            if content_digest(data) == row["digest"]:
                pixels.append(square(data, size).pixels)
                kept.append(row)
        except (KeyError, OSError, Unreadable):
            continue
    notes = []
    if len(known) > MOST:
        notes.append(f"{MOST} of {len(known):,} labelled images were drawn")
    if len(kept) < len(wanted):
        notes.append(f"{len(wanted) - len(kept)} of the run's images are gone or have changed")
    return Learnt(
        tuple(row["name"] for row in kept),
        tuple(row["digest"] for row in kept),
        tuple(row["label"] if row["used"] in LABELLED else -1 for row in kept),
        np.stack(pixels) if pixels else None,
        "; ".join(notes),
    )


def _some(rows: list[dict[str, Any]], most: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    if len(rows) <= most:
        return rows
    return [rows[i] for i in np.sort(rng.choice(len(rows), most, replace=False))]
