"""Is a map to be believed? Two checks that a map can fail.

Deletion: pixels are removed in the order of the map; the probability of the class must fall faster
than in another order. Randomisation: another model must have another map.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import Tensor, nn

from fewlabels.evaluate.explain.attribution import at_once, attribute
from fewlabels.evaluate.explain.instrument import Instrumented, instrument
from fewlabels.models.structure import Unit, units

STEPS = 8  # of a deletion curve
DRAWS = 5  # of the order that it is compared with

Maps = NDArray[np.float32]  # [N, S, S]


@dataclass(frozen=True, eq=False)
class Deletion:
    """Mean probability by the share of pixels removed, and the area under it by image."""

    share: NDArray[np.float64]  # [STEPS + 1], from 0 to 1
    curve: NDArray[np.float64]  # [STEPS + 1]
    area: NDArray[np.float64]  # [N]
    control: NDArray[np.float64]  # [STEPS + 1], mean over the draws
    control_area: NDArray[np.float64]  # [DRAWS, N]


def deletion(
    model: nn.Module, x: Tensor, target: Tensor, maps: Maps, kept: NDArray[np.bool_], seed: int = 0
) -> Deletion:
    """The deletion curve (Petsiuk, Das and Saenko 2018, section 3.2) of maps of images x
    [N, 3, S, S], normalised: removed pixels get the mean colour, 0.

    It is compared with a random order of the same grain: the same maps, each moved by a random
    step and wrapped round. Single pixels drawn at random would fall on everything at once, and a
    net that reads fine detail breaks at that sooner than when it loses the object itself.
    kept [N, S, S] are pixels that show nothing (a border) and are removed in no order.
    """
    share = np.linspace(0, 1, STEPS + 1)
    rng = np.random.default_rng(seed)
    bare = x.masked_fill(~torch.from_numpy(kept).to(x.device)[:, None], 0.0)
    ends = _probability(model, x, target), _probability(model, bare, target)  # of any order
    curves = _curves(model, x, target, _ranks(maps, kept, rng), ends)
    moved = []
    for _ in range(DRAWS):
        steps = rng.integers(0, maps.shape[1], (len(maps), 2))
        rolled = np.stack([np.roll(m, step, (0, 1)) for m, step in zip(maps, steps, strict=True)])
        moved.append(_curves(model, x, target, _ranks(rolled, kept, rng), ends))
    control = np.stack(moved)  # [DRAWS, N, STEPS + 1]
    return Deletion(
        share,
        curves.mean(0),
        _area(curves, share),
        control.mean((0, 1)),
        _area(control, share),
    )


def _area(curves: NDArray[np.float64], share: NDArray[np.float64]) -> NDArray[np.float64]:
    area: NDArray[np.float64] = np.trapezoid(curves, share, axis=-1)  # type: ignore[assignment]
    return area


def _ranks(maps: Maps, kept: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.float64]:
    """[N, S, S]: the share of an image's pixels that go before this one, the highest first; equal
    ones in random order. What is kept has rank 1."""
    flat, still = maps.reshape(len(maps), -1), kept.reshape(len(kept), -1)
    order = np.lexsort((rng.random(flat.shape), -flat, still))
    ranks = np.empty(flat.shape)
    np.put_along_axis(ranks, order, np.arange(flat.shape[1], dtype=float)[None], axis=1)
    ranks /= np.maximum((~still).sum(1, keepdims=True), 1)
    ranks[still] = 1.0
    return ranks.reshape(maps.shape)


def _curves(
    model: nn.Module,
    x: Tensor,
    target: Tensor,
    ranks: NDArray[np.float64],
    ends: tuple[NDArray[np.float64], NDArray[np.float64]],
) -> NDArray[np.float64]:
    """[N, STEPS + 1]: the target's probability where the pixels of rank < i / STEPS are gone."""
    gone = torch.from_numpy(ranks.astype(np.float32)).to(x.device)[:, None]
    between = [
        _probability(model, x.masked_fill(gone < step / STEPS, 0.0), target)
        for step in range(1, STEPS)
    ]
    return np.stack([ends[0], *between, ends[1]], 1)


@torch.no_grad()
def _probability(model: nn.Module, x: Tensor, target: Tensor) -> NDArray[np.float64]:
    """[N]: of the target."""
    p = torch.cat([model(part).softmax(1) for part in torch.split(x, at_once(x.shape[-1]))])
    found: NDArray[np.float64] = p.gather(1, target[:, None])[:, 0].cpu().double().numpy()
    return found


LEVELS: dict[str, Callable[[int], int]] = {  # of the number of units: how many are randomised
    "the last layer": lambda count: 1,
    "the upper half": lambda count: math.ceil(count / 2),
    "all layers": lambda count: count,
}


def randomised(
    net: Instrumented, x: Tensor, target: Tensor, method: str, maps: Maps, seed: int = 0
) -> dict[str, float]:
    """The mean rank correlation of `maps` [N, S, S] with those of the same model whose weights are
    randomised, by how far down from the head (Adebayo et al. 2018, section 4.1: cascading).

    1 is an unchanged map: it does not depend on what was learnt. A map of one value only, as of a
    net that has died, counts as 0.
    """
    found: dict[str, float] = {}
    counted: set[int] = set()
    total = len(_with_weights(net.source))
    for level, part in LEVELS.items():
        if part(total) in counted:  # a perceptron has but one layer
            continue
        counted.add(part(total))
        other = instrument(randomise(net.source, part(total), seed), net.size, net.path)
        theirs = attribute(other, x, target, method).numpy()
        same = [rank_correlation(a, b) for a, b in zip(maps, theirs, strict=True)]
        found[level] = float(np.mean(same))
    return found


def randomise(model: nn.Module, count: int, seed: int) -> nn.Module:
    """A copy whose last `count` units have random weights of the size that they had: matrices and
    kernels are drawn anew, norms and biases are shuffled."""
    other = copy.deepcopy(model)
    named = dict(other.named_parameters())
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for unit in _with_weights(other)[-count:]:
            for name in unit.parameters:
                weight = named[name]
                if weight.ndim > 1:
                    size = weight.square().mean().sqrt().cpu()
                    weight.copy_(size * torch.randn(weight.shape, generator=draw))
                elif weight.ndim == 1:
                    weight.copy_(weight.cpu()[torch.randperm(len(weight), generator=draw)])
    return other


def _with_weights(model: nn.Module) -> list[Unit]:
    """Its units but for a head that only remembers images."""
    return [unit for unit in units(model) if unit.parameters]


def rank_correlation(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Spearman's, of all values of two maps; 0 where one of them has one value only."""
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return float(np.corrcoef(rankdata(a), rankdata(b))[0, 1])
