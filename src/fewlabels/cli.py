"""The command line: arguments in, the same functions as in Python.

Whatever needs torch is imported inside the command that needs it, so that `--help` is instant.
"""

import math
import os
import signal
import sys
import threading
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console

from fewlabels.errors import UserError, one_line
from fewlabels.training.budget import Clock, continued
from fewlabels.training.progress import progress_on

if TYPE_CHECKING:
    from fewlabels.api import Run
    from fewlabels.pool.pool import Skipped

CLOCK = Clock()  # a time limit counts from here

app = typer.Typer(
    help="Image classification from few labels: the best classifier that a folder allows.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Data = Annotated[
    list[str],
    typer.Argument(
        metavar="DATA…",
        help="A folder of images, a .csv table, Parquet, its URL, hf:<id>, torchvision:<name>, or "
        "the word digits; several are joined.",
    ),
]
RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, such as runs/1.")]


@app.command()
def demo(
    time_limit: Annotated[str, typer.Option(help="Of the whole command.")] = "90s",
    seed: Annotated[int, typer.Option(help="Which 20 labels are kept.")] = 0,
    out: Annotated[Path | None, typer.Option(help="The run folder; absent or empty.")] = None,
) -> None:
    """The main job on 1,797 real handwritten digits: 20 labels, the rest unlabelled."""
    from fewlabels.api import train as run_train

    console = _console()
    console.print("1,797 handwritten digits; 2 labels a class are kept, the others forgotten.")
    run = run_train(
        "digits",
        labels_per_class=2,
        seed=seed,
        time_limit=time_limit,
        out=out,
        console=console,
        clock=CLOCK,
    )
    _show(run, console)


@app.command()
def check(
    data: Data,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Also an .html page, with pictures.")
    ] = None,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict", help="Exit code 1 when a picture, or a group, is in several splits."
        ),
    ] = False,
    task: Annotated[
        str | None, typer.Option(help="What the labels are: single, multi, regression. (auto)")
    ] = None,
) -> None:
    """What is in the pool, and what is wrong with it: copies, leaks, unreadable files, strays."""
    import json

    from fewlabels.curate.check import check as run_check
    from fewlabels.pixels.cache import fingerprint
    from fewlabels.pool.overlay import labels_elsewhere, with_stored_labels
    from fewlabels.pool.pool import Pool
    from fewlabels.report.check import print_check

    if out is not None:
        from fewlabels.report import check_page, comparison

        comparison.need_page(out)
    console = _console()
    with progress_on(console, as_json) as show:
        pool = Pool.scan(data, to_train=False, task=task)
        pool = with_stored_labels(pool, partial(fingerprint, progress=partial(show, "reading")))
        checked, pictures = run_check(pool, show)
        others = labels_elsewhere(pool.parts or (pool.origin,), pictures.digest)
        checked = replace(checked, notes=(*checked.notes, *(other.line() for other in others)))
        if out is not None:
            check_page.write(checked, pictures, pool, out)
    if as_json:
        print(json.dumps(checked.to_json(), indent=2, ensure_ascii=False))
    else:
        print_check(checked, console)
        if out is not None:
            console.print(f"\nPage: {out}", highlight=False, markup=False, soft_wrap=True)
    if strict and checked.leaky:
        raise typer.Exit(1)


