"""What a run folder says. Only `config.yaml` must be there: a run can be read at any time."""

import json
import math
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import yaml
from numpy.typing import NDArray

from fewlabels.errors import UserError, one_line

Row = dict[str, Any]


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

    def name(self, index: int) -> str:
        """The class of that index."""
        return self.classes[index] if 0 <= index < len(self.classes) else f"class {index}"


def load(folder: Path) -> Run:
    """Reads the run folder, and nothing outside of it."""
    return Run(
        folder=str(folder),
        config=_config(folder),
        classes=[str(name) for name in _json(folder / "classes.json", [])],
        stages=_stages(folder),
        result=_json(folder / "result.json", {}),
        predictions=_predictions(folder / "predictions.parquet"),
        gallery=_gallery(folder / "gallery.parquet"),
        evaluations=_evaluations(folder / "evaluations"),
    )


def _config(folder: Path) -> dict[str, Any]:
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
    """Of the run, and of the runs inside it, in their order: 1, 2, …, 10, last."""
    stages: dict[str, list[Row]] = defaultdict(list)
    inside = [folder / "pretrained", *folder.glob("rounds/*")]
    inside.sort(key=lambda place: (len(place.name), place.name))
    files = [place / "metrics.jsonl" for place in (folder, *inside)]
    texts = [f.read_text(encoding="utf-8", errors="replace") for f in files if f.is_file()]
    for line in "\n".join(texts).splitlines():
        try:
            row = json.loads(line)
        except ValueError:  # the last line, cut off by a kill
            continue
        if not isinstance(row, dict):
            continue
        stages[str(row.get("stage", "training"))].append(row)
    return dict(stages)


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
