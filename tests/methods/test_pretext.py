"""What pretext tasks share: both losses from one pass, where their heads sit, what they leave."""

import math

import pytest
import torch
from torch import Tensor, nn

from fewlabels.errors import UserError
from fewlabels.methods import Batch, Facts, Method, Networks, create, resolve
from fewlabels.models import catalog
from fewlabels.models.cnn_small import CnnSmall

PRETEXT = ["rotation", "simclr", "masked", "restoration"]
FACTS = Facts(3, (1, 1, 1), 6, 6)
U = 5


def small() -> nn.Module:
    return CnnSmall(3, width=8 / 24)


def started(name: str, student: nn.Module, size: int = 16, **settings: object) -> Method:
    method = create(name, FACTS, resolve(name, settings))
    method.begin(Networks(student, student, size))
    return method


def batch_of(size: int = 16, y: Tensor | None = None) -> Batch:
    labels = torch.tensor([0, 1, 2]) if y is None else y
    x, weak, strong, other = (torch.randn(n, 3, size, size) for n in (len(labels), U, U, U))
    return Batch(x, labels, weak, strong, torch.arange(U), other)


@pytest.mark.parametrize("name", PRETEXT)
def test_the_loss_is_the_weighted_sum_from_one_pass(name: str) -> None:
    torch.manual_seed(0)
    student, passes = small(), []
    method = started(name, student, weight=0.25, labelled=3.0)
    student.register_forward_pre_hook(lambda _, inputs: passes.append(inputs[0]))
    batch = batch_of()
    step = method.step(student, batch, 0.0)
    assert len(passes) == 1
    assert torch.equal(passes[0][:3], batch.x)
    expected = 0.25 * step.logs["task"] + 3.0 * step.logs["labelled"]
    assert step.loss.item() == pytest.approx(expected.item(), rel=1e-6)
    chance = step.logits.detach().log_softmax(1)
    labelled = -sum(chance[i, i].item() for i in range(3)) / 3
    assert step.logs["labelled"].item() == pytest.approx(labelled, rel=1e-5)


@pytest.mark.parametrize("name", PRETEXT)
def test_the_task_alone_is_shown_the_tasks_images_alone(name: str) -> None:
    student, passes = small(), []
    method = started(name, student, labelled=0.0, weight=2.0)
    student.register_forward_pre_hook(lambda _, inputs: passes.append(len(inputs[0])))
    step = method.step(student, batch_of(y=torch.tensor([-9])), 0.0)
    assert passes == [{"rotation": 4 * U, "simclr": 2 * U}.get(name, U)]
    assert step.loss.item() == pytest.approx(2 * step.logs["task"].item(), rel=1e-6)
    assert step.logits.shape == (0, 3)


@pytest.mark.parametrize("name", PRETEXT)
def test_the_labelled_images_do_not_enter_the_task(name: str) -> None:
    """In eval mode, where they cannot do so through batch norm."""
    student = small().eval()
    method = started(name, student)
    one, two = batch_of(), batch_of()
    tasks = []
    for x in (one.x, two.x, two.x[:2]):
        torch.manual_seed(1)  # what is hidden, or how it is degraded
        y = torch.arange(len(x))
        some = Batch(x, y, one.weak, one.strong, one.index, one.other)
        tasks.append(method.step(student, some, 0.0).logs["task"].item())
    assert tasks[0] == pytest.approx(tasks[1], rel=1e-5)
    assert tasks[0] == pytest.approx(tasks[2], rel=1e-5)


@pytest.mark.parametrize("name", PRETEXT)
def test_beginning_leaves_modes_statistics_and_hooks_as_they_were(name: str) -> None:
    student = small().train()
    norm = next(m for m in student.modules() if isinstance(m, nn.BatchNorm2d))
    norm.eval()  # a frozen norm
    modes = [module.training for module in student.modules()]
    state = {key: value.clone() for key, value in student.state_dict().items()}
    method = started(name, student)
    method.step(student, batch_of(), 0.0)
    assert [module.training for module in student.modules()] == modes
    assert norm.num_batches_tracked.item() == 0
    fresh = small().train()
    started(name, fresh)
    for key, value in fresh.state_dict().items():
        assert key.endswith(("mean", "var", "weight", "bias")) or value.item() == 0
    changed = {k for k, v in student.state_dict().items() if not torch.equal(v, state[k])}
    assert all("running" in key or "num_batches" in key for key in changed)
    for module in student.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


