"""Two processes that train one model do what one does with the same batches."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import nn

from fewlabels.augment.mix import Mix
from fewlabels.augment.policy import Policy
from fewlabels.errors import UserError
from fewlabels.methods import METHODS, Facts, create, resolve
from fewlabels.models.cnn_small import CnnSmall
from fewlabels.pixels import cache
from fewlabels.pixels.preprocess import Preprocess
from fewlabels.pool import Pool
from fewlabels.procedures.prepare import Batches, Data, Given, batches, prepare
from fewlabels.training.budget import Budget
from fewlabels.training.freeze import Freeze
from fewlabels.training.lead import Pace
from fewlabels.training.loop import TrainSettings, fit
from fewlabels.training.optimiser import OptimiserSettings
from fewlabels.training.processes import connected, together

SIDE, K = 16, 10
POLICIES = {"weak": Policy.parse("weak"), "strong": Policy.parse("strong")}


class Heard:
    """Remembers every loss."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def resumed(self, step: int) -> None: ...
    def metrics(self, row: dict[str, Any]) -> None: ...
    def saved(self) -> None: ...
    def went_back(self, step: int, why: str) -> None: ...

    def step(self, progress: float, step: int, rate: float, loss: float) -> None:
        self.losses.append(loss)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    """Four digits a class with a label, the others without; and a teacher's word on them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEWLABELS_CACHE", str(tmp_path_factory.mktemp("cache")))
        pool = Pool.scan("digits")
        found = prepare(pool, cache.fingerprint(pool.source), SIDE, 0, 4)
    rows = np.sort(found.unlabelled)
    said = np.random.default_rng(0).dirichlet(np.ones(K), len(rows)).astype(np.float32)
    return Data(**(vars(found) | {"given": Given(rows, rows, said)}))


class Precise(nn.Module):
    """A small net of doubles: what differs in the last digit of a float grows, over fifty steps,
    to what a fault would be."""

    def __init__(self) -> None:
        super().__init__()
        self.net = CnnSmall(K, width=8 / 24).double()

    def __setstate__(self, state: Any) -> None:
        torch.set_default_dtype(
            torch.float64
        )  # in the other process, for heads that are made there
        super().__setstate__(state)  # type: ignore[no-untyped-call]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.net(x.double())
        return logits


@pytest.fixture(scope="module")
def pair() -> Iterator[Fabric]:
    """The first of two processes, and the other one, which knows this file."""
    fabric = connected("cpu", "32-true", 2)
    with pytest.MonkeyPatch.context() as patch:
        places = (
            Path(__file__).parent,
            Path(__file__).parents[1],
            os.environ.get("PYTHONPATH", ""),
        )
        patch.setenv("PYTHONPATH", os.pathsep.join(map(str, places)))
        with together(fabric, "cpu", "32-true"):
            yield fabric


@pytest.fixture(autouse=True)
def doubles() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


# one process alone would select images, and its gradient is then another
WHOLE: dict[str, Any] = {"threshold": 0.3, "skip": False}
OWN: dict[str, dict[str, Any]] = {  # so that what they remember matters within a few steps
    "fixmatch": WHOLE,
    "flexmatch": WHOLE | {"align": True},
    "freematch": {"skip": False},
    "softmatch": {"skip": False},
    "uda": WHOLE,
    "meta_pseudo_labels": {"ramp": 0.1, "threshold": 0.3},
    "distill": {"hints": 0.5},
    "rotation": {"ratio": 2},
}


def trained(
    name: str,
    data: Data,
    fabric: Fabric,
    folder: Path,
    steps: int,
    mix: Mix | None = None,
    net: Callable[[], nn.Module] = Precise,
    **more: Any,
) -> tuple[list[float], dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """The losses of all steps, the model that came of them, and what the method remembers."""
    torch.manual_seed(0)
    counts = tuple(np.bincount(data.pool.label[data.labelled], minlength=K).tolist())
    facts = Facts(K, counts, len(data.pool), len(data.labelled) + len(data.unlabelled))
    own = OWN.get(name, {})
    method = create(name, facts, resolve(name, own)).to(torch.get_default_dtype())
    about = (method, POLICIES, Preprocess(SIDE, (0.3,) * 3, (0.35,) * 3), 4, 1)
    make: Batches = batches(data, data.labelled, data.unlabelled, *about, mix, slots=3)
    teacher = net().eval()
    heard = Heard()
    settings = TrainSettings(
        **{"optimiser": OptimiserSettings("nesterov", 0.05), "pace": Pace(validations=1)} | more
    )
    fitted = fit(
        net(), method, make, Budget(steps=steps), settings, fabric, folder / "last",
        lambda model: {}, heard, seed=3, size=SIDE, teachers=(teacher,),
    )  # fmt: skip
    return heard.losses, fitted.model.state_dict(), method.state_dict()


def alone() -> Fabric:
    return Fabric(accelerator="cpu", devices=1)


def need_equal(one: Any, two: Any) -> None:
    np.testing.assert_allclose(two[0], one[0], rtol=1e-6)
    for expected, found in zip(one[1:], two[1:], strict=True):
        assert expected.keys() == found.keys()
        for key, value in expected.items():
            torch.testing.assert_close(found[key], value, rtol=1e-5, atol=1e-7, msg=key)


@pytest.mark.parametrize("steps", [8, pytest.param(50, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", METHODS)
def test_two_processes_have_the_losses_of_one(
    name: str, steps: int, data: Data, pair: Fabric, tmp_path: Path
) -> None:
    """The same global batch: the same losses, weights, statistics, thresholds and averages."""
    one = trained(name, data, alone(), tmp_path / "one", steps)
    two = trained(name, data, pair, tmp_path / "two", steps)
    assert len(one[0]) == steps
    assert max(one[0]) > min(one[0])
    need_equal(one, two)


@pytest.mark.parametrize("name", ["flexmatch", "meta_pseudo_labels"])
def test_so_it_is_in_floats_for_a_few_steps(
    name: str, data: Data, pair: Fabric, tmp_path: Path
) -> None:
    torch.set_default_dtype(torch.float32)
    one, two = (
        trained(name, data, fabric, tmp_path / folder, 4, net=lambda: CnnSmall(K, width=1 / 3))
        for fabric, folder in ((alone(), "one"), (pair, "two"))
    )
    np.testing.assert_allclose(two[0], one[0], rtol=1e-3)
    assert {value.dtype for value in two[1].values()} == {torch.float32, torch.int64}


@pytest.mark.parametrize("mix", ["mixup", "cutmix"])
def test_images_are_mixed_with_those_of_the_other_process_too(
    mix: str, data: Data, pair: Fabric, tmp_path: Path
) -> None:
    one = trained("supervised", data, alone(), tmp_path / "one", 4, Mix.parse(mix))
    two = trained("supervised", data, pair, tmp_path / "two", 4, Mix.parse(mix))
    need_equal(one, two)


def test_processes_may_have_parts(data: Data, pair: Fabric, tmp_path: Path) -> None:
    """Two processes with two parts each. Norms that are kept: those of parts differ."""
    kept: dict[str, Any] = {"freeze": Freeze(norms=True), "clip": 1.0}
    one = trained("flexmatch", data, alone(), tmp_path / "one", 6, **kept)
    two = trained("flexmatch", data, pair, tmp_path / "two", 6, accumulate=2, **kept)
    need_equal(one, two)


def test_parts_of_a_batch_do_not_overlap_and_make_the_whole(data: Data) -> None:
    facts = Facts(K, (4,) * K, len(data.pool), len(data.unlabelled))
    method = create("fixmatch", facts, resolve("fixmatch", {}))
    about = (method, POLICIES, Preprocess(SIDE), 4, 1)
    make = batches(data, data.labelled, data.unlabelled, *about)
    whole, parts = make(7), [make(7, rank, 2) for rank in range(2)]
    for view in ("x", "weak", "strong"):
        both = torch.cat([getattr(part, view) for part in parts])
        assert torch.equal(both, getattr(whole, view))
    for part in parts:
        assert torch.equal(part.y, whole.y)
        assert torch.equal(part.index, whole.index)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"--batch-size 4.*3 processes"):
        make(0, 0, 3)


RUN = [sys.executable, "-m", "fewlabels", "train", "digits", "--labels-per-class", "2"]


def test_a_run_of_two_processes_one_of_which_is_killed_can_be_resumed(tmp_path: Path) -> None:
    """One line, the exit code of an error, a checkpoint, and no process left behind."""
    out = tmp_path / "run"
    about = ["--steps", "4000", "--method", "supervised", "--devices", "2", "--out", str(out)]
    run = subprocess.Popen([*RUN, *about], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        assert run.stdout is not None
        others = waited(out, run)
        os.kill(others[0], signal.SIGKILL)
        said = run.communicate(timeout=60)[0].decode()
    finally:
        run.kill()
    assert run.returncode == 2, said
    assert "process 1 of 2 has ended (SIGKILL)" in " ".join(said.split())
    assert "Traceback" not in said
    assert (out / "checkpoints" / "last" / "state.json").exists()
    assert not any(Path(f"/proc/{other}/stat").exists() for other in others)


@pytest.mark.parametrize("moment", [0.3, 1.5])
def test_a_process_that_dies_as_it_starts_is_told_and_nothing_waits(
    tmp_path: Path, moment: float
) -> None:
    """While it loads its libraries; the first one hears Ctrl-C there too."""
    about = ["--steps", "40", "--method", "supervised", "--devices", "2"]
    command = [*RUN, *about, "--out", str(tmp_path / "run")]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        while not (others := children(run.pid)):
            assert run.poll() is None
            time.sleep(0.05)
        time.sleep(moment)
        os.kill(others[0], signal.SIGKILL)
        said = run.communicate(timeout=60)[0].decode()
    finally:
        run.kill()
    assert run.returncode == 2, said
    assert "process 1 of 2 has ended (SIGKILL)" in " ".join(said.split())
    assert "Traceback" not in said


def test_where_the_first_one_is_killed_no_other_stays(tmp_path: Path) -> None:
    about = ["--steps", "4000", "--method", "supervised", "--devices", "2"]
    run = subprocess.Popen(
        [*RUN, *about, "--out", str(tmp_path / "run")], stdout=subprocess.DEVNULL
    )
    while not (others := children(run.pid)):
        assert run.poll() is None
        time.sleep(0.05)
    time.sleep(1.0)
    run.kill()
    run.wait()
    for _ in range(300):
        if not Path(f"/proc/{others[0]}").exists():
            return
        time.sleep(0.1)
    os.kill(others[0], signal.SIGKILL)
    pytest.fail("it stays")


def children(process: int) -> list[int]:
    """The processes that it has started."""
    told = Path(f"/proc/{process}/task/{process}/children")
    if not told.exists():
        pytest.skip("the system does not tell which processes there are")
    return [int(child) for child in told.read_text().split()]


def waited(out: Path, run: "subprocess.Popen[bytes]") -> list[int]:
    """Until it trains; the processes that it has started."""
    for _ in range(600):
        if (out / "checkpoints" / "last" / "state.json").exists():
            break
        assert run.poll() is None
        time.sleep(0.1)
    return children(run.pid)


@pytest.mark.slow
def test_torchrun_starts_them_too_and_one_writes(tmp_path: Path) -> None:
    out = tmp_path / "run"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    train = [*RUN[1:], "--steps", "12", "--method", "flexmatch", "--out", str(out)]
    ended = subprocess.run(
        [*torchrun, *train], capture_output=True, text=True, check=False, timeout=300
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.count("Report: ") == 1
    assert (out / "result.json").exists()
    assert "devices: 2" in (out / "config.yaml").read_text()
