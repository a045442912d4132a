"""The loop on a small problem: it learns, it resumes exactly, it refuses to go on from NaN."""

from collections.abc import Callable
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import nn

from fewlabels.errors import UserError
from fewlabels.methods import Batch, Facts, Method, Networks, Step, Views, create, resolve
from fewlabels.models.auxiliary import keep_auxiliary
from fewlabels.models.cnn_small import CnnSmall
from fewlabels.training import checkpoint
from fewlabels.training.budget import Budget
from fewlabels.training.lead import Pace
from fewlabels.training.loop import Fitted, TrainSettings, fit
from fewlabels.training.optimiser import OptimiserSettings

Validate = Callable[[nn.Module], dict[str, float]]
UNSAVED: dict[str, Any] = {"checkpoint_seconds": float("inf")}
PACE = {about.name for about in fields(Pace)}


class Heard:
    """A listener that remembers, and may interrupt."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.rows: list[dict[str, Any]] = []
        self.back: list[tuple[int, str]] = []
        self.resumed_at: int | None = None
        self.stop_at = stop_at
        self.last = 0.0

    def resumed(self, step: int) -> None:
        self.resumed_at = step

    def step(self, progress: float, step: int, rate: float, loss: float) -> None:
        self.last = progress
        if step == self.stop_at:
            raise KeyboardInterrupt

    def metrics(self, row: dict[str, Any]) -> None:
        self.rows.append(row)

    def saved(self) -> None: ...

    def went_back(self, step: int, why: str) -> None:
        self.back.append((step, why))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 4, 2), nn.BatchNorm2d(4), nn.Flatten(), nn.Dropout(0.1), nn.Linear(4, 2)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layers(x)
        return logits


def batch_of(step: int) -> Batch:
    """Two classes that differ in their mean; a function of the step's number alone."""
    g = torch.Generator().manual_seed(step)
    y = torch.arange(8) % 2
    x = torch.randn(8, 1, 2, 2, generator=g) + 3.0 * y[:, None, None, None]
    u = torch.randn(8, 1, 2, 2, generator=g) + 3.0 * y[:, None, None, None]
    return Batch(x, y, u, u + 0.1, torch.arange(8))


def train(
    folder: Path,
    listener: Heard,
    steps: int = 40,
    method: str | Method = "fixmatch",
    make: Callable[[int], Batch] = batch_of,
    seed: int = 0,
    lr: float = 0.01,
    net: Callable[[], nn.Module] = Net,
    validate: Validate | None = None,
    own: dict[str, Any] | None = None,
    around: dict[str, Any] | None = None,
    **more: Any,
) -> tuple[Fitted, Method]:
    """`own` are the method's settings, `around` what it is told of images and teachers, `more` the
    loop's."""
    torch.manual_seed(seed)
    if isinstance(method, Method):
        its = method
    else:
        its = create(method, Facts(2, (4, 4), 8, 8), resolve(method, own or {}))
    pace: dict[str, Any] = {"validations": 10}
    pace |= {"checkpoint_seconds": 0.0, "checkpoint_share": float("inf")}  # after every step
    pace |= {name: more.pop(name) for name in PACE & more.keys()}
    usual = {"optimiser": OptimiserSettings("adamw", lr), "pace": Pace(**pace)}
    settings = TrainSettings(**(usual | more))
    fabric, budget = Fabric(accelerator="cpu", devices=1), Budget(steps=steps)

    def accuracy(model: nn.Module) -> dict[str, float]:
        batch = batch_of(10_000)
        return {"val_accuracy": float((model(batch.x).argmax(1) == batch.y).float().mean())}

    asked, last = validate or accuracy, folder / "last"
    fitted = fit(
        net(), its, make, budget, settings, fabric, last, asked, listener, "stage", **(around or {})
    )
    return fitted, its


def weights(fitted: Fitted) -> torch.Tensor:
    return torch.cat([value.flatten().double() for value in fitted.model.state_dict().values()])


def test_it_learns_and_tells(tmp_path: Path) -> None:
    heard = Heard()
    fitted, _ = train(tmp_path, heard)
    assert fitted.steps == 40
    assert fitted.images == 40 * 24
    assert not fitted.model.training
    assert heard.last == 1.0
    assert [row["step"] for row in heard.rows] == list(range(4, 41, 4))
    assert heard.rows[-1]["val_accuracy"] == 1.0
    assert heard.rows[-1]["loss"] < heard.rows[0]["loss"]
    assert heard.rows[-1]["lr"] < heard.rows[2]["lr"]


