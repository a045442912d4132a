"""Adversarial images: how far each pixel must be moved, against the model, for it to be wrong.

The most dangerous direction is the gradient's: FGSM takes one step along its sign, PGD several
small ones, back into the allowed cube after each. ε is in levels of 255; the images that come of it
are not rounded to whole levels, which is the attacker's best case.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fewlabels.errors import UserError
from fewlabels.models.neighbours import Neighbours
from fewlabels.models.structure import in_mode
from fewlabels.pixels.preprocess import Preprocess

EPSILONS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)  # levels of 255
STEPS = 10  # of PGD
REACH = 2.5  # times ε that its steps could go in all (Madry et al. 2018, section 5, where ε varies)
BATCH = 64
Model = Callable[[Tensor], Tensor]  # images in 0..255, [B, 3, S, S], to logits
Attack = Callable[[Model, Tensor, Tensor, float], Tensor]


def fgsm(model: Model, x: Tensor, y: Tensor, epsilon: float) -> Tensor:
    """x + ε sign(∇_x L(x, y)), within 0..255 (Goodfellow et al. 2015, section 4)."""
    return (x + epsilon * _gradient(model, x, y).sign()).clamp(0, 255)


def pgd(model: Model, x: Tensor, y: Tensor, epsilon: float) -> Tensor:
    """STEPS steps of REACH ε / STEPS along the gradient's sign, each back into the cube of ε around
    x (Madry et al. 2018, section 2.1). It starts at x, so that it is deterministic."""
    step, moved = REACH * epsilon / STEPS, x
    for _ in range(STEPS):
        moved = moved + step * _gradient(model, moved, y).sign()
        moved = torch.maximum(torch.minimum(moved, x + epsilon), x - epsilon).clamp(0, 255)
    return moved


ATTACKS: dict[str, Attack] = {"fgsm": fgsm, "pgd": pgd}


def need_gradient(model: nn.Module) -> None:
    """UserError for a head without one."""
    if any(isinstance(module, Neighbours) for module in model.modules()):
        raise UserError(
            "--adversarial: has no meaning here: where an image's nearest neighbours agree, their "
            "vote has no gradient to go along"
        )


def right_under(
    attack: str,
    model: nn.Module,
    images: NDArray[np.uint8],
    label: NDArray[np.int64],
    preprocess: Preprocess,
    device: torch.device | str = "cpu",
    epsilons: Sequence[float] = EPSILONS,
) -> Iterator[tuple[float, NDArray[np.bool_]]]:
    """For each ε, which of the uint8 images [N, S, S, 3] the model still has right, [N].

    The model is in eval mode meanwhile, its parameters ask for no gradient, and both are as before
    when this ends. UserError for a head without a gradient.
    """
    need_gradient(model)
    mean, std = (
        torch.tensor(v, device=device).view(3, 1, 1) * 255
        for v in (preprocess.mean, preprocess.std)
    )

    def ask(x: Tensor) -> Tensor:
        logits: Tensor = model((x - mean) / std)
        return logits

    asks = [(p, p.requires_grad) for p in model.parameters()]
    try:
        for parameter, _ in asks:
            parameter.requires_grad_(False)
        with in_mode(model, False):
            for epsilon in epsilons:
                yield epsilon, _right(ATTACKS[attack], ask, images, label, epsilon, device)
    finally:
        for parameter, before in asks:
            parameter.requires_grad_(before)


def _right(
    attack: Attack,
    ask: Model,
    images: NDArray[np.uint8],
    label: NDArray[np.int64],
    epsilon: float,
    device: torch.device | str,
) -> NDArray[np.bool_]:
    parts = []
    for start in range(0, len(images), BATCH):
        some = slice(start, start + BATCH)
        pixels = np.ascontiguousarray(images[some].transpose(0, 3, 1, 2))
        x, y = torch.from_numpy(pixels).float().to(device), torch.from_numpy(label[some]).to(device)
        moved = attack(ask, x, y, epsilon) if epsilon else x
        with torch.no_grad():
            parts.append((ask(moved).argmax(1) == y).cpu().numpy())
    return np.concatenate(parts) if parts else np.zeros(0, np.bool_)


def _gradient(model: Model, x: Tensor, y: Tensor) -> Tensor:
    """Of the cross-entropy, with respect to the images.

    With respect to the logits it is p - onehot(y). Where p_y rounds to 1, p_y - 1 would be 0 and
    the label's own part be lost: it is minus the sum of the others.
    """
    x = x.detach().requires_grad_(True)
    with torch.enable_grad():
        logits = model(x)
        others = logits.detach().softmax(1).scatter(1, y[:, None], 0.0)
        push = others.scatter(1, y[:, None], -others.sum(1, keepdim=True))
        (gradient,) = torch.autograd.grad(logits, x, push)
    return gradient
