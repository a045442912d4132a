"""What was tried: how the method was chosen, and the runs inside and beside this one."""

from typing import Any

from fewlabels.evaluate.intervals import scored
from fewlabels.report.answer import accuracies, whisker
from fewlabels.report.read import Run
from fewlabels.report.timeline import LABELS_ONLY


def told(run: Run) -> dict[str, Any]:
    """The candidates with their chart; rounds, student and members where there were any."""
    choice = run.result.get("choice") or {}
    chosen = run.result.get("method")
    candidates = [
        (str(c["method"]), c["val"]) for c in choice.get("candidates") or [] if c.get("val")
    ]
    whiskers = [
        whisker(_called(name), val, "main" if name == chosen else "plain")
        for name, val in candidates
    ]
    return {
        "choice": choice,
        "decisions": run.result.get("decisions") or [],
        "candidates": [(_called(name), val) for name, val in candidates],
        "chart": accuracies(whiskers) if whiskers else None,
        "rounds": rounds(run),
        "kept": run.result.get("kept"),
        "agreement": _agreement(run.result.get("kept") or {}),
        "members": run.result.get("members") or [],
    }


def rounds(run: Run) -> list[dict[str, Any]]:
    """The runs inside this one that learnt from pseudo-labels, with their sums over the classes."""
    out = []
    for each in run.result.get("runs") or []:
        if labels := each.get("pseudo_labels"):
            sums = {key: sum(row[key] for row in labels) for key in ("said", "learnt", "shown")}
            out.append(each | {"sums": sums})
    return out


def _called(method: str) -> str:
    return LABELS_ONLY if method == "supervised" else method


def _agreement(kept: dict[str, Any]) -> dict[str, Any] | None:
    """Of how many test images teacher and student say the same."""
    value, test = kept.get("agreement"), kept.get("student", {}).get("test")
    if value is None or not test:
        return None
    return scored(value, test["n"], test["n"]).to_json("accuracy")
