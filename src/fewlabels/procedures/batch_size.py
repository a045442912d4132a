"""`--batch-size auto`: as many labelled images a step as pay on this device, before any stage.

It doubles from BATCH while images a second grow by GROWTH. A larger batch means fewer steps in the
same time. The rate goes up with it, but by √2 for twice the images only, so a doubling pays where
it costs less than 1/√2 of the steps. On a CPU it hardly ever does; on a GPU that small batches
leave idle it does until the GPU is busy. (Digits, 20 labels, the same number of images seen: 95.3 %
with 16 labelled images a step, 94.2 % with 32.)

And never more than a quarter of the labelled images: with so few labels a step that shows nearly
all of them has a gradient without noise, and that is what small sets are learnt by heart with. Up
to 127 labels it is BATCH, and nothing is measured.

The rate, where the user gives none, grows by √n for adamw and by n for SGD, with n times the images
(Krizhevsky 2014, "One weird trick", section 5; Malladi et al. 2022 for adaptive methods).
"""

import copy
import math
import os
import sys
import time
import zlib
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from fewlabels.methods import METHODS, Networks
from fewlabels.methods.sharing import Sharing, shared
from fewlabels.pixels.loader import prefetch
from fewlabels.procedures.config import AUTO, BATCH
from fewlabels.procedures.prepare import Given
from fewlabels.procedures.stage import Context, ingredients, train_settings
from fewlabels.training.freeze import Freezer
from fewlabels.training.loop import out_of_memory
from fewlabels.training.random_state import random_state_kept

FOUND = "batch_size.json"
GROWTH = 1.4  # of images a second, at least, for a doubling
PART = 4  # of the labelled images a batch holds no more than one in so many
STEPS = 3  # that are timed with each size, after one that sets up
ROOM = 0.8  # of the memory that is free
SHARE = 0.03  # of the time limit: beyond it no other size is tried


@dataclass(frozen=True)
class Size:
    """What was measured with a batch size."""

    batch_size: int
    images_per_second: float
    memory_mb: float  # that the process, or the GPU, has used; see used_memory


def with_batch_size(context: Context) -> Context:
    """The context with the batch size, where it is to be found: once in a run. So is a learning
    rate that suits it, where none is given."""
    config = context.config
    if config.batch_size != AUTO:
        return context
    found = context.found_once(FOUND, _found)
    lr = found["lr"] if config.lr is None else config.lr
    return replace(context, config=replace(config, batch_size=found["chosen"], lr=lr))


def _found(context: Context) -> dict[str, Any]:
    config = context.config
    labels = len(context.data.labelled) - len(context.data.held_out)
    most = labels // PART
    if most < 2 * BATCH:
        sizes, chosen = list[Size](), BATCH
        why = f"of {labels} labelled images a batch has no more than one in {PART}, or {BATCH}"
    else:
        with context.events.stage("batch size"):
            sizes, chosen, why = _measured(context, most)
    said = f"batch size {chosen}: {why}"
    lr = config.rate * scale(config.optimiser, chosen)
    if config.lr is None and chosen > BATCH:
        said += f"; learning rate {lr:.2g} instead of {config.rate:g}"
    return {"sizes": list(map(asdict, sizes)), "chosen": chosen, "lr": lr, "said": said}


def scale(optimiser: str, batch_size: int) -> float:
    """How many times as high as with BATCH images the learning rate is."""
    n = batch_size / BATCH
    return math.sqrt(n) if optimiser == "adamw" else n


