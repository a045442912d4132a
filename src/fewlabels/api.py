"""The main job: a pool in, a run folder with a classifier and a report out."""

import math
import platform
import shlex
import shutil
import sys
import traceback
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from functools import partial
from importlib.metadata import version
from itertools import count as count_up
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from rich.console import Console
from safetensors import SafetensorError

from fewlabels.augment.views import compile_kernel, compiled
from fewlabels.deploy import artefact, imagenet_c, judges
from fewlabels.deploy.classifier import Classifier
from fewlabels.deploy.evaluate import Asked, evaluated
from fewlabels.deploy.predict import find
from fewlabels.errors import UserError, one_line
from fewlabels.evaluate.explain import gather
from fewlabels.evaluate.explain.attribution import need_captum
from fewlabels.evaluate.explain.images import read_given, read_learnt
from fewlabels.models import catalog
from fewlabels.models.built import near
from fewlabels.models.catalog import ENSEMBLE
from fewlabels.models.choose import choose
from fewlabels.pixels import cache
from fewlabels.pixels.preprocess import Preprocess
from fewlabels.pool.labels import no_classes
from fewlabels.pool.overlay import labels_elsewhere, other_stores, with_stored_labels
from fewlabels.pool.pool import (
    MULTI,
    REGRESSION,
    SINGLE,
    DataNames,
    Pool,
    Skipped,
    is_path,
    scan_images,
)
from fewlabels.procedures import (
    distil,
    ensemble,
    fixres,
    gallery,
    outcome,
    registry,
    search_augmentation,
    search_scaling,
    self_train,
    task_outcome,
    tasks,
)
from fewlabels.procedures import search as searching
from fewlabels.procedures.batch_size import with_batch_size
from fewlabels.procedures.certainty import certainty, tempered
from fewlabels.procedures.chosen import Chosen
from fewlabels.procedures.config import (
    INSIDE,
    ROUNDS,
    TIME_LIMIT,
    Config,
    image_size,
    read_recipe,
    seconds,
)
from fewlabels.procedures.device import decided, fabric_of
from fewlabels.procedures.earlier import Earlier
from fewlabels.procedures.learning_rate import with_rate
from fewlabels.procedures.prepare import (
    Data,
    prepare,
    preprocessing,
    typical_side,
    uses_of,
)
from fewlabels.procedures.probes import FROZEN
from fewlabels.procedures.resuming import SETTINGS, keep_settings, need_same
from fewlabels.procedures.stage import Context
from fewlabels.procedures.start import ready
from fewlabels.procedures.timing import mark, resumed
from fewlabels.procedures.uses import Uses, read_uses
from fewlabels.report import compare as comparing
from fewlabels.report import comparison, explanation, html
from fewlabels.report import search as search_page
from fewlabels.settings import between, make, one_of
from fewlabels.training import process, processes
from fewlabels.training.budget import Clock
from fewlabels.training.events import Events, Page
from fewlabels.training.folder import RunFolder
from fewlabels.training.progress import progress_on
from fewlabels.training.tensorboard import need_tensorboard

IMBALANCED = 4  # times as many labels in one class as in another
# what can be searched, and the settings of that
PLANS: dict[str, type[searching.Plan]] = {
    "augmentation": search_augmentation.Plan,
    "scaling": search_scaling.Plan,
}


@dataclass(frozen=True)
class Run:
    """A finished run: its folder and the content of its `result.json`."""

    path: Path
    result: dict[str, Any]


