"""The README of an exported backbone: the code that loads it, for exactly this architecture."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from jinja2 import Environment, PackageLoader
from torch import nn

from fewlabels.deploy.library import WEIGHTS, Foreign
from fewlabels.models import structure
from fewlabels.models.built import head
from fewlabels.pixels.decode import PAD

SIDE = 224  # of the images that tell the sizes of maps
LEVELS = 4  # maps of a feature pyramid: those of a stride of 4 to 32, or as many as there are
# torchvision's that segmentation_models_pytorch's encoders of the same names take the weights of
UNET = (
    *(f"resnet{depth}" for depth in (18, 34, 50, 101, 152)),
    *("resnext50_32x4d", "resnext101_32x8d", "mobilenet_v2"),
    *(f"densenet{depth}" for depth in (121, 161, 169, 201)),
    *(f"vgg{depth}{norm}" for depth in (11, 13, 16, 19) for norm in ("", "_bn")),
)
# and what the strides of timm's maps may be
PYRAMIDS = ([2, 4, 8, 16, 32], [4, 8, 16, 32], [1, 2, 4, 8, 16, 32])


@dataclass(frozen=True)
class Stride:
    """What was undone in a layer of a small image's model; None: a pooling that is gone."""

    path: str
    stride: tuple[int, ...] | None

    @property
    def code(self) -> str:
        if self.stride is None:
            return f'small.set_submodule("{self.path}", nn.Identity())'
        return f'small.get_submodule("{self.path}").stride = {self.stride}'


@dataclass(frozen=True)
class Pyramid:
    """The maps that a detector or a segmentation net takes, from the largest on."""

    channels: tuple[int, ...]
    indices: tuple[int, ...] = ()  # timm's
    nodes: tuple[str, ...] = ()  # torchvision's: the paths of the units that make them
    last: tuple[bool, ...] = ()  # whether its channels come last, by map
    unet: bool = False


def strides(own: Mapping[str, nn.Module], theirs: nn.Module) -> tuple[Stride, ...]:
    """What `models.stem` undid: where the run's modules differ from those that the library made."""
    found = []
    for path, layer in theirs.named_modules():
        other = own.get(path)
        if isinstance(layer, nn.Conv2d) and isinstance(other, nn.Conv2d):
            if other.stride != layer.stride:
                found.append(Stride(path, tuple(int(step) for step in other.stride)))
        elif isinstance(other, nn.Identity) and not isinstance(layer, nn.Identity):
            found.append(Stride(path, None))
    return tuple(found)


def undo(model: nn.Module, undone: tuple[Stride, ...]) -> None:
    """What the README's code does, in place."""
    for item in undone:
        if item.stride is None:
            model.set_submodule(item.path, nn.Identity())
        else:
            model.get_submodule(item.path).stride = item.stride  # type: ignore[assignment]


def readme(model: Foreign, theirs: nn.Module, undone: tuple[Stride, ...]) -> str:
    """Markdown; `theirs` is the model as the library builds it."""
    pages = Environment(
        loader=PackageLoader("fewlabels.deploy", "."), trim_blocks=True, lstrip_blocks=True
    )
    built, name = model.saved.built, model.name
    resnet = name.startswith(("resnet", "resnext", "wide_resnet")) and not model.arguments
    return pages.get_template("backbone.md").render(
        model=model,
        arguments="".join(f", {key}={value!r}" for key, value in model.arguments.items()),
        file=WEIGHTS,
        pad=PAD,
        preprocess=model.saved.preprocess,
        classes=len(model.saved.classes),
        stem=built.stem,
        undone=undone,
        fixed=_fixed(theirs),
        head="" if model.library == "timm" else head(theirs)[0],
        resnet=model.library == "torchvision" and resnet,
        pyramid=pyramid(model, theirs),
    )


def pyramid(model: Foreign, theirs: nn.Module) -> Pyramid | None:
    """None where the maps all have one size, or where nothing hands them out."""
    ask = _of_timm if model.library == "timm" else _of_torchvision
    return ask(model, theirs)


def _of_timm(model: Foreign, theirs: nn.Module) -> Pyramid | None:
    import timm  # torchvision is repaired by now

    side = _fixed(theirs) or SIDE
    try:
        body = timm.create_model(model.name, features_only=True, **model.arguments).eval()
        with torch.inference_mode():
            maps = body(torch.zeros(1, 3, side, side))
    except Exception:  # some models have no such form, and each says so in its own way
        return None
    about = body.feature_info
    strides, channels, numbers = about.reduction(), about.channels(), about.out_indices
    shapes = [{*image.shape[1::2]} for image in maps]  # channels first or last
    told = all(count in shape for count, shape in zip(channels, shapes, strict=True))
    chosen = [place for place, stride in enumerate(strides) if stride >= 4][-LEVELS:]
    if not told or len(chosen) < 2 or any(a >= b for a, b in pairwise(strides)):
        return None
    return Pyramid(
        tuple(channels[place] for place in chosen),
        indices=tuple(numbers[place] for place in chosen),
        last=tuple(maps[place].shape[1] != channels[place] for place in chosen),
        # the U-Net counts from 0, but for two families that it knows by their names
        unet=list(strides) in PYRAMIDS and numbers[0] == 0,
    )


def _of_torchvision(model: Foreign, theirs: nn.Module) -> Pyramid | None:
    from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

    side = _fixed(theirs) or SIDE
    x = torch.zeros(1, 3, side, side)
    with torch.inference_mode():
        maps = [item for item in structure.maps(theirs, x) if item[1].shape[2] <= side / 3]
        if len(maps) < 2:
            return None
        try:
            with warnings.catch_warnings(action="ignore"):  # of GoogLeNet's auxiliary classifiers
                known = get_graph_node_names(theirs)[1]
                nodes = tuple(_node(path, known) for path, _ in maps[-LEVELS:])
                made = create_feature_extractor(theirs, list(nodes))(x)
        except Exception:  # code that torch.fx cannot follow
            return None
    images = [image for _, image in maps[-LEVELS:]]
    return Pyramid(
        tuple(image.shape[1] for image in images),
        nodes=nodes,
        last=tuple(
            made[node].shape != image.shape for node, image in zip(nodes, images, strict=True)
        ),
        unet=model.name in UNET and not model.arguments,
    )


def _node(path: str, known: list[str]) -> str:
    """The path, or that of the block around it that torchvision does not look into."""
    while path and not any(f"{name}.".startswith(f"{path}.") for name in known):
        path = path.rpartition(".")[0]
    return path


def _fixed(theirs: nn.Module) -> int:
    """The side in pixels that the images must have; 0 for any."""
    about: Any = getattr(theirs, "pretrained_cfg", {})
    if about:
        return int(about["input_size"][-1]) if about.get("fixed_input_size") else 0
    return int(getattr(theirs, "image_size", 0))
