"""What it saves not to pass images backward that carry no loss, and that it costs no accuracy.

    python benchmarks/skipping.py [--model cnn_small --size 32 --threads 1]
    python benchmarks/skipping.py --train DATA [--seeds 3 --steps 1500 --out DIR]

The first measures a step of FixMatch, whole and selected in turn in one process, where a given part
of the images is kept. The second trains with and without, the same draws and steps, and compares
time and test accuracy.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import Tensor

from fewlabels.methods import Batch, Facts, create, fixmatch, resolve
from fewlabels.methods.targets import Taught
from fewlabels.models import catalog

B, U = 16, 64


def milliseconds(name: str, size: int, kept: float, steps: int) -> tuple[float, float]:
    """Of a step: whole, selected; each the best of five turns."""
    torch.manual_seed(0)
    model = catalog.sized(catalog.build(name, 10, "none"), size, 10).model
    model = model.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(model.parameters(), 1e-4, fused=True)
    weight = (torch.arange(U) < kept * U).float()

    def images(n: int) -> Tensor:
        return torch.randn(n, 3, size, size).to(memory_format=torch.channels_last)

    batch = Batch(images(B), torch.randint(10, (B,)), images(U), images(U), torch.arange(U))
    best: dict[bool, float] = {}
    for _ in range(5):
        for skip in (False, True):
            method = create("fixmatch", Facts(10, (2,) * 10, U, U), resolve("fixmatch", {}))
            assert isinstance(method, fixmatch.FixMatch)
            method.teach = lambda weak, index: Taught(weak.argmax(1), weight)  # type: ignore[method-assign]

            def step(skip: bool = skip, method: fixmatch.FixMatch = method) -> None:
                method.kept.fill_(0.0 if skip else 1.0)  # which of the two ways is taken
                optimiser.zero_grad()
                method.step(model, batch, 0.5).loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()

            step()
            start = time.perf_counter()
            for _ in range(steps):
                step()
            took = (time.perf_counter() - start) / steps * 1000
            best[skip] = min(took, best.get(skip, took))
    return best[False], best[True]


def trained(data: str, out: Path, seed: int, steps: int, skip: bool) -> tuple[float, float]:
    """Seconds of training and test accuracy of one run."""
    home = out / f"{'skip' if skip else 'whole'}-{seed}"
    if not (home / "result.json").exists():
        command = [sys.executable, "-m", "fewlabels", "train", data, "--method", "fixmatch"]
        command += ["--model", "cnn_small", "--steps", str(steps), "--seed", str(seed)]
        command += ["--labels-per-class", "2"] if data == "digits" else []
        command += ["--set", f"skip={str(skip).lower()}", "--out", str(home)]
        one = os.environ | {"OMP_NUM_THREADS": "1"}
        subprocess.run(command, check=True, capture_output=True, env=one)
    result = json.loads((home / "result.json").read_text())
    return result["training_seconds"], 100 * result["test"]["accuracy"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="cnn_small")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--train", metavar="DATA", help="{seed} in it stands for the draw")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--out", type=Path, default=Path("runs/skipping"))
    arguments = parser.parse_args()
    if arguments.train is None:
        torch.set_num_threads(arguments.threads)
        for kept in (0.0, 0.1, 0.25, 0.5, 0.75, 1.0):
            steps = 20 if arguments.model == "cnn_small" else 4
            whole, selected = milliseconds(arguments.model, arguments.size, kept, steps)
            print(
                f"{arguments.model} at {arguments.size} px, kept {kept:.0%}: whole {whole:.1f} ms, "
                f"selected {selected:.1f} ms, ratio {selected / whole:.2f}"
            )
        return
    found: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
    for seed in range(arguments.seeds):
        for skip in (False, True):
            data = arguments.train.replace("{seed}", str(seed))
            found[skip].append(trained(data, arguments.out, seed, arguments.steps, skip))
    for skip, runs in found.items():
        seconds, accuracy = zip(*runs, strict=True)
        print(
            f"{'skipped' if skip else 'whole'}: {statistics.mean(seconds):.1f} s of training, "
            f"{statistics.mean(accuracy):.1f} ± {statistics.stdev(accuracy):.1f} %"
        )


if __name__ == "__main__":
    main()
