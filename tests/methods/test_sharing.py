"""A batch in parts: the same loss, gradient and running statistics as in one piece."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fewlabels.methods import METHODS, Batch, Facts, Networks, create, resolve
from fewlabels.methods.forward import together, worth_selecting
from fewlabels.methods.sharing import Sharing, own, passed, regrouped, shared

SIDE, B, U, K = 8, 4, 8, 3
OWN: dict[str, dict[str, Any]] = {
    "fixmatch": {"threshold": 0.3, "align": True},
    "flexmatch": {"threshold": 0.3},
    "uda": {"threshold": 0.3},
    "distill": {"hints": 0.5},
    "masked": {"patches": 4},
}


class Net(nn.Module):
    """Convolutions, dropout, and norms that see one image at a time, or the batch."""

    def __init__(self, norm: type[nn.Module] | None = None, dropout: float = 0.0) -> None:
        super().__init__()
        self.below = nn.Sequential(
            nn.Conv2d(3, 6, 3, 2, 1), norm(6) if norm else nn.GroupNorm(2, 6), nn.ReLU(),
            nn.Conv2d(6, 6, 3, 2, 1),
        )  # fmt: skip
        self.drop, self.head = nn.Dropout(dropout), nn.Linear(6, K)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.drop(self.below(x).relu().mean((2, 3))))
        return logits


def batch_of(seed: int = 0) -> Batch:
    g = torch.Generator().manual_seed(seed)
    x, *views = (torch.randn(n, 3, SIDE, SIDE, generator=g) for n in (B, U, U, U))
    weak, strong, other = views
    given = torch.rand(U, K, generator=g).softmax(1)
    return Batch(x, torch.arange(B) % K, weak, strong, torch.arange(U), other, given)


def descended(name: str, sharing: Sharing) -> tuple[float, Tensor, dict[str, Tensor]]:
    """The loss, the student's gradient, and what the method remembers after a step."""
    torch.manual_seed(1)
    net, teacher = Net(dropout=0.3), Net().eval()
    method = create(name, Facts(K, (2, 1, 1), U, U), resolve(name, OWN.get(name, {})))
    method.begin(Networks(net, Net().eval(), SIDE, (teacher,)))
    method.seed(5)
    torch.manual_seed(2)
    with shared(sharing):
        step = method.step(net, batch_of(), 0.5)
        step.loss.backward()  # type: ignore[no-untyped-call]
    gradient = torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None])
    return step.loss.item(), gradient, method.state_dict()


