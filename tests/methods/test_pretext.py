"""What pretext tasks share: when which loss counts, where their heads sit, what they leave."""

import math

import pytest
import torch
from torch import Tensor, nn

from fewlabels.errors import UserError
from fewlabels.methods import Batch, Facts, Method, Networks, create, resolve
from fewlabels.models import catalog
from fewlabels.models.cnn_small import CnnSmall

PRETEXT = ["rotation", "simclr", "masked", "restoration"]
FIRST = ["masked", "restoration"]  # by default the task comes first, the labels after it
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


def watched(student: nn.Module) -> list[Tensor]:
    """Gathers what the student is shown, pass by pass."""
    passes: list[Tensor] = []
    student.register_forward_pre_hook(lambda _, inputs: passes.append(inputs[0]))
    return passes


def shown(name: str) -> int:
    """How many images of the task."""
    return {"rotation": 4 * U, "simclr": 2 * U}.get(name, U)


def fails(*_: object) -> Tensor:
    raise AssertionError("not to be called")


def hand_made(logits: Tensor, y: Tensor) -> float:
    """The mean cross-entropy."""
    chance = logits.detach().log_softmax(1)
    return -sum(chance[i, label].item() for i, label in enumerate(y.tolist())) / len(y)


# when which loss counts


@pytest.mark.parametrize("name", PRETEXT)
def test_the_loss_is_the_weighted_sum_from_one_pass(name: str) -> None:
    torch.manual_seed(0)
    student = small()
    method = started(name, student, weight=0.25, labelled=3.0, alone=0.0)
    passes, batch = watched(student), batch_of()
    step = method.step(student, batch, 0.0)
    assert [len(images) for images in passes] == [3 + shown(name)]
    assert torch.equal(passes[0][:3], batch.x)
    assert step.logs.keys() == {"task", "labelled"}
    expected = 0.25 * step.logs["task"] + 3.0 * step.logs["labelled"]
    assert step.loss.item() == pytest.approx(expected.item(), rel=1e-6)
    labelled = hand_made(step.logits, batch.y)
    assert step.logs["labelled"].item() == pytest.approx(labelled, rel=1e-5)


ALONE: list[tuple[dict[str, float], list[float]]] = [  # settings, and where the task is alone
    ({"alone": 0.25}, [0.0, 0.2499]),
    ({"alone": 0.25, "weight": 0.0}, [0.0, 0.2499]),
    ({"alone": 0.25, "weight": 7.0, "labelled": 3.0}, [0.0, 0.2499]),
    ({"labelled": 0.0}, [0.0, 0.4, 0.9, 1.0]),
    ({"labelled": 0.0, "weight": 2.0}, [0.0, 0.4, 0.9, 1.0]),
    ({"labelled": 0.0, "weight": 0.0, "alone": 0.25}, [0.0, 0.4, 0.9, 1.0]),
]


@pytest.mark.parametrize(("settings", "when"), ALONE)
@pytest.mark.parametrize("name", PRETEXT)
def test_the_task_alone_looks_at_no_label_and_no_labelled_image(
    name: str, settings: dict[str, float], when: list[float]
) -> None:
    """Its loss counts once then, whatever its weight beside the labels is."""
    student = small()
    method = started(name, student, **settings)
    passes, nonsense = watched(student), torch.tensor([-9])
    for progress in when:
        student.zero_grad()
        passes.clear()
        step = method.step(student, batch_of(y=nonsense), progress)
        assert [len(images) for images in passes] == [shown(name)]
        assert step.logs.keys() == {"task"}
        assert torch.equal(step.loss.detach(), step.logs["task"])
        assert step.logits.shape == (0, 3)
        step.loss.backward()
        assert all(p.grad is not None for p in method.parameters())
        last = [module for module in student.modules() if isinstance(module, nn.Linear)][-1]
        assert last.weight.grad is None or not last.weight.grad.any()  # the classes' head


