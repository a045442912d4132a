"""Memory after 1,000 and after 10,000 steps of training: the same, or something grows.

    python benchmarks/memory.py [--device cpu --most 10000]

One run each of `supervised` and `flexmatch`, which remembers something of every image, on
scikit-learn's digits, with a tiny network: batches with their views, the loader's thread,
checkpoints, metrics and progress as in any run. Told are the megabytes that the process holds
(Linux), and that torch has given out on a GPU. More than 1 MB and 1 % more is a failure.
"""

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from rich.console import Console
from torch import nn

from fewlabels.augment.policy import Policy
from fewlabels.methods import Facts, create, resolve
from fewlabels.pixels import cache
from fewlabels.pool.pool import Pool
from fewlabels.procedures.prepare import batches, prepare, preprocessing
from fewlabels.training.budget import Budget
from fewlabels.training.events import Events
from fewlabels.training.folder import RunFolder
from fewlabels.training.loop import TrainSettings, fit

SIZE, BATCH, WORKERS = 8, 8, 1
EARLY = 0.1  # the part of all steps after which it is compared with the end


def resident() -> float:
    """Megabytes of this process that lie in memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


class Weighed(Events):
    """The listener of a run, which looks at the memory early and at the end."""

    def weigh_at(self, steps: tuple[int, ...]) -> None:
        self.at, self.seen = steps, dict[int, tuple[float, float]]()

    def step(self, progress: float, step: int, rate: float, loss: float) -> None:
        super().step(progress, step, rate, loss)
        if step in self.at:
            gpu = torch.cuda.memory_allocated() / 2**20 if torch.cuda.is_available() else 0.0
            self.seen[step] = resident(), gpu


def weighed(name: str, steps: int, device: str) -> dict[int, tuple[float, float]]:
    """Megabytes of memory and of the GPU's, by step."""
    torch.manual_seed(0)
    pool = Pool.scan("digits")
    data = prepare(pool, cache.fingerprint(pool.source), SIZE, 0, 2)
    counts = np.bincount(data.pool.label[data.labelled], minlength=10)
    images = len(data.labelled) + len(data.unlabelled)
    facts = Facts(10, tuple(counts.tolist()), len(data.pool), images)
    method = create(name, facts, resolve(name, {}))
    model = nn.Sequential(
        *(nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(72, 10))
    )
    policies = {view: Policy.read(view) for view in ("weak", "strong")}
    preprocess = preprocessing(data, None, SIZE)
    make_batch = batches(
        *(data, data.labelled, data.unlabelled, method, policies, preprocess, BATCH, 0),
        slots=WORKERS + 2,
        pin=device == "cuda",
    )
    with tempfile.TemporaryDirectory() as home:
        folder = RunFolder.create(Path(home) / "run")
        listener = Weighed(folder, Console(quiet=True))
        listener.weigh_at((round(EARLY * steps), steps))
        settings, budget = TrainSettings(workers=WORKERS), Budget(steps=steps)
        settings = replace(settings, optimiser=replace(settings.optimiser, name="adamw", lr=0.003))
        fabric = Fabric(accelerator=device, devices=1)
        last, nothing = folder.last, dict[str, float]()
        fit(
            *(model, method, make_batch, budget, settings, fabric, last, lambda _: nothing),
            listener,
            size=SIZE,
        )
    return listener.seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--most", type=int, default=10_000, help="steps")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    grown = False
    for name in ("supervised", "flexmatch"):
        (early, before), (late, after) = sorted(weighed(name, asked.most, asked.device).items())
        for what, least, most in zip(("memory", "GPU"), before, after, strict=True):
            if not most:
                continue
            more = most - least
            grows = more > 1.0 and more > 0.01 * least
            grown |= grows
            print(
                f"{name}, {what}: {least:.1f} MB after {early:,} steps, {most:.1f} MB after "
                f"{late:,}: {more:+.2f} MB, {more / least:+.2%}{'  GROWS' if grows else ''}",
                flush=True,
            )
    sys.exit(grown)


if __name__ == "__main__":
    main()
