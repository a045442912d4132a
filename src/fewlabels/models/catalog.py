"""The one place where the name of a model becomes a model.

A bare name is looked for among ours, then torchvision's, then timm's; `torchvision:` and `timm:`
say which. `hf-hub:<id>` and `local-dir:<folder>` are timm's, with weights of one's own. Arguments
follow in parentheses, `vit_tiny_patch16_224(patch_size=4)`: those of the architecture, and for any
convolutional net `se=16` (squeeze-and-excitation of that ratio) and `deformable=1` (deformable
convolutions in so many of the last stages).

torch is slow to import and torchvision and timm more so: each is imported when a name needs it.
"""

import inspect
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from fewlabels.errors import UserError, one_line
from fewlabels.models import from_timm, from_torchvision, stem, weights_file
from fewlabels.models.built import Built, calm_head, head, near
from fewlabels.models.cnn_small import CnnSmall
from fewlabels.models.deformable import add_deformable
from fewlabels.models.efficientnet import efficientnet, efficientnet_l2
from fewlabels.models.ensemble import Ensemble, Member
from fewlabels.models.lenet5 import LeNet5
from fewlabels.models.mlp import MLP, Perceptron
from fewlabels.models.neighbours import Neighbours
from fewlabels.models.resnet_cifar import ResNetCifar
from fewlabels.models.squeeze_excitation import add_squeeze_excitation
from fewlabels.models.structure import blank_pass
from fewlabels.models.wide_resnet import WideResNet

__all__ = ["OURS", "Built", "accepts", "build", "head", "parse", "sized"]

OURS: dict[str, Callable[..., nn.Module]] = {
    "cnn_small": CnnSmall,
    "lenet5": LeNet5,
    "perceptron": Perceptron,
    "mlp": MLP,
    **{f"resnet{depth}": partial(ResNetCifar, depth=depth) for depth in (20, 32, 44, 56, 110)},
    **{f"wrn_28_{k}": partial(WideResNet, depth=28, k=k) for k in (2, 4, 8, 10)},
    "efficientnet_l2": efficientnet_l2,
}

ENSEMBLE = "ensemble"  # not among the names that one takes: it is made of runs
PREFIXES = ("torchvision:", *from_timm.PREFIXES)


def parse(name: str) -> tuple[str, dict[str, Any]]:
    """`wrn_28_2(k=4,dropout=0.3)` -> ("wrn_28_2", {"k": 4, "dropout": 0.3})."""
    found = re.fullmatch(r"(.+?)\((\s*\w+\s*=[^()=]+(?:,\s*\w+\s*=[^()=]+)*)\)", name)
    if found is None:
        return name, {}
    pairs = (pair.split("=") for pair in found[2].split(","))
    try:
        return found[1], {key.strip(): _value(value) for key, value in pairs}
    except yaml.YAMLError as error:
        raise UserError(f"--model {name}: cannot be read: {one_line(error)}") from error


def _value(text: str) -> Any:
    """A number, true or false, a text; YAML takes 1e-1 for a text."""
    value = yaml.safe_load(text)
    if isinstance(value, str):
        with suppress(ValueError):
            return float(value)
    return value


def build(
    name: str,
    num_classes: int | None,
    weights: str = "auto",
    arguments: dict[str, Any] | None = None,
    channels: int = 3,
) -> Built:
    """The model `name` with a new head for `num_classes`, and its first layer for `channels`.

    None keeps the head that the weights came with.

    weights: `auto` takes pretrained ones where they are at hand or can be fetched and says so in
    `note` where not; `none` starts from random ones; a path loads a .safetensors or .pth state
    dictionary, or that of a run, its head left out when it has other classes. `arguments` are those
    in the name's parentheses, and `size` as `sized` leaves it. UserError for an unknown name or
    argument.
    """
    bare, own = parse(name)
    given = own | (arguments or {})
    if bare == ENSEMBLE:
        return _ensemble(num_classes, given)
    size, ratio, stages = (given.pop(key, None) for key in ("size", "se", "deformable"))
    size = None if size is None else _whole(name, "size", size)
    memory = {key: given.pop(key) for key in ("nearest", "neighbours") if "neighbours" in given}
    built = _source(bare, num_classes, weights == "auto", given, size)
    if built.weights == "none" and num_classes is not None:
        calm_head(built.model)
    if weights not in ("auto", "none"):
        note = weights_file.load(built.model, Path(weights))
        built = replace(built, weights=weights, note=note)
        if (run := weights_file.origin(Path(weights))) is not None:
            built = replace(built, size=run.size, mean=run.mean, std=run.std)
            if note := _stem_of(built, run.arguments, channels):
                own = built.arguments | {"size": run.arguments["size"]}
                built = replace(built, arguments=own, stem=note)
    if channels != 3:
        adapt_first_layer(built.model, name, channels)
    added = {}
    if ratio is not None:
        add_squeeze_excitation(built.model, _whole(name, "se", ratio), channels=channels)
        added["se"] = ratio
    if stages is not None:
        add_deformable(built.model, _whole(name, "deformable", stages), channels=channels)
        added["deformable"] = stages
    if memory:  # what `knn` leaves: the head remembers
        path, layer = head(built.model)
        assert isinstance(layer, nn.Linear)
        assert num_classes is not None
        fresh = Neighbours(num_classes, memory["neighbours"], layer.in_features, memory["nearest"])
        parent, _, child = path.rpartition(".")
        setattr(built.model.get_submodule(parent), child, fresh)
    built = replace(built, arguments=built.arguments | added | memory)
    return built if size is None else sized(built, size, num_classes, channels)


