import math

import pytest
import torch

from fewlabels.models import catalog
from fewlabels.models.built import head
from fewlabels.models.neighbours import LEAST, TEMPERATURE, Neighbours


def head_of(k: int) -> Neighbours:
    """Four memories in the plane: east and north of class 0, north-east of 1, west of 2."""
    found = Neighbours(4, 4, 2, k)
    found.remember(torch.tensor([[2.0, 0], [0, 3], [1, 1], [-1, 0]]), torch.tensor([0, 0, 1, 2]))
    return found


def test_votes_by_hand() -> None:
    x = torch.tensor([[5.0, 0.0]])  # cosines: 1, 0, 0.7071, -1
    assert TEMPERATURE == 0.07  # the paper's
    one, half = math.exp(1 / TEMPERATURE), math.exp(math.sqrt(0.5) / TEMPERATURE)
    zero = math.exp(0)
    shares = head_of(3)(x).exp()[0]
    total = one + half + zero
    torch.testing.assert_close(shares[0], torch.tensor((one + zero) / total))
    torch.testing.assert_close(shares[1], torch.tensor(half / total))
    assert shares[2:].tolist() == pytest.approx([LEAST, LEAST])
    assert head_of(1)(x).exp()[0].tolist() == pytest.approx([1, LEAST, LEAST, LEAST])


def test_the_nearest_is_asked_whatever_its_length() -> None:
    said = head_of(1)(torch.tensor([[0.1, 0.0], [0, 100], [3, 2.9], [-7, 0.1]]))
    assert said.argmax(1).tolist() == [0, 0, 1, 2]
    assert said.isfinite().all()


def test_more_neighbours_than_memories_are_all_of_them() -> None:
    x = torch.randn(5, 2)
    assert torch.equal(head_of(100)(x), head_of(4)(x))


def test_what_it_remembers_is_saved() -> None:
    head = head_of(2)
    again = Neighbours(4, 4, 2, 2)
    again.load_state_dict(head.state_dict())
    x = torch.randn(5, 2)
    assert torch.equal(again(x), head(x))
    assert not list(head.parameters())
    torch.testing.assert_close(head.bank.norm(dim=1), torch.ones(4))


def test_it_is_the_head_of_a_model() -> None:
    more = {"neighbours": 6, "nearest": 3}
    model = catalog.build("timm:test_resnet", 4, "none", more).model
    path, layer = head(model)
    assert path == "fc"
    assert isinstance(layer, Neighbours)
    assert (layer.bank.shape, layer.k, layer.num_classes) == ((6, 96), 3, 4)
