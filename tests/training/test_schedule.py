import pytest

from fewlabels.training.budget import Budget
from fewlabels.training.schedule import SCHEDULES, factor


@pytest.mark.parametrize(
    ("progress", "expected"), [(0.0, 0.0), (0.05, 0.5), (0.1, 1.0), (0.55, 0.5), (1.0, 0.0)]
)
def test_cosine_after_warmup(progress: float, expected: float) -> None:
    assert factor("cosine", progress, warmup=0.1) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("name", "factors"),
    [
        ("cosine", {0.0: 1.0, 0.5: 0.5, 1.0: 0.0}),
        ("seven_sixteenths", {0.0: 1.0, 0.5: 0.77301, 1.0: 0.19509}),
        ("step", {0.0: 1.0, 0.33: 1.0, 0.34: 0.1, 0.66: 0.1, 0.67: 0.01, 1.0: 0.01}),
        ("one_cycle", {0.0: 0.04, 0.15: 0.52, 0.3: 1.0, 0.65: 0.50005, 1.0: 1e-4}),
        ("constant", {0.0: 1.0, 0.5: 1.0, 1.0: 1.0}),
    ],
)
def test_schedules(name: str, factors: dict[float, float]) -> None:
    for progress, expected in factors.items():
        assert factor(name, progress) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_stays_between_nothing_and_all(name: str) -> None:
    values = [factor(name, i / 1000, warmup=0.03) for i in range(1001)]
    assert min(values) >= 0
    assert max(values) == pytest.approx(1.0, abs=1e-3)


def test_budgets_run_from_nothing_to_all() -> None:
    assert [Budget(steps=4).progress(step, 99.0) for step in (0, 1, 4, 5)] == [0, 0.25, 1, 1]
    assert [Budget(seconds=10).progress(99, s) for s in (0.0, 2.5, 10.0, 11.0)] == [0, 0.25, 1, 1]
    assert Budget(seconds=0.0).progress(0, 0.0) == 1.0
