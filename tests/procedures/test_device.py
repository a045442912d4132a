"""The form in which a model is trained: chosen by measuring, once, and without a trace."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fewlabels import api
from fewlabels.errors import UserError
from fewlabels.methods import Batch, Facts, create, resolve
from fewlabels.methods.targets import Taught
from fewlabels.models.cnn_small import CnnSmall
from fewlabels.pool.pool import Pool
from fewlabels.procedures import device as form_of
from fewlabels.procedures.config import Config
from fewlabels.procedures.device import (
    Form,
    candidates,
    decided,
    fabric_of,
    fastest,
    images_a_pass,
    measured,
    seconds_a_pass,
)
from fewlabels.training.budget import Budget
from fewlabels.training.lead import Pace
from fewlabels.training.loop import TrainSettings, fit

CPU, GPU = torch.device("cpu"), torch.device("cuda")
USUAL = Form("32-true", "channels_last")
HALF = Form("bf16-mixed", "channels_last")
PLANAR = Form("32-true", "contiguous")


class Net(nn.Module):
    """Remembers in which form images and numbers came by; draws, and counts its passes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.head, self.seen = nn.Linear(4, 3), list[tuple[torch.dtype, bool, int]]()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps = self.conv(x)
        last = x.is_contiguous(memory_format=torch.channels_last)
        self.seen.append((maps.dtype, last, len(x)))
        out = nn.functional.dropout(self.norm(maps).mean((2, 3)), 0.5, self.training)
        return self.head(out)  # type: ignore[no-any-return]


class Passes:
    """Stands for `seconds_a_pass` and for the clock: each form takes a second an image times its
    factor, and no time goes by otherwise."""

    def __init__(self, factor: dict[Form, float], set_up: float = 0.0) -> None:
        self.factor, self.set_up, self.now = factor, set_up, 0.0
        self.made: list[tuple[Form, int]] = []
        self.disturbed: tuple[int, ...] = ()  # passes of a form that take twice as long

    def __call__(self, model: nn.Module, x: torch.Tensor, y: torch.Tensor, form: Form) -> float:
        if self.factor[form] < 0:
            raise RuntimeError("not implemented for such numbers")
        new = (form, len(x)) not in self.made
        self.made.append((form, len(x)))
        disturbed = self.made.count((form, len(x))) in self.disturbed
        took = self.factor[form] * len(x) * (2 if disturbed else 1) + (self.set_up if new else 0.0)
        self.now += took
        return took


def found(
    monkeypatch: pytest.MonkeyPatch, passes: Passes, limit: float, images: int = 40
) -> dict[Form, float]:
    monkeypatch.setattr(form_of, "seconds_a_pass", passes)
    monkeypatch.setattr(form_of, "Clock", lambda: lambda: passes.now)
    return measured(Net(), 3, images, 8, candidates("auto", "auto", CPU), CPU, limit)


def times(**of: float) -> dict[Form, float]:
    names = {"usual": USUAL, "half": HALF, "planar": PLANAR}
    both = {Form("bf16-mixed", "contiguous"): of.pop("both", 1.0)}
    return {form: of.get(name, 1.0) for name, form in names.items()} | both


def test_the_usual_form_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [str(form) for form in candidates("auto", "auto", CPU)] == [
        "32-true, channels_last",
        "bf16-mixed, channels_last",
        "32-true, contiguous",
        "bf16-mixed, contiguous",
    ]
    assert candidates("auto", "contiguous", CPU)[0] == PLANAR
    assert candidates("bf16-mixed", "auto", CPU)[0] == HALF
    assert len(candidates("bf16-mixed", "auto", CPU)) == 2
    assert candidates("32-true", "channels_last", CPU) == (USUAL,)
    assert {form.precision for form in candidates("auto", "auto", torch.device("mps"))} == {
        "32-true"
    }
    for native, kinds in (
        (True, ["32-true", "bf16-mixed", "16-mixed"]),
        (False, ["32-true", "16-mixed"]),
    ):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda emulated, native=native: native)
        assert [form.precision for form in candidates("auto", "channels_last", GPU)] == kinds


def test_another_form_must_be_a_tenth_faster() -> None:
    assert fastest({}) is None
    assert fastest(times()) == USUAL
    assert fastest(times(half=0.92)) == USUAL
    assert fastest(times(half=0.90)) == HALF
    assert fastest(times(planar=0.8)) == PLANAR
    assert fastest(times(planar=0.8, half=0.85)) == HALF  # planar is not a tenth faster than that
    sixteen = Form("16-mixed", "channels_last")
    assert fastest({USUAL: 1.0, HALF: 0.5, sixteen: 0.49}) == HALF


