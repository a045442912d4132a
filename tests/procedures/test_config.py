import math
from dataclasses import replace
from pathlib import Path

import pytest

from fewlabels.errors import UserError
from fewlabels.procedures.config import Config, image_size, read_recipe, seconds
from fewlabels.settings import make


@pytest.mark.parametrize(
    ("text", "value"),
    [("90", 90), ("90s", 90), ("10m", 600), ("1.5h", 5400), ("1h30m", 5400), (45, 45), (0.5, 0.5)],
)
def test_times(text: str | float, value: float) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "ten", "10 m", "10d", "m", "-5"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="--time-limit"):
        seconds(text)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"steps": 5, "epochs": 1}, "one of"),
        ({"steps": 0}, "--steps 0"),
        ({"steps": -1}, "--steps -1"),
        ({"time_limit": -1.0}, "--time-limit"),
        ({"batch_size": 0}, "--batch-size 0"),
        ({"lr": 0.0}, "--lr 0.0: must be more than 0"),
        ({"clip": -1.0}, "--clip -1.0: must be more than 0"),
        ({"method": "magic"}, "magic"),
        ({"method": "supervised", "settings": {"threshold": 0.9}}, "no effect"),
        ({"settings": {"threshold": 0.9}}, "no effect in auto"),
        ({"weak": "spin"}, "spin"),
        ({"method": "supervised", "weak": "none"}, "'weak' has no effect"),
        ({"augment": "nowhere.txt"}, "nowhere.txt"),
        ({"flip": "maybe"}, "--flip"),
        ({"rotate": "90"}, "--rotate"),
        ({"mix": "blend"}, "--mix blend"),
        ({"tta": "zoom"}, "--tta"),
        ({"flip": "off", "augment": "flip+crop"}, "--flip off"),
        ({"rotate": "off", "weak": "turn"}, "--rotate off"),
        ({"precision": "8"}, "--precision"),
        ({"optimiser": "lion"}, "--optimiser"),
        ({"colour": 3}, "colour"),
        ({"batch_size": 4.5}, "batch_size must be a whole number or auto, not 4.5"),
        ({"batch_size": 1}, "--batch-size 1"),
        ({"model": 5}, "model must be a text"),
        ({"weak": 3}, "weak must be a text"),
        ({"lr": float("nan")}, "lr must be a number or auto, not nan"),
        ({"lr": "automatic"}, "lr must be a number or auto, not 'automatic'"),
        ({"method": "knn", "lr": "auto"}, "'lr' has no effect in the method knn"),
        ({"method": "knn", "batch_size": "auto"}, "'batch_size' has no effect in the method knn"),
        ({"seed": 10**20}, "--seed"),
        ({"ema_decay": 2.0}, "--ema-decay"),
        ({"weight_decay": -1.0}, "--weight-decay"),
        ({"labels_per_class": 0}, "--labels-per-class 0"),
        ({"method": "fixmatch", "settings": {"ratio": 0}}, "ratio 0"),
        ({"method": "fixmatch", "settings": {"ratio": 2.5}}, "ratio must be a whole number"),
        ({"method": "fixmatch", "settings": {"threshold": "high"}}, "threshold must be a number"),
        ({"method": "fixmatch", "settings": {"align": 1}}, "align must be true or false"),
        ({"method": "supervised", "settings": {"view": "medium"}}, "weak, strong"),
        ({"batch_size": "many"}, "batch_size must be a whole number"),
        ({"method": "linear_probe", "lr": 0.1}, "'lr' has no effect in the method linear_probe"),
        ({"method": "knn", "time_limit": 60.0}, "'time_limit' has no effect in the method knn"),
        ({"method": "knn", "settings": {"depth": 3}}, "it takes k"),
        ({"method": "knn", "settings": {"k": 0}}, "k 0: must be at least 1"),
        ({"method": "linear_probes"}, "no method is named 'linear_probes'; there are auto, sup"),
        (
            {"freeze": "stem"},
            "--freeze stem: must be none, backbone, fixres, or a number of stages",
        ),
        ({"freeze": "backbone", "unfreeze": 0.5}, "--unfreeze has no effect with --freeze backb"),
        ({"freeze": "backbone", "layer_decay": 0.5}, "--layer-decay has no effect"),
        ({"unfreeze": 1.5}, "--unfreeze 1.5: must be between 0 and 1"),
        ({"init": "gauss"}, "gauss"),
        ({"layer_decay": 2.0}, "--layer-decay 2.0: must be more than 0 and at most 1"),
        ({"dropout": 1.0}, "--dropout 1.0: must be between"),
        ({"patience": 0}, "--patience 0: must be at least 1"),
    ],
)
def test_settings_that_cannot_be_are_told_in_one_line(
    settings: dict[str, object], says: str
) -> None:
    with pytest.raises(UserError) as error:
        make(Config, {"data": "digits", **settings}, "recipe.yaml")
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def settled(config: Config, tuned: bool = False, mirror: bool = True) -> Config:
    return config.resolved("/pool", "cnn_small", config.img_size or 32, tuned, mirror)