def train(
    data: Pool | DataNames,
    *,
    out: str | Path | None = None,
    time_limit: str | float | None = None,
    console: Console | None = None,
    clock: Clock | None = None,
    where: str = "train",
    **settings: Any,
) -> Run:
    """Trains a classifier on `data` and returns the finished run.

    A Pool is taken as it is; for anything else labels of its store (docs/labels.md) count too.
    `settings` are fields of `procedures.config.Config`: method, model, seed, steps, …; `time_limit`
    is in seconds or a text such as "10m". `clock` counts the seconds since the command began and
    `where` names the settings' origin in errors: both are for a caller that is a command itself.
    Raises UserError for bad input, and leaves no run folder then.
    """
    clock = clock or Clock()
    fixed: dict[str, Any] = {
        "data": _named(data),
        "time_limit": None if time_limit is None else seconds(time_limit),
    }
    runs = settings.get("runs", ())
    if isinstance(runs, Sequence) and not isinstance(runs, str):
        fixed["runs"] = [str(one.path if isinstance(one, Run) else one) for one in runs]
    config = make(Config, settings | fixed, where)
    _take_part(config)
    pool = data if isinstance(data, Pool) else _pool(data, config.task, console)
    started = _start(config, pool)
    there = out is not None and Path(out).exists()
    folder = RunFolder.create(Path(out) if out else None)
    versions = {name: version(name) for name in ("fewlabels", "torch", "numpy", "numba")}
    versions["python"] = platform.python_version()
    command = _command(f"fewlabels.train({config.data!r}, …)")
    about = {"command": command, "versions": versions}
    with process.locked(folder):
        try:
            try:
                folder.write_config(started.config.to_dict() | about)
                keep_settings(folder, config, started.config)
            except OSError as error:
                raise UserError(f"{folder.path}: cannot be written ({error.strerror})") from error
            return _execute(started, folder, console, clock)
        except UserError:
            if not folder.last.exists():  # nothing was trained: the same --out can be used again
                _take_back(folder.path, there)
            raise


def resume(path: str | Path, *, console: Console | None = None, **again: Any) -> Run:
    """Goes on with a run that was cut off; a finished one is returned as it is.

    `again` are settings of `train`, and `data`: UserError where one is not as the run began.
    """
    folder = RunFolder.open(Path(path))
    whole, result = folder.read_config().get(INSIDE), folder.read_json("result.json")
    config = make(Config, read_recipe(folder.path / "config.yaml"), str(folder.path))
    if not whole:  # a part has the settings of the whole
        need_same(folder, config, again)
    if result is not None:
        if not (folder.path / "report.html").exists():
            html.write(folder.path)
        return Run(folder.path, result)
    if whole:
        raise UserError(f"{path}: is a part of {whole}: resume that")
    _take_part(config)
    with process.locked(folder):
        if not (folder.path / SETTINGS).exists():  # killed at once
            keep_settings(folder, config, config)
        pool = _pool(config.data, config.task, console)
        started = _start(config, pool, read_uses(folder))
        return _execute(started, folder, console, resumed(folder))


def distill(
    runs: Run | str | Path | Sequence[Run | str | Path],
    *,
    model: str,
    data: Pool | DataNames | None = None,
    labels: bool = True,
    **settings: Any,
) -> Run:
    """Trains a student, `model`, on what one run says, or several together.

    It learns on the images of the first run, whose split and labels it keeps, or on those of
    `data`; with `images`, on these in the place of the unlabelled ones. labels: whether it learns
    from the labels too. Other `settings` are those of `train`. The result's `kept` compares teacher
    and student: accuracy, size, speed.
    """
    several = [runs] if isinstance(runs, Run | str | Path) else list(runs)
    paths = [one.path if isinstance(one, Run) else Path(one) for one in several]
    if not paths:
        raise UserError("distill: name a run")
    if not paths[0].exists():
        raise UserError(f"{paths[0]}: no such run folder")
    known: dict[str, Any] = {}
    if (paths[0] / "config.yaml").is_file():
        known = RunFolder.open(paths[0]).read_config()
    if data is None and "data" not in known:
        raise UserError(f"{paths[0]}: does not say which images it learnt from; name --data")
    same = ("labels_per_class", "seed")  # the same labels, the same test images
    given = {name: known[name] for name in same if name in known} | settings
    own = dict(given.pop("settings", {}))
    if not labels:
        own["alpha"] = 0.0
    return train(
        data if data is not None else known["data"],
        **given
        | {"method": distil.METHOD, "model": model, "runs": [str(path) for path in paths]}
        | {"settings": own, "where": "distill"},
    )


@dataclass(frozen=True)
class Search:
    """A search: its folder and the content of its `search.json`."""

    path: Path
    result: dict[str, Any]