def test_a_run_cut_off_and_resumed_ends_as_the_uncut_one(tmp_path: Path) -> None:
    whole, its = train(tmp_path / "a", Heard())
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "b", Heard(stop_at=17))
    heard = Heard()
    resumed, other = train(tmp_path / "b", heard)
    assert heard.resumed_at == 16  # the checkpoint before the step that was cut off
    assert torch.equal(weights(whole), weights(resumed))
    assert torch.equal(its.alignment.running, other.alignment.running)  # type: ignore[operator]


def test_the_checkpoint_of_another_stage_is_not_taken_up(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "last", {"tag": "another", "step": 30})
    heard = Heard()
    fitted, _ = train(tmp_path, heard, steps=3)
    assert heard.resumed_at is None
    assert fitted.steps == 3


def test_the_same_seed_gives_the_same_weights_and_another_others(tmp_path: Path) -> None:
    one, two, other = (
        weights(train(tmp_path / str(i), Heard(), steps=5, seed=seed)[0])
        for i, seed in enumerate((0, 0, 1))
    )
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_a_loss_that_is_no_number_stops_with_a_line(tmp_path: Path) -> None:
    def broken(step: int) -> Batch:
        batch = batch_of(step)
        return Batch(batch.x * float("nan"), batch.y)

    with pytest.raises(UserError, match=r"nan at step 0.*--lr"):
        train(tmp_path, Heard(), method="supervised", make=broken)


class Spoilt(Method):
    """Labels only, but for steps that spoil the loss or a weight, each as often as it is named."""

    def __init__(self, *steps: int, what: str = "loss") -> None:
        super().__init__(Facts(2, (4, 4), 8, 8))
        self.views = Views()
        self.steps, self.what = list(steps), what
        self.spoils: Any = None
        self.register_buffer("at", torch.zeros((), dtype=torch.long))
        self.at: torch.Tensor

    def step(self, student: Any, batch: Batch, progress: float) -> Step:
        logits = student(batch.x)
        loss = self.supervise(logits, batch.y).mean()
        now = int(self.at)
        self.at += 1
        if now in self.steps:
            self.steps.remove(now)
            if self.what == "weight":
                self.spoils = student
            else:
                loss = loss * {"loss": float("nan"), "large": 1e9}[self.what]
        return Step(loss, logits)

    def respond(self) -> None:
        """After the update: seen where a state is to be kept."""
        if self.spoils is not None:
            with torch.no_grad():
                next(iter(self.spoils.parameters())).fill_(float("inf"))
            self.spoils = None


@pytest.mark.parametrize("what", ["loss", "large", "weight"])
def test_an_explosion_goes_back_to_the_last_good_state_at_half_the_rate(
    tmp_path: Path, what: str
) -> None:
    heard = Heard()
    train(tmp_path, heard, method=Spoilt(20, what=what), around={"seed": 1})
    ((step, why),) = heard.back
    assert step == 20
    assert "1/2 of the rate" in why
    assert heard.rows[-1]["step"] == 40
    plain = Heard()
    train(tmp_path / "plain", plain, method=Spoilt(), around={"seed": 1})
    rates = {row["step"]: row["lr"] for row in heard.rows}
    for row in plain.rows:
        factor = 0.5 if row["step"] > 20 else 1.0
        assert rates[row["step"]] == pytest.approx(factor * row["lr"], abs=2e-5)


def test_after_three_explosions_it_gives_up_with_a_line(tmp_path: Path) -> None:
    heard = Heard()
    with pytest.raises(UserError, match=r"at step 7, also at 1/8 of the rate.*--lr.*--clip"):
        train(tmp_path, heard, method=Spoilt(7, 7, 7, 7))
    assert [step for step, _ in heard.back] == [4, 4, 4]  # the validation before


@pytest.mark.parametrize("what", ["loss", "weight"])
def test_what_comes_of_an_explosion_does_not_depend_on_the_moments_of_checkpoints(
    tmp_path: Path, what: str
) -> None:
    """These come by the clock; the state that it goes back to comes by the step."""
    found = [
        weights(train(tmp_path / str(i), Heard(), 40, Spoilt(18, what=what), **pace)[0])
        for i, pace in enumerate(({}, UNSAVED))
    ]
    assert torch.equal(*found)
    assert [path.name for path in (tmp_path / "0").iterdir()] == ["last"]


