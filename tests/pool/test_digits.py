import io

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from fewlabels.pool import Pool


def test_digits() -> None:
    pool = Pool.scan("digits")
    assert (pool.origin, len(pool), pool.mirror) == ("digits", 1797, False)
    assert pool.classes == tuple("0123456789")
    test = pool.split == "test"
    assert int(test.sum()) == 360
    assert set(pool.split[~test]) == {"train"}
    assert np.bincount(pool.label[test]).min() >= 35  # stratified
    data = load_digits()
    for row in (0, 500, 1796):
        pixels = np.asarray(Image.open(io.BytesIO(pool.source.read(row))))
        np.testing.assert_array_equal(pixels, np.rint(data.images[row] * 15.9375))
        assert pool.label[row] == data.target[row]


def test_the_test_images_are_fixed() -> None:
    """Written down once: results measured today and in a year are on the same images."""
    np.random.seed(1)  # noqa: NPY002  the global state must not matter
    rows = np.flatnonzero(Pool.scan("digits").split == "test")
    assert rows[:5].tolist() == [21, 24, 28, 34, 35]
    assert int(rows.sum()) == 337944
