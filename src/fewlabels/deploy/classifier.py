"""A trained classifier: encoded images, files or arrays in, classes and probabilities out."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from fewlabels.errors import UserError, one_line
from fewlabels.evaluate.metrics import THRESHOLD
from fewlabels.evaluate.outputs import Outputs
from fewlabels.evaluate.predictions import BATCH, probabilities
from fewlabels.evaluate.unknown import Detector, strangeness, watched
from fewlabels.models.structure import blank_pass, embed, features
from fewlabels.pixels.decode import Unreadable, square, to_picture, to_square
from fewlabels.pixels.preprocess import Preprocess
from fewlabels.pool.pool import MULTI, REGRESSION

Picture = str | Path | bytes | Image.Image | NDArray[np.uint8]


@dataclass(frozen=True)
class Prediction:
    """What the classifier says of one image; `error` is why it says nothing.

    Of several classes an image the label is "cat|dog", and "|" where it has none of them; of
    numbers "3.5" or "3.5|-1". Confidence is that of one class, and else not a number.
    """

    label: str
    confidence: float
    probabilities: tuple[float, ...]  # in the order of the classifier's classes
    error: str = ""
    unknown: bool | None = None  # of none of the classes; None: the classifier cannot tell
    values: tuple[float, ...] = ()  # where labels are numbers


class Classifier:
    """`classes` are in the order of all probabilities."""

    def __init__(
        self,
        model: nn.Module,
        classes: tuple[str, ...],
        preprocess: Preprocess,
        device: str,
        tta: str = "none",
        temperature: float = 1.0,
        detector: Detector | None = None,
        memory_format: torch.memory_format = torch.channels_last,
        outputs: Outputs | None = None,
    ) -> None:
        # the memory format that it trained in: sums in another order could differ in the last bit
        try:
            self.model = model.to(device, memory_format=memory_format).eval()  # type: ignore[call-overload]
        except Exception as error:  # torch raises AssertionError, RuntimeError, ValueError
            reason = one_line(error)
            raise UserError(f"--device {device}: cannot be used here ({reason})") from error
        self.classes = classes
        self.preprocess = preprocess
        self.device = device
        self.tta = tta  # test-time augmentation, as the model was measured
        self.temperature = temperature
        self.detector = detector  # of images that belong to none of the classes
        self.outputs = outputs or Outputs()  # what the model's are: one class an image

    def predict(self, images: Picture | Iterable[Picture]) -> list[Prediction]:
        """Predictions for paths, encoded bytes, PIL images or uint8 arrays [H, W, 3] or [H, W].

        An image that cannot be read gets a prediction with its `error` and an empty label.
        """
        return list(self.stream(_several(images)))

    def stream(self, images: Iterable[Picture]) -> Iterator[Prediction]:
        """As `predict`, one after another and in constant memory."""
        following = iter(images)
        while batch := list(islice(following, BATCH)):
            yield from self._batch(batch)

    def embed(self, images: Picture | Iterable[Picture]) -> NDArray[np.float32]:
        """What the last layer sees, pooled: [N, features]. Raises Unreadable or OSError."""
        pixels = np.stack([self._read(image) for image in _several(images)])
        parts = [self._forward(embed, pixels[i : i + BATCH]) for i in range(0, len(pixels), BATCH)]
        return np.concatenate(parts)

    def features(self, images: Picture | Iterable[Picture]) -> tuple[NDArray[np.float32], ...]:
        """The last map of each size, the largest first, [N, C, H, W] each: what detectors and
        segmentation nets build on. Raises Unreadable or OSError."""
        pixels = np.stack([self._read(image) for image in _several(images)])
        found: tuple[NDArray[np.float32], ...] = self._forward(features, pixels)
        return found

    def judge(
        self, pixels: NDArray[np.uint8]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
        """Of images [N, S, S, 3] of the model's size the probabilities [N, K], or the numbers, and
        how strange each is [N]; None without a detector."""
        asked = self.preprocess, self.device, self.tta, self.temperature, self.outputs.read
        if self.detector is None:
            return probabilities(self.model, pixels, *asked), None
        with watched(self.model, self.detector.path) as seen:
            p = probabilities(self.model, pixels, *asked)
        embeddings, first = seen()
        still = embeddings[: len(p)], None if first is None else first[: len(p)]
        return p, strangeness(self.detector.familiar, *still)

    @torch.inference_mode()
    def _forward(self, what: Callable[[nn.Module, torch.Tensor], Any], pixels: Any) -> Any:
        """What `what` makes of the model and some images, as arrays."""
        with blank_pass(self.model):
            found = what(self.model, self.preprocess(pixels).to(self.device))
        if isinstance(found, tuple):
            return tuple(part.float().cpu().numpy() for part in found)
        return found.float().cpu().numpy()

    def _read(self, image: Picture) -> NDArray[np.uint8]:
        size = self.preprocess.size
        if isinstance(image, np.ndarray):
            image = Image.fromarray(image)
        if isinstance(image, Image.Image):
            return to_square(to_picture(image), size).pixels
        data = image if isinstance(image, bytes) else Path(image).read_bytes()
        return square(data, size).pixels

    def _batch(self, images: Sequence[Picture]) -> Iterator[Prediction]:
        pixels: list[NDArray[np.uint8]] = []
        reasons: list[str] = []  # an image, "" where it could be read
        for image in images:
            try:
                pixels.append(self._read(image))
                reasons.append("")
            except (OSError, Unreadable, TypeError, ValueError) as error:
                reasons.append(one_line(error))
        following: Iterator[tuple[NDArray[np.float64], bool | None]] = iter(())
        if pixels:
            p, scores = self.judge(np.stack(pixels))
            unknown: list[bool | None] = [None] * len(p)
            if self.detector is not None and scores is not None:
                unknown = (scores > self.detector.threshold).tolist()
            following = zip(p, unknown, strict=True)
        for reason in reasons:
            if reason:
                yield Prediction("", 0.0, (), reason)
            else:
                yield self._said(*next(following))

    def _said(self, row: NDArray[np.float64], strange: bool | None) -> Prediction:
        """What the numbers [K or T] of one image mean."""
        numbers = tuple(row.tolist())
        if self.outputs.task == REGRESSION:
            label = "|".join(f"{value:.10g}" for value in numbers)
            return Prediction(label, math.nan, (), values=numbers)
        if self.outputs.task == MULTI:
            names = [self.classes[n] for n in np.flatnonzero(row >= THRESHOLD)]
            return Prediction("|".join(names) or "|", math.nan, numbers)
        best = int(row.argmax())
        return Prediction(self.classes[best], float(row[best]), numbers, "", strange)


def _several(images: Picture | Iterable[Picture]) -> Iterable[Picture]:
    if isinstance(images, np.ndarray) and images.ndim == 4:
        return list(images)
    if isinstance(images, str | Path | bytes | Image.Image | np.ndarray):
        return [images]
    return images