def test_a_resumed_run_keeps_the_lower_rate(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", Heard(), method=Spoilt(10), around={"seed": 1})[0]
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", Heard(stop_at=20), method=Spoilt(10), around={"seed": 1})
    done = train(tmp_path / "cut", Heard(), method=Spoilt(), around={"seed": 1})[0]
    assert torch.equal(weights(done), weights(whole))


def test_clipping_bounds_the_gradient_and_nothing_else(tmp_path: Path) -> None:
    """With plain SGD a step is the rate times the gradient."""
    plain = {"optimiser": OptimiserSettings("sgd", 1.0, 0.0, 0.0), "schedule": "constant"}
    plain |= {"warmup": 0.0, "ema_decay": 0.0}

    def moved(clip: float | None) -> torch.Tensor:
        torch.manual_seed(0)
        before = torch.cat([p.detach().flatten() for p in Net().parameters()])
        fitted, _ = train(tmp_path / str(clip), Heard(), 1, method="supervised", clip=clip, **plain)
        return torch.cat([p.detach().flatten() for p in fitted.model.parameters()]) - before

    free = moved(None)
    norm = float(free.norm())
    torch.testing.assert_close(moved(10 * norm), free)
    short = moved(norm / 4)
    torch.testing.assert_close(short, free / 4, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_a_net_of_convolutions_resumes_exactly(tmp_path: Path, name: str) -> None:
    """Its weights lie channels last, and their moments come from a file."""

    def images_of(step: int) -> Batch:
        g = torch.Generator().manual_seed(step)
        return Batch(torch.randn(8, 3, 8, 8, generator=g), torch.arange(8) % 2)

    about: dict[str, Any] = {
        "method": "supervised",
        "make": images_of,
        "net": lambda: CnnSmall(2, width=8 / 24),
        "validate": lambda model: {},
        "optimiser": OptimiserSettings(name, 0.01, layer_decay=0.7, head_lr=0.05),
    }
    whole, _ = train(tmp_path / "a", Heard(), 12, **about)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "b", Heard(stop_at=7), 12, **about)
    resumed, _ = train(tmp_path / "b", Heard(), 12, **about)
    assert torch.equal(weights(whole), weights(resumed))


# methods that learn themselves, and answer


class Spy(Method):
    """Writes down when it is asked what, and what the weights were; learns a number of its own."""

    def __init__(self, reply: float = 1.0) -> None:
        super().__init__(Facts(2, (4, 4), 8, 8))
        self.views = Views("weak", ("weak",), 1)
        self.reply, self.asked = reply, list[str]()
        self.student, self.average = list[torch.Tensor](), list[torch.Tensor]()
        self.numbers = list[float]()

    def begin(self, networks: Networks) -> None:
        self.asked.append("begin")
        self.networks = (networks,)
        self.own = nn.Parameter(torch.tensor(0.0))

    def look(self, what: str) -> None:
        self.asked.append(what)
        about = self.networks[0]
        for values, net in ((self.student, about.student), (self.average, about.average)):
            values.append(nn.utils.parameters_to_vector(net.parameters()).detach().clone())
        self.numbers.append(self.own.item())

    def step(self, student: Any, batch: Batch, progress: float) -> Step:
        self.look("step")
        logits = student(batch.x)
        return Step(F.cross_entropy(logits, batch.y), logits)

    def respond(self) -> torch.Tensor | None:
        self.look("respond")
        return self.reply * (self.own - 3).square()


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_a_method_begins_once_and_answers_between_the_student_and_its_average(
    tmp_path: Path, name: str
) -> None:
    spy, teacher = Spy(), nn.Linear(1, 1)
    around = {"size": 17, "teachers": (teacher,)}
    # with decay and momentum, which would move the student at the response, were it touched
    settings = OptimiserSettings(name, 0.02, weight_decay=0.1)
    about = {"optimiser": settings, "around": around, "warmup": 0.0}
    fitted, _ = train(tmp_path, Heard(), 5, spy, **about, **UNSAVED)
    assert spy.asked == ["begin", *["step", "respond"] * 5]
    networks = spy.networks[0]
    assert networks.average is fitted.model
    assert not networks.average.training
    assert (networks.size, networks.teachers) == (17, (teacher,))
    for step in range(0, 10, 2):
        assert not torch.equal(spy.student[step], spy.student[step + 1])  # it has been updated
        assert torch.equal(spy.average[step], spy.average[step + 1])  # its average not yet
    for answer in range(1, 9, 2):
        assert torch.equal(spy.student[answer], spy.student[answer + 1])  # not by the response
        assert not torch.equal(spy.average[answer], spy.average[answer + 1])
        assert spy.numbers[answer] < spy.numbers[answer + 1]  # which moved what is its own
        assert spy.numbers[answer - 1] == spy.numbers[answer]
    assert spy.own.item() > 0.05


def test_a_method_begins_with_the_networks_that_are_trained(tmp_path: Path) -> None:
    spy = Spy()
    fitted, _ = train(tmp_path, Heard(), 5, spy, **UNSAVED)
    decay = 0.1  # of the first step: (1 + 0) / (10 + 0)
    expected = decay * spy.average[0] + (1 - decay) * spy.student[1]
    torch.testing.assert_close(spy.average[2], expected)
    last = nn.utils.parameters_to_vector(fitted.model.parameters())
    assert not torch.equal(last, spy.average[-1])


def test_a_response_that_is_no_number_stops_with_a_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"inf at step 0.*--lr"):
        train(tmp_path, Heard(), 5, Spy(float("inf")))


