"""Which of the run's images are like this one, and which excite a channel most."""

from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fewlabels.evaluate.explain.attribution import at_once
from fewlabels.evaluate.explain.instrument import Instrumented
from fewlabels.models.structure import seen_at, seen_by_head
from fewlabels.pixels.preprocess import Preprocess


@dataclass(frozen=True, eq=False)
class Survey:
    """What the model makes of M images: what its head sees, and the highest value of each channel
    of the last map (no columns where there is no map)."""

    features: NDArray[np.float32]  # [M, F]
    peaks: NDArray[np.float32]  # [M, C]


@torch.no_grad()
def survey(net: Instrumented, images: NDArray[np.uint8], preprocess: Preprocess) -> Survey:
    """Of uint8 images [M, S, S, 3], M > 0."""
    features: list[NDArray[np.float32]] = []
    peaks: list[NDArray[np.float32]] = []
    together = at_once(net.size)
    for start in range(0, len(images), together):
        x = preprocess(images[start : start + together]).to(net.device)
        with ExitStack() as stack:
            seen = stack.enter_context(seen_by_head(net.model))
            maps = stack.enter_context(seen_at(net.model, net.path)) if net.path else []
            net.model(x)
        features.append(seen[0].float().cpu().numpy())
        peaks += [image.amax((2, 3)).float().cpu().numpy() for image in maps]
    none = np.zeros((len(images), 0), np.float32)
    return Survey(np.concatenate(features), np.concatenate(peaks) if peaks else none)


def nearest(
    features: NDArray[np.float32], bank: NDArray[np.float32], count: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The rows of bank [M, F] most like each of features [N, F], the most alike first, and their
    cosines: [N, count] each, or [N, M] where there are fewer."""
    cosine = _unit(features) @ _unit(bank).T
    order = np.argsort(-cosine, axis=1, kind="stable")[:, :count]
    return order, np.take_along_axis(cosine, order, 1)


def _unit(x: NDArray[np.float32]) -> NDArray[np.float32]:
    length = np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    scaled: NDArray[np.float32] = (x / length).astype(np.float32)
    return scaled