@pytest.mark.parametrize("progress", [0.25, 0.6, 1.0])
@pytest.mark.parametrize("name", PRETEXT)
def test_without_weight_the_labels_alone_follow_the_task(
    name: str, progress: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exactly what supervised training does, on the same view: loss, gradient and statistics."""
    torch.manual_seed(0)
    student, twin = small().train(), small().train()
    twin.load_state_dict(student.state_dict())
    method = started(name, student, alone=0.25, weight=0.0)
    monkeypatch.setattr(method, "inputs", fails)
    monkeypatch.setattr(method, "task", fails)
    passes, batch = watched(student), batch_of()
    step = method.step(student, Batch(batch.x, batch.y), progress)  # no view of others is needed
    assert len(passes) == 1
    assert torch.equal(passes[0], batch.x)
    assert step.logs.keys() == {"labelled"}
    supervised = create("supervised", FACTS, resolve("supervised", {}))
    expected = supervised.step(twin, batch, progress)
    assert torch.equal(step.loss, expected.loss)
    assert torch.equal(step.logits, expected.logits)
    step.loss.backward()
    expected.loss.backward()
    for one, two in zip(student.parameters(), twin.parameters(), strict=True):
        assert one.grad is not None
        assert two.grad is not None
        assert torch.equal(one.grad, two.grad)
    for one, two in zip(student.buffers(), twin.buffers(), strict=True):
        assert torch.equal(one, two)
    assert all(p.grad is None for p in method.parameters())


@pytest.mark.parametrize("name", PRETEXT)
def test_with_weight_both_follow_the_task(name: str) -> None:
    student = small()
    method = started(name, student, alone=0.25, weight=0.5)
    passes, batch = watched(student), batch_of()
    kinds = []
    for progress in (0.2, 0.25, 0.9):
        step = method.step(student, batch, progress)
        kinds.append((len(passes[-1]), len(step.logits), sorted(step.logs)))
    both = (3 + shown(name), 3, ["labelled", "task"])
    assert kinds == [(shown(name), 0, ["task"]), both, both]
    assert len(passes) == 3


@pytest.mark.parametrize("name", PRETEXT)
def test_by_default_the_pictures_come_first_and_the_others_stand_beside_the_labels(
    name: str,
) -> None:
    student = small()
    method = started(name, student)
    kinds = [
        sorted(method.step(student, batch_of(), progress).logs) for progress in (0.0, 0.49, 0.5, 1)
    ]
    task, labelled, both = ["task"], ["labelled"], ["labelled", "task"]
    assert kinds == ([task, task, labelled, labelled] if name in FIRST else [both] * 4)


@pytest.mark.parametrize("name", PRETEXT)
def test_the_labelled_images_do_not_enter_the_task(name: str) -> None:
    """In eval mode, where they cannot do so through batch norm."""
    student = small().eval()
    method = started(name, student, weight=1.0, alone=0.0)
    one, two = batch_of(), batch_of()
    tasks = []
    for x in (one.x, two.x, two.x[:2]):
        torch.manual_seed(1)  # what is hidden, or how it is degraded
        y = torch.arange(len(x))
        some = Batch(x, y, one.weak, one.strong, one.index, one.other)
        tasks.append(method.step(student, some, 0.0).logs["task"].item())
    assert tasks[0] == pytest.approx(tasks[1], rel=1e-5)
    assert tasks[0] == pytest.approx(tasks[2], rel=1e-5)


# what it leaves, and its head


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


@pytest.mark.parametrize("name", FIRST)
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


@pytest.mark.parametrize("name", FIRST)
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


@pytest.mark.parametrize("name", FIRST)
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
    step = method.step(student, batch_of(y=y), 0.5)
    assert step.logits.shape == y.shape
    expected = nn.functional.mse_loss(step.logits, y)
    if task == "multi":
        expected = nn.functional.binary_cross_entropy_with_logits(step.logits, y)
    assert step.logs["labelled"].item() == pytest.approx(expected.item(), rel=1e-5)