def test_a_response_that_is_not_about_the_student_leaves_it_alone(tmp_path: Path) -> None:
    """A method that only answers trains its student as labels only do."""
    one, _ = train(tmp_path / "a", Heard(), 5, Spy(), **UNSAVED)
    two, _ = train(tmp_path / "b", Heard(), 5, "supervised", **UNSAVED)
    assert torch.equal(weights(one), weights(two))


class Dropping(nn.Module):
    """Convolutions that lie channels last, a norm, and dropout: all that resuming may forget."""

    def __init__(self) -> None:
        super().__init__()
        self.below = nn.Sequential(
            nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 6, 3, 2, 1)
        )
        self.drop, self.head = nn.Dropout(0.2), nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.drop(self.below(x).relu().mean((2, 3))))
        return logits


def pictures_of(step: int) -> Batch:
    g = torch.Generator().manual_seed(step)
    y = torch.arange(4) % 2
    views = [torch.randn(n, 3, 8, 8, generator=g) for n in (4, 8, 8, 8)]
    x = views[0] + y[:, None, None, None]
    return Batch(x, y, views[1], views[2], torch.arange(8), views[3])


LEARNERS: list[tuple[str, dict[str, Any], str]] = [
    ("meta_pseudo_labels", {"ramp": 0.5}, "teacher.below.0.weight"),
    ("rotation", {}, "head.weight"),
    ("simclr", {}, "head.0.weight"),
    ("masked", {}, "head.0.weight"),
    ("restoration", {}, "head.0.weight"),
    ("distill", {"hints": 0.5}, "regressor.weight"),
    ("mean_teacher", {}, ""),
    ("flexmatch", {"threshold": 0.55}, "learnt"),
    ("fixmatch", {"threshold": 0.5}, "alignment.running"),
    ("freematch", {}, "level"),
    ("softmatch", {}, "variance"),
]


@pytest.mark.parametrize("stop", [5, 11])
@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
@pytest.mark.parametrize(("name", "own", "moves"), LEARNERS)
def test_what_a_method_learns_and_remembers_survives_a_kill(
    tmp_path: Path, name: str, own: dict[str, Any], moves: str, optimiser: str, stop: int
) -> None:
    torch.manual_seed(5)
    teachers = (Dropping().eval(),) if name == "distill" else ()
    about: dict[str, Any] = {
        "method": name,
        "make": pictures_of,
        "net": Dropping,
        "own": own,
        "around": {"size": 8, "teachers": teachers},
        "validate": lambda model: {},
        "optimiser": OptimiserSettings(optimiser, 0.02),
    }
    whole, its = train(tmp_path / "a", Heard(), 12, **about)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "b", Heard(stop_at=stop), 12, **about)
    resumed, other = train(tmp_path / "b", heard := Heard(), 12, **about)
    assert heard.resumed_at == stop - 1
    assert torch.equal(weights(whole), weights(resumed))
    expected, found = its.state_dict(), other.state_dict()
    assert expected.keys() == found.keys()
    assert all(torch.equal(value, found[key]) for key, value in expected.items())
    if moves:  # there was something to lose
        _, fresh = train(tmp_path / "c", Heard(), 1, **about)
        assert not torch.equal(expected[moves], fresh.state_dict()[moves])
    if name == "meta_pseudo_labels":
        assert expected["baseline"] != 0
        assert expected["teacher.below.1.num_batches_tracked"] == 10  # then the student is tuned


