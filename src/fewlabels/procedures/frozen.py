"""Procedures on frozen features: one pass over the images, then seconds.

`linear_probe` and `knn` learn from the labels only. `label_spreading` carries the labels along the
graph of similar images to the unlabelled ones and fits a linear layer to all of them; the linear
probe is the baseline beside it.

Without validation images in the pool a part of the labels is held out once, for the estimate; what
is shipped is fitted to all labels. Nothing is chosen on validation images: the penalty comes from
cross-validation on the images that are fitted to.
"""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fewlabels.errors import UserError
from fewlabels.evaluate.predictions import softmax
from fewlabels.pool import split
from fewlabels.procedures.chosen import Chosen, keep
from fewlabels.procedures.embedding import Features, embedded
from fewlabels.procedures.heads import takes_head, with_head
from fewlabels.procedures.prepare import Rows
from fewlabels.procedures.probes import (
    SPREADS,
    USUAL,
    knn,
    linear_probe,
    resolve,
    spread_labels,
)
from fewlabels.procedures.stage import Context, Trained

BASELINE = "linear_probe"  # of what learns from unlabelled images too


def run(context: Context) -> Chosen:
    """Embeds, fits, and only then looks at the test images."""
    data, method = context.data, context.config.method
    settings = resolve(method, context.config.settings)
    spreads = method in SPREADS
    if spreads and not len(data.unlabelled):
        raise UserError(
            f"--method {method}: {data.pool.origin} has no unlabelled images; take linear_probe"
        )
    if not takes_head(context):
        raise UserError(f"--model {context.config.model}: has no linear head to put a {method} in")

    began = context.clock()
    unlabelled = data.unlabelled if spreads else data.unlabelled[:0]
    rows = np.unique(np.concatenate([data.labelled, data.val, data.test, unlabelled]))
    features = embedded(context, rows)
    context.events.say(f"features of {len(rows):,} images after {context.clock():.0f} s")

    def seen(some: Rows) -> Features:
        return features[np.searchsorted(rows, some)]

    def fit(name: str, labelled: Rows) -> nn.Module:
        label, k = data.pool.label, len(data.pool.classes)
        groups = split.tied(data.pool, data.digest)
        if name == "knn":
            return knn(seen(labelled), label[labelled], k, settings.k)
        if name == "linear_probe":
            return linear_probe(seen(labelled), label[labelled], groups[labelled], k)
        some = np.concatenate([labelled, unlabelled])
        known = np.concatenate([label[labelled], np.full(len(unlabelled), -1)])
        answer, weight = spread_labels(seen(some), known, k, settings)
        return linear_probe(seen(some), answer, groups[some], k, weight, strength=USUAL)

    def said(layer: nn.Module, some: Rows) -> NDArray[np.float64]:
        return _said(layer, seen(some), len(data.pool.classes))

    names = [BASELINE, method] if spreads else [method]
    heads = {name: fit(name, data.labelled) for name in names}
    # validated by a fit that had not seen those labels
    part = np.setdiff1d(data.labelled, data.held_out)
    judges = {name: fit(name, part) for name in names} if len(data.held_out) else heads
    val = {name: said(judge, context.val_rows) for name, judge in judges.items()}
    seconds = context.clock() - began
    done = {
        name: Trained(with_head(context, layer), 0, seconds, len(rows), val[name])
        for name, layer in heads.items()
    }
    start = context.start
    if method == "knn":
        more = {"neighbours": len(data.labelled), "nearest": settings.k}
        start = replace(start, arguments=start.arguments | more)
    keep(replace(context, start=start), method, done[method])
    return Chosen(
        context=context,
        method=method,
        stages=(done[method],),
        baseline=(done[BASELINE],) if spreads else (),
        val=val,
        test={name: said(layer, data.test) for name, layer in heads.items()},
        why=f"{method}, as asked",
        beside=names[0],
        ask=lambda some: _said(heads[method], embedded(context, some), len(data.pool.classes)),
    )


@torch.inference_mode()
def _said(layer: nn.Module, features: Features, num_classes: int) -> NDArray[np.float64]:
    if not len(features):
        return np.zeros((0, num_classes))
    return softmax(layer(torch.from_numpy(features)).numpy())
