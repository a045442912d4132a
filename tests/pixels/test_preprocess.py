import json

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fewlabels.pixels.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess, border_colour


def test_by_hand() -> None:
    """The mean of a channel becomes 0, and a standard deviation more becomes 1."""
    preprocess = Preprocess(2, (0.0, 0.2, 0.4), (1.0, 0.2, 0.5))
    image = np.zeros((1, 2, 2, 3), np.uint8)
    image[0, 0, 1] = (255, 51, 255)
    image[0, 1, 0] = (51, 102, 102)
    expected = torch.tensor(
        [[[0, 1], [0.2, 0]], [[-1, 0], [1, -1]], [[-0.8, 1.2], [0, -0.8]]]
    )  # [channel, y, x]
    torch.testing.assert_close(preprocess(image)[0], expected, rtol=0, atol=1e-6)


def test_as_torchvision_normalises() -> None:
    """ImageNet's constants on every level: (v / 255 - mean) / std in float64."""
    ramp = np.broadcast_to(np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1), (1, 16, 16, 3))
    result = Preprocess(16)(ramp)[0].double().numpy()
    for c, (mean, std) in enumerate(zip((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True)):
        expected = (np.arange(256).reshape(16, 16) / 255 - mean) / std
        np.testing.assert_allclose(result[c], expected, rtol=0, atol=1e-6)


def test_form() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 3), np.uint8)
    images.flags.writeable = False
    result = Preprocess(4)(images)
    assert result.shape == (3, 3, 4, 4)
    assert result.dtype == torch.float32
    assert result.is_contiguous()
    assert torch.equal(result[1], Preprocess(4)(images[1:2])[0])
    assert Preprocess(4)(images[:0]).shape == (0, 3, 4, 4)


def test_json_round_trip() -> None:
    for preprocess in (Preprocess(32), Preprocess(8, (0.1, 1 / 3, 0.7), (0.3, 0.2, 1e-3))):
        again = Preprocess.from_json(json.loads(json.dumps(preprocess.to_json())))
        assert again == preprocess
        assert hash(again) == hash(preprocess)  # tuples, not the lists of JSON
    assert Preprocess(32).to_json() == {"size": 32, "mean": IMAGENET_MEAN, "std": IMAGENET_STD}


def framed(colours: list[tuple[int, int, int]], side: int = 6) -> NDArray[np.uint8]:
    """Images of noise with a frame, one pixel wide, of each colour."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (len(colours), side, side, 3), np.uint8)
    for image, colour in zip(images, colours, strict=True):
        image[[0, -1]] = colour
        image[:, [0, -1]] = colour
    return images


def test_border_colour() -> None:
    images = framed([(10, 20, 30), (0, 0, 0), (255, 255, 255), (12, 18, 33)])
    assert border_colour(images, np.array([0])).tolist() == [10, 20, 30]
    # the median of each channel, over the rows that were asked for
    assert border_colour(images, np.array([0, 1, 2])).tolist() == [10, 20, 30]
    assert border_colour(images, np.array([0, 3])).tolist() == [11, 19, 31.5]
    assert border_colour(images, np.array([2])).tolist() == [255, 255, 255]


@pytest.mark.parametrize("turns", range(4))
def test_each_edge_counts(turns: int) -> None:
    """Of the 24 pixels of four edges (corners are in two) 13 are 9; 7 of 18 without the top."""
    image = np.ones((6, 6, 3), np.uint8)
    image[0] = 9
    image[1:3, [0, -1]] = 9
    image[-1, 2] = 9
    assert border_colour(np.rot90(image, turns)[None], np.array([0])).tolist() == [9, 9, 9]


def test_border_colour_of_many_is_taken_from_all_over() -> None:
    """Not from the first 512 alone, and in whichever order the rows come."""
    images = framed([(0, 0, 0)] * 600 + [(200, 100, 50)] * 900, side=2)
    rows = np.arange(1500)
    assert border_colour(images, rows).tolist() == [200, 100, 50]
    assert border_colour(images, rows[::-1]).tolist() == [200, 100, 50]
    shuffled = np.random.default_rng(0).permutation(rows)
    before = shuffled.copy()
    assert border_colour(images, shuffled).tolist() == [200, 100, 50]
    assert shuffled.tolist() == before.tolist()
