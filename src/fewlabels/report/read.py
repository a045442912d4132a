"""What a run folder says. Only `config.yaml` must be there: a run can be read at any time."""

import json
import math
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import yaml
from numpy.typing import NDArray

from fewlabels.errors import UserError, one_line
from fewlabels.training import process
from fewlabels.training.events import PROGRESS

Row = dict[str, Any]
FOUND = ("learning_rate", "batch_size")  # files of what `auto` was resolved to
INSIDE = "inside"  # of config.yaml, as in procedures.config, which needs torch
FINISHED, RUNNING, PAUSED, STOPPED = "finished", "running", "paused", "stopped"
UNKNOWN = "unknown"  # the run is another machine's, or names no process
STATES = {
    process.RUNNING: RUNNING,
    process.PAUSED: PAUSED,
    process.GONE: STOPPED,
    process.UNKNOWN: UNKNOWN,
}


@dataclass(frozen=True)
class Predictions:
    """One split's predictions; the arrays lie side by side, [n]."""

    label: NDArray[np.int64]
    predicted: NDArray[np.int64]
    baseline: NDArray[np.int64]  # of the labels-only model, -1 = there is none
    group: NDArray[np.int64] | None = None  # images of one are alike


@dataclass(frozen=True)
class Run:
    """A run folder's contents, empty where a file is missing."""

    folder: str  # as it was asked for
    config: dict[str, Any]
    classes: list[str]
    stages: dict[str, list[Row]]  # the log's rows by stage, in the order of time
    result: dict[str, Any]  # {} until the run has finished
    predictions: dict[str, Predictions]  # by split
    gallery: dict[str, list[Row]]  # by kind, the most confident first
    evaluations: list[Row]  # what `evaluate` has found since, the newest last
    found: dict[str, Row] = field(default_factory=dict)  # settings that were `auto`, and how
    state: str = UNKNOWN  # of `STATES`, or finished
    now: Row = field(default_factory=dict)  # where an unfinished run stands

    def name(self, index: int) -> str:
        """The class of that index."""
        return self.classes[index] if 0 <= index < len(self.classes) else f"class {index}"


def load(folder: Path) -> Run:
    """Reads the run folder, and nothing outside of it."""
    config = read_config(folder)
    return Run(
        folder=str(folder),
        config=config,
        classes=[str(name) for name in _json(folder / "classes.json", [])],
        stages=_stages(folder),
        result=_json(folder / "result.json", {}),
        predictions=_predictions(folder / "predictions.parquet"),
        gallery=_gallery(folder / "gallery.parquet"),
        evaluations=_evaluations(folder / "evaluations"),
        found={name: _json(folder / f"{name}.json", {}) for name in FOUND},
        state=state(folder, config),
        now=passing(whole(folder, config) / PROGRESS),
    )


def state(folder: Path, config: Row) -> str:
    """Whether the run goes on: that of a run inside another one does as long as that one."""
    home = whole(folder, config)
    at = STATES[process.state(passing(home / process.PROCESS))]
    if (folder / "result.json").is_file():
        return FINISHED
    searched = trials(folder, config)
    if searched and searched["done"] >= searched["of"] and at not in (RUNNING, PAUSED):
        return FINISHED
    return at


def trials(folder: Path, config: Row) -> dict[str, int] | None:
    """How many trials of a search are done, and of how many; None for a run."""
    if "search" not in config:
        return None
    done = passing(folder / "search.json").get("trials", ())
    return {"done": len(done), "of": config["search"]["trials"]}


def whole(folder: Path, config: Row) -> Path:
    """The run that a run inside it belongs to."""
    if INSIDE in config:
        for place in folder.absolute().parents:
            if (place / "config.yaml").is_file():
                return whole(place, read_config(place))
    return folder


def passing(file: Path) -> Row:
    """A file that is written anew all the time: {} where it is absent, or torn by a power cut."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def read_config(folder: Path) -> dict[str, Any]:
    file = folder / "config.yaml"
    if not file.is_file():
        raise UserError(f"{folder} is no run folder (it has no config.yaml): name one, like runs/1")
    try:
        config = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = one_line(error)
        raise UserError(f"{file} cannot be read: {reason}") from error
    if not isinstance(config, dict):
        raise UserError(f"{file} holds no settings: is {folder} a run folder?")
    return config


def _json(file: Path, default: Any) -> Any:
    if not file.is_file():
        return default
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{file} cannot be read: {error}") from error


def _stages(folder: Path) -> dict[str, list[Row]]:
    """Of the run, and of the runs inside it, in their order: 1, 2, …, 10, last; of folds only as
    long as they are not over and counted."""
    stages: dict[str, list[Row]] = defaultdict(list)
    inside = [folder / "pretrained", *folder.glob("rounds/*")]
    folds = [] if (folder / "result.json").is_file() else list(folder.glob("folds/*"))
    for places in (inside, folds):
        places.sort(key=lambda place: (len(place.name), place.name))
    for place in (*folds, folder, *inside):
        for row in log_rows(place / "metrics.jsonl"):
            name = str(row.get("stage", "training"))
            stages[called(str(place.relative_to(folder)), name)].append(row)
    return dict(stages)


def called(place: str, stage: str) -> str:
    """A stage's name in the whole run; a fold's stages are named as those of the others are."""
    above, _, number = place.partition("/")
    return f"{stage}, fold {number}" if above == "folds" else stage


def log_rows(file: Path) -> Iterator[Row]:
    """Of a metrics.jsonl, which may be written just now."""
    if not file.is_file():
        return
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        with suppress(ValueError):  # the last line, cut off by a kill
            row = json.loads(line)
            if isinstance(row, dict):
                yield row


def number(row: Row, key: str, default: float = math.nan) -> float:
    """A finite number of the log, else `default`."""
    value = row.get(key)
    if isinstance(value, int | float) and math.isfinite(value):
        return float(value)
    return default


def _predictions(file: Path) -> dict[str, Predictions]:
    if not file.is_file():
        return {}
    table = pq.read_table(file)
    if "predicted" not in table.column_names:  # of several classes an image, or of numbers
        return {}
    label, predicted, baseline = (
        table[name].to_numpy().astype(np.int64) for name in ("label", "predicted", "baseline")
    )
    split = np.array(table["split"].to_pylist())
    out = {}
    for name in ("test", "val"):
        chosen = (split == name) & (label >= 0)
        if chosen.any():
            group = table["group"].to_numpy()[chosen] if "group" in table.column_names else None
            out[name] = Predictions(label[chosen], predicted[chosen], baseline[chosen], group)
    return out


def _gallery(file: Path) -> dict[str, list[Row]]:
    kinds: dict[str, list[Row]] = defaultdict(list)
    if file.is_file():
        for row in pq.read_table(file).to_pylist():
            kinds[row["kind"]].append(row)
    return {
        kind: sorted(rows, key=lambda row: -row["confidence"])[:24] for kind, rows in kinds.items()
    }


def _evaluations(folder: Path) -> list[Row]:
    """1.json, 2.json, …, 10.json in the order of their numbers."""
    files = [file for file in folder.glob("*.json") if file.stem.isdecimal()]
    return [_json(file, {}) for file in sorted(files, key=lambda file: int(file.stem))]
