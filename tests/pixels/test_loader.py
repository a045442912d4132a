import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice

import numpy as np
import pytest

from fewlabels.pixels.loader import Stream, prefetch

LABELS = np.arange(100, 120)  # twenty rows that are not their positions


def taken(stream: Stream, start: int, count: int) -> list[tuple[int, int]]:
    """Pairs of row and epoch."""
    rows, epoch = stream.at(start, count)
    assert rows.dtype == epoch.dtype == np.int64
    return list(zip(rows.tolist(), epoch.tolist(), strict=True))


def test_twenty_labels_fill_a_batch_of_32() -> None:
    """Nothing is dropped: in 5 batches of 32 each of 20 rows comes 8 times, once an epoch."""
    stream = Stream(LABELS, 0, 0)
    batches = [taken(stream, step * 32, 32) for step in range(5)]
    assert [len(batch) for batch in batches] == [32] * 5
    every = [pair for batch in batches for pair in batch]
    assert Counter(row for row, _ in every) == dict.fromkeys(LABELS, 8)
    assert sorted(every) == sorted((row, epoch) for row in LABELS for epoch in range(8))
    assert [epoch for _, epoch in every] == [k // 20 for k in range(160)]


def test_one_row_fills_a_batch() -> None:
    assert taken(Stream(np.array([7]), 0, 0), 0, 4) == [(7, 0), (7, 1), (7, 2), (7, 3)]


@pytest.mark.parametrize("batch", [1, 7, 20, 32, 61])
def test_no_matter_how_it_is_cut(batch: int) -> None:
    stream = Stream(LABELS, 3, 1)
    whole = taken(stream, 0, 200)
    cut = [pair for start in range(0, 200, batch) for pair in taken(stream, start, batch)]
    assert cut[:200] == whole
    assert taken(stream, 137, 29) == whole[137:166]
    assert taken(stream, 15, 0) == []


def test_no_matter_what_was_taken_before() -> None:
    """A resumed run starts with another object, in the middle, and with nothing remembered."""
    first = taken(Stream(LABELS, 3, 1), 0, 400)
    for seed in range(20):  # more streams than are remembered
        taken(Stream(LABELS, seed, 0), 0, 40)
    assert taken(Stream(LABELS, 3, 1), 333, 40) == first[333:373]
    stream = Stream(LABELS, 3, 1)
    stream.at(0, 20)[0][:] = -1  # what is handed out is the caller's
    assert taken(stream, 0, 400) == first


def test_each_epoch_in_another_order() -> None:
    rows = Stream(LABELS, 0, 0).at(0, 20 * 50)[0].reshape(50, 20)
    assert len({tuple(order) for order in rows.tolist()}) == 50
    # each row stands everywhere: its mean position over 50 epochs is within 4.5 standard errors
    # of the middle (there are 20 of them)
    position = np.argsort(rows, 1).mean(0)
    assert np.abs(position - 9.5).max() < 4.5 * ((20**2 - 1) / 12 / 50) ** 0.5


def test_another_seed_another_order() -> None:
    orders = {tuple(Stream(LABELS, seed, 0).at(0, 20)[0].tolist()) for seed in range(20)}
    assert len(orders) == 20


def test_another_name_another_order() -> None:
    orders = {tuple(Stream(LABELS, 0, name).at(0, 20)[0].tolist()) for name in range(20)}
    assert len(orders) == 20
    # seed and name are not exchangeable
    assert taken(Stream(LABELS, 1, 2), 0, 20) != taken(Stream(LABELS, 2, 1), 0, 20)


def test_global_state_does_not_matter_and_is_left_alone() -> None:
    rows = tuple(range(500, 530))  # no other test has made it be remembered
    np.random.seed(1)  # noqa: NPY002  the global state that must not matter
    first = taken(Stream(rows, 0, 0), 0, 90)
    np.random.seed(2)  # noqa: NPY002
    before = np.random.get_state()[1].tolist()  # type: ignore[index]  # noqa: NPY002
    for name in range(20):  # until it is forgotten
        Stream(rows, 5, name).at(0, 30)
    assert taken(Stream(rows, 0, 0), 0, 90) == first
    after = np.random.get_state()[1].tolist()  # type: ignore[index]  # noqa: NPY002
    assert before == after


# ---- prefetch ----


Running = Callable[[], int]


@pytest.fixture(autouse=True)
def running() -> Iterator[Running]:
    """How many of a loader's threads run that did not before the test; in the end none may."""

    def threads() -> set[threading.Thread]:
        every = threading.enumerate()
        return {thread for thread in every if thread.name.startswith("fewlabels-loader")}

    before = threads()
    yield lambda: len(threads() - before)
    assert threads() <= before


def late(number: int) -> int:
    """The first of each three comes last."""
    time.sleep(0.003 * (2 - number % 3))
    return number


@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.parametrize("start", [0, 1000])
def test_in_order_from_the_start(workers: int, start: int, running: Running) -> None:
    batches = prefetch(late, start, workers)
    assert list(islice(batches, 20)) == list(range(start, start + 20))
    assert 1 <= running() <= workers
    batches.close()


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_each_is_made_once_and_not_far_ahead(workers: int) -> None:
    made: list[int] = []

    def make(number: int) -> None:
        made.append(number)

    batches = prefetch(make, 5, workers)
    for done in range(1, 10):
        next(batches)
        assert len(made) <= done + workers  # memory does not grow
    batches.close()
    assert sorted(made) == list(range(5, 5 + len(made)))


@pytest.mark.parametrize("workers", [2, 4])
def test_workers_work_at_the_same_time(workers: int) -> None:
    meeting = threading.Barrier(workers)  # opens when all have come; fewer would fail

    def make(number: int) -> int:
        if number < workers:
            meeting.wait(timeout=10)
        return number

    batches = prefetch(make, 0, workers)
    assert list(islice(batches, workers)) == list(range(workers))
    batches.close()


def test_one_worker_makes_one_at_a_time() -> None:
    names = prefetch(lambda _: threading.current_thread().name, 0, 1)
    assert len(set(islice(names, 10))) == 1
    names.close()


def test_is_made_before_it_is_asked_for() -> None:
    made = threading.Event()
    batches = prefetch(lambda number: made.set() if number == 1 else None, 0, 1)
    next(batches)
    assert made.wait(timeout=10)  # while this thread, as the training step would, does not ask
    batches.close()


def test_waits_for_the_first() -> None:
    """Nothing is made by a loader that nobody has asked yet."""
    made: list[int] = []
    batches = prefetch(made.append, 0, 2)
    time.sleep(0.01)
    assert made == []
    batches.close()


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_an_error_comes_out_in_its_turn(workers: int, running: Running) -> None:
    def make(number: int) -> int:
        if number == 3:
            raise OSError("image 3 is gone")
        return number

    batches = prefetch(make, 0, workers)
    assert list(islice(batches, 3)) == [0, 1, 2]
    with pytest.raises(OSError, match="image 3 is gone"):
        next(batches)
    assert running() == 0
    with pytest.raises(StopIteration):
        next(batches)


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_close_stops_the_threads(workers: int, running: Running) -> None:
    made: list[int] = []

    def make(number: int) -> int:
        time.sleep(0.005)
        made.append(number)
        return number

    batches = prefetch(make, 0, workers)
    next(batches)
    batches.close()
    assert running() == 0
    count = len(made)
    time.sleep(0.02)
    assert len(made) == count <= 1 + workers
    with pytest.raises(StopIteration):
        next(batches)


def test_stops_when_it_is_forgotten(running: Running) -> None:
    """A loop that is left by an exception closes the generator as it is collected."""
    batches = prefetch(late, 0, 2)
    next(batches)
    assert running() > 0
    del batches
    assert running() == 0