def test_resolution_fills_in_what_depends_on_the_pool() -> None:
    config = settled(Config("digits"), mirror=False)
    assert (config.data, config.model) == ("/pool", "cnn_small")
    assert config.img_size == 32
    assert (config.lr, config.layer_decay, config.weights) == (0.003, None, "none")
    assert config.time_limit == 600
    assert (config.flip, config.rotate) == ("off", "off")
    assert "flip" not in f"{config.weak}{config.augment}"
    photos = settled(Config("photos", steps=5), tuned=True)
    assert photos.time_limit is None
    assert (photos.lr, photos.layer_decay, photos.weights) == (0.0003, 0.9, "auto")
    assert (photos.flip, photos.rotate) == ("auto", "auto")
    asked = settled(Config("digits", flip="on"), mirror=False)
    assert asked.flip == "on"
    asked = settled(Config("photos", img_size=48, lr=0.1, weak="none", layer_decay=1.0), tuned=True)
    assert (asked.img_size, asked.lr, asked.weak, asked.layer_decay) == (48, 0.1, "none", 1.0)


@pytest.mark.parametrize("tuned", [False, True])
@pytest.mark.parametrize("method", ["auto", "linear_probe"])
def test_resolving_twice_changes_nothing(method: str, tuned: bool) -> None:
    once = settled(Config("digits", method=method), tuned, mirror=False)
    again = make(Config, once.to_dict(), "config.yaml")
    assert settled(again, tuned, mirror=True) == once


def test_what_is_frozen_as_a_whole_has_no_layer_decay() -> None:
    assert settled(Config("photos", freeze="backbone"), tuned=True).layer_decay is None
    assert settled(Config("photos", freeze=2), tuned=True).layer_decay == 0.9


def test_the_size_that_a_model_learns_at() -> None:
    assert image_size(8, None, False, "cpu", None) == 32
    assert image_size(500, None, False, "cpu", 1e6) == 64
    assert image_size(32, 224, False, "cpu", 1e6) == 96
    assert image_size(500, 224, False, "cpu", None) == 128
    assert image_size(500, 224, False, "cpu", 599.0) == 128
    assert image_size(500, 224, False, "cpu", 600.0) == 160
    assert image_size(500, 224, False, "cpu", 3600.0) == 224
    assert image_size(500, 224, False, "cpu", math.inf) == 224
    assert image_size(500, 224, False, "cuda", 60.0) == 224
    assert image_size(500, 224, True, "cpu", 60.0) == 224
    assert image_size(500, 100, False, "cpu", 60.0) == 100


def test_augment_takes_a_preset_a_policy_or_a_file(tmp_path: Path) -> None:
    (tmp_path / "best.txt").write_text("# found\nrotate(-5..5)+cutout\n")
    for given, policy in (
        ("trivial", "crop(0.125)+rand(1,m=0..30)"),
        ("crop+equalize", "crop(0.125)+equalize"),
        (str(tmp_path / "best.txt"), "rotate(-5..5)+cutout(0.5)"),
    ):
        config = settled(Config("digits", augment=given))
        assert config.augment == policy  # the file may go; what it said stays


def test_a_recipe_that_is_none_is_told(tmp_path: Path) -> None:
    for text, says in (("- a", "name: value"), ("a: [", "cannot be read")):
        (tmp_path / "r.yaml").write_text(text)
        with pytest.raises(UserError, match=says):
            read_recipe(tmp_path / "r.yaml")
    with pytest.raises(UserError, match="no such file"):
        read_recipe(tmp_path / "absent.yaml")


def test_what_was_resolved_for_pretrained_weights_is_not_for_random_ones() -> None:
    tuned = settled(Config("photos"), tuned=True)
    assert (tuned.lr, tuned.layer_decay, tuned.norms) == (0.0003, 0.9, "keep")
    plain = tuned.untuned()
    assert (plain.lr, plain.layer_decay, plain.norms) == (0.003, None, "learn")
    assert plain.weights == "none"
    assert settled(Config("photos", lr=0.01), tuned=True).untuned().lr == 0.01


def test_addresses_stay_as_they_are_and_paths_become_absolute(tmp_path: Path) -> None:
    asked = Config("x", method="distill", runs=["r"])
    for images in ("digits", "hf:x/y", "torchvision:MNIST", "s3://bucket/set"):
        config = replace(asked, images=images).resolved("x", "cnn_small", 32, False, True)
        assert config.images == images
    config = replace(asked, images="more").resolved("x", "cnn_small", 32, False, True)
    assert config.images == str(Path("more").absolute())