@pytest.mark.parametrize("name", PRETEXT)
def test_its_head_is_state_and_the_student_is_not(name: str) -> None:
    method = started(name, small())
    state = method.state_dict()
    learnt = {key for key in state if key.startswith("head.")}
    assert learnt == {key for key, _ in method.named_parameters()}
    assert learnt
    assert set(state) == learnt | {"prior", "log_prior"}
    other = started(name, small())
    other.load_state_dict(state)
    assert all(torch.equal(value, other.state_dict()[key]) for key, value in state.items())


@pytest.mark.parametrize("name", ["masked", "restoration"])
@pytest.mark.parametrize(
    ("net", "size", "side", "layers"),
    [
        ("cnn_small", 32, 4, 2),
        ("cnn_small", 20, 3, 3),
        ("resnet20", 32, 8, 2),
        ("lenet5", 32, 5, 3),
    ],
)
def test_answers_have_the_images_size(
    name: str, net: str, size: int, side: int, layers: int
) -> None:
    """By a pixel shuffle, and a change of size only where the map's side does not divide it."""
    student = catalog.build(net, 3, "none").model
    method = started(name, student, size)
    assert len(method.head) == layers
    channels = method.head[0].in_channels
    assert method.head(torch.randn(2, channels, side, side)).shape == (2, 3, size, size)
    step = method.step(student, batch_of(size), 0.0)
    assert math.isfinite(step.loss.item())


def test_each_place_of_the_map_answers_for_its_own_pixels() -> None:
    """The pixel shuffle puts what one place says where that place looks."""
    method = started("masked", small(), 16)
    convolution = method.head[0]
    nn.init.zeros_(convolution.bias)
    seen = torch.zeros(1, convolution.in_channels, 2, 2)
    seen[0, :, 1, 0] = 1.0
    answers = method.head(seen)[0].abs().sum(0)
    assert (answers[8:, :8] > 0).all()
    assert (answers[:8] == 0).all()
    assert (answers[:, 8:] == 0).all()


@pytest.mark.parametrize("name", ["masked", "restoration"])
def test_the_tasks_gradient_reaches_the_whole_of_a_transformer(name: str) -> None:
    """Up to its last block: not only the patches' embedding, which makes a map, too."""
    torch.manual_seed(0)
    student = catalog.build("timm:test_vit", 3, "none").model
    method = started(name, student, 160, labelled=0.0)
    method.step(student, batch_of(160), 0.0).loss.backward()
    without = {key for key, p in student.named_parameters() if p.grad is None}
    assert without == {
        key for key, _ in student.named_parameters() if key.startswith(("head.", "fc_norm."))
    }


@pytest.mark.parametrize("name", ["masked", "restoration"])
def test_a_net_without_maps_is_an_error(name: str) -> None:
    with pytest.raises(UserError, match="MLP makes no map of an image"):
        started(name, catalog.build("mlp", 3, "none").model, 32)


@pytest.mark.parametrize("task", ["multi", "regression"])
@pytest.mark.parametrize("name", PRETEXT)
def test_other_tasks_have_their_own_labelled_loss(name: str, task: str) -> None:
    student = small()
    method = create(name, Facts(3, (1, 1, 1), 6, 6, task), resolve(name, {}))
    method.begin(Networks(student, student, 16))
    y = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    step = method.step(student, batch_of(y=y), 0.0)
    expected = nn.functional.mse_loss(step.logits, y)
    if task == "multi":
        expected = nn.functional.binary_cross_entropy_with_logits(step.logits, y)
    assert step.logs["labelled"].item() == pytest.approx(expected.item(), rel=1e-5)