class Versioned(Dropping):
    """As torchvision's MNASNet does, it asks which version a state is of."""

    _version = 2

    def _load_from_state_dict(self, state: Any, prefix: str, meta: Any, *rest: Any) -> None:
        if meta.get("version") != 2:
            raise ValueError("a state without a version")
        super()._load_from_state_dict(state, prefix, meta, *rest)


def test_a_teacher_that_asks_for_its_version_is_resumed(tmp_path: Path) -> None:
    about: dict[str, Any] = {
        "method": "meta_pseudo_labels",
        "make": pictures_of,
        "net": Versioned,
        "around": {"size": 8},
        "validate": lambda model: {},
    }
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, Heard(stop_at=3), 6, **about)
    fitted, _ = train(tmp_path, Heard(), 6, **about)
    assert fitted.steps == 6


# early stopping


class Script:
    """Says these accuracies, one after another, and remembers the weights that it was asked of."""

    def __init__(self, *accuracies: float) -> None:
        self.rest = list(accuracies)
        self.asked: list[torch.Tensor] = []

    def __call__(self, model: nn.Module) -> dict[str, float]:
        state = model.state_dict().values()
        self.asked.append(torch.cat([value.flatten().double() for value in state]).clone())
        return {"val_accuracy": self.rest.pop(0)}


SCORES = (0.5, 0.7, 0.6, 0.7, 0.6, 0.9, 0.9, 0.9, 0.9, 0.9)


def test_patience_keeps_the_best_weights_and_stops(tmp_path: Path) -> None:
    """Of equals the latest; a tie is no reason to go on."""
    script = Script(*SCORES)
    fitted, _ = train(tmp_path, Heard(), validate=script, **UNSAVED, patience=3)
    assert len(script.asked) == 5  # 0.7 came second, and then three were not better
    assert fitted.steps == 5 * 4
    assert torch.equal(weights(fitted), script.asked[3])


def test_more_patience_finds_better_weights(tmp_path: Path) -> None:
    script = Script(*SCORES)
    fitted, _ = train(tmp_path, Heard(), validate=script, **UNSAVED, patience=4)
    assert len(script.asked) == 10  # the last four are not better than the sixth
    assert torch.equal(weights(fitted), script.asked[9])
    script = Script(*SCORES[:5], *5 * [0.1])
    fitted, _ = train(tmp_path / "b", Heard(), validate=script, **UNSAVED, patience=100)
    assert fitted.steps == 40
    assert torch.equal(weights(fitted), script.asked[3])


def test_without_patience_the_last_weights_are_kept(tmp_path: Path) -> None:
    script = Script(*SCORES[:5], *5 * [0.1])
    fitted, _ = train(tmp_path, Heard(), validate=script, **UNSAVED)
    assert fitted.steps == 40
    assert torch.equal(weights(fitted), script.asked[9])


def test_patience_without_validation_images_changes_nothing(tmp_path: Path) -> None:
    fitted, _ = train(tmp_path / "a", Heard(), validate=lambda model: {}, patience=1)
    plain, _ = train(tmp_path / "b", Heard())
    assert fitted.steps == 40
    assert torch.equal(weights(fitted), weights(plain))


