"""`--model auto`, with models that are not built."""

from pathlib import Path
from typing import Any

import pytest
from torch import nn

from fewlabels.models import choose as choosing
from fewlabels.models.built import Built, without_weights
from fewlabels.models.choose import choose

MANY = 10**6


class Shelf:
    """What `catalog.build` was asked for; pretrained weights are there, or are not."""

    def __init__(self, online: bool = True) -> None:
        self.online = online
        self.asked: list[tuple[str, str]] = []

    def build(self, name: str, num_classes: int, weights: str = "auto", *_: Any) -> Built:
        self.asked.append((name, weights))
        model = nn.Linear(1, num_classes)
        if weights == "auto" and not self.online:
            note = without_weights(name, False, OSError("gone"))
            return Built(model, name, note=note)
        note = "the head starts anew" if weights.endswith(".pth") else ""
        return Built(model, name, weights="theirs" if weights == "auto" else weights, note=note)


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch) -> Shelf:
    found = Shelf()
    monkeypatch.setattr(choosing.catalog, "build", found.build)
    return found


@pytest.mark.parametrize(
    ("side", "images", "device", "seconds", "weights", "name"),
    [
        (224, 1000, "cpu", 600.0, "auto", "timm:mobilenetv2_100"),
        (49, 1000, "cpu", 600.0, "auto", "timm:mobilenetv2_100"),
        (48, 1000, "cpu", 600.0, "auto", "cnn_small"),  # it would see them blown up
        (8, 1000, "cuda", 600.0, "auto", "wrn_28_2"),
        (224, 1000, "cuda", 600.0, "auto", "timm:convnext_tiny"),
        (224, 9000, "cpu", 600.0, "auto", "timm:mobilenetv2_100"),  # 150 of 600 s for one look
        (224, 9001, "cpu", 600.0, "auto", "cnn_small"),
        (224, 9001, "cuda", 600.0, "auto", "timm:convnext_tiny"),
        (224, MANY, "cuda", 600.0, "auto", "resnet18"),
        (224, MANY, "cpu", None, "auto", "timm:mobilenetv2_100"),  # steps are what is limited
        (224, 1000, "cpu", 600.0, "none", "cnn_small"),
        (224, 1000, "cuda", 600.0, "none", "resnet18"),
        (32, 1000, "cuda", 600.0, "none", "wrn_28_2"),
        (224, 1000, "cpu", 600.0, "own.pth", "cnn_small"),
    ],
)
def test_what_is_chosen(
    shelf: Shelf,
    side: int,
    images: int,
    device: str,
    seconds: float | None,
    weights: str,
    name: str,
) -> None:
    found, built = choose(side, images, device, seconds, 3, weights)
    assert found == built.architecture == name
    pretrained = name.startswith("timm:")
    assert shelf.asked == [(name, "auto" if pretrained else weights.replace("auto", "none"))]
    if weights == "own.pth":
        assert built.note == "the head starts anew"
    elif pretrained or weights == "none" or side <= 48:
        assert built.note == ""
    else:
        many = f"{images:,} images are too many for a pretrained net in this time"
        assert built.note == f"--model auto: {many}"


def test_offline_it_says_so_in_one_line(shelf: Shelf) -> None:
    shelf.online = False
    name, built = choose(224, 1000, "cpu", 600.0, 3, "auto")
    assert (name, built.weights) == ("cnn_small", "none")
    assert built.note == (
        "--model auto: timm:mobilenetv2_100: no pretrained weights (no network, and they are not "
        "in the cache); cnn_small from scratch"
    )
    assert choose(224, 1000, "cuda", 600.0, 3, "auto")[0] == "resnet18"


def test_without_weights_nothing_is_fetched(shelf: Shelf) -> None:
    for weights in ("none", "own.pth"):
        choose(224, 1000, "cpu", None, 3, weights)
    assert "auto" not in [weights for _, weights in shelf.asked]


def test_the_models_exist() -> None:
    from fewlabels.torchvision_repair import repair

    repair()
    import timm

    for name in choosing.PRETRAINED.values():
        assert timm.is_model_pretrained(name.removeprefix("timm:"))
    assert {*choosing.SCRATCH.values()} <= {*choosing.catalog.OURS}


def test_of_a_run_the_model_is_known(shelf: Shelf, tmp_path: Path) -> None:
    """Weights of a folder that is no run are for the model from scratch."""
    assert choose(224, 10, "cpu", None, 3, str(tmp_path))[0] == "cnn_small"
