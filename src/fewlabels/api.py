"""The main job: a pool in, a run folder with a classifier and a report out."""

import platform
import shlex
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from rich.console import Console

from fewlabels.augment.views import compile_kernel, compiled
from fewlabels.deploy import artefact
from fewlabels.deploy.classifier import Classifier
from fewlabels.errors import UserError
from fewlabels.models import catalog
from fewlabels.pixels import cache
from fewlabels.pixels.preprocess import Preprocess
from fewlabels.pool.pool import Pool
from fewlabels.procedures import auto, outcome
from fewlabels.procedures.config import Config, seconds
from fewlabels.procedures.prepare import Data, prepare, preprocessing, typical_side
from fewlabels.procedures.stage import Context
from fewlabels.procedures.timing import resumed_clock, timed
from fewlabels.report import html
from fewlabels.training.budget import Clock
from fewlabels.training.events import Events
from fewlabels.training.folder import RunFolder

ABOUT = ("command", "versions")  # what config.yaml holds beside the settings


@dataclass(frozen=True)
class Run:
    """A finished run: its folder and the content of its `result.json`."""

    path: Path
    result: dict[str, Any]


def train(
    data: Pool | str | Path,
    *,
    out: str | Path | None = None,
    time_limit: str | float | None = None,
    console: Console | None = None,
    clock: Clock | None = None,
    **settings: Any,
) -> Run:
    """Trains a classifier on `data` and returns the finished run.

    `settings` are fields of `procedures.config.Config`: method, model, seed, steps, …; `time_limit`
    is in seconds or a text such as "10m"; `clock` counts the seconds since the command began.
    Raises UserError for bad input.
    """
    clock = clock or Clock()
    limit = None if time_limit is None else seconds(time_limit)
    origin = data.origin if isinstance(data, Pool) else str(data)
    config = Config.from_dict({"data": origin, "time_limit": limit, **settings}, "train")
    pool = data if isinstance(data, Pool) else Pool.scan(data)
    built = _start(config, pool)
    config = config.resolved(typical_side(pool), built.size, pool.mirror)
    catalog.accepts(built.model, config.model, config.img_size or 0)
    device = _fabric(config)
    folder = RunFolder.create(Path(out) if out else None)
    versions = {name: version(name) for name in ("fewlabels", "torch", "numpy", "numba")}
    versions["python"] = platform.python_version()
    command = " ".join(["fewlabels", *map(shlex.quote, sys.argv[1:])])
    folder.write_config(config.to_dict() | dict(zip(ABOUT, (command, versions), strict=True)))
    return _execute(config, pool, built, device, folder, console, clock)


def resume(path: str | Path, *, console: Console | None = None) -> Run:
    """Goes on with a run that was cut off; a finished one is returned as it is."""
    folder = RunFolder.open(Path(path))
    result = folder.read_json("result.json")
    if result is not None:
        return Run(folder.path, result)
    saved = folder.read_config()
    settings = {key: value for key, value in saved.items() if key not in ABOUT}
    config = Config.from_dict(settings, str(folder.path / "config.yaml"))
    pool = Pool.scan(config.data)
    built = _start(config, pool)
    clock = resumed_clock(folder)
    return _execute(config, pool, built, _fabric(config), folder, console, clock)


def load(run: Run | str | Path, device: str = "cpu") -> Classifier:
    """The classifier of a run, or of an artefact folder that was copied out of one."""
    return artefact.load(run.path if isinstance(run, Run) else Path(run), device)


def _execute(
    config: Config,
    pool: Pool,
    built: catalog.Built,
    device: Fabric,
    folder: RunFolder,
    console: Console | None,
    clock: Clock,
) -> Run:
    events = Events(folder, console or Console(quiet=True))
    size = config.img_size or 0
    with events.stage("reading"):
        digest = cache.fingerprint(pool.source, progress=events.count)
    outcome.same_images(folder.path / "splits.parquet", digest)
    with events.stage("decoding"):
        data = prepare(pool, digest, size, config.seed, config.labels_per_class, events.count)
    outcome.write_splits(data, folder.path / "splits.parquet")
    folder.write_json("classes.json", list(pool.classes))
    for line in _introduction(data, config, folder, built.note):
        events.say(line)

    if not compiled():
        events.say("compiling the augmentation kernel: once, about 20 seconds")
    compile_kernel()
    base = Preprocess(size, built.mean, built.std) if built.mean and built.std else None
    preprocess = preprocessing(data, base, size)
    context = timed(Context(config, built, data, preprocess, folder, events, device, clock))
    try:
        chosen = auto.run(context)
    except KeyboardInterrupt:
        events.say(f"interrupted; go on with: fewlabels train --resume {folder.path}")
        raise
    outcome.write_predictions(context, chosen, folder.path / "predictions.parquet")
    outcome.write_gallery(context, chosen, folder.path / "gallery.parquet")
    artefact.write(folder)
    result = outcome.result(context, chosen)
    folder.write_json("result.json", result)
    html.write(folder.path)
    return Run(folder.path, result)


def _start(config: Config, pool: Pool) -> catalog.Built:
    """The model that training starts from; with the same seed the same."""
    torch.manual_seed(config.seed)
    return catalog.build(config.model_name, len(pool.classes), config.weights)


def _fabric(config: Config) -> Fabric:
    """The device to train on, with its precision."""
    try:
        return Fabric(accelerator=config.device, devices=1, precision=config.precision)  # type: ignore[arg-type]
    except Exception as error:  # Fabric raises its own, ValueError and RuntimeError
        reason = " ".join(str(error).split())
        raise UserError(f"--device {config.device}: cannot be used here ({reason})") from error


def _introduction(data: Data, config: Config, folder: RunFolder, note: str) -> list[str]:
    test = f"{len(data.test):,} test images" if len(data.test) else "no test images"
    lines = [
        f"{folder.path}: {len(data.labelled):,} labelled, {len(data.unlabelled):,} unlabelled, "
        f"{test}, {len(data.pool.classes)} classes; {config.model} at {config.img_size} px"
    ]
    lines += [f"left out: {item.name} ({item.reason})" for item in data.skipped[:5]]
    if len(data.skipped) > 5:
        lines.append(f"left out: {len(data.skipped) - 5} more; the report lists them")
    if not len(data.val) and not len(data.held_out):
        lines.append(
            "one label a class: none can be held out for validation"
            + ("" if len(data.test) else ", and without test images nothing can be measured")
        )
    return [*lines, note] if note else lines
