"""Probabilities of a model on images: the one way, for validation, test and `predict`."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fewlabels.evaluate.calibration import temper
from fewlabels.models.structure import in_mode
from fewlabels.pixels.preprocess import Preprocess

BATCH = 256
REACH = 1 / 16  # a crop is shifted by this part of the sides

Read = Callable[[NDArray[np.float32]], NDArray[np.float64]]  # outputs [N, K] -> what they say

# What is averaged at test time: whether mirrored, and the shift along each axis.
Look = tuple[bool, int, int]
_STILL: tuple[Look, ...] = ((False, 0, 0),)
_CROPS: tuple[Look, ...] = _STILL + tuple((False, y, x) for y in (-1, 1) for x in (-1, 1))
TTA: dict[str, tuple[Look, ...]] = {
    "none": _STILL,
    "flip": (*_STILL, (True, 0, 0)),
    "crop": _CROPS,
    "flip+crop": _CROPS + tuple((True, y, x) for _, y, x in _CROPS),
}


def probabilities(
    model: nn.Module,
    images: NDArray[np.uint8],
    preprocess: Preprocess,
    device: torch.device | str = "cpu",
    tta: str = "none",
    temperature: float = 1.0,
    read: Read | None = None,
) -> NDArray[np.float64]:
    """Class probabilities [N, K] of uint8 images [N, S, S, 3], averaged over the looks of `tta`,
    then tempered. The first look, in whole batches, is at the images as they are.

    `read` (softmax): what is made of the model's outputs where these are no logits of one class.
    """
    read = read or softmax
    looks = [read(logits(model, seen(images, look), preprocess, device)) for look in TTA[tta]]
    mean: NDArray[np.float64] = np.mean(looks, axis=0) if len(looks) > 1 else looks[0]
    return temper(mean, temperature)


def seen(images: NDArray[np.uint8], look: Look) -> NDArray[np.uint8]:
    """The images [N, S, S, 3] mirrored and shifted; the edge is repeated."""
    mirrored, down, right = look
    if mirrored:
        images = images[:, :, ::-1]
    if down or right:
        by = max(1, round(REACH * images.shape[1]))
        padded = np.pad(images, ((0, 0), (by, by), (by, by), (0, 0)), mode="edge")
        y, x = by * (1 - down), by * (1 - right)
        images = padded[:, y : y + images.shape[1], x : x + images.shape[2]]
    return images


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
    with in_mode(model, False):
        parts = [
            model(preprocess(images[start : start + BATCH]).to(device)).float().cpu().numpy()
            for start in range(0, len(images), BATCH)
        ]
    return np.concatenate(parts) if parts else np.zeros((0, 0), np.float32)


def softmax(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """Probabilities [N, K] of logits [N, K]."""
    shifted = np.exp(values.astype(np.float64) - values.max(1, keepdims=True))
    result: NDArray[np.float64] = shifted / shifted.sum(1, keepdims=True)
    return result