@pytest.mark.parametrize("stop", [7, 13, 18])
def test_patience_survives_a_kill(tmp_path: Path, stop: int) -> None:
    """The best weights and how long ago they were are in the checkpoint."""
    whole, _ = train(tmp_path / "a", Heard(), validate=Script(*SCORES), patience=3)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "b", Heard(stop), validate=Script(*SCORES), patience=3)
    script = Script(*SCORES[(stop - 1) // 4 :])
    resumed, _ = train(tmp_path / "b", Heard(), validate=script, patience=3)
    assert resumed.steps == whole.steps == 20
    assert torch.equal(weights(resumed), weights(whole))
    again, _ = train(tmp_path / "b", Heard(), validate=Script(), patience=3)  # it had ended
    assert torch.equal(weights(again), weights(whole))


# what settings do


def test_label_smoothing_reaches_training(tmp_path: Path) -> None:
    """Smoothed labels have no use for certainty."""
    sure = []
    for epsilon in (0.0, 0.4):
        own, folder = {"label_smoothing": epsilon}, tmp_path / str(epsilon)
        fitted, _ = train(folder, Heard(), 100, "supervised", lr=0.03, own=own, **UNSAVED)
        with torch.no_grad():
            sure.append(float(fitted.model(batch_of(9).x).softmax(1).amax(1).mean()))
    assert sure[0] > 0.95
    assert sure[1] < 0.9  # (1 - 0.4) + 0.4 / 2 = 0.8 is what the labels say


def test_weight_decay_reaches_training(tmp_path: Path) -> None:
    norms = []
    for decay in (0.0, 10.0):
        settings = OptimiserSettings("adamw", 0.01, weight_decay=decay)
        about = UNSAVED | {"optimiser": settings}
        fitted, _ = train(tmp_path / str(decay), Heard(), method="supervised", **about)
        state = fitted.model.state_dict()
        norms.append(
            (float(state["layers.0.weight"].norm()), float(state["layers.1.weight"].norm()))
        )
    assert norms[1][0] < 0.5 * norms[0][0]
    assert norms[1][1] > 0.8 * norms[0][1]  # the norm's weights do not decay


def test_rates_by_depth_reach_the_step(tmp_path: Path) -> None:
    """One step of plain descent moves each unit by its own share."""

    def moved(layer_decay: float, head_lr: float | None) -> dict[str, torch.Tensor]:
        settings = OptimiserSettings("sgd", 0.1, 0.0, 0.9, layer_decay, head_lr)
        torch.manual_seed(0)
        start = Plain().state_dict()
        folder = tmp_path / f"{layer_decay} {head_lr}"
        fitted, _ = train(
            folder, Heard(), 1, "supervised", net=Plain, optimiser=settings, warmup=0.0
        )
        return {name: value - start[name] for name, value in fitted.model.state_dict().items()}

    plain, deep = moved(1.0, None), moved(0.5, 0.3)
    for name, share in (("one", 0.25), ("two", 0.5), ("head", 3.0)):
        assert plain[f"{name}.weight"].abs().max() > 1e-4
        torch.testing.assert_close(
            deep[f"{name}.weight"], share * plain[f"{name}.weight"], rtol=1e-3, atol=1e-6
        )


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.head = nn.Conv2d(1, 3, 2), nn.Linear(3, 3), nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.two(self.one(x).flatten(1).tanh()).tanh())
        return logits


class WithAuxiliary(Net):
    """With a second classifier, which speaks while training."""

    def __init__(self) -> None:
        super().__init__()
        self.aux = nn.Linear(4, 2)
        self.register_forward_hook(keep_auxiliary)

    def forward(self, x: torch.Tensor) -> Any:
        logits = super().forward(x)
        return (logits, self.aux(x.flatten(1))) if self.training else logits


@pytest.mark.parametrize("method", ["supervised", "fixmatch"])
def test_auxiliary_classifiers_learn(tmp_path: Path, method: str) -> None:
    torch.manual_seed(0)
    start, batch = WithAuxiliary(), batch_of(0)
    heard = Heard()
    fitted, _ = train(tmp_path, heard, 20, method, net=WithAuxiliary, validations=20)
    aux = fitted.model.get_submodule("aux")
    with torch.no_grad():
        before = F.cross_entropy(start.aux(batch.x.flatten(1)), batch.y)
        assert F.cross_entropy(aux(batch.x.flatten(1)), batch.y) < 0.8 * before
        assert fitted.model(batch.x).shape == (8, 2)
    assert "auxiliary" not in vars(fitted.model)
    plain, _ = train(tmp_path / "plain", other := Heard(), 20, method, validations=20)
    told, without = heard.rows[0]["loss"], other.rows[0]["loss"]
    if method == "supervised":  # the first loss, with dropout drawn alike: the second part is added
        assert told == pytest.approx(without + 0.3 * float(before), abs=2e-3)
    rest = weights(plain)  # it shares nothing with the second classifier here
    assert torch.equal(rest, weights(fitted)[: len(rest)])


# memory


class Narrow(nn.Module):
    """Takes so many images at once; without norms, so that parts are worth a whole."""

    def __init__(self, most: int, error: Exception) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 4, 2), nn.ReLU(), nn.Flatten(), nn.Linear(4, 2))
        self.most, self.error = most, error

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training and len(x) > self.most:
            raise self.error
        logits: torch.Tensor = self.layers(x)
        return logits


