"""What our loop costs over a bare one: `training.loop.fit` and a dozen lines of PyTorch, in turns.

    python benchmarks/loop.py [--threads 1 --device cpu --turns 20 --only supervised-32]

Both in one process and one thread, a few steps of one and then as many of the other, again and
again, so that whatever else the machine does meets both: the bare steps are made where `fit` tells
its listener of a step. Both have the same model, the same constant batch, channels last, the same
fused AdamW over the same parameter groups, and a moving average by the same `foreach` call, buffers
copied. The bare one has nothing else: forward, loss, zero_grad, backward, step, average.

`fit` has what a run has: batches from a loader's thread, a schedule, seeds for each step, a look
at the loss, the listener that draws the progress. It does not validate. It is measured with
checkpoints as often as in a run, and without. FixMatch's step is ours in the one and written out in
the other; without alignment, and without leaving out what carries no loss, so that both compute the
same.

Printed, by the clock and by the processor's time (of all threads; less troubled by what else the
machine does): milliseconds of a bare step, and how many more ours takes; ours / bare of each turn
with the one after it, their geometric mean with its 95 % interval (bootstrap over turns); of the
quickest turns, and of all time together. On a busy machine a turn may take a tenth more than the
next. What the loop does beside the net is the same for every net: `nothing` tells how many
milliseconds that takes, to a tenth.
"""

import argparse
import copy
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from rich.console import Console
from torch import Tensor, nn

from fewlabels.methods import Batch, Facts, create, resolve
from fewlabels.models import catalog
from fewlabels.training import optimiser
from fewlabels.training.budget import Budget
from fewlabels.training.events import Events
from fewlabels.training.folder import RunFolder
from fewlabels.training.lead import Pace
from fewlabels.training.loop import TrainSettings, fit
from fewlabels.training.optimiser import OptimiserSettings

CLASSES = 10
RATE, DECAY = 1e-4, 0.99
WARM = 3  # turns that are not counted
# half of the clock's time is the bare loop's: so twice as long between two, and half the share
SAVING = Pace(0, checkpoint_seconds=2.0, checkpoint_share=0.0075)
UNSAVED = Pace(0, checkpoint_seconds=math.inf)


@dataclass(frozen=True)
class Case:
    """What is trained; `settings` are the method's."""

    model: str
    size: int
    labelled: int
    ratio: int  # unlabelled images for each labelled one
    steps: int  # a turn: enough that what a change of models costs the caches is little
    method: str
    settings: dict[str, Any] = field(default_factory=dict)


SAME = {"skip": False, "align": False, "ratio": 4}
CASES = {
    "nothing": Case("perceptron", 8, 4, 0, 200, "supervised"),  # whose own steps take no time
    "supervised-32": Case("cnn_small", 32, 64, 0, 10, "supervised"),
    "fixmatch-32": Case("cnn_small", 32, 16, 4, 10, "fixmatch", SAME),
    "supervised-224": Case("timm:mobilenetv2_100", 224, 16, 0, 3, "supervised"),
    "resnet18-224": Case("timm:resnet18", 224, 16, 0, 3, "supervised"),
}


def loss_of(model: nn.Module, batch: Batch) -> Tensor:
    """Cross-entropy, and FixMatch's where there are unlabelled images."""
    if batch.weak is None or batch.strong is None:
        return F.cross_entropy(model(batch.x), batch.y)
    logits = model(torch.cat([batch.x, batch.weak, batch.strong]))
    labelled, weak, strong = logits.split([len(batch.x), len(batch.weak), len(batch.strong)])
    confidence, taught = weak.detach().softmax(1).max(1)
    each = F.cross_entropy(strong, taught, reduction="none")
    return F.cross_entropy(labelled, batch.y) + (each * (confidence >= 0.95)).mean()


def bare(model: nn.Module, batch: Batch, settings: OptimiserSettings) -> Callable[[], None]:
    """One step of the bare loop."""
    model.train()
    average = copy.deepcopy(model).requires_grad_(False)
    means, values = list(average.parameters()), list(model.parameters())
    buffers = list(zip(average.buffers(), model.buffers(), strict=True))
    optim = torch.optim.AdamW(optimiser.parameter_groups(model, settings), settings.lr, fused=True)

    def step() -> None:
        loss = loss_of(model, batch)
        optim.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optim.step()
        with torch.no_grad():
            torch._foreach_lerp_(means, values, 1.0 - DECAY)
            for mean, value in buffers:
                mean.copy_(value)

    return step


