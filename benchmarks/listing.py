"""Makes `src/fewlabels/models/listing.csv`, which `fewlabels models` shows.

    python benchmarks/listing.py [--timm-results results-imagenet.csv] [--anew]

Every architecture of ours, torchvision's and timm's is built without memory and counted: about a
quarter of an hour. What the file holds of timm's is not counted again unless --anew. Accuracy is
what torchvision says with its weights, and what timm publishes for an architecture's default
weights at this size of images, in results/results-imagenet.csv of its repository; without that
file, timm's accuracies stay as they are. What is not known has empty cells.
"""

import argparse
import csv
import gc
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from families import family
from torch import nn

from fewlabels.errors import one_line
from fewlabels.models import anatomy, catalog, from_torchvision, listing
from fewlabels.models.listing import CLASSES, Entry
from fewlabels.torchvision_repair import repair

repair()

import timm  # noqa: E402
from torchvision.models import get_model_weights  # noqa: E402

Results = dict[tuple[str, int], float]  # top-1 by model with its tag, and size

TARGET = Path(listing.__file__).with_name("listing.csv")
LARGE = {"efficientnet_l2": 800}  # of ours; the others are for small images and ten classes


@dataclass(frozen=True)
class Found:
    """What is known of an architecture before it is built."""

    name: str
    source: str
    size: int
    classes: int
    top1: float | None = None
    pretrained: bool = False


def architectures(results: Results, before: dict[str, Entry]) -> Iterator[Found]:
    """Ours, then torchvision's, then timm's."""
    for name in catalog.OURS:
        size = LARGE.get(name, 32)
        yield Found(name, "fewlabels", size, CLASSES if name in LARGE else 10)
    for name in from_torchvision.names():
        weights = get_model_weights(name).DEFAULT
        top1 = weights.meta["_metrics"]["ImageNet-1K"]["acc@1"]
        yield Found(name, "torchvision", weights.transforms().crop_size[0], CLASSES, top1, True)
    taken = {*catalog.OURS, *from_torchvision.names()}
    pretrained = set(timm.list_pretrained())
    for bare in timm.list_models():
        about = timm.get_pretrained_cfg(bare)
        name = f"timm:{bare}" if bare in taken else bare
        full = f"{bare}.{about.tag}" if about.tag else bare
        size, old = about.input_size[-1], before.get(name)
        top1 = results.get((full, size)) if results else old.top1 if old else None
        yield Found(name, "timm", size, CLASSES, top1, full in pretrained)


def built(found: Found) -> nn.Module:
    """Without memory where that can be, and without the auxiliary classifiers of training."""
    more: dict[str, object] = {"size": found.size} if found.source == "torchvision" else {}
    if found.name in from_torchvision.INCEPTION:
        more["aux_logits"] = False
    try:
        with torch.device("meta"):
            return catalog.build(found.name, found.classes, "none", more).model
    except Exception:
        if found.source == "timm":  # some would need 100 GB
            raise
        return catalog.build(found.name, found.classes, "none", more).model


def counted(found: Found, old: Entry | None, anew: bool) -> Entry:
    """The row, with the counts of `old` where it has them."""
    parameters = flops = None
    fits = old is not None and (old.size, old.classes) == (found.size, found.classes)
    if old and fits and found.source == "timm" and not anew:
        parameters, flops = old.parameters, old.flops
    if parameters is None:
        try:
            totals = anatomy.totals(built(found), found.size)
            parameters, flops = totals.parameters, totals.flops
        except Exception as error:  # each model fails in its own way
            print(f"{found.name}: {one_line(error)}", file=sys.stderr)
    of, year, paper = family(found.name.removeprefix("timm:"))
    return Entry(
        name=found.name,
        source=found.source,
        family=of,
        year=year,
        paper=paper,
        parameters=parameters,
        flops=flops,
        size=found.size,
        top1=found.top1,
        pretrained=found.pretrained,
        classes=found.classes,
    )


def cells(entry: Entry) -> list[str]:
    values = [getattr(entry, field.name) for field in fields(Entry)]
    words: dict[object, str] = {None: "", True: "yes", False: ""}
    return [words[v] if v is None or isinstance(v, bool) else str(v) for v in values]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--timm-results", type=Path)
    parser.add_argument("--anew", action="store_true", help="count everything again")
    arguments = parser.parse_args()
    results: Results = {}
    if arguments.timm_results:
        with arguments.timm_results.open(newline="") as file:
            results = {
                (row["model"], int(row["img_size"])): float(row["top1"])
                for row in csv.DictReader(file)
            }
    before = {e.name: e for e in listing.entries()} if TARGET.exists() else {}

    began, rows = time.monotonic(), []
    for number, found in enumerate(architectures(results, before), 1):
        rows.append(counted(found, before.get(found.name), arguments.anew))
        if number % 50 == 0:
            print(f"{number} after {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
            gc.collect()
    with TARGET.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(field.name for field in fields(Entry))
        writer.writerows(cells(entry) for entry in rows)
    print(f"{TARGET.name}: {len(rows)} rows", file=sys.stderr)


if __name__ == "__main__":
    main()