def test_the_least_of_several_passes_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    passes = Passes(times(half=0.5, planar=2.0), set_up=50.0)
    passes.disturbed = (2, 4)
    assert found(monkeypatch, passes, 1e6) == {
        form: 40.0 * factor for form, factor in passes.factor.items()
    }
    counts = [passes.made.count((form, 40)) for form in passes.factor]
    assert counts == [1 + form_of.PASSES] * 4


@pytest.mark.parametrize("limit", [20.0, 100.0, 500.0, 3000.0])
@pytest.mark.parametrize("set_up", [0.0, 8.0])
def test_measuring_ends_in_its_time(
    monkeypatch: pytest.MonkeyPatch, limit: float, set_up: float
) -> None:
    passes = Passes(times(half=0.5), set_up)
    told = found(monkeypatch, passes, limit)
    assert passes.now <= max(limit, 2 * 8 + set_up)  # the first look is needed to know how long
    assert all(images >= 8 for _, images in passes.made)
    assert fastest(told) == (HALF if limit > 20 else None)
    assert (PLANAR in told) == (limit > 500)


def test_a_form_that_the_model_cannot_take_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    told = found(monkeypatch, Passes(times(half=-1.0, planar=0.5)), 1e6)
    assert HALF not in told
    assert fastest(told) == PLANAR
    assert found(monkeypatch, Passes(times(usual=-1.0)), 1e6) == {}


def test_measuring_leaves_no_trace() -> None:
    torch.manual_seed(3)
    net, other = Net().eval(), Net()
    other.load_state_dict(net.state_dict())
    before = torch.get_rng_state()
    told = measured(net, 3, 16, 8, candidates("auto", "auto", CPU), CPU, 5.0)
    assert set(told) == set(candidates("auto", "auto", CPU))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(map(torch.equal, net.state_dict().values(), other.state_dict().values()))
    assert not net.training
    assert not net.seen
    assert all(parameter.grad is None for parameter in net.parameters())


def test_a_pass_is_in_its_form() -> None:
    net, x, y = Net().train(), torch.randn(8, 3, 8, 8), torch.arange(8) % 3
    for form in (USUAL, HALF, PLANAR):
        net.to(memory_format=form_of.LAYOUTS[form.layout])  # type: ignore[call-overload]
        assert seconds_a_pass(net, x, y, form) > 0
    single, half = torch.float32, torch.bfloat16
    assert net.seen == [(single, True, 8), (half, True, 8), (single, False, 8)]
    assert int(net.norm.num_batches_tracked) == 3
    assert all(parameter.grad is None for parameter in net.parameters())


def resolved(**settings: Any) -> Config:
    limit = {} if {"steps", "epochs"} & settings.keys() else {"time_limit": 60.0}
    return Config("digits", **{"method": "fixmatch", "img_size": 8} | limit | settings)


def test_what_was_measured_is_settled_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []

    def says(*given: Any) -> dict[Form, float]:
        asked.append(given)
        return {USUAL: 0.9, HALF: 0.3}

    monkeypatch.setattr(form_of, "measured", says)
    config, line = decided(resolved(), Net(), 3, CPU)
    assert (config.precision, config.layout) == ("bf16-mixed", "channels_last")
    assert line == (
        "trains in bf16-mixed, channels_last: measured here, 3.0 times as fast as "
        "32-true, channels_last"
    )
    _, classes, images, side, forms, device, limit = asked.pop()
    assert (classes, images, side, device) == (3, 16 * 5, 8, CPU)
    assert limit == pytest.approx(0.6)
    assert forms[0] == USUAL
    assert decided(config, Net(), 3, CPU) == (config, "")  # when it is resumed
    assert not asked
    assert config.memory_format == torch.channels_last


@pytest.mark.parametrize("limit", [{"steps": 5}, {"epochs": 1}])
def test_where_steps_are_limited_nothing_is_measured(
    monkeypatch: pytest.MonkeyPatch, limit: dict[str, int]
) -> None:
    monkeypatch.delattr(form_of, "measured")
    config, line = decided(resolved(**limit), Net(), 3, CPU)
    assert (config.precision, config.layout, line) == ("32-true", "channels_last", "")
    config, line = decided(resolved(**limit, precision="bf16-mixed"), Net(), 3, CPU)
    assert (config.precision, config.layout, line) == ("bf16-mixed", "channels_last", "")
    config, _ = decided(resolved(**limit, layout="contiguous"), Net(), 3, CPU)
    assert (config.precision, config.memory_format) == ("32-true", torch.contiguous_format)


def test_what_is_not_trained_has_no_form() -> None:
    probe = Config("digits", method="linear_probe", img_size=8)
    assert decided(probe, Net(), 3, CPU) == (probe, "")
    for setting in ({"precision": "bf16-mixed"}, {"layout": "contiguous"}, {"compile": True}):
        with pytest.raises(UserError, match="has no effect in the method linear_probe"):
            Config("digits", method="linear_probe", **setting)  # type: ignore[arg-type]


