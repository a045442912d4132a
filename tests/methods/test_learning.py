"""A method learns a toy set better than labels only.

Points: two moons, three labels each, 300 points unlabelled. A view of a point is the point with
noise: little for the weak view, more for the strong one. Images: six signs of any colour, anywhere
on a noisy ground, three labels each, 480 unlabelled; and scikit-learn's digits, four labels each,
600 unlabelled. The steps are taken as the loop takes them, with the method's own parameters and its
response; a teacher is trained on the labels only. The mean over three seeds of what the moving
average gets right is compared.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits, make_moons
from torch import Tensor, nn

from fewlabels.methods import METHODS, Batch, Facts, Networks, create, resolve
from fewlabels.training.ema import EMA

SEEDS = 3


@dataclass(frozen=True, eq=False)
class Problem:
    x: Tensor  # [N, C, H, W], unlabelled
    y: Tensor  # [N]
    labelled: Tensor  # [B], rows whose labels are known
    weak: Callable[[Tensor], Tensor]
    strong: Callable[[Tensor], Tensor]
    net: Callable[[int], nn.Module]  # of so many classes
    batch: int  # unlabelled images a step
    test: Tensor  # [M, C, H, W]
    answers: Tensor  # [M]

    @property
    def facts(self) -> Facts:
        counts = torch.bincount(self.y[self.labelled])
        return Facts(len(counts), tuple(counts.tolist()), len(self.x), len(self.x))


def moons(seed: int, known: int = 3) -> Problem:
    points, label = make_moons(300, noise=0.08, random_state=seed)
    x = torch.from_numpy(points).float()[:, :, None, None]  # images of 2 channels and one pixel
    y = torch.from_numpy(label)

    def view(noise: float) -> Callable[[Tensor], Tensor]:
        return lambda some: some + noise * torch.randn_like(some)

    def net(classes: int) -> nn.Module:
        wide = [nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, classes)]
        return nn.Sequential(nn.Flatten(), *wide)

    labelled = torch.cat([torch.where(y == c)[0][:known] for c in (0, 1)])
    return Problem(x, y, labelled, view(0.05), view(0.2), net, 64, x, y)


def moons_with_more_labels(seed: int) -> Problem:
    return moons(seed, 8)


def shifted(some: Tensor) -> Tensor:
    """Images moved by up to one pixel."""
    down, right = torch.randint(-1, 2, (2,)).tolist()
    return some.roll((down, right), (2, 3))


def convolutional(classes: int, widths: tuple[int, int, int] = (8, 16, 24)) -> nn.Module:
    def conv(inputs: int, outputs: int) -> list[nn.Module]:
        kernel = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        return [kernel, nn.BatchNorm2d(outputs), nn.ReLU()]

    low, middle, top = widths
    below = [*conv(3, low), *conv(low, middle), nn.MaxPool2d(2), *conv(middle, top)]
    above = (nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(top, classes))
    # in this layout it takes two thirds of the time
    return nn.Sequential(*below, *above).to(memory_format=torch.channels_last)


SIGNS = (
    ("#....", "#....", "#....", "#....", "#####"),
    ("#####", "..#..", "..#..", "..#..", "..#.."),
    ("#####", "#....", "###..", "#....", "#...."),
    ("#...#", "#..#.", "###..", "#..#.", "#...#"),
    (".###.", "#....", "#....", "#....", ".###."),
    ("#####", "...#.", "..#..", ".#...", "#...."),
)


@cache
def signs(seed: int) -> Problem:
    g, unlabelled, side = torch.Generator().manual_seed(seed), 480, 10
    shapes = torch.tensor([[[mark == "#" for mark in row] for row in sign] for sign in SIGNS])
    y = torch.arange(unlabelled + 600) % len(SIGNS)
    x = 0.3 * torch.randn(len(y), 3, side, side, generator=g)
    for image, label in zip(x, y.tolist(), strict=True):
        top, left = torch.randint(0, side - 4, (2,), generator=g).tolist()
        colour = 1.0 + 0.5 * torch.randn(3, 1, 1, generator=g)
        image[:, top : top + 5, left : left + 5] += colour * shapes[label]

    def strong(some: Tensor) -> Tensor:
        """Also of another colour, and noisy."""
        colour = 0.6 + 0.8 * torch.rand(len(some), 3, 1, 1)
        return shifted(some) * colour + 0.3 * torch.randn_like(some)

    known, n = torch.arange(3 * len(SIGNS)), unlabelled
    return Problem(x[:n], y[:n], known, shifted, strong, convolutional, 32, x[n:], y[n:])


def signs_by_a_wider_net(seed: int) -> Problem:
    return replace(signs(seed), net=partial(convolutional, widths=(12, 24, 24)))


@cache
def digits(seed: int) -> Problem:
    pixels, label = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(label))
    images = torch.from_numpy(pixels[order]).float().view(-1, 1, 8, 8)
    x, y = ((images - 4.9) / 6.0).expand(-1, 3, 8, 8), torch.from_numpy(label[order])

    def strong(some: Tensor) -> Tensor:
        """Also brighter or darker, and noisy."""
        light = 0.6 + 0.8 * torch.rand(len(some), 1, 1, 1)
        return shifted(some) * light + 0.3 * torch.randn_like(some)

    known, n = torch.cat([torch.where(y[:600] == c)[0][:4] for c in range(10)]), 600
    net = partial(convolutional, widths=(12, 24, 64))
    return Problem(x[:n], y[:n], known, shifted, strong, net, 32, x[n:], y[n:])


# What each is asked to learn, and in how many steps: as few as leave a margin. Lee's method, whose
# views are all weak, gets nothing from moons; Meta Pseudo Labels starts from a teacher that knows
# something; a task that comes first leaves the labels half of the steps.
TOYS: dict[str, tuple[Callable[[int], Problem], int]] = {
    "pseudo_label": (digits, 150),
    "mean_teacher": (signs, 200),
    "uda": (digits, 150),
    "fixmatch": (moons, 400),
    "flexmatch": (moons, 400),
    "freematch": (moons, 400),
    "softmatch": (moons, 400),
    "distill": (signs, 200),
    "meta_pseudo_labels": (moons_with_more_labels, 1000),
    "self_train": (signs, 200),
    "noisy_student": (signs, 200),
    "rotation": (signs, 200),
    "simclr": (signs, 200),
    "masked": (signs_by_a_wider_net, 300),
    "restoration": (signs_by_a_wider_net, 300),
}


def trained(
    name: str, problem: Problem, seed: int, steps: int, teachers: tuple[nn.Module, ...] = ()
) -> nn.Module:
    """The moving average of a net that the method has trained."""
    torch.manual_seed(seed)
    student = problem.net(problem.facts.num_classes)
    average = EMA(student, 0.99)
    method = create(name, problem.facts, resolve(name, {}))
    size = problem.x.shape[2]
    method.begin(Networks(student, average.model, size, teachers))
    parameters = [*student.parameters(), *method.parameters()]
    optimiser = torch.optim.Adam(parameters, 3e-3, fused=True)

    def descend(loss: Tensor) -> None:
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    views = {"weak": problem.weak, "strong": problem.strong, "other": problem.strong}
    labelled = problem.x[problem.labelled]
    for step in range(steps):
        index = torch.randint(len(problem.x), (problem.batch,))
        x = views[method.views.labelled](labelled)
        some = {view: views[view](problem.x[index]) for view in method.views.unlabelled}
        if method.views.given:  # of the images as they are
            with torch.no_grad():
                some["given"] = teachers[0](problem.x[index]).softmax(1)
        batch = Batch(x, problem.y[problem.labelled], index=index, **some)
        student.train()
        descend(method.step(student, batch, step / steps).loss)
        reply = method.respond()
        if reply is not None:
            descend(reply)
        average.update(step)
    return average.model


def accuracy(model: nn.Module, problem: Problem) -> float:
    with torch.no_grad():
        return (model(problem.test).argmax(1) == problem.answers).float().mean().item()


@cache
def labels_only(make: Callable[[int], Problem], seed: int, steps: int) -> nn.Module:
    return trained("supervised", make(seed), seed, steps).eval()


def compare(
    name: str, make: Callable[[int], Problem], steps: int
) -> tuple[list[float], list[float]]:
    """By seed, what the method and labels only get right, in as many steps."""
    ours, baseline = [], []
    for seed in range(SEEDS):
        problem, teacher = make(seed), labels_only(make, seed, steps)
        ours.append(accuracy(trained(name, problem, seed, steps, (teacher,)), problem))
        baseline.append(accuracy(teacher, problem))
    return ours, baseline


def test_every_method_that_uses_unlabelled_images_has_a_toy() -> None:
    assert TOYS.keys() == METHODS.keys() - {"supervised"}


@pytest.mark.parametrize("name", TOYS)
def test_unlabelled_images_help(name: str) -> None:
    ours, baseline = compare(name, *TOYS[name])
    assert np.mean(ours) > np.mean(baseline) + 0.01, f"{name} {ours}, labels only {baseline}"
