"""How sure it is: other accuracies, confidence against accuracy, what abstaining is worth."""

import math
from typing import Any

from markupsafe import Markup

from fewlabels.report import form, plots
from fewlabels.report.answer import split_of
from fewlabels.report.read import Row, Run

# the share of answers that is told in words; fixed, for the best of 20 would flatter
COVERED = 0.8
OTHERS = {"balanced_accuracy": "balanced accuracy", "top5_accuracy": "top-5 accuracy"}


def told(run: Run) -> dict[str, Any]:
    """What `result.json` says of confidence; parts that it does not have are None."""
    split = split_of(run)
    calibration = run.result.get("calibration") or {}
    points = calibration.get("coverage") or []
    unknown = run.result.get("unknown") or None
    return {
        "scores": _scores(run.result.get(split) or {}),
        "calibration": _calibration(calibration, split) if calibration.get("ece") else None,
        "temperature": calibration.get("temperature"),
        "coverage": points,
        "coverage_chart": _coverage(points) if len(points) > 1 else None,
        "some": _some(points),
        "unknown": unknown,
    }


def _scores(score: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Accuracy and the numbers beside it that have an interval."""
    rows = [("accuracy", score)] if score else []
    for key, name in OTHERS.items():
        if score.get(f"{key}_interval"):
            other = {"accuracy": score[key], "interval": score[f"{key}_interval"], "n": score["n"]}
            rows.append((name, other))
    return rows


def _calibration(found: dict[str, Any], split: str) -> dict[str, Any]:
    ece, full = found["ece"], [one for one in found["bins"] if one["n"]]
    n = sum(one["n"] for one in full)
    bins = []
    for one in full:
        low, high = one["accuracy"]["interval"]
        right = one["accuracy"]["accuracy"]
        bins.append(plots.Bin(one["confidence"], right, low, high, one["n"]))
    confidence = sum(one.n * one.confidence for one in bins) / n
    accuracy = sum(one.n * one.accuracy for one in bins) / n
    text = (
        f"Accuracy over confidence in {len(bins)} bins that have images, {n:,} in all. Mean "
        f"confidence {form.percent(confidence)}, accuracy {form.percent(accuracy)}; expected "
        f"calibration error {form.plain_points(ece['ece'])} points."
    )
    return {
        "ece": ece,
        "as_trained": found.get("as_trained"),
        "by_chance": found.get("by_chance"),
        "bins": full,
        "confidence": confidence,
        "accuracy": accuracy,
        "n": n,
        # then the temperature was fitted to the very images that it is judged on
        "own": split == "val" and (found.get("temperature") or {}).get("value", 1) != 1,
        "chart": plots.reliability(bins, text, form.tick),
    }


def _coverage(points: list[Row]) -> Markup:
    line = [(point["coverage"]["coverage"], point["answered"]["accuracy"]) for point in points]
    band = [(point["coverage"]["coverage"], *point["answered"]["interval"]) for point in points]
    (x, y), (_, everything) = line[0], line[-1]
    return plots.curves(
        [plots.Curve("right among the answers", line, "s0", dots=True, band=band)],
        f"Accuracy among the answers, by the share of images that get one: {form.percent(y)} of "
        f"the surest {form.percent(x)}, {form.percent(everything)} of all.",
        form.tick,
        form.tick,
        math.inf,
    )


def _some(points: list[Row]) -> Row | None:
    """The point nearest to 80 % of answers; None where all images have one confidence."""
    partial = [point for point in points if point["coverage"]["coverage"] < 1]
    return min(partial, key=lambda p: abs(p["coverage"]["coverage"] - COVERED), default=None)
