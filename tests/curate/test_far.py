import numpy as np
import pytest

from fewlabels.curate import far as module
from fewlabels.curate.far import far


def cloud(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, 64)).astype(np.float32)


def test_what_is_far_is_found_the_farthest_first() -> None:
    points = cloud(300)
    points[7] += 20
    points[250] -= 60
    rows, times = far(points)
    assert rows.tolist() == [250, 7]
    assert times[0] > times[1] > 5


def test_a_cloud_has_few_strays() -> None:
    assert sum(len(far(cloud(400, seed))[0]) for seed in range(10)) <= 8  # of 4,000


def test_five_copies_of_a_stray_are_strays() -> None:
    points = cloud(300)
    points[[5, 60, 70, 80, 90]] = 30
    assert sorted(far(points)[0].tolist()) == [5, 60, 70, 80, 90]


def test_few_images_and_copies_of_one_have_none() -> None:
    assert len(far(cloud(19) * np.arange(19)[:, None].astype(np.float32))[0]) == 0
    assert len(far(np.zeros((100, 64), np.float32))[0]) == 0


def test_a_sample_of_the_others_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    points = cloud(3 * module._AT_ONCE)
    points[2000] += 30
    monkeypatch.setattr(module, "AMONG", 500)
    rows, times = far(points)
    assert rows[0] == 2000
    assert times[0] > 10 > times[1:].max(initial=0) + 8
