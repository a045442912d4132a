import pytest

from fewlabels.training.budget import Budget
from fewlabels.training.schedule import cosine


@pytest.mark.parametrize(
    ("progress", "factor"), [(0.0, 0.0), (0.05, 0.5), (0.1, 1.0), (0.55, 0.5), (1.0, 0.0)]
)
def test_cosine_after_warmup(progress: float, factor: float) -> None:
    assert cosine(progress, warmup=0.1) == pytest.approx(factor, abs=1e-12)


def test_budgets_run_from_nothing_to_all() -> None:
    assert [Budget(steps=4).progress(step, 99.0) for step in (0, 1, 4, 5)] == [0, 0.25, 1, 1]
    assert [Budget(seconds=10).progress(99, s) for s in (0.0, 2.5, 10.0, 11.0)] == [0, 0.25, 1, 1]
    assert Budget(seconds=0.0).progress(0, 0.0) == 1.0
