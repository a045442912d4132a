"""Finished run folders of which it is known by hand which test images they have right."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from fewlabels.evaluate.intervals import wilson

STAGES = ("labels only", "fixmatch")


def finished(
    path: Path,
    right: Mapping[str, bool],
    *,
    seed: int = 0,
    method: str = "fixmatch",
    split: str = "test",
    label: Mapping[str, int] | None = None,
    digest: Mapping[str, str] | None = None,
    group: Sequence[int] | None = None,
    classes: Sequence[str] = ("heron", "stork"),
    stages: Sequence[str] = STAGES,
    **config: Any,
) -> Path:
    """A run that was right, or not, about the images of these names, of class 0 and with their
    names as content, if nothing else is said; `config`: more settings."""
    path.mkdir(parents=True)
    settings = {"data": "photos", "method": method, "seed": seed, **config}
    settings |= {"command": f"fewlabels train photos --out {path}"}
    (path / "config.yaml").write_text(yaml.safe_dump(settings))
    (path / "classes.json").write_text(json.dumps(list(classes)))
    names = list(right)
    labels = [(label or {}).get(name, 0) for name in names]
    n, hits = len(names), sum(right.values())
    score = {"accuracy": round(hits / n, 4), "interval": list(wilson(hits, n)), "n": n}
    result = {"estimate": split, split: score, "method": method, "model": "cnn_small"}
    result |= {"seed": seed, "labels": 20, "steps": 50, "seconds": 71.0, "device": "cpu"}
    result |= {"training_seconds": 60.0, "images_per_second": 1234.0, "peak_memory_mb": 600.0}
    (path / "result.json").write_text(json.dumps(result))
    log(path, stages)
    said = [c if right[name] else 1 - c for name, c in zip(names, labels, strict=True)]
    columns: dict[str, Any] = {"name": names, "split": [split] * n, "label": labels}
    columns |= {"predicted": said, "baseline": [-1] * n}
    if group is not None:
        columns["group"] = list(group)
    pq.write_table(pa.table(columns), path / "predictions.parquet")
    content = [(digest or {}).get(name, name) for name in names]
    table = pa.table({"name": names, "label": labels, "digest": content})
    pq.write_table(table, path / "splits.parquet")
    return path


def log(path: Path, stages: Sequence[str]) -> None:
    """Four rows a stage, one every 2 seconds and 10 steps; trials are validated."""
    rows: list[dict[str, Any]] = [
        {"stage": stage, "step": 10 * i, "seconds": 2.0 * i, "loss": 2.0 / i}
        | ({"val_accuracy": 0.5 + 0.1 * i, "val_n": 10} if stage.endswith("trial") else {})
        for stage in stages
        for i in (1, 2, 3, 4)
    ]
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def images(start: int, end: int, wrong: int) -> dict[str, bool]:
    """Images start to end; those of a number below `wrong` are taken for another class."""
    return {f"{i:03}.png": i >= wrong for i in range(start, end)}