def search(
    data: Pool | DataNames,
    *,
    what: str = "augmentation",
    trials: int = 30,
    folds: int = 3,
    operations: int | None = None,
    phi: int | None = None,
    steps: int = searching.STEPS,
    out: str | Path | None = None,
    time_limit: str | float | None = None,
    console: Console | None = None,
    clock: Clock | None = None,
    where: str = "search",
    **settings: Any,
) -> Search:
    """Searches for an augmentation, or a scaling of a model, that suits `data` better than the
    default one.

    `procedures.search` says how, `search_augmentation` what comes of `operations` (2) and
    `search_scaling` what of `phi` (2). `steps` are of each short training, and `settings` those of
    `train` that a training on labels alone has. The result's `use` is the command that trains with
    what was found. Raises UserError for bad input, and leaves no folder then.
    """
    searching.need_optuna()
    clock = clock or Clock()
    for name in ("method", "settings", "epochs", "augment", "log"):
        if name in settings:
            raise UserError(f"{where}: setting '{name}' has no effect in a search")
    limit = None if time_limit is None else seconds(time_limit)
    own = {"operations": operations, "phi": phi}  # of one kind of search each
    given = {name: value for name, value in own.items() if value is not None}
    plan = _plan({"what": what, "trials": trials, "folds": folds} | given, where)
    fixed = {
        "data": _named(data),
        "method": "supervised",
        "steps": steps,
        "settings": {"view": "strong"},
    }
    config = plan.settings(make(Config, settings | fixed, where))
    _take_part(config)
    pool = data if isinstance(data, Pool) else _pool(data, config.task, console)
    if pool.task != SINGLE:
        raise UserError(f"search: is for one class an image; {pool.origin} is of task {pool.task}")
    started = _start(config, pool)
    there = out is not None and Path(out).exists()
    folder = RunFolder.create(Path(out) if out else None, searching.HOME)
    with process.locked(folder):
        folder.write_config(started.config.to_dict() | {"search": asdict(plan)})
        try:
            return _search(started, plan, folder, console, clock, limit)
        except UserError:
            if not (folder.path / "study.db").exists():  # the same --out can be used again
                _take_back(folder.path, there)
            raise


def resume_search(
    path: str | Path,
    *,
    trials: int | None = None,
    time_limit: str | float | None = None,
    console: Console | None = None,
    clock: Clock | None = None,
) -> Search:
    """Goes on with a search that was cut off, or to more `trials` than it was begun with."""
    searching.need_optuna()
    clock = clock or Clock()
    folder = RunFolder.open(Path(path))
    known = read_recipe(folder.path / "config.yaml")
    if "search" not in known:
        raise UserError(f"{path}: is a run, not a search; go on with `fewlabels train --resume`")
    asked = {} if trials is None else {"trials": trials}
    plan = _plan(known.pop("search") | asked, str(path))
    limit = None if time_limit is None else seconds(time_limit)
    config = make(Config, known, str(path))
    _take_part(config)
    with process.locked(folder):
        pool = _pool(config.data, config.task, console)
        started = _start(config, pool)
        folder.write_config(started.config.to_dict() | {"search": asdict(plan)})
        return _search(started, plan, folder, console, clock, limit)


def _named(data: Pool | DataNames) -> str | list[str]:
    """What a run's settings say of its images."""
    if isinstance(data, Pool):
        return list(data.parts) or data.origin
    if isinstance(data, str | Path):
        return str(data)
    if not data:
        raise UserError("no DATA: name a folder, a table, or what else may hold images")
    return [str(one) for one in data] if len(data) > 1 else str(data[0])


def _plan(values: dict[str, Any], where: str) -> searching.Plan:
    """UserError for what cannot be searched, and for settings that are of another search."""
    what = str(values.get("what"))
    one_of("--what", what, tuple(PLANS))
    for name in values:
        if name not in (about.name for about in fields(PLANS[what])):
            raise UserError(f"{where}: --{name} has no effect with --what {what}")
    return make(PLANS[what], values, where)


def load(run: Run | str | Path, device: str = "cpu") -> Classifier:
    """The classifier of a run, or of an artefact folder that was copied out of one.

    A model of timm or torchvision with the head of its weights, too: `timm:mobilenetv2_100`,
    `torchvision:resnet18`, `hf-hub:…`, `local-dir:…`, with the weights' own classes.
    """
    if isinstance(run, str) and run.startswith(catalog.PREFIXES):
        return artefact.pretrained(run, device)
    return artefact.load(run.path if isinstance(run, Run) else Path(run), device)


def compare(
    runs: Iterable[Run | str | Path],
    *,
    against: Run | str | Path | None = None,
    out: str | Path | None = None,
) -> dict[str, Any]:
    """Runs side by side, with paired differences from `against` (the first); `report.compare` says
    what is in it. `out`: a .html page to write, with the curves."""
    if out is not None:
        comparison.need_page(Path(out))
    paths = [one.path if isinstance(one, Run) else Path(one) for one in runs]
    base = against.path if isinstance(against, Run) else against
    told = comparing.compare(paths, None if base is None else Path(base))
    if out is not None:
        comparison.write(told, Path(out))
    return told


