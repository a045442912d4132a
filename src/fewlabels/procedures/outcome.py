"""What a run leaves behind for people and for the report: result and predictions."""

import resource
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fewlabels.evaluate import calibration, metrics
from fewlabels.evaluate.intervals import Array, accuracy, gain
from fewlabels.pool.copies import Copies, copies_of
from fewlabels.pool.split import unmeasured
from fewlabels.procedures.certainty import Certainty
from fewlabels.procedures.chosen import Chosen
from fewlabels.procedures.prepare import Data, Rows, typical_side
from fewlabels.procedures.stage import Context, Trained
from fewlabels.procedures.verdict import SURE_OF_ANOTHER, advice, verdict
from fewlabels.training.folder import write_table

COPIES = 100  # of each kind that result.json lists; `check` lists all


def result(chosen: Chosen) -> dict[str, Any]:
    """The content of `result.json`. Everything in it was counted on this run's own images."""
    context = chosen.context
    data, config = context.data, context.config
    summary = about(chosen) | _scores(chosen.method, chosen)
    if chosen.baseline and chosen.method != chosen.beside:
        summary["baseline"] = beside(chosen) | _scores(chosen.beside, chosen)
        summary["difference"] = _differences(chosen)
    tried = {name: _right(p, data, context.val_rows) for name, p in chosen.val.items()}
    judges = context.val_rows
    if chosen.compared is not None:
        tried = {name: chosen.compared.right(name) for name in chosen.compared.said}
        judges = chosen.compared.rows
    elif chosen.method not in tried:
        tried = {}
    group = _group(data, judges)
    summary["choice"] = {
        "how": "auto" if config.method == "auto" else "given",
        "candidates": [
            {"method": name, "val": accuracy(its, group)} for name, its in tried.items()
        ],
        "why": chosen.why,
    }
    summary["views"] = {view: str(policy) for view, policy in context.policies.items()}
    summary["decisions"] = [str(decision) for decision in chosen.decisions]
    if chosen.guarded is not None:
        summary["guard"] = {
            "said": str(chosen.guarded),
            "left_out": len(chosen.guarded.out),
            "scored": chosen.guarded.scored,
        }
    summary |= chosen.more
    if chosen.inside:
        summary["runs"] = [_inside(context, each) for each in chosen.inside]
    summary["verdict"] = chosen.verdict or verdict(summary)
    doubtful = _doubtful(chosen)
    summary["doubtful_labels"] = doubtful
    summary["next"] = advice(summary, typical_side(data.pool), doubtful, _recalls(chosen))
    return summary | about_images(context)


def about(chosen: Chosen) -> dict[str, Any]:
    """What `result.json` begins with: what the run is, what it took, and from how many images."""
    context = chosen.context
    data, config = context.data, context.config
    steps, seconds, images = _totals(chosen.stages)
    return {
        "data": config.data,
        "method": chosen.method,
        "model": config.model,
        "weights": config.weights,
        "seed": config.seed,
        "steps": steps,
        "seconds": round(context.clock(), 1),
        "training_seconds": round(seconds, 1),
        "images_per_second": round(images / max(seconds, 1e-9), 1),
        "peak_memory_mb": round(_peak_memory_mb(), 1),
        "device": str(context.fabric.device),
        "img_size": context.preprocess.size,
        "classes": len(data.pool.classes),
        "labels": len(data.labelled),
        "unlabelled": len(data.unlabelled),
        "estimate": "test" if len(data.test) else "val",
    }


def beside(chosen: Chosen) -> dict[str, Any]:
    """What labels only is, and what it took."""
    steps, seconds, _ = _totals(chosen.baseline)
    return {"method": chosen.beside, "steps": steps, "seconds": round(seconds, 1)}


def about_images(context: Context) -> dict[str, Any]:
    """What the report says of the images: classes that nothing measures, files left out, copies."""
    data = context.data
    measured = data.test if len(data.test) else context.val_rows
    return {
        "unmeasured": list(unmeasured(data.pool, measured)),
        "skipped": [vars(item) for item in data.skipped],
        "copies": _copies(copies_of(data.pool, data.digest)),
    }


def confidence(trained: Chosen, chosen: Chosen, found: Certainty) -> dict[str, Any]:
    """What `result.json` says of confidence: `trained` is the run before its temperature, `chosen`
    the run as it answers."""
    told = found.to_json()
    summary: dict[str, Any] = {"unknown": told["unknown"]}
    data = chosen.context.data
    split = "test" if len(data.test) else "val"
    rows, by_method = (data.test, chosen.test) if len(data.test) else chosen.validated
    # what an earlier model was sure of says nothing about this one
    own = len(data.test) or (len(data.val) and len(chosen.final.val) == len(data.val))
    p = by_method.get(chosen.method) if own else None
    summary["calibration"] = {"split": split, "temperature": told["temperature"]}
    if p is not None and len(p):
        right, group = _right(p, data, rows), _group(data, rows)
        if found.temperature.value != 1:
            raw = (trained.test if len(data.test) else trained.validated[1])[chosen.method]
            before = calibration.ece(raw.max(1), right, group)
            summary["calibration"]["as_trained"] = before.to_json("ece")
        summary["calibration"] |= calibration.described(p, right, group)
    return summary