def _measured(context: Context, most: int) -> tuple[list[Size], int, str]:
    """The sizes that were tried, the best, and why it is no larger one."""
    began, limit = time.monotonic(), context.config.time_limit or math.inf
    device, sizes, chosen = context.fabric.device, list[Size](), BATCH
    free, base = free_memory(device) / 1e6, used_memory(device) / 1e6
    while True:
        size = 2 * sizes[-1].batch_size if sizes else BATCH
        if size > most:
            return sizes, chosen, f"more would be over one in {PART} labelled images"
        if sizes:
            used = [base, *(one.memory_mb for one in sizes)]
            if used[-1] + 2 * (used[-1] - used[-2]) - base > ROOM * free:
                return sizes, chosen, "more would fill the memory"
        if sizes and time.monotonic() - began > SHARE * limit:
            return sizes, chosen, "there was no time to try more"
        try:
            sizes.append(measure(context, size))
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            return sizes, chosen, f"{size} are too many for the memory"
        if len(sizes) > 1:
            times = sizes[-1].images_per_second / sizes[-2].images_per_second
            if times < GROWTH:
                return sizes, chosen, f"{size} are only {times:.2f} times as fast"
        chosen = size


def measure(context: Context, size: int) -> Size:
    """The steps of the run's method, on a copy of its model, with `size` labelled images in each:
    making the batch, forward and backward."""
    config, data, device = context.config, context.data, context.fabric.device
    nothing = np.full((len(data.unlabelled), len(data.pool.classes)), 0.1, np.float32)
    given = Given(data.unlabelled, data.unlabelled, nothing)  # for methods that are told something
    context = replace(
        context,
        config=replace(config, batch_size=size),
        data=replace(data, given=data.given or given),
    )
    settings, name = train_settings(config), context.method
    rows = np.setdiff1d(data.labelled, data.held_out)
    seed = zlib.crc32(f"{config.seed} batch size".encode())
    with (
        random_state_kept(device),
        shared(Sharing(parts=settings.accumulate)),
    ):
        torch.manual_seed(seed)
        method, make_batch = ingredients(context, name, rows, seed)
        method.seed(seed)
        model = context.model()
        freezer = Freezer(model, settings.freeze, context.preprocess.size)
        freezer(1.0)
        average: nn.Module = copy.deepcopy(model).eval().requires_grad_(False)
        teachers = (average,) if METHODS[name].method.taught else ()
        method.begin(Networks(model, average, context.preprocess.size, teachers))
        method = method.to(device)
        batches = prefetch(make_batch, 0, settings.workers)
        seconds, images, memory = 0.0, 0, 0.0
        try:
            for step in range(1 + STEPS):
                start = time.monotonic()
                batch = next(batches).to(context.fabric.to_device)
                model.train()
                freezer(1.0)
                with context.fabric.autocast():
                    loss = method.step(model, batch, 0.5).loss
                # all that the backward pass needs is there now; a GPU is not waited for
                full = used_memory(device) if device.type == "cpu" else 0.0
                loss.backward()  # type: ignore[no-untyped-call]
                float(loss.detach())  # waits until it is done
                memory = max(memory, full, used_memory(device))
                model.zero_grad(set_to_none=True)
                if step:
                    seconds += time.monotonic() - start
                    images += batch.images
        finally:
            batches.close()
    speed = images / max(seconds, 1e-9)
    return Size(size, round(speed, 1), round(memory / 1e6, 1))


def used_memory(device: torch.device) -> float:
    """Bytes in use: now by this process on Linux; elsewhere, and on a GPU, at the highest so far.

    The highest so far says nothing of a batch that needs less than what came before it. 0 on
    Windows, which tells neither without a library: there only a batch that does not fit ends it.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return float(torch.cuda.max_memory_allocated(device))
    pages = Path("/proc/self/statm")
    if pages.is_file():
        return float(int(pages.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
    try:
        import resource
    except ImportError:
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak if sys.platform == "darwin" else 1024 * peak)


def free_memory(device: torch.device) -> float:
    """Bytes that the system says are free: of the GPU, or of the machine's memory, within what the
    container may use. Without end where it says nothing, on Windows."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    if not hasattr(os, "sysconf"):
        return math.inf
    free = float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    about = Path("/proc/meminfo")
    if about.is_file():
        lines = dict(line.split(":", 1) for line in about.read_text().splitlines())
        free = 1024.0 * int(lines["MemAvailable"].split()[0])
    group = Path("/sys/fs/cgroup")
    most = group / "memory.max"
    if most.is_file() and (text := most.read_text().strip()) != "max":
        free = min(free, int(text) - float((group / "memory.current").read_text()))
    return free