@app.command()
def labels(
    data: Data,
    import_from: Annotated[
        Path | None,
        typer.Option(
            "--import", metavar="FILE", help="Labels of a CSV, a Parquet, or another store."
        ),
    ] = None,
    export_to: Annotated[
        Path | None, typer.Option("--export", metavar="FILE", help="To a new CSV or Parquet.")
    ] = None,
    history: Annotated[
        bool, typer.Option("--history", help="With --export: all that was ever said.")
    ] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Take the last labels back.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """The labels that were given beside DATA, which override its own; import, export, undo."""
    import json

    from fewlabels.errors import UserError
    from fewlabels.pixels.cache import fingerprint
    from fewlabels.pool.label_tables import export_table, import_store, import_table
    from fewlabels.pool.overlay import Elsewhere, labels_elsewhere, other_stores
    from fewlabels.pool.pool import Pool, origin_of
    from fewlabels.pool.store import LabelStore, default_store, has_events
    from fewlabels.report.labels import info, print_info

    if sum((import_from is not None, export_to is not None, undo)) > 1:
        raise UserError("name one of --import, --export and --undo, not several")
    if history and export_to is None:
        raise UserError("--history: goes with --export FILE")
    console = _console()
    origins = [origin_of(one) for one in data]
    path = default_store(*origins)
    if not path.exists() and (undo or export_to is not None):
        raise UserError(f"{path}: there are no labels beside {' '.join(data)} yet")

    def digests() -> dict[str, str]:
        with progress_on(console, as_json) as show:
            found = fingerprint(pool.source, progress=partial(show, "reading"))
        return {pool.source.name(row): digest for row, digest in enumerate(found) if digest}

    said, elsewhere = list[str](), tuple[Elsewhere, ...]()
    if import_from is not None:
        pool = Pool.scan(data, to_train=False)
        whole = import_from.suffix == ".sqlite"
        with LabelStore(path) as store:
            if whole:
                done = import_store(store, import_from)
            else:
                place = Path(origins[0]) if len(origins) == 1 else Path()
                root = place.parent if place.is_file() else place
                done = import_table(store, import_from, _user(), digests(), root)
        said = [*done.notes, done.line()]
    elif export_to is not None:  # DATA itself may be gone
        with LabelStore(path, read_only=True) as store:
            count = export_table(store, export_to, history)
        said = [f"{export_to}: {count:,} {'events' if history else 'labels'}"]
    elif undo:
        with LabelStore(path) as store:
            said = [f"{store.undo(_user()):,} labels taken back"]
    elif not has_events(path):
        pool = Pool.scan(data, to_train=False)
        if other_stores(origins):
            elsewhere = labels_elsewhere(origins, list(digests().values()))
    told = info(path)
    if as_json:
        told["elsewhere"] = [{"store": str(one.store), "images": one.images} for one in elsewhere]
        print(json.dumps(told, indent=2, ensure_ascii=False))
        return
    for line in said:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    print_info(told, console)
    for other in elsewhere:
        console.print(other.line(), highlight=False, markup=False, soft_wrap=True)


@app.command()
def train(
    data: Annotated[list[str] | None, typer.Argument(metavar="[DATA…]", help="See check.")] = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="auto, one that `fewlabels methods` lists, or on frozen features linear_probe, "
            "knn, label_spreading. (auto)"
        ),
    ] = None,
    method_settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A setting of the method; repeatable."),
    ] = None,
    runs: Annotated[
        list[Path] | None,
        typer.Option(
            "--run", metavar="RUN", help="distill, ensemble, fixres: of this; repeatable."
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="A name that `fewlabels models` lists, local-dir:… (auto)")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="auto, none, a file of weights, or a run. (auto)")
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(help="Random weights: gaussian(0.01), xavier, he. (the model's own)"),
    ] = None,
    freeze: Annotated[
        str | None,
        typer.Option(help="Not to be trained: none, backbone, or so many first stages. (none)"),
    ] = None,
    unfreeze: Annotated[
        float | None,
        typer.Option(help="The part of training in which stages are thawed, the last first. (0)"),
    ] = None,
    norms: Annotated[
        str | None,
        typer.Option(help="Batch norms' statistics: keep, learn. (pretrained: keep)"),
    ] = None,
    time_limit: Annotated[
        str | None, typer.Option(help="Of the whole command: 90s, 10m, 1h30m. (10m)")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Instead: passes over the images.")] = None,
    steps: Annotated[int | None, typer.Option(help="Instead: optimiser steps.")] = None,
    task: Annotated[
        str | None, typer.Option(help="What the labels are: single, multi, regression. (auto)")
    ] = None,
    labels_per_class: Annotated[
        int | None, typer.Option(help="Keep so many labels a class, forget the others.")
    ] = None,
    img_size: Annotated[int | None, typer.Option(help="Side in pixels.")] = None,
    batch_size: Annotated[
        str | None, typer.Option(help="Labelled images a step, or auto: measured here. (16)")
    ] = None,
    optimiser: Annotated[str | None, typer.Option(help="adamw, nesterov or sgd. (adamw)")] = None,
    lr: Annotated[
        str | None,
        typer.Option(
            help="Learning rate, or auto: found here. "
            "(adamw 0.003, sgd 0.05; pretrained weights: 0.0003, 0.003)"
        ),
    ] = None,
    schedule: Annotated[
        str | None,
        typer.Option(
            help="Of the rate: cosine, seven_sixteenths, step, one_cycle, constant. (cosine)"
        ),
    ] = None,
    clip: Annotated[
        float | None, typer.Option(help="The gradient's norm, at most. (as it is)")
    ] = None,
    head_lr: Annotated[float | None, typer.Option(help="Of the last layer. (--lr)")] = None,
    layer_decay: Annotated[
        float | None,
        typer.Option(
            help="Each block learns so many times as fast as the next. (1; pretrained: 0.9)"
        ),
    ] = None,
    weight_decay: Annotated[
        float | None, typer.Option(help="Not of norms and biases. (0.0005)")
    ] = None,
    ema_decay: Annotated[
        float | None, typer.Option(help="Of the moving average of the weights. (0.99)")
    ] = None,
    dropout: Annotated[
        float | None, typer.Option(help="Before the last layer. (the model's own)")
    ] = None,
    drop_path: Annotated[
        float | None, typer.Option(help="Stochastic depth, of the last block. (the model's own)")
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(help="Stop after so many validations, of 20, without a better one. (never)"),
    ] = None,
    augment: Annotated[
        str | None, typer.Option(help="Strong views: a preset, a policy, or a file. (strong)")
    ] = None,
    flip: Annotated[
        str | None, typer.Option(help="Does a mirrored image show the same? auto, on, off. (auto)")
    ] = None,
    rotate: Annotated[
        str | None, typer.Option(help="And one turned by quarters? auto, on, off. (auto)")
    ] = None,
    guard: Annotated[
        str | None,
        typer.Option(help="Leave out unlabelled images that look like no class: on, off. (on)"),
    ] = None,
    balance: Annotated[
        str | None,
        typer.Option(help="Rare classes count as much as others: none, sampling, logits. (none)"),
    ] = None,
    mix: Annotated[
        str | None, typer.Option(help="Labelled images: none, mixup, cutmix. (none)")
    ] = None,
    tta: Annotated[
        str | None, typer.Option(help="At test time average: none, flip, crop, flip+crop. (none)")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of every random choice. (0)")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, mps. (auto)")] = None,
    devices: Annotated[
        int | None, typer.Option(help="Processes that train together, a device each. (1)")
    ] = None,
    accumulate: Annotated[
        int | None, typer.Option(help="Parts of a batch, one after another, to save memory. (1)")
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(help="auto: the fastest here; 32-true, bf16-mixed, 16-mixed. (auto)"),
    ] = None,
    layout: Annotated[
        str | None,
        typer.Option(help="Of images in memory: auto, channels_last, contiguous. (auto)"),
    ] = None,
    compile_model: Annotated[
        bool, typer.Option("--compile", help="Compile the model first: CUDA only.")
    ] = False,
    workers: Annotated[int | None, typer.Option(help="Threads that make batches. (1)")] = None,
    cache_limit: Annotated[
        str | None,
        typer.Option(help="Of the folder of decoded images: 10G, 500M. (half of what is free)"),
    ] = None,
    log: Annotated[
        str | None, typer.Option(help="tensorboard: event files in RUN/tensorboard, too. (none)")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The run folder; absent or empty. (runs/<n>)")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Go on with a run that was cut off.")
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option("-c", "--config", help="A recipe: settings in YAML.")
    ] = None,
) -> None:
    """Train the best classifier that DATA allows, beside a baseline on the labels only."""
    settings = {name: value for name, value in locals().items() if value is not None}
    for name in ("data", "resume", "recipe", "out"):
        settings.pop(name, None)
    if settings.pop("compile_model"):
        settings["compile"] = True
    _number(settings)
    if pairs := settings.pop("method_settings", None):
        settings["settings"] = dict(_pair(text) for text in pairs)
    if runs:
        settings["runs"] = [str(path) for path in runs]
    from fewlabels import api

    console = _console()
    if recipe is not None:
        from fewlabels.procedures.config import read_recipe

        settings = _merge(read_recipe(recipe), settings)
        if reserved := {"out", "console", "clock", "where", "path"} & settings.keys():
            raise UserError(f"-c {recipe}: no setting is named '{reserved.pop()}'")
        named = settings.pop("data", None)
        data = data or (named if isinstance(named, list) else named and [named])
    if resume is not None:
        if out is not None and out.absolute() != resume.absolute():
            raise UserError(f"--resume {resume} --out {out}: a run goes on in its own folder")
        again = {"data": data if len(data) > 1 else data[0]} | settings if data else settings
        run = api.resume(resume, console=console, **again)
    else:
        if not data:
            raise UserError("train: name DATA: a folder, a .csv table, Parquet, hf:<id>, or digits")
        where = "train" if recipe is None else f"-c {recipe}"
        run = api.train(data, out=out, console=console, clock=CLOCK, where=where, **settings)
    _show(run, console)