@dataclass(frozen=True)
class Spent:
    """Seconds."""

    clock: float
    processor: float

    def since(self, earlier: "Spent", steps: int) -> "Spent":
        """Those of one of so many steps."""
        clock, processor = self.clock - earlier.clock, self.processor - earlier.processor
        return Spent(clock / steps, processor / steps)


def now() -> Spent:
    return Spent(time.perf_counter(), time.process_time())


class Turns(Events):
    """The listener of a run, which lets the bare loop have its turn after every few steps."""

    ours: list[Spent]
    theirs: list[Spent]

    def take_turns(self, other: Callable[[], None], steps: int, wait: Callable[[], None]) -> None:
        """`other` is a step of the bare loop, `wait` waits for the device."""
        self.other, self.steps, self.wait = other, steps, wait
        self.ours, self.theirs, self.since = [], [], now()

    def step(self, progress: float, step: int, rate: float, loss: float) -> None:
        super().step(progress, step, rate, loss)
        if step % self.steps:
            return
        self.wait()
        start = now()
        for _ in range(self.steps):
            self.other()
        self.wait()
        end = now()
        self.ours.append(start.since(self.since, self.steps))
        self.theirs.append(end.since(start, self.steps))
        self.since = now()


def measured(case: Case, pace: Pace, turns: int, device: str) -> tuple[list[Spent], list[Spent]]:
    """Time of a step, by turn: of fit, of the bare loop."""
    torch.manual_seed(0)
    fabric = Fabric(accelerator=device, devices=1)
    model = catalog.sized(catalog.build(case.model, CLASSES, "none"), case.size, CLASSES).model
    model = model.to(fabric.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def images(count: int) -> Tensor:
        x = torch.randn(count, 3, case.size, case.size, device=fabric.device)
        return x.to(memory_format=torch.channels_last)

    u = case.labelled * case.ratio
    y = torch.randint(CLASSES, (case.labelled,), device=fabric.device)
    batch = Batch(images(case.labelled), y)
    if u:
        index = torch.arange(u, device=fabric.device)
        batch = Batch(batch.x, y, images(u), images(u), index)
    settings = OptimiserSettings("adamw", RATE)
    wait = torch.cuda.synchronize if fabric.device.type == "cuda" else lambda: None
    facts = Facts(CLASSES, (2,) * CLASSES, max(1, u), u)
    with tempfile.TemporaryDirectory() as home:
        folder = RunFolder.create(Path(home) / "run")
        listener = Turns(folder, Console(quiet=True))
        listener.take_turns(bare(copy.deepcopy(model), batch, settings), case.steps, wait)
        fit(
            model,
            create(case.method, facts, resolve(case.method, case.settings)),
            lambda step: batch,
            Budget(steps=case.steps * (turns + WARM)),
            TrainSettings(settings, ema_decay=DECAY, pace=pace),
            fabric,
            folder.last,
            lambda model: {},
            listener,
            size=case.size,
        )
    return listener.ours[WARM:], listener.theirs[WARM:]


def compared(ours: list[float], theirs: list[float]) -> str:
    """A line of numbers; both are seconds of a step, by turn."""
    ratios = np.log(ours) - np.log(theirs)
    drawn = np.random.default_rng(0).choice(ratios, (10_000, len(ratios)))
    low, high = np.exp(np.quantile(drawn.mean(1), (0.025, 0.975)))
    least, total = (of(ours) / of(theirs) for of in (min, sum))
    mine, bare_one = 1000 * statistics.median(ours), 1000 * statistics.median(theirs)
    return (
        f"bare {bare_one:.2f} ms, ours {mine - bare_one:+.2f}; turns {np.exp(ratios.mean()):.3f} "
        f"({low:.3f} to {high:.3f}); minima {least:.3f}, sums {total:.3f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--turns", type=int, default=20)
    parser.add_argument("--only", choices=CASES, nargs="+", default=list(CASES))
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    print(f"{asked.device}, {asked.threads} threads, {asked.turns} turns; ours / bare:")
    for name in asked.only:
        for saving, pace in (("no checkpoints", UNSAVED), ("checkpoints", SAVING)):
            ours, theirs = measured(CASES[name], pace, asked.turns, asked.device)
            for of in ("clock", "processor"):
                mine, bare_ones = ([getattr(t, of) for t in some] for some in (ours, theirs))
                print(f"{name}, {saving}, {of}: {compared(mine, bare_ones)}", flush=True)


if __name__ == "__main__":
    main()
