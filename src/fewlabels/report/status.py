"""Where a run is, looked at from outside while it works, is paused, was stopped, or has finished.

Reads the run folder and writes nothing. What is told is as old as `progress.json`, about a second
while steps are short; validations are those of `metrics.jsonl`.
"""

import shlex
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from fewlabels.evaluate.intervals import wilson
from fewlabels.report import read, tasks
from fewlabels.report.form import count, duration, percent, span
from fewlabels.report.read import FINISHED, PAUSED, RUNNING
from fewlabels.training.events import PROGRESS
from fewlabels.training.process import PROCESS

SAID = {
    "finished": "finished",
    "running": "running, in process {pid}",
    "paused": "paused: process {pid} was stopped by a signal; `kill -CONT {pid}` goes on",
    "stopped": "stopped: process {pid} works on it no more",
    "unknown": "unknown: process {pid} is of another machine, {host}",
}


def status(run: Path) -> dict[str, Any]:
    """What the folder says of its run, ready for JSON; None, or an empty list, where it says
    nothing yet.

    `scores` are those of a finished run whose labels are several classes an image, or numbers.
    `state` is running, paused (its process was stopped by a signal), stopped (the process is gone),
    finished, or unknown (the run is another machine's, or names no process). `resume` is the line
    that goes on with it. UserError where `run` is no run folder.
    """
    config = read.read_config(run)
    state, home = read.state(run, config), read.whole(run, config)
    about, result = read.passing(home / PROCESS), read.passing(run / "result.json")
    stages = [row for place in _places(run) for row in _stages(run, place)]
    now = {} if state == FINISHED else read.passing(home / PROGRESS)
    here = str(run.absolute().relative_to(home.absolute()))
    if here != ".":  # a run inside another one hears of itself only
        now = now | {"folder": "."} if now.get("folder") == here else {}
    kept = read.passing(home / "clock.json")
    judged = [row["validation"] for row in stages if row["validation"]]
    at_it = [row["validation"] for row in stages if _is(row, now) and row["validation"]]
    return {
        "folder": str(run),
        "state": state,
        "process": {"pid": about.get("pid"), "host": about.get("host")} if about else None,
        "stage": now.get("stage"),
        "inside": now.get("folder"),
        "progress": now.get("progress"),
        "step": now.get("step"),
        "images_per_second": now.get("images_per_second"),
        "loss": now.get("loss"),
        "validation": (at_it or judged or [None])[-1],
        "seconds": result.get("seconds", now.get("seconds", kept.get("seconds"))),
        "time_limit": config.get("time_limit"),
        "age": max(0.0, round(time.time() - now["at"], 1)) if "at" in now else None,
        "stages": stages,
        "trials": read.trials(run, config),
        "estimate": result.get(result.get("estimate", "")),
        "resume": None if state in (FINISHED, RUNNING, PAUSED) else resume(home, config),
        **({"scores": [vars(line) for line in tasks.lines(result)]} if "task" in result else {}),
    }


def print_status(told: dict[str, Any], console: Console) -> None:
    """The same in a few lines."""
    for line in lines(told):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def lines(told: dict[str, Any]) -> list[str]:
    """What `print_status` prints."""
    state, who, score = told["state"], told["process"], told["estimate"]
    if state != FINISHED and who is None:
        said = ["unknown whether it goes on: it names no process"]
    else:
        said = [SAID[state].format(**(who or {}))]
    said[0] = f"{told['folder']}: {said[0]}"
    if "scores" in told:
        said += [
            f"{one['model']}: {one['score']} {one['value']} ({one['interval']}, n {one['n']:,})"
            for one in told["scores"]
        ]
    elif score:
        said.append(f"accuracy {_judged(score)}")
    if told["stage"] is not None:
        said.append(_now(told))
    if state != FINISHED and (judged := told["validation"]):
        where = _placed(judged["folder"], judged["stage"])
        said.append(f"validation {_judged(judged)}, at step {count(judged['step'])} of {where}")
    if told["seconds"] is not None:
        limit = f" of {duration(told['time_limit'])}" if told["time_limit"] else ""
        said.append(f"used {duration(told['seconds'])}{limit}")
    for row in told["stages"]:
        score = f"  validation {_judged(row['validation'])}" if row["validation"] else ""
        said.append(f"  {_placed(row['folder'], row['stage'])}: step {count(row['step'])}{score}")
    if trials := told["trials"]:
        said.append(f"{trials['done']} of {trials['of']} trials are done")
    if told["resume"]:
        said.append(f"go on with: {told['resume']}")
    return said


def resume(home: Path, config: dict[str, Any]) -> str:
    """The command that goes on with a run, or a search."""
    verb = "search" if "search" in config else "train"
    return f"fewlabels {verb} --resume {shlex.quote(str(home))}"


def _now(told: dict[str, Any]) -> str:
    """The stage that it is in, and how far."""
    parts = [f"{_placed(told['inside'], told['stage'])}:"]
    if (progress := told["progress"]) is not None:
        parts.append(f"{100 * progress:.0f} %")
    if (step := told["step"]) is not None:
        parts.append(f"step {count(step)}")
    if (rate := told["images_per_second"]) is not None:
        parts.append(f"{count(rate)} images/s")
    if (loss := told["loss"]) is not None:
        parts.append(f"loss {loss:.3f}")
    if (age := told["age"]) is not None:
        parts.append(f"({duration(age)} ago)")
    return "  ".join(parts)


def _placed(folder: str, stage: str) -> str:
    return stage if folder == "." else f"{folder}, {stage}"


def _judged(about: dict[str, Any]) -> str:
    return f"{percent(about['accuracy'])} ({span(about['interval'])}, n {about['n']:,})"


def _is(row: dict[str, Any], now: dict[str, Any]) -> bool:
    return bool(all(row[name] == now.get(name) for name in ("stage", "folder")))


def _places(run: Path) -> list[Path]:
    """The folders of the run and of those inside it that have a log, 2 before 10."""
    found = [file.parent.relative_to(run) for file in run.rglob("metrics.jsonl")]
    found.sort(key=lambda place: [(part.isdecimal(), len(part), part) for part in place.parts])
    return [run / place for place in found]


def _stages(run: Path, place: Path) -> list[dict[str, Any]]:
    """Of each stage in that folder's log the last step, and the last validation."""
    found: dict[str, dict[str, Any]] = {}
    for row in read.log_rows(place / "metrics.jsonl"):
        if "stage" not in row or "step" not in row:
            continue
        name, step = str(row["stage"]), int(row["step"])
        about = found.setdefault(
            name, {"folder": str(place.relative_to(run)), "stage": name, "validation": None}
        )
        about |= {"step": step, "seconds": row.get("seconds"), "loss": row.get("loss")}
        if "val_accuracy" in row and row.get("val_n"):
            accuracy, n = row["val_accuracy"], int(row["val_n"])
            about["validation"] = {
                "accuracy": accuracy,
                "interval": [round(end, 4) for end in wilson(round(accuracy * n), n)],
                "n": n,
                "step": step,
                "stage": name,
                "folder": about["folder"],
            }
    return list(found.values())