def test_images_of_a_pass() -> None:
    assert images_a_pass(resolved(method="supervised")) == 16
    assert images_a_pass(resolved(settings={"ratio": 7}, batch_size=10)) == 80
    assert images_a_pass(resolved(method="auto")) == 80


def test_what_the_device_cannot_do_is_told_in_one_line() -> None:
    for settings, says in (
        ({"compile": True}, "--compile: is for CUDA"),
        ({"precision": "16-mixed"}, "--precision 16-mixed: a CPU has none"),
        ({"device": "tpu9"}, "--device tpu9: cannot be used here"),
        ({"devices": 3, "batch_size": "auto"}, "--batch-size auto: takes 16, 32, 64, …, which 3 "),
        ({"accumulate": 9}, "--accumulate 9: a part has two labelled images or more"),
        ({"devices": 4, "accumulate": 3}, "a batch has 4 of them"),
        ({"devices": 3}, "--batch-size 16: must be a multiple of the 3 processes"),
    ):
        with pytest.raises(UserError) as error:
            fabric_of(resolved(**{"device": "cpu"} | settings))  # type: ignore[arg-type]
        assert says in str(error.value)
        assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="--layout nested: must be one of auto, channels_last"):
        Config("digits", layout="nested")


@pytest.mark.slow
def test_a_run_starts_from_the_same_weights_as_without_measuring(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def without_end(*about: Any) -> dict[Form, float]:
        return measured(*about[:-1], 60.0)

    monkeypatch.setattr(form_of, "measured", without_end)
    monkeypatch.setattr(form_of, "fastest", lambda seconds: HALF if len(seconds) else None)
    about, pool = {"method": "fixmatch", "model": "cnn_small", "device": "cpu"}, Pool.scan("digits")
    timed = api._start(Config("digits", **about, time_limit=90.0), pool)  # type: ignore[arg-type]
    drawn = torch.rand(3)
    fixed = api._start(Config("digits", **about, steps=5), pool)  # type: ignore[arg-type]
    assert timed.config.precision == "bf16-mixed"
    assert "AMP" not in repr(fixed.fabric._precision)
    assert timed.fabric._precision.precision == "bf16-mixed"
    assert timed.form
    assert torch.equal(drawn, torch.rand(3))
    one, two = (started.built.model.state_dict() for started in (timed, fixed))
    assert all(torch.equal(one[name], two[name]) for name in one)


def few_images(step: int) -> Batch:
    g = torch.Generator().manual_seed(step)

    def images(count: int) -> torch.Tensor:
        own = (torch.arange(count) % 2)[:, None, None, None]
        return torch.randn(count, 3, 16, 16, generator=g) + 0.3 * own

    return Batch(images(8), torch.arange(8) % 2, images(16), images(16), torch.arange(16))


class Heard:
    """Listens for the losses."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def step(self, progress: float, step: int, rate: float, loss: float) -> None:
        self.losses.append(loss)

    def __getattr__(self, name: str) -> Any:
        return lambda *given: None


@pytest.mark.slow
@pytest.mark.parametrize("method", ["supervised", "flexmatch", "meta_pseudo_labels"])
def test_a_compiled_model_learns_as_one_that_is_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, method: str
) -> None:
    compiled, compilations = nn.Module.compile, []

    def compile_it(model: nn.Module) -> None:
        compilations.append(model)
        compiled(model, backend="aot_eager")  # as inductor, but for the machine code

    monkeypatch.setattr(nn.Module, "compile", compile_it)
    heard = []
    for compile_model in (False, True):
        torch._dynamo.reset()
        torch.manual_seed(0)
        its = create(method, Facts(2, (4, 4), 16, 16), resolve(method, {}))
        if method == "flexmatch":  # batches of every size, through forward.selected
            its.teach = _some_of(its)  # type: ignore[assignment]
        heard.append(Heard())
        fit(
            CnnSmall(2),
            its,
            few_images,
            Budget(steps=12),
            TrainSettings(compile=compile_model, pace=Pace(checkpoint_seconds=1e9)),
            fabric_of(resolved(device="cpu", steps=12)),
            tmp_path / str(compile_model),
            lambda model: {},
            heard[-1],
            size=16,
        )
    assert len(compilations) == 1
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 1
    assert len(heard[0].losses) == 12
    assert heard[1].losses == pytest.approx(heard[0].losses, rel=1e-4)


def _some_of(method: Any) -> Any:
    """Teaches 0, 5, 10 and 15 of 16 images in turn."""
    calls = iter(range(100))

    def teach(weak: torch.Tensor, index: torch.Tensor) -> Taught:
        method.kept.fill_(0.3)
        return Taught(weak.argmax(1), (torch.arange(16) < 5 * (next(calls) % 4)).float())

    method.kept.fill_(0.3)
    return teach
