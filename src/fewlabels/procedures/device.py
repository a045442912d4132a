"""The device that a run is trained on, and the form in which numbers lie there: their precision,
and the order of an image's numbers in memory.

Which form is fastest depends on the processor and on the network. Where time is what is limited it
is measured before the first step, on a copy of the model; where steps are, the same seed must give
the same result, and nothing is measured. docs/training.md has the figures.
"""

import copy
import math
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby, product

import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor, nn

from fewlabels.errors import UserError, one_line
from fewlabels.methods import METHODS, resolve
from fewlabels.procedures.config import AUTO, BATCH, LAYOUTS, PRECISIONS, UNTRAINED, Config
from fewlabels.training.budget import Clock
from fewlabels.training.processes import by_torchrun, connected
from fewlabels.training.random_state import random_state_kept

HALF = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}  # what autocast computes in
SHARE = 0.01  # of the time limit, for measuring
FASTER = 1.1  # times as fast as what is taken so far is another form, to be taken instead
PASSES = 8  # that are timed in each form, after one that sets up; the fastest counts
LEAST = 5  # passes that there must be time for, the one that sets up being slow
FEWEST = 8  # images, of which a pass says something
RATIO = 4  # unlabelled images for each labelled one, in the stages of a sequence


@dataclass(frozen=True)
class Form:
    """In which a model is trained."""

    precision: str
    layout: str

    def __str__(self) -> str:
        return f"{self.precision}, {self.layout}"


def fabric_of(config: Config) -> Fabric:
    """The device to train on, with its precision (32-true until it is decided).

    UserError where there is no such device, or where it cannot do what is asked.
    """
    precision = "32-true" if config.precision == "auto" else config.precision
    world = by_torchrun()
    if world > 1 and config.devices not in (1, world):
        raise UserError(f"--devices {config.devices}: but torchrun has started {world} processes")
    try:
        with warnings.catch_warnings(action="ignore"):  # what is wrong is said below
            fabric = connected(config.device, precision, config.devices)
    except UserError:
        raise
    except Exception as error:  # Fabric raises its own, ValueError and RuntimeError
        reason = one_line(error)
        raise UserError(f"--device {config.device}: cannot be used here ({reason})") from error
    if config.batch % fabric.world_size:
        if config.batch_size == AUTO:
            raise UserError(
                f"--batch-size auto: takes {BATCH}, {2 * BATCH}, {4 * BATCH}, …, which "
                f"{fabric.world_size} processes cannot share: use 2, 4, 8 or 16 devices, or name a "
                "--batch-size"
            )
        raise UserError(
            f"--batch-size {config.batch}: must be a multiple of the {fabric.world_size} processes"
        )
    images = config.batch // fabric.world_size
    if 1 < config.accumulate > images // 2:
        raise UserError(
            f"--accumulate {config.accumulate}: a part has two labelled images or more, and a "
            f"batch has {images} of them"
        )
    kind = fabric.device.type
    if precision == "16-mixed" and kind == "cpu":
        raise UserError("--precision 16-mixed: a CPU has none; name bf16-mixed, or auto")
    if config.compile and kind != "cuda":
        raise UserError(
            f"--compile: is for CUDA, and this run is on {kind}: compiling takes minutes there and "
            "makes no step faster"
        )
    return fabric


def decided(
    config: Config, model: nn.Module, classes: int, device: torch.device
) -> tuple[Config, str]:
    """The resolved settings with the form in which `model` is trained, and a line about it where it
    is not the usual one."""
    if config.method in UNTRAINED:
        return config, ""
    forms = candidates(config.precision, config.layout, device)
    seconds: dict[Form, float] = {}
    # several processes are to do the same, and are not asked what is fastest for each
    if config.time_limit and len(forms) > 1 and config.devices == 1:
        side, images = config.img_size or 0, images_a_pass(config)
        limit = SHARE * config.time_limit
        seconds = measured(model, classes, images, side, forms, device, limit)
    best = fastest(seconds) or forms[0]
    settled = replace(config, precision=best.precision, layout=best.layout)
    if best == forms[0]:
        return settled, ""
    times = f"{seconds[forms[0]] / seconds[best]:.1f} times as fast as {forms[0]}"
    return settled, f"trains in {best}: measured here, {times}"


