import numpy as np
import pytest

from fewlabels.augment.points import CORNERS, Reals, solve, through_points
from fewlabels.augment.views import warp


def mapped(m: Reals, points: Reals) -> Reals:
    result: Reals = np.column_stack([points, np.ones(len(points))]) @ m.T
    return result[:, :2] / result[:, 2:]


def test_by_hand() -> None:
    """Moved by (2, 3), and a square to a trapezium whose sides meet in (0, 2)."""
    shift = through_points(CORNERS[:3], CORNERS[:3] + np.array([2, 3]))
    np.testing.assert_allclose(shift, [[1, 0, 2], [0, 1, 3], [0, 0, 1]], atol=1e-12)
    square = np.array([[-1.0, 0.0], [1.0, 0.0], [-1.0, 1.0], [1.0, 1.0]])
    trapezium = np.array([[-1.0, 0.0], [1.0, 0.0], [-0.5, 1.0], [0.5, 1.0]])
    narrowing = through_points(square, trapezium)
    np.testing.assert_allclose(narrowing, [[1, 0, 0], [0, 2, 0], [0, 1, 1]], atol=1e-12)


@pytest.mark.parametrize("n", [3, 4])
@pytest.mark.parametrize("seed", range(20))
def test_goes_through_its_points(n: int, seed: int) -> None:
    """To a part in 1e9, as double precision leaves it."""
    rng = np.random.default_rng(seed)
    scale = 10.0 ** rng.integers(-2, 3)
    source = scale * (CORNERS[:n] + rng.uniform(-0.2, 0.2, (n, 2)))
    target = 100 * (CORNERS[:n] + rng.uniform(-0.2, 0.2, (n, 2))) + rng.uniform(-50, 50, 2)
    m = through_points(source, target)
    assert m[2, 2] == 1
    if n == 3:
        assert m[2].tolist() == [0, 0, 1]
    np.testing.assert_allclose(mapped(m, source), target, atol=1e-7)


@pytest.mark.parametrize("n", [3, 4])
def test_onto_themselves_is_the_identity(n: int) -> None:
    np.testing.assert_allclose(through_points(CORNERS[:n], CORNERS[:n]), np.eye(3), atol=1e-12)


def test_four_points_of_an_affine_map_give_the_map_of_three() -> None:
    m = np.array([[1.1, 0.2, -3], [0.3, 0.8, 5], [0, 0, 1]])
    target = mapped(m, CORNERS)
    for n in (3, 4):
        np.testing.assert_allclose(through_points(CORNERS[:n], target[:n]), m, atol=1e-12)


LINE = np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0], [0.0, 1.0]])
SAME = np.array([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])


@pytest.mark.parametrize("points", [LINE, LINE[:3], SAME, SAME[:3], np.zeros((4, 2))])
def test_three_points_on_a_line_are_refused(points: Reals) -> None:
    n = len(points)
    with pytest.raises(ValueError, match="three of the points lie on one line"):
        through_points(points, CORNERS[:n])
    with pytest.raises(ValueError, match="three of the points lie on one line"):
        through_points(CORNERS[:n], points)


@pytest.mark.parametrize("shape", [(2, 2), (5, 2), (4, 3), (0, 2), (8,)])
def test_another_number_of_points_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="three or four pairs of points are needed"):
        through_points(np.zeros(shape), np.zeros(shape))


def test_pairs_must_be_as_many() -> None:
    with pytest.raises(ValueError, match="three or four pairs of points are needed"):
        through_points(CORNERS, CORNERS[:3])


@pytest.mark.parametrize("n", [3, 4])
def test_many_at_once_are_one_by_one(n: int) -> None:
    targets = CORNERS[:n] + np.random.default_rng(0).uniform(-0.2, 0.2, (30, n, 2))
    maps = solve(CORNERS[:n], targets)
    assert maps.shape == (30, 3, 3)
    for m, target in zip(maps, targets, strict=True):
        np.testing.assert_allclose(m, through_points(CORNERS[:n], target), atol=1e-12)


@pytest.mark.parametrize("count", [3, 4])
def test_warp_moves_points_to_points(count: int) -> None:
    """A bright pixel at each of the points is found, by the nearest pixel, where it was sent."""
    source = np.array([[10, 12], [50, 9], [13, 30], [47, 33]], np.float64)[:count]
    target = np.array([[14, 8], [46, 14], [12, 34], [52, 29]], np.float64)[:count]
    image = np.zeros((48, 64, 3), np.uint8)
    for k, (x, y) in enumerate(source.astype(int)):
        image[y, x] = 60 * (k + 1)
    result = warp(image, source, target, nearest=True, fill=(0, 0, 0))
    for k, (x, y) in enumerate(target.astype(int)):
        assert result[y, x].tolist() == [60 * (k + 1)] * 3
    assert (warp(image, source, source) == image).all()
    with pytest.raises(ValueError, match="one line"):
        warp(image, source, np.repeat(target[:1], count, 0))