def write_predictions(chosen: Chosen, path: Path) -> None:
    """A row an image of validation and test: what it is, what model and baseline say."""
    context = chosen.context
    data = context.data
    tables = []
    for split, rows, by_method in splits(chosen):
        if chosen.method not in by_method:  # it has learnt from these labels
            continue
        p = by_method[chosen.method]
        columns = {
            "name": [data.pool.source.name(int(row)) for row in rows],
            "split": [split] * len(rows),
            "label": data.pool.label[rows],
            "predicted": p.argmax(1),
            "confidence": p.max(1),
            "baseline": by_method.get(chosen.beside, p).argmax(1),
            "probabilities": pa.array(list(p), pa.list_(pa.float64())),
        }
        if (group := _group(data, rows)) is not None:
            columns["group"] = group
        tables.append(pa.table(columns))
    write_table(pa.concat_tables(tables, promote_options="permissive"), path)


def _doubtful(chosen: Chosen) -> list[dict[str, Any]]:
    """Labels that look wrong: a model that had not seen them is sure of another class."""
    data, (rows, by_method) = chosen.context.data, chosen.validated
    p = by_method.get(chosen.method)
    if p is None:
        return []
    label, predicted = data.pool.label[rows], p.argmax(1)
    found = np.flatnonzero((predicted != label) & (p.max(1) >= SURE_OF_ANOTHER))
    return [
        {
            "name": data.pool.source.name(int(rows[i])),
            "label": data.pool.classes[label[i]],
            "predicted": data.pool.classes[predicted[i]],
            "confidence": round(float(p[i].max()), 4),
        }
        for i in found[np.argsort(-p[found].max(1), kind="stable")]
    ]


def _recalls(chosen: Chosen) -> list[tuple[str, int, int]]:
    """Of each class that was asked about: its name, how many images, how many right."""
    data = chosen.context.data
    rows, by_method = (data.test, chosen.test) if len(data.test) else chosen.validated
    p = by_method.get(chosen.method)
    if p is None:
        return []
    label = data.pool.label[rows]
    right = p.argmax(1) == label
    return [
        (data.pool.classes[c], int((label == c).sum()), int(right[label == c].sum()))
        for c in np.unique(label)
    ]


def _inside(context: Context, chosen: Chosen) -> dict[str, Any]:
    """A run inside a run, in a few words."""
    steps, seconds, _ = _totals(chosen.stages)
    return {
        "folder": chosen.context.folder.path.relative_to(context.folder.path).as_posix(),
        "method": chosen.method,
        "model": chosen.context.config.model,
        "img_size": chosen.context.preprocess.size,
        "steps": steps,
        "seconds": round(seconds, 1),
        **_scores(chosen.method, chosen),
        **chosen.more,
    }


def _copies(found: Copies) -> dict[str, Any]:
    """The first of each kind, and how many there are; `others` are neither of the two worse."""
    kinds = {name: list(map(list, some)) for name, some in asdict(found).items()}
    worse = {tuple(copy.name for copy in one) for one in (*found.leaks, *found.contradictions)}
    counts = {name: len(some) for name, some in kinds.items()}
    counts["others"] = len(set(found.duplicates) - worse)
    return {name: some[:COPIES] for name, some in kinds.items()} | {"counts": counts}


def _group(data: Data, rows: Rows) -> Array | None:
    return None if data.pool.group is None else data.pool.group[rows]


def _right(p: NDArray[np.float64], data: Data, rows: Rows) -> NDArray[np.bool_]:
    right: NDArray[np.bool_] = p.argmax(1) == data.pool.label[rows]
    return right


def splits(chosen: Chosen) -> list[tuple[str, Rows, dict[str, NDArray[np.float64]]]]:
    """Validation and test: which images, and what was said of them by method."""
    return [("val", *chosen.validated), ("test", chosen.context.data.test, chosen.test)]


def _scores(method: str, chosen: Chosen) -> dict[str, Any]:
    data, scores = chosen.context.data, {}
    for split, rows, by_method in splits(chosen):
        if len(rows) and method in by_method:
            p, label = by_method[method], data.pool.label[rows]
            found = metrics.single(label, p, _group(data, rows))
            scores[split] = found.pop("accuracy").to_json("accuracy")
            for name, estimate in found.items():
                told = estimate.to_json(name)
                scores[split] |= {name: told[name], f"{name}_interval": told["interval"]}
    return scores


def _differences(chosen: Chosen) -> dict[str, Any]:
    data, differences = chosen.context.data, {}
    for split, rows, by_method in splits(chosen):
        if len(rows) and chosen.method in by_method and chosen.beside in by_method:
            mine = _right(by_method[chosen.method], data, rows)
            base = _right(by_method[chosen.beside], data, rows)
            differences[split] = gain(mine, base, _group(data, rows))
    return differences


def _totals(stages: tuple[Trained, ...]) -> tuple[int, float, int]:
    return (
        sum(stage.steps for stage in stages),
        sum(stage.seconds for stage in stages),
        sum(stage.images for stage in stages),
    )


def _peak_memory_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