@pytest.mark.parametrize("parts", [2, 3])
@pytest.mark.parametrize("name", METHODS)
def test_loss_gradient_and_state_are_those_of_one_piece(
    name: str, parts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without dropout, whose draws are of another order."""
    monkeypatch.setattr(nn.Dropout, "forward", lambda self, x: x)
    whole, found = descended(name, Sharing()), descended(name, Sharing(parts=parts))
    assert found[0] == pytest.approx(whole[0], rel=1e-5)
    torch.testing.assert_close(found[1], whole[1], rtol=1e-4, atol=1e-6)
    assert float(whole[1].norm()) > 1e-3
    for key, value in whole[2].items():
        torch.testing.assert_close(found[2][key], value, rtol=1e-5, atol=1e-6, msg=key)


def test_what_is_computed_again_draws_the_same() -> None:
    """With dropout: the gradient is that of the outputs that the loss has seen."""
    torch.manual_seed(0)
    net, x = Net(dropout=0.5), torch.randn(6, 3, SIDE, SIDE)

    def in_parts() -> Tensor:
        torch.manual_seed(3)
        with shared(Sharing(parts=3)):
            return torch.cat(passed(net, x))

    with shared(Sharing(parts=3)):
        torch.manual_seed(3)
        by_hand = torch.cat([net(part) for part in x.tensor_split(3)])
    by_hand.square().sum().backward()  # type: ignore[no-untyped-call]
    expected = [p.grad.clone() for p in net.parameters() if p.grad is not None]
    net.zero_grad()
    with shared(Sharing(parts=3)):
        torch.manual_seed(3)
        (outputs,) = passed(net, x)
        torch.manual_seed(99)  # whatever is drawn in between
        outputs.square().sum().backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(in_parts(), by_hand)
    for parameter, gradient in zip(net.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_less_is_kept_for_the_backward_pass() -> None:
    """The memory that activations take is that of one part."""
    net, x = Net(), torch.randn(24, 3, 32, 32)
    kept = {}
    for parts in (1, 4):
        numbers = [0]

        def pack(tensor: Tensor, numbers: list[int] = numbers) -> Tensor:
            if tensor.ndim == 4 and tensor.shape[1] == 6:
                numbers[0] += tensor.numel()
            return tensor

        with (
            torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
            shared(Sharing(parts=parts)),
        ):
            (outputs,) = passed(net, x)
        kept[parts] = numbers[0]
        outputs.sum().backward()  # type: ignore[no-untyped-call]
    assert kept[1] > 0
    assert kept[4] == 0


@pytest.mark.parametrize("parts", [2, 3, 6])
def test_all_parts_together_move_running_statistics_as_far_as_one_batch(parts: int) -> None:
    """Where all parts are alike. And the second pass moves nothing."""
    torch.manual_seed(0)
    few = torch.randn(2, 3, SIDE, SIDE)
    x = few.repeat(6, 1, 1, 1)
    found = {}
    for count in (1, parts):
        torch.manual_seed(1)
        net = Net(nn.BatchNorm2d)
        with shared(Sharing(parts=count)):
            (outputs,) = passed(net, x)
            before = {name: value.clone() for name, value in net.named_buffers()}
            outputs.square().sum().backward()  # type: ignore[no-untyped-call]
        after = dict(net.named_buffers())
        assert all(torch.equal(value, after[name]) for name, value in before.items())
        assert int(after["below.1.num_batches_tracked"]) == count
        found[count] = after["below.1.running_mean"], after["below.1.running_var"], outputs
    for expected, value in zip(found[1], found[parts], strict=True):
        torch.testing.assert_close(value, expected, rtol=2e-2, atol=1e-4)


def test_as_many_parts_as_there_are_move_the_running_statistics() -> None:
    """Where more are asked for than there are pairs of images."""
    x = torch.randn(2, 3, SIDE, SIDE).repeat(3, 1, 1, 1)
    found = []
    for parts in (3, 64):
        torch.manual_seed(1)
        net = Net(nn.BatchNorm2d)
        with shared(Sharing(parts=parts)):
            passed(net, x)
        found.append(dict(net.named_buffers())["below.1.running_var"])
    assert torch.equal(*found)


def test_norms_that_are_kept_see_no_parts() -> None:
    torch.manual_seed(0)
    net, x = Net(nn.BatchNorm2d).eval(), torch.randn(10, 3, SIDE, SIDE)
    whole = net(x)
    with shared(Sharing(parts=4)):
        (found,) = passed(net, x)
    torch.testing.assert_close(found, whole)


def test_more_parts_than_images_are_as_many_as_there_are_pairs() -> None:
    net, x, few = Net(nn.BatchNorm2d), torch.randn(6, 3, SIDE, SIDE), torch.randn(1, 3, SIDE, SIDE)
    with shared(Sharing(parts=64)):
        outputs, one = passed(net, x, few)
    assert (len(outputs), len(one)) == (6, 1)
    assert int(dict(net.named_buffers())["below.1.num_batches_tracked"]) == 3


def test_groups_come_back_in_their_order() -> None:
    """Also where they have no equal parts, or fewer images than there are parts."""
    groups = [torch.arange(7), torch.arange(100, 103), torch.arange(200, 212)]
    pieces = zip(*(group.tensor_split(5) for group in groups), strict=True)
    parts = [torch.cat(piece) for piece in pieces]
    for found, expected in zip(regrouped(parts, [7, 3, 12]), groups, strict=True):
        assert torch.equal(found, expected)
    with shared(Sharing(parts=5)):
        one, none = together(lambda x: x.float(), torch.arange(11), torch.arange(0))
    assert torch.equal(one, torch.arange(11).float())
    assert len(none) == 0


def test_a_process_has_its_own_rows() -> None:
    rows = torch.arange(12)
    with shared(Sharing(rank=1, world=3)):
        assert own(rows).tolist() == [4, 5, 6, 7]
        assert len(own(rows[:0])) == 0
    assert torch.equal(own(rows), rows)


def test_nothing_is_selected_where_a_batch_is_shared_out() -> None:
    net = Net()
    assert worth_selecting(net, 0.1)
    with shared(Sharing(parts=2)):
        assert not worth_selecting(net, 0.1)
    assert worth_selecting(net, 0.1)
