"""Procedures on frozen features: one pass over the images, then seconds.

`linear_probe` and `knn` learn from the labels only. `label_spreading` carries the labels along the
graph of similar images to the unlabelled ones and fits a linear layer to all of them; the linear
probe is the baseline beside it.

Without validation images in the pool a part of the labels is held out once, for the estimate; what
is shipped is fitted to all labels. Nothing is chosen on validation images: the penalty comes from
cross-validation on the images that are fitted to.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fewlabels.errors import UserError
from fewlabels.evaluate.predictions import softmax
from fewlabels.models import catalog
from fewlabels.procedures.chosen import Chosen, keep
from fewlabels.procedures.embedding import Features, embedded
from fewlabels.procedures.heads import takes_head, with_head
from fewlabels.procedures.prepare import Rows
from fewlabels.procedures.probes import (
    KNN,
    SPREADS,
    USUAL,
    knn,
    linear_probe,
    resolve,
    spread_labels,
)
from fewlabels.procedures.stage import Context, Trained

BASELINE = "linear_probe"  # of what learns from unlabelled images too
GRAPH = 20_000  # images that label spreading compares each with each, where it was not asked for
FORWARD = 2.0  # times as fast as training features are computed: going back costs two passes more


@dataclass(frozen=True, eq=False)
class Embedded:
    """The features of some images, by their rows in the pool."""

    rows: Rows  # ascending
    features: Features

    def __call__(self, some: Rows) -> Features:
        return self.features[np.searchsorted(self.rows, some)]


def run(context: Context) -> Chosen:
    """Embeds, fits, and only then looks at the test images."""
    data, method = context.data, context.config.method
    spreads = method in SPREADS
    if spreads and not len(data.unlabelled):
        raise UserError(
            f"--method {method}: {data.pool.origin} has no unlabelled images; take linear_probe"
        )
    need_head(context)
    began = context.clock()
    names = [BASELINE, method] if spreads else [method]
    seen = embed_for(context, names, data.test)
    context.events.say(f"features of {len(seen.rows):,} images after {context.clock():.0f} s")
    classes = len(data.pool.classes)
    heads = {name: fit(context, name, seen, data.labelled) for name in names}
    judges = heads
    if len(data.held_out):  # validated by a fit that had not seen those labels
        part = np.setdiff1d(data.labelled, data.held_out)
        judges = {name: fit(context, name, seen, part) for name in names}
    val = {name: _said(judge, seen(context.val_rows), classes) for name, judge in judges.items()}
    seconds = context.clock() - began
    done = {
        name: Trained(with_head(context, layer), 0, seconds, len(seen.rows), val[name])
        for name, layer in heads.items()
    }
    asked = shipped(context, method)
    keep(asked, method, done[method])
    return Chosen(
        context=asked,
        method=method,
        stages=(done[method],),
        baseline=(done[BASELINE],) if spreads else (),
        val=val if len(context.val_rows) else {},
        test={name: _said(layer, seen(data.test), classes) for name, layer in heads.items()},
        why=f"{method}, as asked",
        beside=names[0],
        ask=lambda some: _said(heads[method], embedded(context, some), classes),
    )


def fitted(context: Context, method: str) -> Trained:
    """The model with a head fitted to all labelled images of the context."""
    began, data = context.clock(), context.data
    seen = embed_for(context, [method], data.test[:0])
    layer = fit(context, method, seen, data.labelled)
    said = _said(layer, seen(data.val), len(data.pool.classes))
    seconds = context.clock() - began
    return Trained(with_head(context, layer), 0, seconds, len(seen.rows), said)


def need_head(context: Context) -> None:
    """UserError where there is no linear head to put another in the place of."""
    if not takes_head(context):
        raise UserError(
            f"--model {context.config.model}: has no linear head to put a "
            f"{context.config.method} in"
        )


def embed_for(context: Context, methods: Sequence[str], more: Rows) -> Embedded:
    """The features of all images that these methods learn from or are judged on, and of `more`."""
    data = context.data
    some = [data.labelled, data.val, more]
    if any(method in SPREADS for method in methods):
        some.append(data.unlabelled)
    rows = np.unique(np.concatenate(some))
    return Embedded(rows, embedded(context, rows))


def too_many(images: int, seconds: float, rate: float) -> str:
    """Why labels cannot be spread to so many images in this time; empty where they can. rate:
    images a second that training passes forward and back."""
    if images > GRAPH:
        return f"{images:,} images are too many to compare each with each"
    if images > seconds * FORWARD * rate:
        return f"there is no time for the features of {images:,} images"
    return ""


def fit(context: Context, method: str, seen: Embedded, labelled: Rows) -> nn.Module:
    """The head that the method fits to these labels."""
    data, settings = context.data, context.config.settings
    settings = resolve(method, settings if method == context.config.method else {})
    label, k = data.pool.label, len(data.pool.classes)
    groups = data.tied
    if method == "knn":
        return knn(seen(labelled), label[labelled], k, settings.k)
    if method == "linear_probe":
        return linear_probe(seen(labelled), label[labelled], groups[labelled], k)
    some = np.concatenate([labelled, data.unlabelled])
    known = np.concatenate([label[labelled], np.full(len(data.unlabelled), -1)])
    answer, weight = spread_labels(seen(some), known, k, settings)
    return linear_probe(seen(some), answer, groups[some], k, weight, strength=USUAL)


def shipped(context: Context, method: str) -> Context:
    """The context whose model ends in the head that the method leaves."""
    if method != "knn":
        return context
    k = resolve(method, context.config.settings).k if context.config.method == method else KNN().k
    start, classes = context.start, len(context.data.pool.classes)
    own = start.arguments | {"neighbours": len(context.data.labelled), "nearest": k}
    model = catalog.build(start.architecture, classes, "none", own).model
    return replace(context, start=replace(start, model=model, arguments=own))


@torch.inference_mode()
def _said(layer: nn.Module, features: Features, num_classes: int) -> NDArray[np.float64]:
    if not len(features):
        return np.zeros((0, num_classes))
    return softmax(layer(torch.from_numpy(features)).numpy())
