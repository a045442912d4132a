"""Stages, filters, channels, neighbours, and where the heat lies."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fewlabels.evaluate.explain import layers, picture
from fewlabels.evaluate.explain.focus import focus
from fewlabels.evaluate.explain.instrument import instrument
from fewlabels.evaluate.explain.neighbours import nearest, survey
from fewlabels.models.cnn_small import CnnSmall
from fewlabels.models.mlp import Perceptron
from fewlabels.models.structure import embed
from fewlabels.pixels.preprocess import Preprocess

WHERE = np.zeros((12, 12), np.bool_)


def pixels(count: int = 5, side: int = 16) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), np.uint8)


def net() -> CnnSmall:
    torch.manual_seed(0)
    return CnnSmall(3).eval()


def test_stages_show_the_strongest_channels() -> None:
    model, x = net(), Preprocess(16)(pixels())
    found = layers.stages(instrument(model, 16), x)
    assert [stage.shape for stage in found] == [(24, 8, 8), (48, 4, 4), (96, 2, 2)]
    with torch.no_grad():
        first = model.stem(x)
    for i in range(len(x)):
        order = first[i].abs().mean((1, 2)).argsort(descending=True)[: layers.SHOWN]
        assert found[0].channels[i].tolist() == order.tolist()
        np.testing.assert_allclose(found[0].maps[i], first[i, order], rtol=1e-4, atol=1e-6)


def test_a_model_without_maps_has_no_stages() -> None:
    assert layers.stages(instrument(Perceptron(3, size=8), 8), torch.zeros(1, 3, 8, 8)) == ()


def test_filters_of_an_unshuffled_stem_are_kernels_on_the_image() -> None:
    """A kernel on 2x2 squares in channels is one of twice the side that moves by two."""
    conv = nn.Conv2d(12, 5, 3, bias=False)
    x = torch.randn(2, 3, 16, 16)
    whole = F.pixel_shuffle(conv.weight, 2)
    torch.testing.assert_close(
        conv(F.pixel_unshuffle(x, 2)), F.conv2d(x, whole, stride=2), atol=1e-5, rtol=1e-4
    )
    model = nn.Sequential(nn.PixelUnshuffle(2), conv)
    found = layers.filters(model, 16)
    assert found is not None
    assert found.pictures.shape == (5, 6, 6, 3)
    scale = whole.detach().abs().amax((1, 2, 3), keepdim=True)
    expected = (127.5 * (1 + whole.detach() / scale)).permute(0, 2, 3, 1)
    np.testing.assert_allclose(found.pictures, expected, atol=0.51)


def test_filters_of_a_perceptron_are_pictures_of_its_classes() -> None:
    found = layers.filters(Perceptron(4, size=8), 8)
    assert found is not None
    assert found.pictures.shape == (4, 8, 8, 3)
    assert layers.filters(nn.Linear(7, 3), 8) is None
    assert layers.filters(nn.Conv2d(4, 3, 3), 8) is None


def test_a_survey_is_what_the_model_makes_of_each_image() -> None:
    model, x = net(), Preprocess(16)(pixels())
    found = survey(instrument(model, 16), pixels(), Preprocess(16))
    with torch.no_grad():
        np.testing.assert_allclose(found.features, embed(model, x), rtol=1e-4, atol=1e-6)
        peaks = model(x), found.peaks  # the head sees the maximum of each channel: so does a peak
    np.testing.assert_allclose(peaks[1], found.features, rtol=1e-4, atol=1e-6)
    assert survey(instrument(Perceptron(3, size=16), 16), pixels(), Preprocess(16)).peaks.size == 0


def test_the_channels_that_speak_are_those_of_the_largest_share() -> None:
    """cnn_small's logit is a sum over channels of weight times maximum: the shares are known."""
    model, x = net(), Preprocess(16)(pixels())
    ready = instrument(model, 16)
    target = torch.tensor([0, 1, 2, 1, 0])
    with torch.no_grad():
        maps = model.top(model.middle(model.stem(x)) + model.residual(model.middle(model.stem(x))))
        share = model.head.weight[target] / maps[0, 0].numel() * maps.sum((2, 3))
    order = share.sum(0).argsort(descending=True)[:4].tolist()
    assert layers.speaking_channels(ready, x, target, 4) == order


def test_nearest_are_those_of_the_smallest_angle() -> None:
    rng = np.random.default_rng(0)
    bank = rng.normal(size=(6, 10)).astype(np.float32)
    order, cosine = nearest(3 * bank[[4, 1]], bank, 3)
    assert order[:, 0].tolist() == [4, 1]
    np.testing.assert_allclose(cosine[:, 0], 1, rtol=1e-5)
    by_hand = bank @ bank[4] / np.linalg.norm(bank, axis=1) / np.linalg.norm(bank[4])
    assert order[0].tolist() == np.argsort(-by_hand)[:3].tolist()
    assert (np.diff(cosine, axis=1) <= 0).all()
    assert nearest(bank[:1], bank, 99)[0].shape == (1, 6)
    assert np.isfinite(nearest(np.zeros((1, 10), np.float32), bank, 2)[1]).all()


def test_focus_by_hand() -> None:
    heat = np.zeros((12, 12), np.float32)
    heat[0:4, 8:12] = 1  # upper right: 16 places
    heat[5:7, 5:7] = 2  # in the middle: 8 in all
    heat[11, 0] = -50  # speaks against: no heat
    found = focus(heat, WHERE)
    assert found is not None
    assert found.place == "upper right"
    assert found.there == pytest.approx(16 / 24)
    assert found.centre == pytest.approx((8 + 1) / 24)  # of the corner's squares, one lies there
    assert found.half == pytest.approx(8 / 144)  # 4 of 2, then 4 of 1
    assert focus(-np.abs(heat), WHERE) is None
    even = focus(np.ones((12, 12), np.float32), WHERE)
    assert even is not None
    assert even.centre == pytest.approx(0.25)
    assert even.there == pytest.approx(1 / 9)
    assert even.half == pytest.approx(0.5)


def test_heat_on_the_border_is_counted() -> None:
    border = WHERE.copy()
    border[:3] = True
    found = focus(np.ones((12, 12), np.float32), border)
    assert found is not None
    assert found.border == pytest.approx(0.25)


def test_the_overlay_is_brighter_where_it_is_hotter_and_the_picture_elsewhere() -> None:
    image = np.full((8, 8, 3), 120, np.uint8)
    heat = np.zeros((8, 8), np.float32)
    heat[:, 4:] = np.linspace(0.1, 1, 4)
    shown = picture.overlay(image, heat)
    grey = round(120 * picture.DIM)
    assert (shown[:, :4] == grey).all()
    bright = shown[0, 4:] @ np.array([0.299, 0.587, 0.114])
    assert (np.diff(bright) > 0).all()
    assert (picture.overlay(image, -heat) == grey).all()
    # the scale itself only rises, so that it reads without any colour vision
    grown = [np.dot(colour, (0.299, 0.587, 0.114)) for _, colour in picture.SCALE]
    assert (np.diff(grown) > 20).all()


def test_a_grid_keeps_every_picture() -> None:
    some = pixels(5, 3)
    sheet = picture.grid(some, 2, 6)
    assert sheet.shape == (3 * 7 - 1, 2 * 7 - 1, 3)
    np.testing.assert_array_equal(sheet[14:20:2, 0:6:2], some[4])
