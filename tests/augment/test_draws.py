import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import chi2

from fewlabels.augment import draws
from fewlabels.augment.draws import uniforms

MASK = 2**64 - 1


def drawn(
    image: range | list[int], count: int = 1, seed: int = 0, epoch: int = 0, view: int = 0
) -> NDArray[np.float64]:
    numbers = np.array(image, np.int64)
    return uniforms(seed, np.full_like(numbers, epoch), numbers, view, count)


def test_published_splitmix() -> None:
    """The first outputs of SplitMix64 for seed 1234567, as Rosetta Code and others print them."""
    state = [(1234567 + k * int(draws._GOLDEN)) & MASK for k in range(1, 6)]
    assert draws._mix(np.array(state, np.uint64)).tolist() == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


def in_integers(seed: int, epoch: int, image: int, view: int, number: int) -> float:
    """The same hash in Python's integers, which do not overflow."""

    def mix(z: int) -> int:
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        return z ^ (z >> 31)

    golden = 0x9E3779B97F4A7C15
    key = mix((seed + golden) & MASK)
    for part in (epoch, image, view):
        key = mix(key ^ (((part + 1) * golden) & MASK))
    return (mix((key + (number + 1) * golden) & MASK) >> 11) / 2**53


@pytest.mark.parametrize(
    ("seed", "epoch", "image", "view"), [(0, 0, 0, 0), (7, 3, 41, 1), (2**63, 10**6, 3 * 10**8, 9)]
)
def test_by_hand(seed: int, epoch: int, image: int, view: int) -> None:
    expected = [in_integers(seed, epoch, image, view, number) for number in range(5)]
    assert drawn([image], 5, seed, epoch, view)[0].tolist() == expected


def test_stay_what_they_were() -> None:
    """A run that is resumed under a newer version must draw what it would have drawn."""
    expected = [0.8277165181157359, 0.39253976208178376, 0.17047847648658387]
    assert drawn([5], 3, seed=1, epoch=2, view=1)[0].tolist() == expected


def test_same_name_same_draw() -> None:
    assert drawn(range(50), 4).tolist() == drawn(range(50), 4).tolist()


@pytest.mark.parametrize("other", [{"seed": 1}, {"epoch": 1}, {"view": 1}])
def test_another_name_another_draw(other: dict[str, int]) -> None:
    assert not (drawn(range(1000), 4) == drawn(range(1000), 4, **other)).any()


def test_every_image_and_number_another_draw() -> None:
    assert len(np.unique(drawn(range(1000), 50))) == 50_000


def test_names_do_not_add_up() -> None:
    """Epoch 1 of image 2 is not epoch 2 of image 1, nor are seed, epoch and view exchangeable."""
    parts = [(a, b, c, d) for a in range(4) for b in range(4) for c in range(4) for d in range(4)]
    every = [float(drawn([c], 1, a, b, d)[0, 0]) for a, b, c, d in parts]
    assert len(set(every)) == len(parts)


def test_no_matter_which_batch() -> None:
    whole = drawn(range(100), 3)
    order = np.random.default_rng(0).permutation(100)
    assert drawn(order.tolist(), 3).tolist() == whole[order].tolist()
    assert drawn([17], 3)[0].tolist() == whole[17].tolist()
    assert drawn([17, 17, 4], 3).tolist() == whole[[17, 17, 4]].tolist()
    # the epoch is each image's own
    mixed = uniforms(0, np.array([0, 1]), np.array([17, 17]), 0, 3)
    assert mixed.tolist() == [whole[17].tolist(), drawn([17], 3, epoch=1)[0].tolist()]


def test_no_matter_how_many_are_drawn() -> None:
    assert drawn(range(20), 9)[:, :4].tolist() == drawn(range(20), 4).tolist()
    assert drawn(range(20), 0).shape == (20, 0)
    assert drawn([], 4).shape == (0, 4)


N = 40_000


def along(what: str) -> NDArray[np.float64]:
    """N draws whose names differ in one part only: what a weak hash would show."""
    if what == "image":
        return drawn(range(N))[:, 0]
    if what == "number":
        return drawn([3], N)[0, :]
    if what == "epoch":
        return uniforms(0, np.arange(N), np.zeros(N, np.int64), 0, 1)[:, 0]
    parts: list[dict[str, int]] = [{what: k} for k in range(N // 200)]  # seeds or views
    every: NDArray[np.float64] = np.ravel([drawn(range(200), **part)[:, 0] for part in parts])
    return every


@pytest.mark.parametrize("what", ["image", "number", "epoch", "seed", "view"])
def test_uniform(what: str) -> None:
    u = along(what)
    assert u.min() >= 0.0
    assert u.max() < 1.0
    # four standard errors: of the mean sqrt(1/12N), of the variance sqrt(1/180N)
    assert abs(u.mean() - 1 / 2) < 4 * (12 * N) ** -0.5
    assert abs(u.var() - 1 / 12) < 4 * (180 * N) ** -0.5
    count = np.histogram(u, 100, (0, 1))[0]
    statistic = ((count - N / 100) ** 2 / (N / 100)).sum()
    # too even is as suspicious as too uneven
    assert chi2.ppf(1e-4, 99) < statistic < chi2.ppf(1 - 1e-4, 99)
    # neighbours are not correlated
    assert abs(np.corrcoef(u[:-1], u[1:])[0, 1]) < 4 * N**-0.5


@pytest.mark.parametrize("other", [{"seed": 1}, {"epoch": 1}, {"view": 1}])
def test_independent(other: dict[str, int]) -> None:
    """As pairs, draws of two seeds, epochs or views fill the unit square evenly."""
    a, b = drawn(range(N))[:, 0], drawn(range(N), **other)[:, 0]
    assert abs(np.corrcoef(a, b)[0, 1]) < 4 * N**-0.5
    count = np.histogram2d(a, b, 10, ((0, 1), (0, 1)))[0]
    statistic = ((count - N / 100) ** 2 / (N / 100)).sum()
    assert chi2.ppf(1e-4, 99) < statistic < chi2.ppf(1 - 1e-4, 99)


def test_images_of_one_view_are_independent_in_every_draw() -> None:
    u = drawn(range(N), 6)
    between = np.corrcoef(u.T) - np.eye(6)
    assert np.abs(between).max() < 4 * N**-0.5