def candidates(precision: str, layout: str, device: torch.device) -> tuple[Form, ...]:
    """The forms to choose among, the usual one first; `auto` is any."""
    layouts, precisions = [layout], [precision]
    if precision == "auto":
        kinds = {"cpu": PRECISIONS[:2], "cuda": PRECISIONS}.get(device.type, PRECISIONS[:1])
        emulated = device.type == "cuda" and not torch.cuda.is_bf16_supported(False)
        precisions = [kind for kind in kinds if not (emulated and kind == "bf16-mixed")]
    if layout == "auto":
        layouts = list(LAYOUTS)
    return tuple(Form(p, m) for m, p in product(layouts, precisions))


def images_a_pass(config: Config) -> int:
    """Those that are carried backward together, at most."""
    ratio = RATIO
    if config.method in METHODS:
        ratio = getattr(resolve(config.method, config.settings), "ratio", 0)
    return config.batch * (1 + ratio) // config.accumulate


def fastest(seconds: dict[Form, float]) -> Form | None:
    """The first form, unless another is clearly faster; of those the first again."""
    best = None
    for form, took in seconds.items():
        if best is None or FASTER * took <= seconds[best]:
            best = form
    return best


def measured(
    model: nn.Module,
    classes: int,
    images: int,
    side: int,
    forms: Sequence[Form],
    device: torch.device,
    limit: float,
) -> dict[Form, float]:
    """Seconds of a forward and backward pass of `images` in each of `forms`, on a copy of `model`.

    It ends within `limit` seconds or soon after: with fewer images where there is no time for all,
    without the forms for which none is left, and without any where the first has no time.
    Global random numbers are as before when it returns.
    """
    clock = Clock()
    seconds: dict[Form, float] = {}
    with random_state_kept(device):
        for layout, group in groupby(forms, lambda form: form.layout):
            its, last, failed = list(group), dict[Form, float](), set[Form]()
            try:
                own = _laid(model, layout, device)
                if not seconds:
                    few = _batch(FEWEST, classes, side, device)
                    took = [seconds_a_pass(own, *few, its[0]) for _ in range(2)]
                    images = min(images, int(FEWEST * limit / min(took) / len(its) / LEAST))
                if images < FEWEST:
                    return {}
                x, y = _batch(images, classes, side, device)
            except RuntimeError:  # out of memory, for one: training will say it
                return seconds
            for turn, form in product(range(1 + PASSES), its):
                if form in failed:
                    continue
                if clock() + last.get(form, max(last.values(), default=0.0)) > limit:
                    return seconds
                try:
                    last[form] = seconds_a_pass(own, x, y, form)
                except RuntimeError:  # a layer that does not know such numbers
                    failed.add(form)
                    continue
                if turn:
                    seconds[form] = min(last[form], seconds.get(form, math.inf))
    return seconds


def seconds_a_pass(model: nn.Module, x: Tensor, y: Tensor, form: Form) -> float:
    """Of one forward and backward pass of images [N, 3, S, S] with their classes [N], through a
    model that lies in the layout of `form`."""
    x = x.to(memory_format=LAYOUTS[form.layout])
    wait = torch.accelerator.synchronize if x.device.type != "cpu" else _at_once
    wait()
    start = time.perf_counter()
    with torch.autocast(x.device.type, HALF.get(form.precision), form.precision in HALF):
        logits = model(x)
    F.cross_entropy(logits.float(), y).backward()  # type: ignore[no-untyped-call]
    wait()
    took = time.perf_counter() - start
    model.zero_grad()
    return took


def _laid(model: nn.Module, layout: str, device: torch.device) -> nn.Module:
    """A copy in training mode."""
    own = copy.deepcopy(model).train()
    return own.to(device, memory_format=LAYOUTS[layout])  # type: ignore[call-overload,no-any-return]


def _batch(images: int, classes: int, side: int, device: torch.device) -> tuple[Tensor, Tensor]:
    x, y = torch.randn(images, 3, side, side), torch.arange(images) % classes
    return x.to(device), y.to(device)


def _at_once() -> None: ...
