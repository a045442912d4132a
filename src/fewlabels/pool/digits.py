"""The 1,797 handwritten digits inside scikit-learn: real data that is always at hand."""

import io

import numpy as np

from fewlabels.pool.pool import Pool
from fewlabels.pool.source import Encoded

TEST = 360


def scan() -> Pool:
    """8x8 grey PNG images of the digits 0-9; 360 of them are a fixed, stratified test split.

    Which ones does not depend on the user's seed, so that runs with different seeds are measured
    on the same images.
    """
    from PIL import Image
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    data = load_digits()
    grey = np.rint(data.images * (255 / 16)).astype(np.uint8)  # 0..16 -> 0..255
    blobs = []
    for image in grey:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "PNG")
        blobs.append(file.getvalue())
    label = data.target.astype(np.int64)
    _, test = train_test_split(
        np.arange(len(label)), test_size=TEST, stratify=label, random_state=0
    )
    split = np.full(len(label), "train", dtype="U5")
    split[test] = "test"
    names = tuple(f"digit-{row:04d}.png" for row in range(len(label)))
    return Pool(
        origin="digits",
        source=Encoded(names, tuple(blobs)),
        classes=tuple(str(digit) for digit in range(10)),
        label=label,
        split=split,
        mirror=False,
    )
