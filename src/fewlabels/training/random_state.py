"""What a trial draws does not change what the run draws after it."""

from contextlib import AbstractContextManager

import torch


def random_state_kept(device: torch.device) -> AbstractContextManager[None]:
    """Inside, random numbers are drawn, or seeded, at will: the global generators, that of the CPU
    and that of a CUDA `device`, are as before afterwards."""
    return torch.random.fork_rng([device.index or 0] if device.type == "cuda" else [])
