"""Probabilities of a model on images: the one way, for validation, test and `predict`."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fewlabels.pixels.preprocess import Preprocess

BATCH = 256


@torch.inference_mode()
def logits(
    model: nn.Module,
    images: NDArray[np.uint8],
    preprocess: Preprocess,
    device: torch.device | str = "cpu",
) -> NDArray[np.float32]:
    """The model's logits [N, K] in eval mode on uint8 images [N, S, S, 3].

    The training mode of every module is as before when this returns.
    """
    modes = {module: module.training for module in model.modules()}  # a frozen norm is in eval
    model.eval()
    try:
        parts = [
            model(preprocess(images[start : start + BATCH]).to(device)).float().cpu().numpy()
            for start in range(0, len(images), BATCH)
        ]
    finally:
        for module, training in modes.items():
            module.training = training
    return np.concatenate(parts) if parts else np.zeros((0, 0), np.float32)


def softmax(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """Probabilities [N, K] of logits [N, K]."""
    shifted = np.exp(values.astype(np.float64) - values.max(1, keepdims=True))
    result: NDArray[np.float64] = shifted / shifted.sum(1, keepdims=True)
    return result
