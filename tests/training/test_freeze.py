"""What is frozen stays as it is, to the bit; what thaws does so from the head down."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from test_loop import Heard, weights
from torch import Tensor, nn

from fewlabels.errors import UserError
from fewlabels.methods import Batch, Facts, create, resolve
from fewlabels.models import catalog
from fewlabels.models.cnn_small import CnnSmall
from fewlabels.models.mlp import MLP
from fewlabels.models.structure import stages, units
from fewlabels.training.budget import Budget
from fewlabels.training.freeze import Freeze, Freezer
from fewlabels.training.lead import Pace
from fewlabels.training.loop import Fitted, TrainSettings, fit
from fewlabels.training.optimiser import OptimiserSettings

SIZE = 16


def net() -> nn.Module:
    """Three stages: stem (2 units), middle and residual (3), top (1)."""
    torch.manual_seed(0)
    return CnnSmall(2, width=8 / 24)


def batch_of(step: int) -> Batch:
    g = torch.Generator().manual_seed(step)
    y = torch.arange(8) % 2
    return Batch(torch.randn(8, 3, SIZE, SIZE, generator=g) + y[:, None, None, None], y)


def train(
    folder: Path,
    freeze: Freeze,
    steps: int = 8,
    listener: Heard | None = None,
    start: nn.Module | None = None,
) -> Fitted:
    method = create("supervised", Facts(2, (4, 4), 8), resolve("supervised", {}))
    settings = TrainSettings(
        optimiser=OptimiserSettings("adamw", 0.01),
        freeze=freeze,
        pace=Pace(checkpoint_seconds=0.0, checkpoint_share=float("inf")),
    )
    fabric, heard = Fabric(accelerator="cpu", devices=1), listener or Heard()
    start = start or net()
    budget, last = Budget(steps=steps), folder / "last"
    return fit(
        start, method, batch_of, budget, settings, fabric, last, lambda m: {}, heard, size=SIZE
    )


def changed(fitted: Fitted, start: nn.Module | None = None) -> set[str]:
    """What of the state, statistics too, is not what it was, but for the norms' counters."""
    before = (start or net()).state_dict()
    after = fitted.model.state_dict()
    return {name for name, value in after.items() if not torch.equal(value, before[name])}


def owned(model: nn.Module, some: tuple[Any, ...]) -> set[str]:
    """The state of these units, with that of the norms that joined them."""
    paths = [path for unit in some for path in (unit.path, *unit.norms)]
    return {name for name in model.state_dict() if any(name.startswith(f"{p}.") for p in paths)}


def test_without_freezing_everything_learns(tmp_path: Path) -> None:
    assert changed(train(tmp_path, Freeze())) == set(net().state_dict())


def test_a_frozen_backbone_is_what_it_was(tmp_path: Path) -> None:
    """Weights and running statistics; only the head has learnt."""
    fitted = train(tmp_path, Freeze("backbone"))
    assert changed(fitted) == {"head.weight", "head.bias"}


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_frozen_stages_are_what_they_were(tmp_path: Path, count: int) -> None:
    model = net()
    frozen = sum(stages(model, SIZE)[:count], ())
    fitted = train(tmp_path, Freeze(str(count)))
    assert changed(fitted) == set(model.state_dict()) - owned(model, frozen)


def test_norms_keep_their_statistics_and_learn_the_rest(tmp_path: Path) -> None:
    fitted = train(tmp_path, Freeze(norms=True))
    kept = ("running_mean", "running_var", "num_batches_tracked")
    assert changed(fitted) == {name for name in net().state_dict() if not name.endswith(kept)}


@pytest.mark.parametrize("name", ["timm:test_efficientnet", "timm:test_vit", "timm:test_resnet"])
def test_frozen_backbones_of_others(tmp_path: Path, name: str) -> None:
    """Norms and what lies beside the units, such as a class token, are frozen too."""
    torch.manual_seed(0)
    start = catalog.sized(catalog.build(name, 2, "none"), 32, 2).model
    before = {key: value.clone() for key, value in start.state_dict().items()}
    head = units(start)[-1].parameters
    after = train(tmp_path, Freeze("backbone"), 2, start=start).model.state_dict()
    assert {k for k, value in after.items() if not torch.equal(value, before[k])} == set(head)


class Seen:
    """A freezer's effects at a progress: how many units of each stage learn, and which modes."""

    def __init__(self, freeze: Freeze) -> None:
        self.model = net()
        self.freezer = Freezer(self.model, freeze, SIZE)
        self.stages = stages(self.model, SIZE)

    def __call__(self, progress: float) -> list[bool]:
        """By stage, and then the head: whether it learns."""
        self.model.train()
        self.freezer(progress)
        parameters = dict(self.model.named_parameters())
        found = []
        for group in (*self.stages, units(self.model)[-1:]):
            learns = {parameters[n].requires_grad for unit in group for n in unit.parameters}
            modules = [self.model.get_submodule(p) for u in group for p in (u.path, *u.norms)]
            assert len(learns) == 1
            assert {module.training for module in modules} == learns
            found += learns
        return found


