"""A semi-supervised method learns a toy set better than labels only.

Two moons, three labels each, 300 points unlabelled. A view of a point is the point with noise:
little for the weak view, more for the strong one. The mean over three seeds is compared.
"""

import numpy as np
import pytest
import torch
from sklearn.datasets import make_moons
from torch import nn

from fewlabels.methods import METHODS, Batch, Facts, create, resolve

SEMI_SUPERVISED = [name for name in METHODS if name != "supervised"]


def accuracy(name: str, seed: int, steps: int = 400) -> float:
    points, label = make_moons(300, noise=0.08, random_state=seed)
    x = torch.from_numpy(points).float()[:, :, None, None]  # images of 2 channels and one pixel
    y = torch.from_numpy(label)
    labelled = torch.cat([torch.where(y == c)[0][:3] for c in (0, 1)])
    torch.manual_seed(seed)
    student = nn.Sequential(nn.Flatten(), nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())
    student.append(nn.Linear(64, 2))
    method = create(name, Facts(2, (3, 3), 300), resolve(name, {}))
    optimiser = torch.optim.Adam(student.parameters(), 3e-3)

    def view(points: torch.Tensor, noise: float) -> torch.Tensor:
        return points + noise * torch.randn_like(points)

    for step in range(steps):
        index = torch.randint(300, (6 * max(1, method.views.ratio),))
        weak, strong = view(x[index], 0.05), view(x[index], 0.2)
        batch = Batch(view(x[labelled], 0.05), y[labelled], weak, strong, index)
        optimiser.zero_grad()
        method.step(student, batch, step / steps).loss.backward()
        optimiser.step()
    return (student(x).argmax(1) == y).float().mean().item()


@pytest.mark.parametrize("name", SEMI_SUPERVISED)
def test_unlabelled_points_help(name: str) -> None:
    ours = np.mean([accuracy(name, seed) for seed in range(3)])
    baseline = np.mean([accuracy("supervised", seed) for seed in range(3)])
    assert ours > baseline + 0.03, f"{name} {ours:.3f}, labels only {baseline:.3f}"
