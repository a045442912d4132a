"""How it breaks, as tables: under corruptions, along perturbations, under attack, by cause.

`ask` says the classes [N] of uint8 images [N, S, S, 3]; `count` hears what is being done, how much
of it is done, and of how much. Every table is ready for JSON; accuracies come with interval and n.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fewlabels.evaluate import adversarial, stress
from fewlabels.evaluate.corruptions import NAMES, SEVERITIES, corrupted
from fewlabels.evaluate.intervals import Array, gain, mean, share
from fewlabels.evaluate.perturbations import PERTURBATIONS, flip_rate, frames, is_noise
from fewlabels.pixels.preprocess import Preprocess

BATCH = 256
Images = NDArray[np.uint8]
Labels = NDArray[np.int64]
Ask = Callable[[Images], Labels]
Progress = Callable[[str, int, int], None]


def under_corruptions(
    ask: Ask, images: Images, label: Labels, group: Array | None, seed: int, count: Progress
) -> dict[str, Any]:
    """Accuracy under ImageNet-C's 15 corruptions in five severities, and the C-like error, which is
    mCE's plain cousin: off ImageNet's own files nobody's mCE can be compared with it."""
    rows: dict[str, list[dict[str, Any]]] = {}
    wrong = np.zeros(len(label))  # how often each image was
    every = [(name, severity) for name in NAMES for severity in SEVERITIES]
    for done, (name, severity) in enumerate(every):
        count("corruptions", done, len(every))
        right = np.concatenate(
            [
                ask(corrupted(images[some], name, severity, seed, some.start)) == label[some]
                for some in _batches(len(label))
            ]
        )
        rows.setdefault(name, []).append(share(right, group).to_json("accuracy"))
        wrong += ~right
    error = mean(wrong / len(every), group, seed)  # each corruption has as many severities
    return error.to_json("c_like_error") | {"accuracy": rows}


def along_perturbations(
    ask: Ask, images: Images, group: Array | None, seed: int, count: Progress
) -> dict[str, Any]:
    """How often a prediction flips along ImageNet-P's ten sequences, and the mean flip rate."""
    names, total = tuple(PERTURBATIONS), len(PERTURBATIONS) * len(images)
    rates = np.zeros((len(names), len(images)))
    for i, name in enumerate(names):
        for number, image in enumerate(images):
            count("perturbations", i * len(images) + number, total)
            said = ask(frames(image, name, seed, number))
            rates[i, number] = flip_rate(said[None], is_noise(name))
    return mean(rates.mean(0), group, seed).to_json("mean_flip_rate") | {
        "flip_rate": {
            name: mean(rate, group, seed).to_json("flip_rate")
            for name, rate in zip(names, rates, strict=True)
        },
    }


def under_attack(
    model: nn.Module,
    images: Images,
    label: Labels,
    group: Array | None,
    preprocess: Preprocess,
    device: torch.device | str,
    count: Progress,
) -> dict[str, Any]:
    """Accuracy against ε, in levels of 255, of FGSM and PGD."""
    found: dict[str, Any] = {}
    done, every = 0, len(adversarial.ATTACKS) * len(adversarial.EPSILONS)
    for attack in adversarial.ATTACKS:
        found[attack] = []
        for epsilon, right in adversarial.right_under(
            attack, model, images, label, preprocess, device
        ):
            done += 1
            count("attacks", done, every)
            found[attack].append({"epsilon": epsilon} | share(right, group).to_json("accuracy"))
    return found


def under_stress(
    ask: Ask, images: Images, label: Labels, group: Array | None, seed: int, count: Progress
) -> list[dict[str, Any]]:
    """By cause: accuracy at every level, what is lost there on the same images, and the level at
    which five points are."""
    clean = np.concatenate([ask(images[some]) == label[some] for some in _batches(len(label))])
    every = sum(len(cause.levels) for cause in stress.CAUSES.values())
    levels: dict[str, list[dict[str, Any]]] = {}
    for done, (name, level, right) in enumerate(stress.stressed(ask, images, label, seed), 1):
        count("stress", done, every)
        levels.setdefault(name, []).append(
            {"level": level, "difference": gain(right, clean, group)}
            | share(right, group).to_json("accuracy")
        )
    return [
        {
            "cause": name,
            "unit": cause.unit,
            "falls_at": stress.falls_at(
                cause, [row["accuracy"] for row in levels[name]], float(clean.mean())
            ),
            "levels": levels[name],
        }
        for name, cause in stress.CAUSES.items()
    ]


def _batches(count: int) -> Iterator[slice]:
    for start in range(0, count, BATCH):
        yield slice(start, min(start + BATCH, count))