FULL = (
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to"),
    MemoryError(),
)


@pytest.mark.parametrize("error", FULL, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("method", ["flexmatch", "freematch", "meta_pseudo_labels"])
def test_a_batch_that_does_not_fit_goes_in_parts_and_ends_at_the_same_weights(
    tmp_path: Path, method: str, error: Exception
) -> None:
    """24 images where 7 fit: halved twice. What the method remembers is of the steps that count."""

    def run(name: str, most: int) -> tuple[Fitted, Method, Heard]:
        torch.manual_seed(0)
        net = partial(Narrow, most, error)
        return *train(tmp_path / name, heard := Heard(), 12, method, net=net, clip=1.0), heard

    whole, its, _ = run("whole", 1000)
    found, other, heard = run("parts", 7)
    assert [step for step, _ in heard.back] == [0, 0]
    assert "out of memory at step 0" in heard.back[0][1]
    assert "2 parts" in heard.back[0][1]
    assert "4 parts" in heard.back[1][1]
    torch.testing.assert_close(weights(found), weights(whole), rtol=1e-4, atol=1e-5)
    for name, value in its.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], value, rtol=1e-4, atol=1e-5)


def test_parts_survive_a_kill(tmp_path: Path) -> None:
    net = partial(Narrow, 7, FULL[0])
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, Heard(stop_at=5), 12, "flexmatch", net=net)
    train(tmp_path, heard := Heard(), 12, "flexmatch", net=net)
    assert heard.resumed_at == 4
    assert heard.back == []


def test_memory_that_is_too_small_for_anything_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"out of memory even with .* --model or --img-size"):
        train(tmp_path, Heard(), 12, "flexmatch", net=partial(Narrow, 0, FULL[0]))


def test_other_errors_of_a_step_are_not_taken_for_a_lack_of_memory(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="shapes"):
        train(tmp_path, Heard(), net=partial(Narrow, 0, RuntimeError("shapes do not match")))


def test_auxiliary_classifiers_take_no_parts(tmp_path: Path) -> None:
    class Two(Narrow):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            logits = super().forward(x)
            self.auxiliary = [logits]
            return logits

    with pytest.raises(UserError, match="auxiliary classifiers"):
        train(tmp_path, Heard(), net=partial(Two, 100, FULL[0]), accumulate=2)


def test_a_checkpoint_of_another_version_is_refused(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "last", {"tag": "stage", "step": 30})
    with pytest.raises(UserError, match="another version"):
        train(tmp_path, Heard(), steps=3)


class Torn(Spoilt):
    """What it remembers is no number after a step, which the student does not show."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.register_buffer("memory", torch.zeros(()))
        self.memory: torch.Tensor
        self.tear = at

    def step(self, student: Any, batch: Batch, progress: float) -> Step:
        if int(self.at) == self.tear:
            self.tear = -1
            self.memory.fill_(float("inf"))
        return super().step(student, batch, progress)


def test_what_a_method_remembers_must_be_numbers_too(tmp_path: Path) -> None:
    """Else it is kept, and the run can never go on."""
    _, its = train(tmp_path, heard := Heard(), 12, Torn(9))
    assert [step for step, _ in heard.back] == [9]
    assert its.memory == 0


def test_labels_that_cannot_be_drawn_are_an_explosion(tmp_path: Path) -> None:
    class Drawing(Spoilt):
        def step(self, student: Any, batch: Batch, progress: float) -> Step:
            torch.multinomial(torch.full((1, 2), float("nan")), 1)
            return super().step(student, batch, progress)

    with pytest.raises(UserError, match="outputs became no numbers at step 0, also at 1/8"):
        train(tmp_path, Heard(), 12, Drawing())


def test_it_says_whether_it_ended_early(tmp_path: Path) -> None:
    early, _ = train(tmp_path / "a", Heard(), validate=Script(*SCORES), **UNSAVED, patience=3)
    late, _ = train(tmp_path / "b", Heard(), validate=Script(*SCORES), **UNSAVED, patience=4)
    assert (early.early, late.early) == (True, False)