@dataclass(frozen=True, eq=False)
class Explained:
    """The page about some images, what stands on it, and which files could not be read. `more`:
    there were other images, beyond those asked for."""

    path: Path
    explanation: gather.Explanation
    skipped: tuple[Skipped, ...]
    more: bool


def explain(
    run: Run | str | Path,
    paths: str | Path | Iterable[str | Path],
    *,
    out: str | Path,
    methods: Sequence[str] = (),
    target: str | None = None,
    images: int = 20,
    device: str = "cpu",
    progress: gather.Progress | None = None,
) -> Explained:
    """Which pixels mattered to a run's classifier in the first `images` of `paths`: files, folders,
    tables and what else holds images, as `predict` takes them.

    Writes a page with pictures and numbers into the folder `out`, which must be absent or empty.
    `methods` are names of `evaluate.explain.attribution.METHODS` (all that have a meaning for the
    model); `target` is a class to make maps for beside the predicted one. UserError without captum,
    for bad input, and where no image can be read.
    """
    need_captum()
    gather.need_known(methods)
    between("--images", images, 1)
    folder = Path(out)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"-o {folder}: is there already and not empty; name a new folder")
    classifier = load(run, device)
    classifier.outputs.need_one_class("explain")
    if target is not None and target not in classifier.classes:
        known = near(target, classifier.classes) or f"; there are {_some(classifier.classes)}"
        raise UserError(f"--class {target}: no such class{known}")
    several = [paths] if isinstance(paths, str | Path) else paths
    size = classifier.preprocess.size
    given = read_given(find(list(several)).images, size, images)
    if not given.names:
        first = given.skipped[0] if given.skipped else Skipped("explain", "name images")
        raise UserError(f"{first.name}: {first.reason}; there is no image to explain")
    found = gather.explain(
        classifier.model,
        classifier.preprocess,
        classifier.classes,
        given,
        read_learnt(run.path if isinstance(run, Run) else Path(run), size),
        methods=methods,
        target=None if target is None else classifier.classes.index(target),
        tta=classifier.tta,
        temperature=classifier.temperature,
        progress=progress,
    )
    name = str(run.path if isinstance(run, Run) else run)
    try:
        page = explanation.write(found, folder, name, given.skipped)
    except OSError as error:
        raise UserError(f"-o {folder}: cannot be written ({error.strerror})") from error
    return Explained(page, found, given.skipped, given.more)


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` has told, and where it is kept: in no file for a model that is no run."""

    path: Path | None
    result: dict[str, Any]


def evaluate(
    run: Run | str | Path,
    data: DataNames | None = None,
    *,
    device: str = "cpu",
    progress: judges.Progress | None = None,
    **asked: Any,
) -> Evaluation:
    """How good a run's classifier is on the labelled images of `data`, its test images, or all
    where it has none; without `data` on the run's own test images. Several `data` are joined.

    `asked` are fields of `deploy.evaluate.Asked`: corruptions, perturbations, adversarial, stress,
    images, seed. A folder with ImageNet-C's own files is understood as such. The result is kept in
    the run's folder, and the report says it. UserError where there are no labelled images of the
    classifier's classes.
    """
    what = make(Asked, asked, "evaluate")
    count = progress or (lambda what, done, total: None)
    classifier, path = load(run, device), run.path if isinstance(run, Run) else Path(run)
    classifier.outputs.need_one_class("evaluate")
    place = None if data is None else _named(data)
    published = Path(place) if isinstance(place, str) and is_path(place) else None
    folders = {} if published is None else imagenet_c.found_in(published)
    if published is not None and folders:
        if what != Asked():
            raise UserError(f"evaluate {place}: is ImageNet-C itself; nothing else is asked of it")
        result = imagenet_c.evaluated(classifier, published, folders, count)
    else:
        mine = judges.find(path, classifier.classes, classifier.preprocess.size, place, count)
        result = evaluated(classifier, mine, what, count)
    if not (path / "config.yaml").is_file():
        return Evaluation(None, result)
    result["when"] = datetime.now().astimezone().isoformat(timespec="seconds")
    result["command"] = _command(f"fewlabels.api.evaluate({str(path)!r}, …)")
    kept = next(path / _kept(n) for n in count_up(1) if not (path / _kept(n)).exists())
    try:
        RunFolder.open(path).write_json(str(kept.relative_to(path)), result)
        html.write(path)
    except OSError as error:  # what was measured is told all the same
        return Evaluation(None, result | {"not_kept": f"{kept}: {error.strerror}"})
    return Evaluation(kept, result)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (", …" if len(names) > 10 else "")


def _kept(number: int) -> str:
    return f"evaluations/{number}.json"


def _execute(
    started: "Started",
    folder: RunFolder,
    console: Console | None,
    clock: Clock,
) -> Run:
    page = Page(partial(html.write, folder.path))
    events = Events(
        folder,
        console or Console(quiet=True),
        partial(mark, folder, clock),
        clock=clock,
        page=page,
        log=started.config.log,
    )
    try:
        with process.recorded(folder), _together(started):
            context = _context(started, folder, events, clock)
            if read_uses(folder) is None:
                uses_of(context.data).write(folder)
            chosen = registry.run(context)
            for each in chosen.inside:
                _finish(each)
            result = _finish(chosen, pictures=True)
    except BaseException as error:
        go_on = f"go on with: fewlabels train --resume {shlex.quote(str(folder.path))}"
        if isinstance(error, KeyboardInterrupt):  # at once: a second one may follow
            with suppress(OSError):  # where the disk is full it is shown all the same
                events.say(f"interrupted; {go_on}")
        page.draw_now()  # that it goes on no more
        if isinstance(error, OSError | SafetensorError):
            raise _unwritten(error, folder, go_on) from error
        if isinstance(error, Exception) and not isinstance(error, UserError):
            with suppress(OSError), (folder.path / "train.log").open("a") as log:
                traceback.print_exception(error, file=log)
            error.add_note(f"{folder.path}/train.log has where; {go_on}")
        raise
    return Run(folder.path, result)


def _take_back(folder: Path, there: bool) -> None:
    """Removes what a run has left: with its folder, unless that was there before, and empty."""
    if not there:
        shutil.rmtree(folder, ignore_errors=True)
        return
    for left in folder.iterdir():
        shutil.rmtree(left, ignore_errors=True)  # a file stays
        with suppress(OSError):
            left.unlink(missing_ok=True)


def _unwritten(error: Exception, folder: RunFolder, go_on: str) -> UserError:
    """For a full disk, or a folder that has become read-only."""
    what = getattr(error, "filename", None) or folder.path
    why = getattr(error, "strerror", None) or one_line(error)
    return UserError(f"{what}: {why}; put that right, then {go_on}")


def _finish(trained: Chosen, pictures: bool = False) -> dict[str, Any]:
    """Writes what a run leaves, with a gallery of `pictures` or without; returns its result."""
    if trained.context.data.pool.task != SINGLE:
        return _finish_task(trained)
    folder, found = trained.context.folder, certainty(trained)
    chosen = tempered(trained, found.temperature.value)
    outcome.write_predictions(chosen, folder.path / "predictions.parquet")
    if pictures:
        gallery.write_gallery(chosen, folder.path / "gallery.parquet")
    artefact.write(folder, found.temperature.value, found.detector)
    result = outcome.result(chosen) | outcome.confidence(trained, chosen, found)
    folder.write_json("result.json", result)
    html.write(folder.path)
    return result


def _finish_task(chosen: Chosen) -> dict[str, Any]:
    """The same where labels are several classes an image, or numbers; without a temperature and a
    threshold of what is unknown, which are of one class an image."""
    folder = chosen.context.folder
    task_outcome.write_predictions(chosen, folder.path / "predictions.parquet")
    artefact.write(folder)
    result = task_outcome.result(chosen)
    folder.write_json("result.json", result)
    html.write(folder.path)
    return result


def _search(
    started: "Started",
    plan: searching.Plan,
    folder: RunFolder,
    console: Console | None,
    clock: Clock,
    limit: float | None,
) -> Search:
    events = Events(folder, console or Console(quiet=True), clock=clock)
    go_on = f"go on with: fewlabels search --resume {shlex.quote(str(folder.path))}"
    try:
        with process.recorded(folder), _together(started):
            context = _context(started, folder, events, clock)
            result = searching.run(context, plan, limit)
    except KeyboardInterrupt:
        if (folder.path / "search.json").exists():
            search_page.write(folder.path)
        events.say(f"interrupted; {go_on}")
        raise
    except (OSError, SafetensorError) as error:
        raise _unwritten(error, folder, go_on) from error
    search_page.write(folder.path)
    return Search(folder.path, result)


@dataclass(frozen=True, eq=False)
class Started:
    """What a run is about, before its images are read."""

    config: Config  # resolved
    pool: Pool
    built: catalog.Built  # the model that training starts from
    fabric: Fabric  # the device to train on
    earlier: tuple[Earlier, ...] = ()
    form: str = ""  # a line about the precision that was found to be fast
    begun: Uses | None = None  # what each image is used for, where that was decided before


def _together(started: Started) -> AbstractContextManager[None]:
    """All processes that train, until the run is over."""
    config = started.config
    return processes.together(started.fabric, config.device, config.precision)


def _take_part(config: Config) -> None:
    """Where torchrun has started this process, and it is not the first: it trains with the others,
    and that is all it does."""
    if processes.follows():
        processes.take_part(fabric_of(config))
        raise SystemExit(0)


def _context(started: Started, folder: RunFolder, events: Events, clock: Clock) -> Context:
    """The images read, the kernel compiled: what training needs before its first step."""
    config, built = started.config, started.built
    data = _read(config, started.pool, events, started.begun)
    if config.patience is not None and not len(data.val):
        raise UserError(
            f"--patience {config.patience}: needs validation images, and {started.pool.origin} has "
            "none of its own: make a val/ folder, or leave it out"
        )
    for run in started.earlier:
        run.need_unseen(data)
    for line in _introduction(data, config, folder, built.note, built.stem, started.form):
        events.say(line)
    if not compiled():
        events.say("compiling the augmentation kernel: once, about 20 seconds")
    compile_kernel()
    size = config.img_size or 0
    base = Preprocess(size, built.mean, built.std) if built.mean and built.std else None
    preprocess = preprocessing(data, base, size)
    context = Context(
        *(config, built, data, preprocess, folder, events, started.fabric, clock),
        earlier=started.earlier,
    )
    return with_rate(with_batch_size(context))


def _read(config: Config, pool: Pool, events: Events, begun: Uses | None) -> Data:
    with events.stage("reading"):
        digest = pool.digest or cache.fingerprint(pool.source, progress=events.count)
    with events.stage("decoding"):
        return prepare(
            pool,
            digest,
            config.img_size or 0,
            config.seed,
            config.labels_per_class,
            events.count,
            spare=config.images is None,
            cache_limit=config.cache_bytes,
            begun=begun,
        )


def _pool(data: DataNames, task: str | None, console: Console | None) -> Pool:
    """What DATA names, with the labels of its store, and a note of other stores that have some."""
    with progress_on(console or Console(quiet=True)) as show:
        read = partial(cache.fingerprint, progress=partial(show, "reading"))
        pool = with_stored_labels(Pool.scan(data, to_train=False, task=task), read)
        origins = pool.parts or (pool.origin,)
        if not other_stores(origins):
            return pool
        digest = pool.digest or read(pool.source)
        told = [other.line() for other in labels_elsewhere(origins, digest)]
        return replace(pool, digest=digest, notes=(*pool.notes, *told))


def _command(call: str) -> str:
    """What was typed, or the call that does the same."""
    if Path(sys.argv[0]).name in ("fewlabels", "__main__.py"):
        return " ".join(["fewlabels", *map(shlex.quote, sys.argv[1:])])
    return call


def _start(config: Config, pool: Pool, begun: Uses | None = None) -> Started:
    """The settings in full, the model that training starts from, the device to train on.

    With the same seed the model is the same. `begun`: what a run that goes on began with.
    UserError where nothing can be learnt.
    """
    if config.log is not None:
        need_tensorboard()
    if config.images is not None:
        pool = pool.with_unlabelled(scan_images(config.images))
    if begun is None:
        begun = _split_of_first(config, pool)
    if begun is not None:
        pool = begun.over(pool, every_label=config.labels_per_class is None)
    if pool.lacks:
        raise UserError(f"{pool.origin}: {pool.lacks}")
    tasks.need_meaning(config, pool)
    config = tasks.suited(config, pool.task)
    fabric, classes, side = fabric_of(config), pool.width, typical_side(pool)
    device, name = fabric.device.type, config.model
    earlier = tuple(_earlier(Path(run)) for run in config.runs)
    fixed = config.steps or config.epochs or config.method in FROZEN
    seconds = None if fixed else config.time_limit or TIME_LIMIT
    torch.manual_seed(config.seed)
    if config.method in (ensemble.METHOD, fixres.METHOD):
        if name not in ("auto", *(run.built.architecture for run in earlier), ENSEMBLE):
            raise UserError(f"--model has no effect in the method {config.method}")
        if config.method == fixres.METHOD:
            name, built = fixres.begun_from(earlier, config, pool.classes)
        else:
            name, built = ensemble.begun_from(earlier, pool.classes)
    elif name == "auto":
        name, built = choose(side, len(pool), device, seconds, classes, config.weights)
    else:
        built = catalog.build(name, classes, config.weights)
    if built.weights == "none" and built.note:  # as when it is resumed, and tries no more
        torch.manual_seed(config.seed)
        built = replace(catalog.build(name, classes, "none"), note=built.note)
    asked = config.img_size or (built.size if config.method == fixres.METHOD else None)
    spent = math.inf if config.method in FROZEN else seconds
    size = asked or image_size(side, built.size, built.fixed, device, spent)
    built = ready(built, name, size, classes, config)
    tuned = built.weights != "none"
    mirror = pool.mirror and pool.task == SINGLE  # else only a user can know
    resolved = config.resolved(_named(pool), name, size, tuned, mirror)
    resolved = replace(resolved, devices=fabric.world_size)
    if config.method in ROUNDS:
        self_train.need_students(resolved, classes)
    resolved, form = decided(resolved, built.model, classes, fabric.device)
    return Started(resolved, pool, built, fabric_of(resolved), earlier, form, begun)


def _split_of_first(config: Config, pool: Pool) -> Uses | None:
    """How the first of the runs that `config.runs` names used these images, if they are the same:
    what its model has learnt from must not judge another that was made of it."""
    first = Path(config.runs[0]) if config.runs else None
    if first is None or not (first / "config.yaml").is_file():
        return None
    folder = RunFolder.open(first)
    known, mine = folder.read_config(), config.to_dict() | {"data": _named(pool)}
    if any(
        known.get(name) != mine[name] for name in ("data", "images", "seed", "labels_per_class")
    ):
        return None
    used = read_uses(folder)
    return used if used is not None and used.has_images_of(pool) else None


def _earlier(run: Path) -> Earlier:
    saved = artefact.read(run)
    saved.outputs.need_one_class(f"--run {run}")
    return Earlier(str(run), saved.built, saved.classes, saved.preprocess, saved.tta)


def _what(pool: Pool) -> str:
    """ "10 classes" """
    if pool.task == REGRESSION:
        return f"{pool.width} numbers an image" if pool.width > 1 else "a number an image"
    return f"{len(pool.classes)} classes" + (", any of them an image" if pool.task == MULTI else "")


def _introduction(data: Data, config: Config, folder: RunFolder, *notes: str) -> list[str]:
    test = f"{len(data.test):,} test images" if len(data.test) else "no test images"
    lines = [
        f"{folder.path}: {len(data.labelled):,} labelled, {len(data.unlabelled):,} unlabelled, "
        f"{test}, {_what(data.pool)}; {config.model} at {config.img_size} px"
    ]
    lines += data.pool.notes
    lines += [
        f"the class {name!r} is learnt like any other; if it means that nobody knew, make its "
        "images unlabelled"
        for name in no_classes(data.pool)
    ]
    others = set(data.pool.skipped)  # no images at all, mostly; images that cannot be read go first
    left_out = sorted(data.skipped, key=others.__contains__)
    lines += [f"left out: {item.name} ({item.reason})" for item in left_out[:5]]
    if len(left_out) > 5:
        lines.append(f"left out: {len(left_out) - 5} more; the report lists them")
    counts = np.bincount(data.pool.label[data.labelled], minlength=len(data.pool.classes))
    counts = counts[counts > 0]
    unequal = data.pool.task == SINGLE and counts.max() >= IMBALANCED * counts.min()
    if unequal and config.balance == "none" and config.method not in FROZEN:
        lines.append(
            f"the labels a class range from {counts.min():,} to {counts.max():,}: accuracy favours "
            "the frequent ones; --balance logits makes them count alike"
        )
    if not len(data.val) and not len(data.held_out):
        few = "one label a class" if data.pool.task == SINGLE else "few labels"
        lines.append(
            f"{few}: none can be held out for validation"
            + ("" if len(data.test) else ", and without test images nothing can be measured")
        )
    return lines + [note for note in (*notes, data.note) if note]
