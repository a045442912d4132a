"""What a run leaves behind where its labels are several classes an image, or numbers: as `outcome`
says it of one class an image, with the scores of the task."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fewlabels.evaluate.metrics import THRESHOLD
from fewlabels.pool.pool import MULTI
from fewlabels.procedures.chosen import Chosen
from fewlabels.procedures.outcome import about, about_images, beside, splits
from fewlabels.procedures.prepare import typical_side
from fewlabels.procedures.scores import MAIN, by_part, difference, scores
from fewlabels.procedures.verdict import FEW_STEPS, SMALL_SIDE, WORST
from fewlabels.training.folder import write_table

WORDS = {"mean_average_precision": "mean average precision", "mae": "mean absolute error"}
PARTS = 4  # of the images by the size of their number, of which the worst is named


def result(chosen: Chosen) -> dict[str, Any]:
    """The content of `result.json`. `parts` are the classes, or the numbers of several an image."""
    context = chosen.context
    pool = context.data.pool
    summary = about(chosen) | {"task": pool.task} | _scores(chosen, chosen.method)
    if pool.task == MULTI:
        summary["threshold"] = THRESHOLD
    if chosen.baseline and chosen.method != chosen.beside:
        summary["baseline"] = beside(chosen) | _scores(chosen, chosen.beside)
        summary["difference"] = _differences(chosen)
    for split, rows, by_method in splits(chosen):
        if split == summary["estimate"] and len(rows) and chosen.method in by_method:
            summary["parts"] = by_part(pool, rows, by_method[chosen.method])
    how = "auto" if context.config.method == "auto" else "given"
    summary["choice"] = {"how": how, "candidates": [], "why": chosen.why}
    summary["views"] = {view: str(policy) for view, policy in context.policies.items()}
    summary["verdict"] = _verdict(summary)
    summary["next"] = _next(chosen, summary)
    return summary | about_images(context)


def write_predictions(chosen: Chosen, path: Path) -> None:
    """A row an image of validation and test: `label`, which classes it has or its numbers; `said`,
    their probabilities or the numbers that the model says; `baseline`, what labels only says."""
    pool, tables = chosen.context.data.pool, []
    assert pool.target is not None
    for split, rows, by_method in splits(chosen):
        if chosen.method not in by_method:  # it has learnt from these labels
            continue
        said = by_method[chosen.method]
        columns = {
            "name": [pool.source.name(int(row)) for row in rows],
            "split": [split] * len(rows),
            "label": pa.array(list(pool.target[rows].astype(np.float64)), pa.list_(pa.float64())),
            "said": pa.array(list(said), pa.list_(pa.float64())),
            "baseline": pa.array(list(by_method.get(chosen.beside, said)), pa.list_(pa.float64())),
        }
        if pool.group is not None:
            columns["group"] = pool.group[rows]
        tables.append(pa.table(columns))
    write_table(pa.concat_tables(tables, promote_options="permissive"), path)


def _scores(chosen: Chosen, method: str) -> dict[str, Any]:
    pool = chosen.context.data.pool
    return {
        split: scores(pool, rows, by_method[method])
        for split, rows, by_method in splits(chosen)
        if len(rows) and method in by_method
    }


def _differences(chosen: Chosen) -> dict[str, Any]:
    pool, found = chosen.context.data.pool, {}
    for split, rows, by_method in splits(chosen):
        if len(rows) and chosen.method in by_method and chosen.beside in by_method:
            both = by_method[chosen.method], by_method[chosen.beside]
            found[split] = difference(pool, rows, *both)
    return {split: told for split, told in found.items() if told is not None}


def _verdict(summary: dict[str, Any]) -> str:
    """Whether the unlabelled images helped, as far as this run's images can show it."""
    split = summary["estimate"]
    if "baseline" not in summary:
        return "Labels only: no unlabelled images were learnt from."
    if split not in summary["difference"]:
        return "Whether the unlabelled images helped cannot be said: nothing measures it."
    told, base = summary["difference"][split], summary["baseline"]
    images = f"{told['n']} {'test' if split == 'test' else 'validation'} images"
    better = -1 if told["score"] == MAIN["regression"] else 1
    low, high = told["interval"]
    if low is None or high is None or low <= 0 <= high:
        answer = f"The unlabelled images made no difference that {images} can show ({said(told)})."
    else:
        verb = "helped" if better * low > 0 else "did harm"
        answer = f"The unlabelled images {verb}: {said(told)}, on {images}."
    return (
        f"{answer} Labels only trained for {base['steps']:,} steps ({base['seconds']:.0f} s), "
        f"{summary['method']} for {summary['steps']:,} ({summary['training_seconds']:.0f} s)."
    )


def said(told: dict[str, Any]) -> str:
    """ "mean average precision +4.1 points, 95 % interval +1.0 to +7.2" """
    numbers = (told["difference"], *told["interval"])
    if told["score"] == MAIN["regression"]:
        value, *ends = ("?" if x is None else f"{x:+.4g}" for x in numbers)
    else:
        value, *ends = ("?" if x is None else f"{100 * x:+.1f}" for x in numbers)
        value += " points"
    interval = "no interval" if "?" in ends else f"95 % interval {ends[0]} to {ends[1]}"
    return f"{WORDS[told['score']]} {value}, {interval}"


def _next(chosen: Chosen, summary: dict[str, Any]) -> str:
    """The next best thing to do, in one sentence."""
    pool = chosen.context.data.pool
    if summary["estimate"] not in summary:
        return "Give it labelled test images: without any nothing can be measured here."
    if summary["method"] != "supervised" and summary["steps"] < FEW_STEPS:
        return f"Give it more time: {summary['steps']:,} steps are few."
    if summary["weights"] == "none" and typical_side(pool) > SMALL_SIDE:
        return (
            "Give it pretrained weights, the strongest lever for photographs: none were at hand "
            "(--model timm:…, hf-hub:… or local-dir:…)."
        )
    if pool.task == MULTI:
        told = [part for part in summary["parts"] if "average_precision" in part]
        told.sort(key=lambda part: part["average_precision"]["average_precision"])
        names = ", ".join(part["class"] for part in told[:WORST])
        return f"Label more images, of {names} first: these are recognised least."
    if (span := _worst_span(chosen)) is not None:
        return f"Label more images, of {span[0]:.4g} to {span[1]:.4g} first: there it errs most."
    return "Label more images."


def _worst_span(chosen: Chosen) -> tuple[float, float] | None:
    """Between which numbers the error is largest, of PARTS parts with as many images each."""
    pool = chosen.context.data.pool
    assert pool.target is not None
    *_, (_, rows, by_method) = (its for its in splits(chosen) if len(its[1]))
    truth, error = pool.target[rows], None
    if truth.shape[1] > 1 or len(rows) < 2 * PARTS or chosen.method not in by_method:
        return None
    error = np.abs(by_method[chosen.method] - truth)[:, 0]
    parts = np.array_split(np.argsort(truth[:, 0], kind="stable"), PARTS)
    worst = max(parts, key=lambda part: float(error[part].mean()))
    return float(truth[worst].min()), float(truth[worst].max())
