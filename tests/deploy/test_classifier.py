import io
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from fewlabels.deploy import classifier as home
from fewlabels.deploy.classifier import Classifier, Picture, Prediction
from fewlabels.evaluate.predictions import BATCH, logits
from fewlabels.models.catalog import head
from fewlabels.models.cnn_small import CnnSmall
from fewlabels.models.lenet5 import LeNet5
from fewlabels.pixels.decode import Unreadable, square
from fewlabels.pixels.preprocess import Preprocess

Pixels = NDArray[np.uint8]


class Colour(nn.Module):
    """Logits are ten times the mean of red, green and blue in 0..1: all can be told by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 3, bias=False)
        with torch.no_grad():
            self.head.weight.copy_(10 * torch.eye(3))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits


@pytest.fixture
def colours() -> Classifier:
    plain = Preprocess(8, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    return Classifier(Colour(), ("red", "green", "blue"), plain, "cpu")


@pytest.fixture
def net() -> Classifier:
    """A net with random weights whose batch norms have seen something."""
    torch.manual_seed(0)
    model = CnnSmall(4)
    with torch.no_grad():
        model(torch.randn(16, 3, 16, 16) * 2 + 1)
    return Classifier(model, ("a", "b", "c", "d"), Preprocess(16), "cpu")


def pictures(count: int, height: int = 20, width: int = 14) -> list[Pixels]:
    rng = np.random.default_rng(1)
    return list(rng.integers(0, 256, (count, height, width, 3), dtype=np.uint8))


def encoded(image: Image.Image | Pixels, form: str = "PNG") -> bytes:
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, form)
    return file.getvalue()


def close(one: list[Prediction], two: list[Prediction]) -> None:
    assert [p.label for p in one] == [p.label for p in two]
    assert [p.error for p in one] == [p.error for p in two] == [""] * len(one)
    np.testing.assert_allclose(
        [p.probabilities for p in one], [p.probabilities for p in two], rtol=0, atol=1e-5
    )


def test_by_hand(colours: Classifier) -> None:
    red, blue, white = (Image.new("RGB", (8, 8), c) for c in ("#ff0000", "#0000ff", "#ffffff"))
    said = colours.predict([blue, red, white])
    most, least = np.exp(10) / (np.exp(10) + 2), 1 / (np.exp(10) + 2)
    assert [p.label for p in said[:2]] == ["blue", "red"]
    assert said[0].probabilities == pytest.approx((least, least, most), rel=1e-4)
    assert said[1].probabilities == pytest.approx((most, least, least), rel=1e-4)
    assert said[2].probabilities == pytest.approx((1 / 3, 1 / 3, 1 / 3))
    assert said[1].confidence == pytest.approx(most)
    assert said[1].error == ""


def test_size_and_padding(colours: Classifier) -> None:
    """A wide image keeps its shape; what is left of the square is the grey of the cache."""
    (said,) = colours.predict(Image.new("RGB", (100, 50), (255, 0, 0)))
    mean = (np.array([255, 0, 0]) + np.array([124, 116, 104])) / 2 / 255
    expected = np.exp(10 * mean) / np.exp(10 * mean).sum()
    np.testing.assert_allclose(said.probabilities, expected, rtol=1e-4)


def test_as_in_training(net: Classifier) -> None:
    """The pixels of the cache, normalised, through the model: nothing else."""
    files = [encoded(pixels) for pixels in pictures(5)] + [encoded(pictures(1)[0], "JPEG")]
    images = np.stack([square(data, 16).pixels for data in files])
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (net.preprocess.mean, net.preprocess.std))
    x = (torch.from_numpy(images).permute(0, 3, 1, 2) / 255 - mean) / std
    with torch.inference_mode():
        expected = torch.softmax(net.model.eval()(x), 1).numpy()
    said = net.predict(files)
    np.testing.assert_allclose([p.probabilities for p in said], expected, atol=1e-5)
    for p in said:
        assert sum(p.probabilities) == pytest.approx(1, abs=1e-9)
        assert p.confidence == max(p.probabilities)
        assert p.label == net.classes[int(np.argmax(p.probabilities))]
    assert len({p.label for p in said} | {p.confidence for p in said}) > 3  # it looks


def test_kinds(net: Classifier, tmp_path: Path) -> None:
    """One image in all the forms that it may come in; one or several, in any iterable."""
    pixels = pictures(1)[0]
    path = tmp_path / "no suffix that says what it is"
    path.write_bytes(encoded(pixels))
    forms: list[Picture] = [path, str(path), path.read_bytes(), Image.fromarray(pixels), pixels]
    alone = [net.predict(form) for form in forms]
    assert [len(said) for said in alone] == [1] * 5
    for said in alone:
        close(said, alone[0])
    several: list[Iterable[Picture]] = [forms, tuple(forms), (form for form in forms)]
    for images in several:
        close(net.predict(images), alone[0] * 5)
    assert net.predict([]) == net.predict(iter(())) == []


def test_grey_and_alpha(net: Classifier) -> None:
    grey = pictures(1)[0][:, :, 0]
    colour = np.stack([grey] * 3, axis=2)
    opaque = np.dstack([colour, np.full_like(grey, 255)])
    expected = net.predict([colour])
    for image in (
        grey,
        opaque,
        Image.fromarray(grey),
        Image.fromarray(opaque),
        Image.fromarray(grey).convert("LA"),
        encoded(grey),
        encoded(opaque),
    ):
        close(net.predict(image), expected)
    hidden = opaque.copy()
    hidden[:, :, 3] = 0  # in a file, nothing is seen of it: white paper
    close(net.predict(encoded(hidden)), net.predict(np.full_like(colour, 255)))
    binary = np.where(grey > 127, 255, 0).astype(np.uint8)
    for mode in ("1", "P"):
        close(net.predict(Image.fromarray(binary).convert(mode)), net.predict(binary))


def test_company_does_not_matter(net: Classifier) -> None:
    count = BATCH + 30  # more than one batch
    images = pictures(count)
    said = net.predict(images)
    assert len({p.probabilities for p in said}) == count
    some = [0, 17, BATCH - 1, BATCH, count - 1]
    close([net.predict(images[row])[0] for row in some], [said[row] for row in some])
    close(net.predict(images[::-1]), said[::-1])
    close(net.predict([images[7], *[np.zeros((4, 4), np.uint8)] * 3])[:1], said[7:8])


def test_unreadable(net: Classifier, tmp_path: Path) -> None:
    one, two = pictures(2)
    cut = encoded(one)[:200]
    lazy = Image.open(io.BytesIO(cut))  # found to be damaged only when it is looked at
    bad: list[Picture] = [b"", b"junk", cut, tmp_path / "absent.png", str(tmp_path), lazy]
    said = net.predict([bad[0], one, *bad[1:], two])
    close([said[1], said[-1]], net.predict([one, two]))
    errors = [said[0], *said[2:-1]]
    assert len(errors) == len(bad)
    for p in errors:
        assert (p.label, p.confidence, p.probabilities) == ("", 0.0, ())
        assert p.error
        assert "\n" not in p.error
    assert [p.error for p in errors[:2]] == ["empty file", "not an image, or damaged at its start"]
    assert "No such file" in errors[3].error
    assert all(p.error for p in net.predict(bad))  # a batch without a single image


def test_stream_is_lazy(net: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an endless source it takes a batch at a time, and keeps no image that it is done with."""
    monkeypatch.setattr(home, "BATCH", 4)
    alive: weakref.WeakValueDictionary[int, Image.Image] = weakref.WeakValueDictionary()
    taken = 0

    def endless() -> Iterator[Image.Image]:
        nonlocal taken
        while True:
            taken += 1
            image = Image.new("RGB", (9, 9), (taken, 0, 255 - taken))
            alive[taken] = image
            yield image

    said = net.stream(endless())
    assert taken == 0
    for number in range(40):
        next(said)
        assert taken == 4 * (number // 4 + 1)
        assert len(alive) <= 8


def test_stream_keeps_order(colours: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(home, "BATCH", 3)
    paint = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}
    order = ["red", "", "blue", "", "", "", "green", "green", "red", "", "blue"]
    images = [Image.new("RGB", (8, 8), paint[name]) if name else b"junk" for name in order]
    assert [p.label for p in colours.stream(images)] == order


@pytest.mark.parametrize(("kind", "features"), [(CnnSmall, 96), (LeNet5, 84)])
def test_embed(kind: type[nn.Module], features: int) -> None:
    torch.manual_seed(0)
    net = Classifier(kind(4), ("a", "b", "c", "d"), Preprocess(16), "cpu")
    images = pictures(BATCH + 5)
    seen = net.embed(images)
    assert seen.shape == (BATCH + 5, features)
    assert seen.dtype == np.float32
    last = head(net.model)[1]
    with torch.inference_mode():
        p = torch.softmax(last(torch.from_numpy(seen)), 1).numpy()
    np.testing.assert_allclose(p, [q.probabilities for q in net.predict(images)], atol=1e-5)
    np.testing.assert_allclose(net.embed(images[-3:]), seen[-3:], atol=1e-5)
    with pytest.raises(Unreadable, match="not an image"):
        net.embed([images[0], b"junk"])
    assert not last._forward_pre_hooks  # later predictions do not pay for it


def test_model_stays_as_it_is(net: Classifier) -> None:
    """Prediction updates no statistics, and leaves a model that is in training in training."""
    assert not net.model.training
    before = {name: value.clone() for name, value in net.model.state_dict().items()}
    first = net.predict(pictures(3))
    net.model.train()
    close(net.predict(pictures(3)), first)
    assert net.model.training
    assert all(module.training for module in net.model.modules())
    net.embed(pictures(3))
    assert net.model.training
    for name, value in net.model.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize("training", [True, False])
def test_mode_is_restored(training: bool, net: Classifier) -> None:
    images = np.zeros((5, 16, 16, 3), np.uint8)
    net.model.train(training)
    assert logits(net.model, images, net.preprocess).shape == (5, 4)
    assert net.model.training is training
    with pytest.raises(RuntimeError):
        logits(net.model, images[:, :3, :3], net.preprocess)  # too small for the net
    assert net.model.training is training
    assert len(logits(net.model, images[:0], net.preprocess)) == 0


def test_an_opened_picture_is_read_as_its_bytes_are(net: Classifier) -> None:
    rng = np.random.default_rng(0)
    alpha = Image.fromarray(rng.integers(0, 256, (16, 16, 4), np.uint8))
    wide = Image.fromarray(rng.integers(0, 65536, (16, 16)).astype(np.uint16))
    for image in (alpha, wide):
        close(net.predict(image), net.predict(encoded(image)))
    close(net.predict(np.asarray(alpha)), net.predict(encoded(alpha)))
    turned = Image.fromarray(pictures(1)[0])
    exif = turned.getexif()
    exif[0x112] = 6
    file = io.BytesIO()
    turned.save(file, "PNG", exif=exif)
    close(net.predict(Image.open(file)), net.predict(file.getvalue()))


def test_embed_takes_what_predict_takes(net: Classifier, tmp_path: Path) -> None:
    image = pictures(1)[0]
    (tmp_path / "a.png").write_bytes(encoded(image))
    one = net.embed(image)
    assert one.shape == (1, 96)
    for same in (tmp_path / "a.png", str(tmp_path / "a.png"), [image], iter([image])):
        np.testing.assert_allclose(net.embed(same), one, atol=1e-5)


def test_what_is_no_picture_does_not_end_the_stream(net: Classifier) -> None:
    odd = [pictures(1)[0], np.zeros((3, 3, 3, 3), np.uint8), None, "nul\0", pictures(1)[0]]
    said = net.predict(odd)  # type: ignore[arg-type]
    assert [bool(p.error) for p in said] == [False, True, True, True, False]
