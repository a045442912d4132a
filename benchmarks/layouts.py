"""Seconds of a forward and backward pass in each precision and memory format, and what is chosen.

    python benchmarks/layouts.py [--images 40 --threads 1 --passes 5 --limit 600]

Each number is the least of several passes, in turn; `measuring` is what the choice costs a run with
that time limit, in seconds, and `chosen` what it takes.
"""

import argparse
import time

import torch

from fewlabels.models import catalog
from fewlabels.procedures import device as measuring
from fewlabels.procedures.config import LAYOUTS

NETS = (
    ("cnn_small", 32),
    ("wrn_28_2", 32),
    ("resnet18", 32),
    ("mobilenetv2_100", 128),
    ("mobilenetv2_100", 224),
)
CLASSES = 10


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--images", type=int, default=40, help="a pass")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--passes", type=int, default=5)
    parser.add_argument("--limit", type=float, default=600.0, help="of a run, in seconds")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    device = torch.device(asked.device)
    forms = measuring.candidates("auto", "auto", device)
    print(f"{asked.images} images, {asked.threads} threads, {device}", flush=True)
    print("net", "px", *(str(form).replace(", ", " ") for form in forms), sep=" | ", end=" | ")
    print("measuring | chosen")
    for name, side in NETS:
        torch.manual_seed(0)
        model = catalog.sized(catalog.build(name, CLASSES, "none"), side, CLASSES).model
        least = dict.fromkeys(forms, float("inf"))
        x, y = torch.randn(asked.images, 3, side, side, device=device), torch.arange(asked.images)
        y = y.to(device) % CLASSES
        model = model.to(device).train()
        for _ in range(1 + asked.passes):
            for form in forms:
                model.to(memory_format=LAYOUTS[form.layout])  # type: ignore[call-overload]
                least[form] = min(least[form], measuring.seconds_a_pass(model, x, y, form))
        start = time.perf_counter()
        found = measuring.measured(
            model, CLASSES, asked.images, side, forms, device, measuring.SHARE * asked.limit
        )
        took, best = time.perf_counter() - start, measuring.fastest(found) or forms[0]
        row = (f"{seconds:.3f}" for seconds in least.values())
        print(name, side, *row, f"{took:.1f}", best, sep=" | ", flush=True)


if __name__ == "__main__":
    main()
