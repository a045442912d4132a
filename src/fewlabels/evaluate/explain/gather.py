"""Everything that the page about some images shows, computed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fewlabels.errors import UserError
from fewlabels.evaluate.explain import layers
from fewlabels.evaluate.explain.attribution import METHODS, attribute, need_captum, without
from fewlabels.evaluate.explain.faithful import Deletion, deletion, randomised
from fewlabels.evaluate.explain.focus import Focus, focus
from fewlabels.evaluate.explain.images import Given, Learnt
from fewlabels.evaluate.explain.instrument import Instrumented, instrument
from fewlabels.evaluate.explain.neighbours import Survey, nearest, survey
from fewlabels.evaluate.predictions import probabilities
from fewlabels.models.ensemble import Ensemble
from fewlabels.pixels.decode import PAD
from fewlabels.pixels.preprocess import Preprocess
from fewlabels.settings import one_of

ALIKE = 5  # labelled images beside each one
CHANNELS, EXCITING = 6, 5  # of the last map, and images for each
CHECKED, FEW = 20, 4  # images for the checks; for random weights where a map takes many passes

Progress = Callable[[str, int, int], None]  # (what, done, total)


@dataclass(frozen=True, eq=False)
class Heat:
    """One map for one class."""

    method: str
    target: int  # class number
    values: NDArray[np.float32]  # [S, S], positive where it speaks for the class
    focus: Focus | None


@dataclass(frozen=True, eq=False)
class ExplainedImage:
    """One image. `alike` are rows of the learnt images with their cosines; `own` says that the
    image is itself one of them, and its copies are left out of these."""

    name: str
    pixels: NDArray[np.uint8]  # [S, S, 3]
    probabilities: NDArray[np.float64]  # [K]
    heats: tuple[Heat, ...]
    alike: tuple[tuple[int, float], ...]
    own: bool

    @property
    def predicted(self) -> int:
        return int(self.probabilities.argmax())


@dataclass(frozen=True, eq=False)
class Channel:
    """A channel of the last map, and the learnt images with its highest values."""

    number: int
    rows: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Check:
    """Of one method: the deletion curve, and the rank correlation with the maps of randomised
    weights by how many layers are, a mean over `redrawn` images."""

    method: str
    deletion: Deletion
    randomised: dict[str, float]
    redrawn: int


@dataclass(frozen=True, eq=False)
class Explanation:
    """N images, explained. `notes` say in one line each what is missing and why."""

    classes: tuple[str, ...]
    images: tuple[ExplainedImage, ...]
    stages: tuple[layers.Stage, ...]
    filters: layers.Filters | None
    channels: tuple[Channel, ...]
    checks: tuple[Check, ...]
    learnt: Learnt
    notes: tuple[str, ...]


def chosen(net: Instrumented, methods: Sequence[str]) -> tuple[str, ...]:
    """`methods` in the order of METHODS, or all that have a meaning for this model.

    UserError where none of those that were asked for has one.
    """
    lost = without(net)
    kept = tuple(name for name in METHODS if name not in lost and (name in methods or not methods))
    if not kept:
        raise UserError(f"--method {methods[0]}: has no meaning here: {lost[methods[0]]}")
    return kept


def need_known(methods: Sequence[str]) -> None:
    """UserError for a method that there is not."""
    for name in methods:
        one_of("--method", name, tuple(METHODS))


def explain(
    model: nn.Module,
    preprocess: Preprocess,
    classes: Sequence[str],
    given: Given,
    learnt: Learnt,
    *,
    methods: Sequence[str] = (),
    target: int | None = None,
    tta: str = "none",
    temperature: float = 1.0,
    progress: Progress | None = None,
) -> Explanation:
    """Explains the `given` images, at least one: for the predicted class, and for `target` too.

    The model and its modes are as before when this returns. UserError without captum, or where no
    method has a meaning.
    """
    need_captum()
    net = instrument(model, preprocess.size)
    kept = chosen(net, methods)
    tell = progress or (lambda what, done, total: None)
    p = probabilities(model, given.pixels, preprocess, net.device, tta, temperature)
    x = preprocess(given.pixels).to(net.device)
    predicted = torch.from_numpy(p.argmax(1)).to(net.device)
    border = (given.pixels == np.array(PAD, np.uint8)).all(-1)
    maps: dict[tuple[str, int], NDArray[np.float32]] = {}  # by method and 0 = predicted, 1 = target
    asked = [predicted] if target is None else [predicted, torch.full_like(predicted, target)]
    work = [(method, which) for method in kept for which in range(len(asked))]
    for i, (method, which) in enumerate(work):
        tell(f"maps: {method}", i, len(work))
        maps[method, which] = attribute(net, x, asked[which], method).numpy()
    images = []
    bank = None if learnt.pixels is None else survey(net, learnt.pixels, preprocess)
    alike, own = _alike(net, preprocess, given, learnt, bank)
    for i, name in enumerate(given.names):
        heats = [
            Heat(method, int(asked[which][i]), values[i], focus(values[i], border[i]))
            for (method, which), values in maps.items()
            if not which or target != int(predicted[i])
        ]
        images.append(ExplainedImage(name, given.pixels[i], p[i], tuple(heats), alike[i], own[i]))
    checks = []
    for i, method in enumerate(kept):
        tell(f"checks: {method}", i, len(kept))
        checks.append(_check(net, method, x, predicted, maps[method, 0], border))
    return Explanation(
        tuple(classes),
        tuple(images),
        layers.stages(net, x),
        layers.filters(model, preprocess.size),
        _channels(net, x, predicted, bank),
        tuple(checks),
        learnt,
        tuple(_notes(net, methods or tuple(METHODS), learnt)),
    )


def _check(
    net: Instrumented,
    method: str,
    x: torch.Tensor,
    target: torch.Tensor,
    maps: NDArray[np.float32],
    border: NDArray[np.bool_],
) -> Check:
    some = _spread(len(x), CHECKED)
    few = some if METHODS[method].passes == 1 else _spread(len(x), FEW)
    return Check(
        method,
        deletion(net.model, x[some], target[some], maps[some], border[some]),
        randomised(net, x[few], target[few], method, maps[few]),
        len(few),
    )


def _spread(count: int, most: int) -> list[int]:
    """Rows all over `count`: neighbours in a folder are often of one class."""
    return sorted({round(i) for i in np.linspace(0, count - 1, min(most, count))})


def _alike(
    net: Instrumented, preprocess: Preprocess, given: Given, learnt: Learnt, bank: Survey | None
) -> tuple[list[tuple[tuple[int, float], ...]], list[bool]]:
    """By image: the labelled images most like it with their cosines, and whether it is one."""
    rows = [row for row, label in enumerate(learnt.labels) if label >= 0]
    learnt_from = {learnt.digests[row] for row in rows}
    own = [digest in learnt_from for digest in given.digests]
    if bank is None or not rows or isinstance(net.source, Ensemble):
        return [()] * len(own), own
    asked = survey(net, given.pixels, preprocess).features
    order, cosines = nearest(asked, bank.features[rows], len(rows))
    found = []
    for digest, near, how in zip(given.digests, order, cosines, strict=True):
        pairs = [(rows[n], float(c)) for n, c in zip(near, how, strict=True)]
        others = [pair for pair in pairs if learnt.digests[pair[0]] != digest]
        found.append(tuple(others[:ALIKE]))
    return found, own


def _channels(
    net: Instrumented, x: torch.Tensor, target: torch.Tensor, bank: Survey | None
) -> tuple[Channel, ...]:
    if bank is None or "grad_cam" in without(net):
        return ()
    order = np.argsort(-bank.peaks, axis=0, kind="stable")[:EXCITING]
    numbers = layers.speaking_channels(net, x, target, CHANNELS)
    return tuple(Channel(number, tuple(order[:, number].tolist())) for number in numbers)


def _notes(net: Instrumented, wanted: Sequence[str], learnt: Learnt) -> list[str]:
    notes = []
    why = without(net)
    if lost := [METHODS[name].title for name in why if name in wanted]:
        notes.append(f"{' and '.join(lost)} left out: {next(iter(why.values()))}")
    elif "guided_grad_cam" in wanted and not net.relus:
        notes.append("no ReLU in this model: guided Grad-CAM is Grad-CAM times the plain gradient")
    if isinstance(net.source, Ensemble):
        notes.append("an ensemble has no features of its own: no images that look alike")
    return notes + ([learnt.note] if learnt.note else [])
