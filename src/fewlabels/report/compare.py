"""Runs side by side: how accurate each is, how far from one of them on the same images, and what
differs in their settings.

Reads run folders and writes nothing.
"""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fewlabels.errors import UserError
from fewlabels.report import form, read, tasks
from fewlabels.report.paired import asked, difference
from fewlabels.report.tables import flatten

# of config.yaml: what may differ between runs that are the same but for the seed
OWN = ("seed", "command", "versions")
# of config.yaml: measured before the first step where they are left open
FORM = ("precision", "layout")
ASKED = "checkpoints/settings.json"  # has what was left open
# of result.json, in the row of a run
TOLD = (
    *("method", "model", "seed", "labels", "steps", "seconds", "training_seconds"),
    *("images_per_second", "peak_memory_mb", "device", "estimate"),
)
IMAGES = {"test": "test", "val": "validation"}


def compare(runs: Sequence[Path], against: Path | None = None) -> dict[str, Any]:
    """The finished ones of `runs`, and each one's difference from `against` (the first), for JSON.

    `runs`: a row each. `differences`: accuracy of a run less that of `against` on the images that
    both were judged on, as `paired.difference` says; `judged`: on how many the run was, and
    `against`; `why`: why nothing is common, else "". `settings`: what differs in the resolved
    settings, with what was found for `auto`, {name: [a value a run]}, "" where a run has no such
    setting. `seeds`: mean and standard deviation (n - 1) of accuracy of runs that are the same but
    for the seed, and for a precision and a layout that were measured. `unfinished`:
    folders left out.

    The intervals are about the images: how sure it is that this model is better than that one.
    They do not tell how another seed, or another draw of labels, would come out: `seeds` does.

    UserError for fewer than two finished runs, a folder that is no run, a run named twice, and
    runs of different classes.
    """
    known = [read.load(path) for path in _places(runs, against)]
    finished = [run for run in known if "estimate" in run.result]
    unfinished = [run.folder for run in known if "estimate" not in run.result]
    if against is not None and str(against) in unfinished:
        raise UserError(f"--against {against}: has not finished")
    if len(finished) < 2:
        raise UserError(f"compare: needs two finished runs; not finished: {', '.join(unfinished)}")
    base = finished[0]
    if against is not None:
        place = against.resolve()
        base = next(run for run in finished if Path(run.folder).resolve() == place)
    for run in finished:
        tasks.need_one_class("compare", run)
        _need_same_classes(base, run)
    return {
        "against": base.folder,
        "runs": [_row(run) for run in finished],
        "differences": [_difference(base, run) for run in finished if run is not base],
        "settings": _settings(finished),
        "seeds": _seeds(finished),
        "unfinished": unfinished,
    }


def _places(runs: Sequence[Path], against: Path | None) -> list[Path]:
    """The folders, each once, `against` first if it is not among `runs`."""
    found: dict[Path, Path] = {}
    for path in runs:
        if not path.is_dir():
            raise UserError(f"{path}: no such run folder")
        place = path.resolve()
        if (before := found.get(place)) is not None:
            same = "is named twice" if before == path else f"and {before} are one folder"
            raise UserError(f"compare: {path} {same}; name each run once")
        found[place] = path
    if against is not None:
        if not against.is_dir():
            raise UserError(f"--against {against}: no such run folder")
        if against.resolve() not in found:
            found = {against.resolve(): against, **found}
    if len(found) < 2:
        raise UserError("compare: name two runs or more, such as: fewlabels compare runs/1 runs/2")
    return list(found.values())


def _need_same_classes(base: read.Run, run: read.Run) -> None:
    if run.classes == base.classes:
        return
    for one, other in ((run, base), (base, run)):
        if more := [name for name in one.classes if name not in other.classes]:
            which = f"{one.folder} has {more[0]!r}, {other.folder} has not"
            raise UserError(f"compare: the runs are of different classes ({which})")
    raise UserError(f"compare: {run.folder} has the classes of {base.folder} in another order")


def _settings(runs: Sequence[read.Run]) -> dict[str, list[str]]:
    """Those that differ; the command differs with the folder that it names."""
    each = [dict(flatten(_without(_found(run), ("command",)))) for run in runs]
    each = [{name: value for name, value in some.items() if value != "{}"} for some in each]
    every = dict.fromkeys(name for some in each for name in some)
    rows = {name: [some.get(name, "") for some in each] for name in every}
    return {name: row for name, row in rows.items() if len(set(row)) > 1}


def _found(run: read.Run) -> dict[str, Any]:
    """The settings of a run with what its `auto` has come to, to three digits."""
    size, rate = run.found.get("batch_size", {}), run.found.get("learning_rate", {})
    lr = rate.get("chosen", size.get("lr"))  # a batch size brings its rate, where none is given
    found = {"lr": lr and float(f"{lr:.3g}"), "batch_size": size.get("chosen")}
    open_ = {name: value for name, value in found.items() if run.config.get(name) in ("auto", None)}
    return run.config | {name: value for name, value in open_.items() if value is not None}


def _without(config: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name not in names}


def _row(run: read.Run) -> dict[str, Any]:
    judged = run.result.get(run.result["estimate"]) or {}
    row = {"run": run.folder} | {name: run.result.get(name) for name in TOLD}
    return row | {name: judged.get(name) for name in ("accuracy", "interval", "n")}


def _difference(base: read.Run, run: read.Run) -> dict[str, Any]:
    split, other = run.result["estimate"], base.result["estimate"]
    ours, theirs = asked(Path(run.folder), split), asked(Path(base.folder), other)
    told = {"run": run.folder, "judged": [len(ours), len(theirs)]}
    if split != other:  # what one was tested on, the other may have been chosen by
        why = f"it is judged on {IMAGES[split]} images, the other on {IMAGES[other]} images"
        return told | difference({}, {}) | {"why": why}
    return told | difference(ours, theirs) | {"why": _why_nothing(base, run, ours, theirs)}


def _why_nothing(base: read.Run, run: read.Run, ours: Any, theirs: Any) -> str:
    if ours.keys() & theirs.keys():
        return ""
    for one, kept in ((run, ours), (base, theirs)):
        if not kept:
            return f"{one.folder} keeps no predictions of images that can be told apart"
    if run.config.get("data") != base.config.get("data"):
        return f"its images are those of {form.place(run.config.get('data'))}"
    if run.config.get("seed") != base.config.get("seed"):
        return "another seed draws other images; a folder test/ stays the same"
    return "their images or labels have changed in between"


def _seeds(runs: Sequence[read.Run]) -> list[dict[str, Any]]:
    alike: dict[str, list[read.Run]] = defaultdict(list)
    for run in runs:
        asked_for = read.passing(Path(run.folder) / ASKED).get("asked", {})
        measured = [name for name in FORM if asked_for.get(name) == "auto"]
        kept = sorted((name, repr(v)) for name, v in _without(_found(run), OWN).items())
        kept = [(name, "auto" if name in measured else value) for name, value in kept]
        alike[repr((kept, run.result["estimate"]))].append(run)
    found = []
    for several in alike.values():
        rows = [_row(run) for run in several]
        values = [row["accuracy"] for row in rows if row["accuracy"] is not None]
        if len({row["seed"] for row in rows}) == len(values) > 1:
            about = {"method": rows[0]["method"], "runs": [row["run"] for row in rows]}
            mean, deviation = float(np.mean(values)), float(np.std(values, ddof=1))
            found.append(about | {"mean": round(mean, 4), "deviation": round(deviation, 4)})
    return found
