"""Several processes that train one model together, on one machine or on several.

The first leads. It does the whole of a run, alone but for training; the others wait for something
to train (`loop.follow`). So there is one that decides and one that writes, whatever the procedure.
They are started here, as many as `--devices` says, or all of them by torchrun, which then runs the
same command in each.
"""

import logging
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import nn

from fewlabels.errors import UserError, one_line
from fewlabels.training.loop import dismiss, follow

PATIENCE = timedelta(days=1)  # those that follow wait while the first decodes, predicts, writes
GRACE = 3.0  # seconds in which the first process may end before another says why it has
LOST = ("closed by peer", "reset by peer", "gloo", "NCCL", "Broken pipe", "timed out")
READY = b"ready\n"

logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it tells of every start

_over = False  # whether those that torchrun had started have been let go


class Replicas(DDPStrategy):
    """Fabric's processes, without a wrapper around the model: a step may have several networks and
    passes, and the loop adds up their gradients itself."""

    def setup_module(self, module: nn.Module) -> nn.Module:  # type: ignore[override]
        return module


class OneMachine(ClusterEnvironment):
    """Processes that were started here."""

    def __init__(self, rank: int, world: int, port: int) -> None:
        super().__init__()
        self._rank, self._world, self._port = rank, world, port

    @property
    def creates_processes_externally(self) -> bool:
        return True

    @property
    def main_address(self) -> str:
        return "127.0.0.1"

    @property
    def main_port(self) -> int:
        return self._port

    @staticmethod
    def detect() -> bool:
        return False

    def world_size(self) -> int:
        return self._world

    def set_world_size(self, size: int) -> None: ...

    def global_rank(self) -> int:
        return self._rank

    def set_global_rank(self, rank: int) -> None: ...

    def local_rank(self) -> int:
        return self._rank

    def node_rank(self) -> int:
        return 0


def by_torchrun() -> int:
    """How many processes torchrun has started; 0 where it has not."""
    return int(os.environ["WORLD_SIZE"]) if TorchElasticEnvironment.detect() else 0


def follows() -> bool:
    """Whether this process is one of torchrun's that follow."""
    return by_torchrun() > 1 and int(os.environ["RANK"]) > 0


def connected(accelerator: str, precision: str, devices: int) -> Fabric:
    """The Fabric of this process, the first of `devices` or one of torchrun's; raises what Fabric
    does. UserError where those of torchrun have been let go."""
    if by_torchrun() > 1:
        if _over:
            raise UserError(
                "torchrun: its processes train once, and the others have ended: start it anew for "
                "each training"
            )
        return _fabric(accelerator, precision, TorchElasticEnvironment())
    if devices > 1:
        return _fabric(accelerator, precision, OneMachine(0, devices, _free_port()))
    return Fabric(accelerator=accelerator, devices=1, precision=precision)  # type: ignore[arg-type]


@contextmanager
def together(fabric: Fabric, accelerator: str, precision: str) -> Iterator[None]:
    """Inside, all processes of `fabric` are there. UserError where one of them is lost."""
    global _over
    environment = getattr(fabric.strategy, "cluster_environment", None)
    if environment is None:
        yield
        return
    others: list[subprocess.Popen[bytes]] = []
    threads = torch.get_num_threads()
    try:
        if isinstance(environment, OneMachine):
            about = (accelerator, precision, environment.world_size(), environment.main_port)
            others = [_start(rank, *about) for rank in range(1, environment.world_size())]
            _wait_for(others)
        _share_cores(fabric)
        fabric.launch()
        yield
        dismiss(fabric)
    except RuntimeError as error:
        lost = _lost(error, others)
        if lost is None:
            raise
        raise lost from error
    finally:
        _over = isinstance(environment, TorchElasticEnvironment)
        torch.set_num_threads(threads)
        _end(others, at_once=sys.exc_info()[0] is not None)
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def take_part(fabric: Fabric) -> None:
    """What a process that follows does, from its start to its end. It ends quietly where the first
    one is gone, or has met the same error."""
    _share_cores(fabric)
    try:
        fabric.launch()
        follow(fabric)
    except Exception as error:
        if isinstance(error, RuntimeError) and any(text in str(error) for text in LOST):
            os._exit(0)
        time.sleep(GRACE)
        print(f"fewlabels: process {fabric.global_rank}: {one_line(error)}", file=sys.stderr)
        os._exit(2)
    torch.distributed.destroy_process_group()


def _wait_for(others: list[subprocess.Popen[bytes]]) -> None:
    """Until all have begun. To wait for each other can then not take long, and what waits there
    hears no signal."""
    waiting = {process.stdout: process for process in others if process.stdout is not None}
    while waiting:
        for out in select.select(list(waiting), [], [], 1.0)[0]:
            if out.readline() != READY:
                raise _ended(others, waiting[out])
            del waiting[out]


def _ended(others: list[subprocess.Popen[bytes]], process: subprocess.Popen[bytes]) -> UserError:
    code = process.wait()
    how = signal.Signals(-code).name if code < 0 else f"code {code}"
    return UserError(
        f"process {1 + others.index(process)} of {1 + len(others)} has ended ({how}): what was "
        "kept is kept; go on with --resume"
    )


def _lost(error: RuntimeError, others: list[subprocess.Popen[bytes]]) -> UserError | None:
    """What to say where `error` comes of a process that is gone."""
    if not any(text in str(error) for text in LOST):
        return None
    for process in others:
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=2 * GRACE / len(others))
            return _ended(others, process)
    return UserError(
        f"another process is lost ({one_line(error)}): what was kept is kept; go on with --resume"
    )


def _end(others: list[subprocess.Popen[bytes]], at_once: bool) -> None:
    for process in others:
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0 if at_once else 10)
    for process in others:
        process.kill()  # they hold nothing that could be lost; one that is stopped hears no more
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def _fabric(accelerator: str, precision: str, environment: ClusterEnvironment) -> Fabric:
    here = environment.world_size()
    if isinstance(environment, TorchElasticEnvironment):
        here = int(os.environ["LOCAL_WORLD_SIZE"])
    on_gpus = accelerator != "cpu" and torch.cuda.is_available()
    strategy: Any = Replicas(
        cluster_environment=environment,
        # objects go by gloo, which notices when a process is gone
        process_group_backend="cpu:gloo,cuda:nccl" if on_gpus else "gloo",
        timeout=PATIENCE,
    )
    return Fabric(
        accelerator=accelerator,
        devices=here,
        num_nodes=environment.world_size() // here,
        strategy=strategy,
        precision=precision,  # type: ignore[arg-type]
    )


def _share_cores(fabric: Fabric) -> None:
    """No more threads than cores, in all processes of this machine."""
    here: int = fabric.strategy.num_processes  # type: ignore[attr-defined]
    torch.set_num_threads(max(1, torch.get_num_threads() // here))


def _start(
    rank: int, accelerator: str, precision: str, world: int, port: int
) -> subprocess.Popen[bytes]:
    about = (accelerator, precision, str(rank), str(world), str(port))
    command = [sys.executable, "-m", "fewlabels.training.processes", *about]
    # in a session of its own: Ctrl-C is for the first one, which ends the others. Its end of the
    # pipes closes however it ends
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )


def _end_with_the_first() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


if __name__ == "__main__":
    accelerator, precision, rank, world, port = sys.argv[1:]
    threading.Thread(target=_end_with_the_first, daemon=True).start()
    its = _fabric(accelerator, precision, OneMachine(int(rank), int(world), int(port)))
    os.write(1, READY)
    os.dup2(2, 1)  # what a library prints is for people
    take_part(its)
