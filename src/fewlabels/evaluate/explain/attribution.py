"""Which pixels mattered, by captum: a map [N, S, S] for a class, positive where it speaks for it.

Legend: N images, S side, K classes, x [N, 3, S, S] normalised, target [N] class numbers.
A pixel is taken away by giving it the value 0, which is the mean colour.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fewlabels.errors import UserError
from fewlabels.evaluate.explain.instrument import Instrumented
from fewlabels.models.neighbours import Neighbours

STEPS = 32  # of the integral
WINDOWS = 5  # a window's side is this part of the image's, and it moves by half of that
VOTES = "where an image's nearest neighbours agree, their vote has no gradient"
PIXELS = 16 * 224 * 224  # in one pass: memory stays in bounds


def need_captum() -> None:
    """UserError where it is not installed."""
    try:
        import captum  # noqa: F401
    except ImportError:
        raise UserError("explain needs captum: pip install 'fewlabels[explain]'") from None


def attribute(net: Instrumented, x: Tensor, target: Tensor, method: str) -> Tensor:
    """The maps [N, S, S], on the CPU, by a method of `METHODS`.

    ValueError for one that has no meaning for this model (`without`).
    """
    if method in (lost := without(net)):
        raise ValueError(f"{method}: {lost[method]}")
    run = METHODS[method].run
    together = max(1, at_once(net.size) // METHODS[method].passes)
    batches = zip(torch.split(x, together), torch.split(target, together), strict=True)
    with warnings.catch_warnings(action="ignore"):  # captum tells that it sets and removes hooks
        parts = [
            run(net, some.detach().requires_grad_(), to).detach().float().cpu()
            for some, to in batches
        ]
    return torch.cat(parts)


def without(net: Instrumented) -> dict[str, str]:
    """The methods that have no meaning for this model, and why."""
    if any(isinstance(module, Neighbours) for module in net.model.modules()):
        return {name: VOTES for name, method in METHODS.items() if method.by_gradient}
    if net.seam is None:
        return {name: net.why for name, method in METHODS.items() if method.of_maps}
    return {}


def at_once(size: int) -> int:
    """How many images of this side go through a model in one pass."""
    return int(min(256, max(1, PIXELS // size**2)))


def _grad_cam(net: Instrumented, x: Tensor, target: Tensor) -> Tensor:
    """The last map's channels, weighted by their mean gradient, summed, cut at 0 and enlarged
    (Selvaraju et al. 2017, equations 1 and 2)."""
    from captum.attr import LayerAttribution, LayerGradCam

    small = LayerGradCam(net.model, net.seam).attribute(x, target, relu_attributions=True)
    large: Tensor = LayerAttribution.interpolate(small, tuple(x.shape[2:]), "bilinear")
    return large[:, 0]


def _guided_grad_cam(net: Instrumented, x: Tensor, target: Tensor) -> Tensor:
    """Grad-CAM times guided backpropagation (Selvaraju et al. 2017, section 3.2); times the plain
    gradient where the model has no ReLU."""
    from captum.attr import GuidedGradCam

    found: Tensor = GuidedGradCam(net.guided, net.seam).attribute(
        x, target, interpolate_mode="bilinear"
    )
    return found.sum(1)


def _integrated_gradients(net: Instrumented, x: Tensor, target: Tensor) -> Tensor:
    """The gradient of the logit on the straight way from the mean colour to the image
    (Sundararajan, Taly and Yan 2017, equation 1), by Gauss and Legendre's rule. A map sums to the
    difference of the two logits, but for the error of that rule."""
    from captum.attr import IntegratedGradients

    found: Tensor = IntegratedGradients(net.model).attribute(
        x,
        torch.zeros_like(x),
        target,
        n_steps=STEPS,
        internal_batch_size=max(len(x), at_once(net.size)),
    )
    return found.sum(1)


def _occlusion(net: Instrumented, x: Tensor, target: Tensor) -> Tensor:
    """By how much the logarithm of the probability falls where a square is hidden (Zeiler and
    Fergus 2014, section 4.2, who show the probability; where that is near 1 it hardly moves)."""
    from captum.attr import Occlusion

    window = max(1, round(net.size / WINDOWS))
    found: Tensor = Occlusion(lambda x: net.model(x).log_softmax(1)).attribute(
        x,
        sliding_window_shapes=(3, window, window),
        strides=(3, (window + 1) // 2, (window + 1) // 2),
        baselines=0.0,
        target=target,
        perturbations_per_eval=max(1, at_once(net.size) // len(x)),
    )
    return found.mean(1)


@dataclass(frozen=True)
class Method:
    title: str
    says: str  # what is bright in its maps
    run: Callable[[Instrumented, Tensor, Tensor], Tensor]
    passes: int = 1  # that an image needs at the same time
    by_gradient: bool = True  # has no meaning for a vote of neighbours
    of_maps: bool = False  # nor for a model without maps


METHODS: dict[str, Method] = {
    "grad_cam": Method(
        "Grad-CAM", "places of the last map that raise the class", _grad_cam, of_maps=True
    ),
    "guided_grad_cam": Method(
        "guided Grad-CAM",
        "pixels that raise the class, at such places",
        _guided_grad_cam,
        of_maps=True,
    ),
    "integrated_gradients": Method(
        "integrated gradients",
        "each pixel's part in the class's logit, compared with a blank image",
        _integrated_gradients,
        passes=STEPS,
    ),
    "occlusion": Method(
        "occlusion",
        "where hiding a square lowers the class's probability",
        _occlusion,
        passes=32,
        by_gradient=False,
    ),
}
