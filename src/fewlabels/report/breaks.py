"""How it breaks: what `evaluate` has found since the run, the newest of each kind."""

import shlex
from typing import Any

from markupsafe import Markup

from fewlabels.report import form, plots
from fewlabels.report.read import Row, Run

KINDS = ("corruptions", "perturbations", "adversarial", "stress")
MOST = 10  # other data sets that the table names


def told(run: Run) -> dict[str, Any]:
    """Each kind with the images that it was measured on; which are missing, and how to get them."""
    newest = {kind: each for each in run.evaluations for kind in KINDS if each.get(kind)}
    missing = [kind for kind in KINDS if kind not in newest]
    show = {
        "corruptions": _corruptions,
        "perturbations": _perturbations,
        "adversarial": _adversarial,
        "stress": _stress,
    }
    return {
        "missing": missing,
        "everything": len(missing) == len(KINDS),
        "command": shlex.join(["fewlabels", "evaluate", run.folder, *(f"--{m}" for m in missing)]),
        "elsewhere": _elsewhere(run),
        **{kind: show[kind](each) for kind, each in newest.items()},
    }


def _where(evaluation: Row, n: int) -> dict[str, Any]:
    """What a table rests on: its data and its n, when, and the accuracy on undisturbed images."""
    return {
        "data": str(evaluation.get("data", "")),
        "n": n,
        "when": str(evaluation.get("when", ""))[:10],
        "clean": evaluation.get("accuracy"),
        "learnt": _all_learnt(evaluation),
    }


def _all_learnt(evaluation: Row) -> bool:
    """Whether there were no other images than those that the run has learnt from."""
    return bool(evaluation.get("learnt_from")) and "others" not in evaluation["learnt_from"]


def _plain(name: str) -> str:
    return name.replace("_", " ").replace("jpeg", "JPEG")


def _corruptions(evaluation: Row) -> dict[str, Any]:
    found = evaluation["corruptions"]
    rows = [
        {
            "name": _plain(name),
            "cells": cells,
            "mean": sum(cell["accuracy"] for cell in cells) / len(cells),
        }
        for name, cells in found["accuracy"].items()
    ]
    ordered = sorted(rows, key=lambda row: row["mean"])
    return {
        "where": _where(evaluation, found["n"]),
        "published": bool(evaluation.get("published")),  # ImageNet-C's own files
        "mce": found.get("mce"),
        "error": found.get("c_like_error"),
        "of": found.get("of", len(rows)),
        "interval": found.get("interval"),
        "rows": rows,
        "severities": max(len(row["cells"]) for row in rows),
        "worst": ordered[0],
        "best": ordered[-1],
    }


def _perturbations(evaluation: Row) -> dict[str, Any]:
    found = evaluation["perturbations"]
    rates = [(_plain(name), rate) for name, rate in found["flip_rate"].items()]
    return {
        "where": _where(evaluation, found["n"]),
        "mean": found["mean_flip_rate"],
        "interval": found["interval"],
        "rates": sorted(rates, key=lambda pair: -float(pair[1]["flip_rate"])),
        # the bars' end: flip rates are small
        "end": max([rate["flip_rate"] for _, rate in rates] + [1e-9]),
    }


def _adversarial(evaluation: Row) -> dict[str, Any]:
    attacks = {name.upper(): points for name, points in evaluation["adversarial"].items()}
    n = next(iter(attacks.values()))[0]["n"]
    levels = sorted({point["epsilon"] for points in attacks.values() for point in points})
    place = {level: i for i, level in enumerate(levels)}
    curves, styles = [], ("s0", "s2", "s3", "s4")
    for i, (name, points) in enumerate(attacks.items()):
        line = [(float(place[point["epsilon"]]), point["accuracy"]) for point in points]
        band = [(float(place[point["epsilon"]]), *point["interval"]) for point in points]
        style = styles[i % len(styles)]
        curves.append(plots.Curve(name, line, style, dots=True, band=band))
    labels = [f"{level:g}" for level in levels]
    return {
        "where": _where(evaluation, n),
        "levels": levels,
        "attacks": attacks,
        "legend": [(curve.name, curve.style) for curve in curves],
        "chart": _attacked(curves, labels),
    }


def _attacked(curves: list[plots.Curve], labels: list[str]) -> Markup:
    said = "; ".join(
        f"{curve.name} {form.percent(curve.points[0][1])} at ε = {labels[int(curve.points[0][0])]},"
        f" {form.percent(curve.points[-1][1])} at ε = {labels[int(curve.points[-1][0])]}"
        for curve in curves
    )
    return plots.curves(
        curves,
        f"Accuracy against ε in levels of 255: {said}.",
        lambda x: labels[int(x)],
        form.tick,
        0.0,
        [float(i) for i in range(len(labels))],
    )


def _stress(evaluation: Row) -> dict[str, Any]:
    found = evaluation["stress"]
    causes = []
    for each in found:
        # a share of the size, the area or the light is told in per cent of it
        part = each["unit"].startswith("of ")
        factor, unit = (100, f"% {each['unit']}") if part else (1, each["unit"])
        levels = [level | {"mark": f"{factor * level['level']:.4g}"} for level in each["levels"]]
        fall = each["falls_at"]
        causes.append(
            {
                "name": each["cause"],
                "unit": unit,
                "falls_at": None if fall is None else _two_digits(factor * fall),
                "furthest": levels[-1]["mark"],
                "levels": levels,
            }
        )
    return {"where": _where(evaluation, found[0]["levels"][0]["n"]), "causes": causes}


def _two_digits(value: float) -> str:
    """7.52 -> 7.5, 23.4 -> 23, 154.6 -> 155: what the levels between which it lies bear"""
    return f"{value:.0f}" if value >= 9.95 else f"{value:.2g}"


def _elsewhere(run: Run) -> list[dict[str, Any]]:
    """The newest evaluation on each of the other data sets, the newest first."""
    newest: dict[str, Row] = {}
    for each in run.evaluations:
        data = str(each.get("data", ""))
        if each.get("accuracy") and not each.get("own"):
            newest.pop(data, None)
            newest[data] = each
    return [
        {
            "data": data,
            "when": str(each.get("when", ""))[:10],
            "score": each["accuracy"],
            "strangers": each.get("strangers", 0),
            "learnt_from": each.get("learnt_from"),
            "among": each.get("accuracy_among_its_classes"),
        }
        for data, each in reversed(newest.items())
    ][:MOST]
