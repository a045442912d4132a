from fewlabels.training.threads import PERIOD, ThreadChoice


def steps(choice: ThreadChoice, takes: dict[int, float], count: int, now: float = 1.0) -> float:
    """`count` steps, each as long as `takes` says for the threads in use; returns the time then."""
    for _ in range(count):
        now += takes[choice.threads]
        choice.after_step(takes[choice.threads], now)
    return now


def test_the_faster_is_taken() -> None:
    for takes, best in (({2: 0.05, 1: 0.07}, 2), ({2: 0.5, 1: 0.07}, 1)):
        choice = ThreadChoice.up_to(2)
        steps(choice, takes, 6)
        assert choice.threads == best


def test_it_is_tried_again_when_a_core_is_free_again() -> None:
    choice = ThreadChoice.up_to(2)
    now = steps(choice, {2: 0.5, 1: 0.07}, 6)
    assert choice.threads == 1
    now = steps(choice, {2: 0.05, 1: 0.07}, round((PERIOD - 1) / 0.07), now)
    assert choice.threads == 1  # not before its time
    steps(choice, {2: 0.05, 1: 0.07}, 30, now)
    assert choice.threads == 2


def test_a_step_that_hangs_calls_for_a_trial_at_once() -> None:
    choice = ThreadChoice.up_to(2)
    now = steps(choice, {2: 0.05, 1: 0.07}, 10)
    assert choice.threads == 2
    steps(choice, {2: 0.6, 1: 0.08}, 7, now)
    assert choice.threads == 1


def test_all_half_or_one() -> None:
    assert ThreadChoice.up_to(16).candidates == (16, 8, 1)
    assert ThreadChoice.up_to(2).candidates == (2, 1)
    one = ThreadChoice.up_to(1)
    steps(one, {1: 0.1}, 10)
    assert one.threads == 1
