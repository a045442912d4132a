"""What severity means in the end: a net that has learnt digits reads fewer and fewer of them."""

from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits
from torch.nn import functional

from fewlabels.evaluate.predictions import logits
from fewlabels.evaluate.robustness import under_corruptions
from fewlabels.models.cnn_small import CnnSmall
from fewlabels.pixels.preprocess import Preprocess


def digits() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Scikit-learn's, [N, 32, 32, 3]."""
    small, label = load_digits(return_X_y=True)
    pictures = [Image.fromarray(image) for image in (small.reshape(-1, 8, 8) * 15).astype(np.uint8)]
    return np.stack([np.asarray(p.resize((32, 32)).convert("RGB")) for p in pictures]), label


def test_accuracy_falls_with_severity() -> None:
    images, label = digits()
    torch.manual_seed(0)
    net, preprocess = CnnSmall(10), Preprocess(32)
    optimiser = torch.optim.Adam(net.parameters(), 3e-3)
    for step in range(40):
        rows = np.random.default_rng(step).integers(0, 1200, 64)
        loss = functional.cross_entropy(net(preprocess(images[rows])), torch.tensor(label[rows]))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    def ask(some: NDArray[np.uint8]) -> NDArray[np.int64]:
        return logits(net, some, preprocess).argmax(1)

    unseen = slice(1200, 1250)
    assert (ask(images[unseen]) == label[unseen]).mean() > 0.9
    told = under_corruptions(ask, images[unseen], label[unseen], None, 0, lambda *_: None)
    table = {name: [row["accuracy"] for row in rows] for name, rows in told["accuracy"].items()}
    mean = np.mean(list(table.values()), 0)
    assert all(after < before for before, after in pairwise(mean)), mean
    for name in ("frost", "fog", "contrast"):
        assert table[name][4] < table[name][0] - 0.1