def sized(built: Built, size: int, num_classes: int | None, channels: int = 3) -> Built:
    """The model made ready for images of `size`; what that takes is noted in its arguments.

    Small images: random weights have early strides undone (`models.stem`), and a vision transformer
    gets smaller patches. A model without need of it is returned as it is.
    """
    name, arguments = built.architecture, built.arguments
    if name in OURS and "size" in inspect.signature(OURS[name]).parameters:
        own = arguments.get("size", inspect.signature(OURS[name]).parameters["size"].default)
        if own == size:
            return replace(built, arguments=arguments | {"size": size})
        if built.weights != "none":
            raise UserError(f"--weights {built.weights}: take images of {own} px; --img-size {own}")
        return build(name, num_classes, "none", arguments | {"size": size})
    if type(built.model).__module__.startswith("fewlabels."):  # drawn for small images
        return built
    if built.weights == "none" and built.size is None:
        note = stem.suit(built.model, size, channels)
        told = "; ".join(text for text in (built.stem, note) if text)
        return replace(built, arguments=arguments | {"size": size}, stem=told) if note else built
    if built.size == size or not built.fixed:
        return built
    if name.startswith("timm:"):
        return from_timm.at_size(built, size, num_classes)
    return from_torchvision.at_size(built, size, num_classes)


def _stem_of(built: Built, arguments: dict[str, Any], channels: int) -> str:
    """Undoes the strides that a run had undone when its weights learnt; says which."""
    ours = type(built.model).__module__.startswith("fewlabels.")
    if "size" not in arguments or ours:
        return ""
    return stem.suit(built.model, int(arguments["size"]), channels)


def _source(
    bare: str,
    num_classes: int | None,
    pretrained: bool,
    arguments: dict[str, Any],
    size: int | None,
) -> Built:
    ours = OURS.get(bare)
    if bare == "efficientnet_b0" and {"width", "depth"} & arguments.keys():
        ours = efficientnet  # scaled; torchvision's own has no multipliers
    if ours is not None:
        takes = [name for name in inspect.signature(ours).parameters if name != "num_classes"]
        if size is not None and "size" in takes:
            arguments = arguments | {"size": size}
        if unknown := [name for name in arguments if name not in takes]:
            what = f"takes {', '.join(takes)}" if takes else "takes no arguments"
            raise UserError(f"--model {bare}: {what}, not '{unknown[0]}'")
        if num_classes is None:
            raise UserError(f"--model {bare}: has no weights, and so no classes of its own")
        try:
            return Built(ours(num_classes, **arguments), bare, arguments)
        except TypeError as error:  # a text where a number belongs
            raise UserError(f"--model {bare}: {one_line(error)}") from error
    if bare.startswith(from_timm.PREFIXES):
        return from_timm.build(bare, num_classes, pretrained, arguments)
    plain = bare.removeprefix("torchvision:")
    known = from_torchvision.names()
    if plain in known:
        return from_torchvision.build(plain, num_classes, pretrained, arguments)
    import timm  # torchvision is repaired by now

    if plain != bare or not timm.is_model(bare):
        hint = near(plain, [*OURS, *known, *timm.list_models()])
        raise UserError(f"no model is named '{bare}'{hint}")
    return from_timm.build(f"timm:{bare}", num_classes, pretrained, arguments)


def _ensemble(num_classes: int | None, arguments: dict[str, Any]) -> Built:
    """Of members without weights: for each the `model`, its `arguments` and the `size` of its
    images. What else a member knows lies in its buffers."""
    if num_classes is None or "members" not in arguments:
        raise UserError(f"--model {ENSEMBLE}: is made of runs: train --method ensemble --run RUN …")
    plain, order = (0.0, 0.0, 0.0), range(num_classes)
    members = [
        Member(
            build(each["model"], num_classes, "none", each["arguments"]).model,
            each["size"],
            *(plain, (1.0, 1.0, 1.0), plain, (1.0, 1.0, 1.0)),
            order,
        )
        for each in arguments["members"]
    ]
    return Built(Ensemble(members), ENSEMBLE, arguments)


def adapt_first_layer(model: nn.Module, name: str, channels: int) -> None:
    """Makes the first convolution take `channels`, in place.

    One channel: the sum of the kernels over red, green and blue answers to a grey image as the
    three did. N channels: the three repeated, times 3/N, so that responses keep their size.
    """
    first = next((m for m in model.modules() if isinstance(m, nn.Conv2d)), None)
    if first is None or first.in_channels % 3 or first.groups != 1:
        raise UserError(f"--model {name}: its first layer cannot be changed to {channels} channels")
    depth = first.in_channels // 3  # 4 where the pixels of 2x2 squares were put in channels
    kernels = first.weight.detach().reshape(len(first.weight), 3, depth, *first.kernel_size)
    if channels == 1:
        kernels = kernels.sum(1, keepdim=True)
    else:
        kernels = kernels[:, [i % 3 for i in range(channels)]] * (3 / channels)
    first.in_channels = channels * depth
    first.weight = nn.Parameter(kernels.flatten(1, 2).contiguous())


def _whole(name: str, key: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UserError(f"--model {name}: {key}={value} must be a whole number from 1 on")
    return value


def accepts(model: nn.Module, name: str, size: int) -> None:
    """UserError when the model cannot take images of this size."""
    try:
        with blank_pass(model):
            model(torch.zeros(2, 3, size, size))
    except Exception as error:  # each model fails in its own way
        raise UserError(
            f"--model {name}: cannot take images of {size} px; name another --img-size "
            f"({one_line(error)})"
        ) from error
