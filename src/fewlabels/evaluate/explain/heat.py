"""Grad-CAM over some pictures, for the report; what all of `explain` takes is too slow for it."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fewlabels.errors import UserError
from fewlabels.evaluate.explain.attribution import attribute, need_captum, without
from fewlabels.evaluate.explain.instrument import instrument
from fewlabels.evaluate.explain.picture import Pixels, overlay
from fewlabels.pixels.preprocess import Preprocess

METHOD = "grad_cam"


def heat(
    model: nn.Module, images: Pixels, target: NDArray[np.int64], preprocess: Preprocess
) -> Pixels | None:
    """What spoke for the classes `target` [N] in uint8 images [N, S, S, 3], drawn over them.

    None without captum, without images, and where the model makes no map of an image.
    """
    try:
        need_captum()
    except UserError:
        return None
    if not len(images):
        return None
    net = instrument(model, preprocess.size)
    if METHOD in without(net):
        return None
    x = preprocess(images).to(net.device)
    maps = attribute(net, x, torch.from_numpy(target).to(net.device), METHOD).numpy()
    return np.stack([overlay(*pair) for pair in zip(images, maps, strict=True)])