@app.command()
def distill(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN…", help="One, or several together.")],
    model: Annotated[str, typer.Option(help="The student, as `fewlabels models` lists it.")],
    data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DATA",
            help="Learn and test on these; repeatable. (the images of the first run)",
        ),
    ] = None,
    images: Annotated[
        str | None, typer.Option(help="Learn on these instead of the unlabelled ones.")
    ] = None,
    labels: Annotated[
        bool, typer.Option(help="Learn from the labels too, or from images only.")
    ] = True,
    method_settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A setting of distill; repeatable."),
    ] = None,
    time_limit: Annotated[
        str | None, typer.Option(help="Of the whole command: 90s, 10m, 1h30m. (10m)")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Instead: optimiser steps.")] = None,
    img_size: Annotated[int | None, typer.Option(help="Side of the student's images.")] = None,
    batch_size: Annotated[
        str | None, typer.Option(help="Labelled images a step, or auto: measured here. (16)")
    ] = None,
    lr: Annotated[str | None, typer.Option(help="Learning rate, or auto. (see train)")] = None,
    seed: Annotated[int | None, typer.Option(help="Of every random choice. (the run's)")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, mps. (auto)")] = None,
    out: Annotated[
        Path | None, typer.Option(help="The run folder; absent or empty. (runs/<n>)")
    ] = None,
) -> None:
    """Train a smaller student on what a run says, or several together; tell what it kept."""
    settings = {name: value for name, value in locals().items() if value is not None}
    for name in ("runs", "method_settings", "data"):
        settings.pop(name, None)
    _number(settings)
    if method_settings:
        settings["settings"] = dict(_pair(text) for text in method_settings)
    from fewlabels import api

    console = _console()
    _show(api.distill(runs, data=data or None, **settings, console=console, clock=CLOCK), console)


@app.command()
def evaluate(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="A run folder, an artefact, or local-dir:….")
    ],
    data: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[DATA…]", help="Labelled images, see check. (the run's own test images)"
        ),
    ] = None,
    corruptions: Annotated[
        bool, typer.Option("--corruptions", help="15 corruptions in 5 severities.")
    ] = False,
    perturbations: Annotated[
        bool, typer.Option("--perturbations", help="How often answers flip along sequences.")
    ] = False,
    adversarial: Annotated[
        bool, typer.Option("--adversarial", help="FGSM and PGD: accuracy against ε.")
    ] = False,
    stress: Annotated[
        bool, typer.Option("--stress", help="Viewpoint, scale, deformation, occlusion, light.")
    ] = False,
    images: Annotated[
        int | None, typer.Option(help="So many images at most, for those four. (500)")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of what is drawn.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda or mps.")] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """How good a classifier is on labelled images, how sure that is, and how it breaks."""
    import json

    from fewlabels.api import evaluate as run_evaluate
    from fewlabels.report.evaluation import print_evaluation

    console = _console()
    with progress_on(console, as_json) as show:
        found = run_evaluate(
            run,
            data or None,
            device=device,
            progress=show,
            corruptions=corruptions,
            perturbations=perturbations,
            adversarial=adversarial,
            stress=stress,
            images=images,
            seed=seed,
        )
    if as_json:
        print(json.dumps(found.result, indent=2, ensure_ascii=False))
    else:
        print_evaluation(found.result, found.path, console)


@app.command()
def predict(
    run: RunPath,
    paths: Annotated[
        list[str],
        typer.Argument(metavar="PATHS…", help="Images, or DATA as check takes it."),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="The .csv or .parquet file to write.")],
    device: Annotated[str, typer.Option(help="cpu, cuda or mps.")] = "cpu",
) -> None:
    """Labels and probabilities for any number of images, and which belong to no class."""
    from collections import Counter

    from rich.progress import Progress, SpinnerColumn, TextColumn

    from fewlabels.api import load
    from fewlabels.deploy.classifier import Prediction
    from fewlabels.deploy.predict import find, write_csv, write_parquet

    console, kind = _console(), out.suffix.lower()
    if kind not in (".csv", ".parquet"):
        raise UserError(f"-o {out}: must end in .csv or .parquet")
    if out.exists() and any(path.exists() and path.samefile(out) for path in map(Path, paths)):
        raise UserError(f"-o {out}: is one of the inputs; name another file")
    classifier, found = load(str(run), device), find(paths)
    columns = (SpinnerColumn(), TextColumn("{task.completed:,} images"))
    bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    task = bar.add_task("", total=None)
    counts: Counter[str] = Counter()

    def count(said: Prediction) -> None:
        counts.update({"images": 1, "failed": bool(said.error), "unknown": bool(said.unknown)})
        bar.update(task, advance=1)

    fresh = out.with_name(f".{out.name}.part")  # what is there stays until all is done
    try:
        with bar:
            if kind == ".csv":
                with fresh.open("w", newline="", encoding="utf-8", errors="surrogateescape") as csv:
                    write_csv(classifier, found.images, csv, count)
            else:
                with fresh.open("wb") as parquet:
                    write_parquet(classifier, found.images, parquet, count)
        fresh.replace(out)
    except OSError as error:
        raise UserError(f"-o {out}: cannot be written ({error.strerror})") from error
    finally:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)
    _left_out(found.skipped, console)
    strange = f"; {counts['unknown']:,} look unknown" if counts["unknown"] else ""
    unread = f"; {counts['failed']:,} could not be read, see the column error"
    notes = strange + (unread if counts["failed"] else "")
    console.print(f"{out}: {counts['images']:,} images{notes}", highlight=False)


@app.command()
def explain(
    run: RunPath,
    paths: Annotated[
        list[str],
        typer.Argument(metavar="PATHS…", help="Images, or DATA as check takes it."),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="The folder; absent or empty.")],
    methods: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            metavar="NAME",
            help="grad_cam, guided_grad_cam, integrated_gradients, occlusion; repeatable. (all)",
        ),
    ] = None,
    target: Annotated[
        str | None, typer.Option("--class", help="Also what speaks for this class.")
    ] = None,
    images: Annotated[int, typer.Option(help="At most so many, the first.")] = 20,
    device: Annotated[str, typer.Option(help="cpu, cuda or mps.")] = "cpu",
) -> None:
    """Which pixels mattered, layer by layer, and whether to believe it: pictures and one page."""
    from fewlabels import api

    console = _console()
    with progress_on(console) as show:
        found = api.explain(
            str(run),
            paths,
            out=out,
            methods=methods or (),
            target=target,
            images=images,
            device=device,
            progress=show,
        )
    _left_out(found.skipped, console)
    more = "; there are more: --images N" if found.more else ""
    count = len(found.explanation.images)
    console.print(f"{found.path}: {count} images{more}", markup=False, soft_wrap=True)


@app.command()
def export(
    run: RunPath,
    form: Annotated[str, typer.Option("--format", help="What for: backbone.")],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="The folder to write. (RUN/backbone)")
    ] = None,
) -> None:
    """Write the run's model for other programs: backbone is for timm and torchvision."""
    if form != "backbone":
        raise UserError(f"--format {form}: there is only backbone")
    from fewlabels.deploy.backbone import write_backbone

    for line in write_backbone(run, out or run / form):
        _console().print(line, markup=False, soft_wrap=True)


@app.command()
def status(
    run: RunPath,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Where a run is: from another terminal, while it trains, paused, killed or finished."""
    import json

    from fewlabels.report.status import print_status
    from fewlabels.report.status import status as status_of

    told = status_of(run)
    if as_json:
        print(json.dumps(told, indent=2, ensure_ascii=False))
    else:
        print_status(told, _console())


@app.command()
def cache(
    clear: Annotated[
        bool, typer.Option("--clear/--info", help="Delete what no process uses, or list all.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """What is kept of decoded images, and how much; or delete it."""
    import json

    from fewlabels.pixels.cache_folder import default_folder
    from fewlabels.report import cache as report

    told = report.cleared(default_folder()) if clear else report.info(default_folder())
    if as_json:
        print(json.dumps(told, indent=2, ensure_ascii=False))
    elif clear:
        report.print_cleared(told, _console())
    else:
        report.print_info(told, _console())


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN…", help="Two run folders or more.")],
    against: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Differences from it. (the first)")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Write a .html page, with the curves.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Runs side by side, with paired differences on the images that both were judged on."""
    import json

    from fewlabels.report.compare import compare as compared
    from fewlabels.report.compared import print_compared

    if out is not None:
        from fewlabels.report.comparison import need_page, write

        need_page(out)
    told = compared(runs, against)
    if out is not None:
        write(told, out)
    if as_json:
        print(json.dumps(told, indent=2, ensure_ascii=False))
        return
    print_compared(told, _console())
    if out is not None:
        _console().print(str(out), highlight=False, markup=False, soft_wrap=True)


@app.command()
def report(run: RunPath) -> None:
    """Write the run's report anew: one self-contained HTML file."""
    from fewlabels.report.html import write

    _console().print(str(write(run)), highlight=False, soft_wrap=True)


@app.command()
def augment(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="The image to show it on.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="The .png file to write.")] = Path(
        "sheet.png"
    ),
    policies: Annotated[
        list[str] | None,
        typer.Option(
            "--augment",
            metavar="TEXT-OR-FILE",
            help="One more policy to show, such as 'flip+rand(1)'; repeatable.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Of the samples.")] = 0,
) -> None:
    """A contact sheet: what augmentation makes of one image, by operation and by policy."""
    import numpy as np

    from fewlabels.augment.policy import PRESETS, Policy
    from fewlabels.augment.views import compiled
    from fewlabels.pixels.decode import Unreadable, decode
    from fewlabels.report.sheet import contact_sheet

    if out.suffix.lower() != ".png":
        raise UserError(f"-o {out}: must end in .png")
    if not os.path.isdir(out.parent):
        raise UserError(f"-o {out}: there is no folder {out.parent}")
    if os.path.exists(image) and os.path.exists(out) and os.path.samefile(image, out):
        raise UserError(f"-o {out}: is the input; name another file")
    shown = dict.fromkeys(Policy.read(text) for text in (*PRESETS, *(policies or ())))
    try:
        pixels = np.asarray(decode(image.read_bytes()))
    except FileNotFoundError:
        raise UserError(f"{image}: no such file") from None
    except OSError as error:
        raise UserError(f"{image}: cannot be read ({error.strerror})") from error
    except Unreadable as error:
        raise UserError(f"{image}: {error}") from error
    console = _console()
    if not compiled():
        console.print("compiling the augmentation kernel: once, about 20 seconds")
    sheet = contact_sheet(pixels, tuple(shown), seed)
    try:
        sheet.save(out, "PNG")
    except OSError as error:
        raise UserError(f"-o {out}: cannot be written ({error.strerror})") from error
    console.print(str(out), highlight=False, markup=False, soft_wrap=True)


@app.command()
def models(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Show this one's layers.")
    ] = None,
    family: Annotated[str | None, typer.Option(help="List: such as resnet, vit, swin.")] = None,
    max_params: Annotated[
        str | None, typer.Option(help="List: with no more parameters, such as 5M.")
    ] = None,
    pretrained: Annotated[
        bool, typer.Option("--pretrained", help="List: with pretrained weights.")
    ] = False,
    every: Annotated[bool, typer.Option("--all", help="List: every one, timm's too.")] = False,
    img_size: Annotated[int | None, typer.Option(min=1, help="NAME: side in pixels.")] = None,
    init: Annotated[
        str | None, typer.Option(help="NAME: start from gaussian(0.01), xavier or he.")
    ] = None,
    signals: Annotated[
        bool, typer.Option("--signals", help="NAME: activations and gradients by layer.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="NAME: write a .html page.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Which models there are; with NAME its layers, shapes, parameters, FLOPs, receptive field."""
    import json
    from dataclasses import asdict

    from fewlabels.models import listing

    console = _console()
    filters = {
        "--family": family,
        "--max-params": max_params,
        "--pretrained": pretrained,
        "--all": every,
    }
    if name is None:
        given = {"--img-size": img_size, "--init": init, "--signals": signals, "-o": out}
        if wrong := next((option for option, value in given.items() if value), None):
            raise UserError(f"models: {wrong} needs the NAME of a model")
        limit = None if max_params is None else listing.amount(max_params)
        some = listing.find(limit, family, pretrained)
        rows = some if any(filters.values()) else listing.known()
        if as_json:
            print(json.dumps([asdict(row) for row in rows], indent=2, ensure_ascii=False))
            return
        from fewlabels.report.listing import print_listing

        print_listing(rows, 0 if any(filters.values()) else len(some) - len(rows), console)
        return
    if wrong := next((option for option, value in filters.items() if value), None):
        raise UserError(f"models {name}: {wrong} is for the list, without a NAME")
    if out is not None and out.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"-o {out}: must end in .html")
    if out is not None and not os.path.isdir(out.parent):
        raise UserError(f"-o {out}: there is no folder {out.parent}")
    if init is not None and not signals:
        raise UserError(f"models {name}: --init changes --signals only; name both")
    from fewlabels.models.examine import examine
    from fewlabels.report import anatomy

    model = examine(name, img_size, init, signals)
    if as_json:
        print(json.dumps(model.to_json(), indent=2, ensure_ascii=False))
    elif out is None:
        anatomy.print_model(model, console)
    if out is not None:
        try:
            anatomy.write(model, out)
        except OSError as error:
            raise UserError(f"-o {out}: cannot be written ({error.strerror})") from error
        if not as_json:
            console.print(str(out), highlight=False, markup=False, soft_wrap=True)


@app.command()
def methods(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Show this one's formula and settings.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Which methods there are; with NAME its formula, paper, views and settings."""
    import json
    from dataclasses import asdict

    from fewlabels.report.essence import essence, essences
    from fewlabels.report.methods import print_method, print_methods

    found = essences() if name is None else essence(name)
    if as_json:
        what = [asdict(each) for each in found] if isinstance(found, tuple) else asdict(found)
        print(json.dumps(what, indent=2, ensure_ascii=False))
    elif isinstance(found, tuple):
        print_methods(found, _console())
    else:
        print_method(found, _console())


@app.command()
def search(
    data: Annotated[str | None, typer.Argument(metavar="DATA", help="See check.")] = None,
    what: Annotated[str | None, typer.Option(help="augmentation or scaling.")] = None,
    trials: Annotated[
        int | None, typer.Option(help="How many in all, beside the default. (30)")
    ] = None,
    time_limit: Annotated[
        str | None, typer.Option(help="End before a trial that would run over: 90s, 10m, 1h30m.")
    ] = None,
    operations: Annotated[
        int | None, typer.Option(help="augmentation: N of a policy; 2N numbers are searched. (2)")
    ] = None,
    phi: Annotated[
        int | None, typer.Option(help="scaling: accuracy is drawn up to 2^phi times the cost. (2)")
    ] = None,
    folds: Annotated[
        int | None, typer.Option(help="Short trainings a trial, each on other labels. (3)")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Of a short training. (400)")] = None,
    labels_per_class: Annotated[
        int | None, typer.Option(help="Keep so many labels a class, forget the others.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="See train. (auto)")] = None,
    img_size: Annotated[
        int | None, typer.Option(help="Side in pixels; scaling begins there.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of every random choice. (0)")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, mps. (auto)")] = None,
    out: Annotated[
        Path | None, typer.Option(help="The folder; absent or empty. (searches/<n>)")
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(metavar="SEARCH", help="Go on with a search, perhaps to more --trials."),
    ] = None,
) -> None:
    """Search for the augmentation, or the depth, width and image size, that suit DATA."""
    settings = {name: value for name, value in locals().items() if value is not None}
    for name in ("data", "resume", "out"):
        settings.pop(name, None)
    limits = {name: settings.pop(name) for name in ("trials", "time_limit") if name in settings}
    from fewlabels import api
    from fewlabels.report.search import print_search

    console = _console()
    if resume is not None:
        if data is not None or out is not None or settings:
            given = "DATA" if data else "--out" if out else _option(next(iter(settings)))
            raise UserError(
                f"--resume takes --trials and --time-limit only (here: {given}): "
                "the search goes on as it began"
            )
        found = api.resume_search(resume, **limits, console=console, clock=CLOCK)
    else:
        if data is None:
            raise UserError("search: name DATA: a folder, a .csv table, Parquet, or digits")
        if what is None:
            raise UserError("search: name --what to search: augmentation or scaling")
        found = api.search(data, out=out, console=console, clock=CLOCK, **limits, **settings)
    print_search(found.path, found.result, console)


def _user() -> str:
    """Who gives labels; a number where the system knows no name, as in containers."""
    import getpass
    import os

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def _pair(text: str) -> tuple[str, Any]:
    """ "k=5" -> ("k", 5)"""
    import yaml

    name, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"--set {text}: write NAME=VALUE, such as label_smoothing=0.1")
    return name.strip(), yaml.safe_load(value)


def _number(settings: dict[str, Any]) -> None:
    """Of --lr and --batch-size: the number that is not the word auto, in its place. UserError for
    what is no number, there and in every other option."""
    for name, kind, what in (("lr", float, "a number"), ("batch_size", int, "a whole number")):
        if (text := settings.get(name, "auto")) != "auto":
            try:
                settings[name] = kind(text)
            except ValueError:
                raise UserError(f"{_option(name)} {text}: must be {what} or auto") from None
    for name, value in settings.items():
        if isinstance(value, float) and not math.isfinite(value):
            what = "a number or auto" if name == "lr" else "a number"
            raise UserError(f"{_option(name)} {value}: must be {what}")


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _console() -> Console:
    return Console(highlight=False)


def _left_out(skipped: Sequence["Skipped"], console: Console) -> None:
    """The first few, and how many more."""
    for item in skipped[:5]:
        console.print(f"left out: {item.name} ({item.reason})", markup=False, soft_wrap=True)
    if len(skipped) > 5:
        console.print(f"left out: {len(skipped) - 5:,} more, which check lists")


def _merge(recipe: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """The recipe, with what the command line says in its place; a time limit replaces steps."""
    limits = {"time_limit", "epochs", "steps"}
    if limits & options.keys():
        recipe = {key: value for key, value in recipe.items() if key not in limits}
    both = recipe.get("settings", {}) | options.get("settings", {})
    return recipe | options | ({"settings": both} if both else {})


def _show(run: "Run", console: Console) -> None:
    from fewlabels.report.console import print_run

    print_run(run.path, run.result, console)


def main() -> NoReturn:
    """Runs the command line; bad input ends in one line and exit code 2."""
    if threading.current_thread() is threading.main_thread():  # no other one hears signals
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        if hasattr(signal, "SIGCONT"):
            signal.signal(signal.SIGCONT, continued)
    # Damaged tags of TIFF and EXIF, which cameras write often, would make a line each, and so would
    # images of more than 89 megapixels; `pixels.decode` has limits of its own. The filters are of
    # the whole process: here it is ours, where images are decoded it may be a user's.
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.TiffImagePlugin")
    warnings.filterwarnings("ignore", category=RuntimeWarning, module=r"PIL\.Image$")
    try:
        code = app(standalone_mode=False) or 0  # typer returns 130 for an interrupt
    except UserError as error:
        print(f"fewlabels: {error}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:  # again, while the first one was answered
        code = 130
    except typer.TyperException as error:  # an unknown option, a missing argument
        message = " ".join(error.format_message().split())
        if message:  # there is none when the help has been shown instead
            print(f"fewlabels: {message} (see --help)", file=sys.stderr)
        code = 2
    except typer.Exit as stop:
        code = stop.exit_code
    except Exception as error:
        if not (notes := getattr(error, "__notes__", ())):
            raise
        # a fault of a run, whose folder has the traceback
        print(f"fewlabels: {type(error).__name__}: {one_line(error)}; {notes[-1]}", file=sys.stderr)
        code = 1
    if code == 130:  # those who press Ctrl-C twice see no more than those who press it once
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(code)
