"""What is drawn in a trial leaves no trace, and the generators of other devices are not asked."""

from collections.abc import Sequence
from contextlib import nullcontext

import pytest
import torch

from fewlabels.training.random_state import random_state_kept


def test_what_is_drawn_or_seeded_inside_leaves_no_trace() -> None:
    before = torch.get_rng_state()
    with random_state_kept(torch.device("cpu")):
        torch.rand(3)
        torch.manual_seed(5)
        assert not torch.equal(torch.get_rng_state(), before)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("device", "devices"), [("cpu", []), ("mps", []), ("cuda", [0]), ("cuda:2", [2])]
)
def test_of_gpus_the_one_that_is_named(
    monkeypatch: pytest.MonkeyPatch, device: str, devices: list[int]
) -> None:
    asked: list[Sequence[int]] = []

    def fork(which: Sequence[int]) -> nullcontext[None]:
        asked.append(which)
        return nullcontext()

    monkeypatch.setattr(torch.random, "fork_rng", fork)
    with random_state_kept(torch.device(device)):
        pass
    assert asked == [devices]
