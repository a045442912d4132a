"""Nets without convolutions: the perceptron, and several layers of such units.

Their first layer has a weight for each pixel, so that they take the images' side as `size`.
"""

from collections.abc import Callable
from itertools import pairwise

from torch import Tensor, nn

from fewlabels.models.initialise import initialise
from fewlabels.settings import between, one_of

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}


class Perceptron(nn.Module):
    """[B, 3, size, size] -> logits [B, classes], by one linear layer.

    Rosenblatt's (1958) unit for each class; with cross-entropy it is softmax regression.
    """

    def __init__(self, num_classes: int, size: int = 32) -> None:
        super().__init__()
        between("perceptron: size", size, 1, 4096)
        self.head = nn.Linear(3 * size * size, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(x.flatten(1))
        return logits


class MLP(nn.Module):
    """[B, 3, size, size] -> logits [B, classes], through `layers` hidden layers of `width` units.

    It starts from He's weights with ReLU and from Xavier's with the others, so that it may be deep.
    """

    def __init__(
        self,
        num_classes: int,
        layers: int = 2,
        width: int = 256,
        activation: str = "relu",
        size: int = 32,
    ) -> None:
        super().__init__()
        between("mlp: layers", layers, 1, 1000)
        between("mlp: width", width, 1, 65536)
        between("mlp: size", size, 1, 4096)
        one_of("mlp: activation", activation, tuple(ACTIVATIONS))
        widths = [3 * size * size] + [width] * layers
        self.hidden = nn.Sequential()
        for inputs, outputs in pairwise(widths):
            self.hidden.append(nn.Linear(inputs, outputs)).append(ACTIVATIONS[activation]())
        self.head = nn.Linear(width, num_classes)
        initialise(self, "he" if activation == "relu" else "xavier")

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.hidden(x.flatten(1)))
        return logits
