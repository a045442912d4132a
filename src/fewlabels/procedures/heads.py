"""A head fitted to features, put into the model that they came from.

Fine-tuning starts from a linear probe (Kumar et al. 2022, LP-FT): from a blank head the first steps
would bend pretrained filters for the sake of a head that knows nothing yet.
"""

import numpy as np
import torch
from torch import nn

from fewlabels.models.built import head
from fewlabels.models.structure import embed
from fewlabels.pool.pool import SINGLE
from fewlabels.procedures.embedding import embedded
from fewlabels.procedures.prepare import Rows, each_class_in_turn
from fewlabels.procedures.probes import linear_probe
from fewlabels.procedures.stage import Context, Weights

MOST = 2000  # labelled images that a start is fitted to; the rest is learnt in training


@torch.inference_mode()
def takes_head(context: Context) -> bool:
    """Whether the model ends in one linear layer: a distilled transformer, for one, has two."""
    model = context.model().eval()
    layer = head(model)[1]
    x = context.preprocess(context.data.images[context.data.labelled[:2]]).to(context.fabric.device)
    return isinstance(layer, nn.Linear) and torch.allclose(
        layer(embed(model, x)), model(x), rtol=1e-3, atol=1e-5
    )


def with_head(context: Context, layer: nn.Module) -> Weights:
    """The state of the whole model at its start, with `layer` for its head."""
    path, state = head(context.start.model)[0], context.model().state_dict()
    rest = {name: value for name, value in state.items() if not name.startswith(f"{path}.")}
    return rest | {f"{path}.{name}": value for name, value in layer.state_dict().items()}


def probed(context: Context, labelled: Rows) -> Weights | None:
    """What training on these images starts from: with pretrained weights, a linear probe of them;
    None for the model as it is, also where labels are other than one class an image."""
    data = context.data
    if data.pool.task != SINGLE:
        return None
    if context.config.weights == "none" or not takes_head(context):
        return None
    label, k = data.pool.label, len(data.pool.classes)
    order = np.random.default_rng(context.config.seed).permutation(labelled)
    rows = each_class_in_turn(order, label)[:MOST]  # no class is left out
    groups = data.tied
    layer = linear_probe(embedded(context, rows), label[rows], groups[rows], k)
    return with_head(context, layer)
