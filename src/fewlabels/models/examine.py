"""A model by name, looked at from all sides: what `fewlabels models NAME` shows."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fewlabels.models import anatomy, catalog, listing
from fewlabels.models.anatomy import Layer, Totals
from fewlabels.models.built import Built
from fewlabels.models.initialise import initialise
from fewlabels.models.listing import Entry
from fewlabels.models.signals import Signal, signals, warnings

DEFAULT_SIZE = 224  # of a model that is not listed and takes any
IMAGES = 16  # of which the signals are measured, fewer where they are large


@dataclass(frozen=True)
class Examined:
    """A model with random weights, for images of one size."""

    name: str
    size: int
    classes: int
    entry: Entry | None  # its row in the listing, for family and paper
    layers: tuple[Layer, ...]
    totals: Totals
    field: int | None  # the largest of any layer that has not seen the whole image
    stem: str  # what was changed for small images
    init: str
    signals: tuple[Signal, ...]
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values; a number that is not finite is null."""
        entry = self.entry
        return {
            "name": self.name,
            "family": entry.family if entry else "",
            "year": entry.year if entry else None,
            "paper": entry.paper if entry else "",
            "size": self.size,
            "classes": self.classes,
            **asdict(self.totals),
            "field": self.field,
            "stem": self.stem,
            "init": self.init,
            "layers": [asdict(layer) for layer in self.layers],
            "signals": [
                {k: _finite(v) for k, v in asdict(signal).items()} for signal in self.signals
            ],
            "warnings": list(self.warnings),
        }


def examine(
    name: str, size: int | None = None, init: str | None = None, with_signals: bool = False
) -> Examined:
    """Layers and totals of a model, and how signals pass through it if `with_signals`.

    size: side in pixels, else the one it is listed with. init: how weights start, else the model's
    own way. UserError for an unknown name, a size it cannot take, an unknown `init`.
    """
    entry = listing.entry(name)
    classes = entry.classes if entry else listing.CLASSES
    built = _built(name, classes, size, meta=not with_signals)
    own = built.arguments.get("size") or (built.size if built.fixed else None)
    side = size or own or (entry and entry.size) or built.size or DEFAULT_SIZE
    rows = anatomy.layers(built.model, side)
    found: tuple[Signal, ...] = ()
    if init is not None:
        initialise(built.model, init)
    if with_signals:
        found = signals(built.model, *digits(side))
    return Examined(
        name=name,
        size=side,
        classes=classes,
        entry=entry,
        layers=rows,
        totals=anatomy.totals(built.model, side),
        field=max((row.field for row in rows if row.field is not None), default=None),
        stem=built.stem,
        init=init or "",
        signals=found,
        warnings=tuple(warnings(found)),
    )


def digits(size: int) -> tuple[Tensor, Tensor]:
    """Images [B, 3, size, size] of mean 0 and standard deviation 1, and labels [B]: scikit-learn's
    handwritten digits, enlarged. They are real, and need no network."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    count = IMAGES if size <= 96 else IMAGES // 2
    x = torch.from_numpy(pixels[:count]).float().reshape(-1, 1, 8, 8)
    x = F.interpolate((x - x.mean()) / x.std(), size=(size, size), mode="bilinear")
    return x.expand(-1, 3, -1, -1).contiguous(), torch.from_numpy(labels[:count]).long()


def _built(name: str, classes: int, size: int | None, meta: bool) -> Built:
    """Without memory where numbers are not asked for and the model can be built so."""
    arguments = {} if size is None else {"size": size}
    if meta:
        try:
            with torch.device("meta"):
                return catalog.build(name, classes, "none", arguments)
        except Exception:  # some look at their numbers; what is wrong with the name is told below
            pass
    return catalog.build(name, classes, "none", arguments)


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
