"""The listing: every architecture by name, with what it costs and who described it.

`listing.csv` is made by `benchmarks/listing.py`. Reading it needs neither torch nor timm.
"""

import csv
import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from fewlabels.errors import UserError

CLASSES = 1000  # of torchvision's and timm's, as they are listed

# what is shown of timm unless more is asked for: the best known, and what suits few labels
KNOWN = (
    "convnext_atto",
    "convnextv2_tiny",
    "deit_small_patch16_224",
    "deit3_small_patch16_224",
    "efficientnet_b8",
    "timm:efficientnet_l2",
    "efficientnetv2_rw_t",
    "eva02_tiny_patch14_336",
    "legacy_seresnet50",
    "mixer_b16_224",
    "mobilenetv2_035",
    "mobilenetv3_small_050",
    "mobilenetv4_conv_small",
    "mobilevit_xs",
    "resnet10t",
    "resnet50d",
    "resnetv2_50x1_bit",
    "senet154",
    "seresnet50",
    "seresnext50_32x4d",
    "swin_tiny_patch4_window7_224",
    "tf_efficientnetv2_b0",
    "tiny_vit_5m_224",
    "vit_tiny_patch16_224",
    "vit_small_patch14_dinov2",
    "vit_base_patch16_224",
    "vit_base_patch16_clip_224",
    "xception41",
)


@dataclass(frozen=True)
class Entry:
    """An architecture. What nobody has counted or published is None or empty."""

    name: str  # as --model takes it: with its source where an earlier source has the bare name
    source: str  # fewlabels, torchvision or timm
    family: str
    year: int | None
    paper: str
    parameters: int | None  # of what evaluation uses
    flops: int | None  # multiply-adds of one image of this size
    size: int  # side in pixels
    top1: float | None  # per cent on ImageNet at this size, as the library publishes it
    pretrained: bool
    classes: int  # for which the two were counted


@cache
def entries() -> tuple[Entry, ...]:
    """All of them: ours, torchvision's, timm's."""
    text = files("fewlabels.models").joinpath("listing.csv").read_text(encoding="utf-8")
    return tuple(_entry(row) for row in csv.DictReader(text.splitlines()))


def known() -> list[Entry]:
    """A selection to read: ours, torchvision's, and the best known of timm's."""
    return [entry for entry in entries() if entry.source != "timm" or entry.name in KNOWN]


def find(
    max_params: int | None = None, family: str | None = None, pretrained: bool = False
) -> list[Entry]:
    """Those of all that have no more parameters, are of this family, come with weights.

    A family's case and punctuation do not matter. UserError for an unknown one.
    """
    wanted = None if family is None else _family(family)
    return [
        entry
        for entry in entries()
        if (max_params is None or (entry.parameters or max_params + 1) <= max_params)
        and (wanted is None or entry.family == wanted)
        and (entry.pretrained or not pretrained)
    ]


def entry(name: str) -> Entry | None:
    """The one that `--model name` builds, whatever arguments or tag of weights follow the name."""
    bare = re.split(r"[.(]", name)[0]
    source, _, short = bare.rpartition(":")
    found = [e for e in entries() if e.name == bare]
    if source in ("torchvision", "timm"):
        found += [e for e in entries() if e.name == short and e.source == source]
    return found[0] if found else None


def amount(text: str) -> int:
    """5M -> 5,000,000. UserError for what is no number of parameters."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgb]?)", text.strip().lower())
    if found is None:
        raise UserError(f"--max-params {text}: write a number such as 500k, 5M or 1.5G")
    return round(float(found[1]) * {"": 1, "k": 1e3, "m": 1e6}.get(found[2], 1e9))


def _family(name: str) -> str:
    families = {_plain(e.family): e.family for e in entries()}
    if _plain(name) in families:
        return families[_plain(name)]
    close = _close(_plain(name), families)
    hint = " or ".join(families[one] for one in close) or "see `fewlabels models --all`"
    raise UserError(f"--family {name}: no such family; {'did you mean ' * bool(close)}{hint}")


def _close(name: str, names: Iterable[str]) -> list[str]:
    return difflib.get_close_matches(name, list(names), n=3, cutoff=0.5)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _entry(row: dict[str, str]) -> Entry:
    return Entry(
        row["name"],
        row["source"],
        row["family"],
        _whole(row["year"]),
        row["paper"],
        _whole(row["parameters"]),
        _whole(row["flops"]),
        int(row["size"]),
        float(row["top1"]) if row["top1"] else None,
        row["pretrained"] == "yes",
        int(row["classes"]),
    )


def _whole(text: str) -> int | None:
    return int(text) if text else None