def test_thawing_goes_from_the_head_down_in_equal_parts() -> None:
    seen = Seen(Freeze(unfreeze=0.6))
    assert seen(0.0) == [False, False, False, True]
    assert seen(0.19) == [False, False, False, True]
    assert seen(0.21) == [False, False, True, True]
    assert seen(0.39) == [False, False, True, True]
    assert seen(0.41) == [False, True, True, True]
    assert seen(0.59) == [False, True, True, True]
    assert seen(0.61) == [True, True, True, True]
    assert seen(0.3) == [False, False, True, True]  # a function of progress alone


def test_what_is_frozen_for_good_never_thaws() -> None:
    seen = Seen(Freeze("1", unfreeze=0.5))
    assert seen(0.0) == [False, False, False, True]
    assert seen(0.26) == [False, False, True, True]
    assert seen(0.51) == seen(1.0) == [False, True, True, True]


def test_thawing_in_training(tmp_path: Path) -> None:
    """What thaws in the last quarter has learnt less than what thawed before; all has moved."""
    assert changed(train(tmp_path, Freeze(unfreeze=0.75), steps=8)) == set(net().state_dict())
    one = train(tmp_path / "one", Freeze(unfreeze=1.0), steps=4)  # the first step: the head alone
    stem = [name for name in changed(one) if name.startswith("stem.1")]
    assert stem == []
    assert "top.1.0.weight" in changed(one)


@pytest.mark.parametrize("freeze", [Freeze(unfreeze=0.9), Freeze("1", unfreeze=0.5), Freeze("2")])
@pytest.mark.parametrize("stop", [2, 6])
def test_a_run_cut_off_while_it_thaws_ends_as_the_uncut_one(
    tmp_path: Path, freeze: Freeze, stop: int
) -> None:
    whole = train(tmp_path / "a", freeze, 10)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "b", freeze, 10, Heard(stop_at=stop))
    heard = Heard()
    resumed = train(tmp_path / "b", freeze, 10, heard)
    assert heard.resumed_at == stop - 1
    assert torch.equal(weights(whole), weights(resumed))


def test_a_frozen_part_costs_no_gradient() -> None:
    seen = Seen(Freeze("2"))
    seen(0.0)
    seen.model(torch.randn(4, 3, SIZE, SIZE)).sum().backward()
    with_gradient = {name for name, p in seen.model.named_parameters() if p.grad is not None}
    frozen = {name for group in seen.stages[:2] for unit in group for name in unit.parameters}
    assert with_gradient == {name for name, _ in seen.model.named_parameters()} - frozen


def test_dropout_before_the_head_stays_where_the_backbone_is_frozen() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Dropout(), nn.LazyLinear(2))
    model(torch.zeros(2, 3, 8, 8))
    Freezer(model.train(), Freeze("backbone"), 8)(0.0)
    assert [module.training for module in model] == [False, True, True, True]


@pytest.mark.parametrize(
    ("how", "unfreeze", "says"),
    [
        ("all", 0.0, "--freeze all: must be none, backbone, fixres, or a number of stages"),
        ("-1", 0.0, "--freeze -1"),
        ("1.5", 0.0, "--freeze 1.5"),
        ("none", 1.5, "--unfreeze 1.5: must be between 0 and 1"),
        ("none", -0.1, "--unfreeze -0.1"),
        ("backbone", 0.5, "--unfreeze has no effect"),
    ],
)
def test_what_cannot_be(how: str, unfreeze: float, says: str) -> None:
    with pytest.raises(UserError, match=says):
        Freeze(how, unfreeze)


def test_stages_that_a_model_does_not_have() -> None:
    with pytest.raises(UserError, match="--freeze 4: the model has 3 stages at 16 px"):
        Freezer(net(), Freeze("4"), SIZE)
    for model, freeze in ((net(), Freeze("3", 0.5)), (MLP(2, size=SIZE), Freeze(unfreeze=0.5))):
        with pytest.raises(UserError, match="no stage to thaw"):
            Freezer(model, freeze, SIZE)


def test_logits_of_what_is_frozen_are_those_of_eval_mode() -> None:
    """The head's input does not depend on what else is in the batch."""
    model = net()
    freezer = Freezer(model.train(), Freeze("backbone"), SIZE)
    freezer(0.0)
    x = torch.randn(6, 3, SIZE, SIZE)
    together: Tensor = model(x)
    torch.testing.assert_close(together[:2], model(x[:2]))
