"""Features are computed once for each image and backbone, and are what the head sees."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from backbones import backbone
from rich.console import Console
from torch import Tensor, nn

from fewlabels import api
from fewlabels.models import onnx_forward as through_onnx
from fewlabels.models.onnx_forward import onnx_forward
from fewlabels.models.structure import embed
from fewlabels.pixels import cache
from fewlabels.pool import Pool
from fewlabels.pool.source import content_digest
from fewlabels.procedures import embedding
from fewlabels.procedures.config import Config
from fewlabels.procedures.embedding import embedded
from fewlabels.procedures.stage import Context
from fewlabels.training.budget import Clock
from fewlabels.training.events import Events
from fewlabels.training.folder import RunFolder

ROWS = np.arange(44)


def begun(root: Path, run: Path, **settings: Any) -> Context:
    """The context of a run on these images, before anything is computed."""
    pool = Pool.scan(root)
    asked = Config(str(root), method="linear_probe", **settings)
    started = api._start(asked, pool)
    folder = RunFolder.create(run)
    events = Events(folder, Console(quiet=True))
    return api._context(started, folder, events, Clock())


@pytest.fixture
def context(split_folders: Path, tmp_path: Path) -> Context:
    return begun(split_folders, tmp_path / "run", model=backbone(tmp_path / "model"))


class Computed:
    """The rows whose features were computed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, stop_at: int = 10**9) -> None:
        self.rows: list[int] = []
        real = embedding._compute

        def compute(context: Context, model: nn.Module, rows: list[int], *rest: Any) -> Any:
            if len(self.rows) >= stop_at:
                raise KeyboardInterrupt
            self.rows += rows
            return real(context, model, rows, *rest)

        monkeypatch.setattr(embedding, "_compute", compute)


def files() -> list[Path]:
    return sorted((cache.default_folder() / "features").rglob("*.npz"))


def test_features_are_what_the_head_sees(context: Context) -> None:
    found = embedded(context, ROWS)
    assert found.shape == (44, 96)
    assert found.dtype == np.float32
    with torch.inference_mode():
        x = context.preprocess(context.data.images[ROWS])
        expected = embed(context.model().eval(), x)
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-5)
    assert found.std(0).max() > 1e-3


def test_rows_come_in_the_order_that_they_were_asked_for(context: Context) -> None:
    every = embedded(context, ROWS)
    some = np.array([7, 3, 40, 3])
    assert np.array_equal(embedded(context, some), every[some])
    assert embedded(context, ROWS[:0]).shape[0] == 0


def test_nothing_is_computed_again(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    first = embedded(context, ROWS[:30])
    computed = Computed(monkeypatch)
    assert np.array_equal(embedded(context, ROWS[:30]), first)
    assert computed.rows == []
    embedded(context, ROWS)
    assert sorted(computed.rows) == list(range(30, 44))


def test_copies_are_computed_once(
    split_folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = next((split_folders / "unlabelled").iterdir())
    for i in range(5):
        (split_folders / "unlabelled" / f"copy-{i}.png").write_bytes(image.read_bytes())
    context = begun(split_folders, tmp_path / "run", model=backbone(tmp_path / "model"))
    computed = Computed(monkeypatch)
    found = embedded(context, np.arange(49))
    assert len(computed.rows) == 44
    digest = content_digest(image.read_bytes())
    copies = [row for row in range(49) if context.data.digest[row] == digest]
    assert len(copies) == 6
    assert (found[copies] == found[copies[0]]).all()


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "text", "other"])
def test_a_damaged_file_is_computed_again(
    context: Context, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    expected = embedded(context, ROWS)
    (file,) = files()
    whole = file.read_bytes()
    middle = len(whole) // 2
    file.write_bytes(
        {
            "empty": b"",
            "cut": whole[:-100],
            "flipped": whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :],
            "text": b"no features",
            "other": b"PK\x03\x04" + b"\0" * 100,
        }[damage]
    )
    computed = Computed(monkeypatch)
    assert np.array_equal(embedded(context, ROWS), expected)
    assert len(computed.rows) == 44
    computed.rows.clear()
    embedded(context, ROWS)
    assert computed.rows == []


def test_features_make_room_and_keep_to_the_limit(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = cache.default_folder()
    old = folder / "features" / "another backbone"
    old.mkdir(parents=True)
    (old / "part.npz").write_bytes(bytes(30_000))
    os.utime(old, (1, 1))
    pixels = sum(file.stat().st_size for file in folder.glob("*.u8"))
    part = 44 * (96 * 4 + 64 * 4)  # features, digests
    context = replace(context, data=replace(context.data, cache_limit=pixels + part + 1000))
    expected = embedded(context, ROWS)
    assert not old.exists()
    (made,) = files()
    assert part < made.stat().st_size < part + 1000
    made.unlink()
    context = replace(context, data=replace(context.data, cache_limit=pixels + part))
    assert np.array_equal(embedded(context, ROWS), expected)
    assert files() == []


def test_a_kill_half_way_keeps_the_parts(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "PART", 10)
    monkeypatch.setattr(embedding, "BATCH", 4)
    with monkeypatch.context() as patch:
        Computed(patch, stop_at=20)
        with pytest.raises(KeyboardInterrupt):
            embedded(context, ROWS)
    assert len(files()) == 2
    (files()[0].parent / ".half").write_bytes(b"half a file")  # killed while it was written
    computed = Computed(monkeypatch)
    found = embedded(context, ROWS)
    assert computed.rows == list(range(20, 44))
    monkeypatch.setenv("FEWLABELS_CACHE", str(context.folder.path / "another"))
    np.testing.assert_allclose(embedded(context, ROWS), found, rtol=1e-4, atol=1e-5)


def test_what_features_belong_to(context: Context, split_folders: Path, tmp_path: Path) -> None:
    """Another head is the same backbone; other weights, statistics, sizes or code are another."""

    def key(**changes: Any) -> str:
        other = replace(context, **changes)
        return embedding._key(other, other.model())

    def weighted(name: str) -> str:
        model = context.model()
        with torch.no_grad():
            value = model.state_dict()[name]
            value[(0,) * value.ndim] += 1
        return embedding._key(context, model)

    usual = key()
    assert weighted("fc.weight") == weighted("fc.bias") == usual
    changed = [weighted(name) for name in ("conv1.0.weight", "bn1.running_mean", "bn1.bias")]
    changed.append(key(preprocess=replace(context.preprocess, size=48)))
    changed.append(key(preprocess=replace(context.preprocess, mean=(0.4, 0.3, 0.3))))
    changed.append(key(start=replace(context.start, arguments={"act_layer": "gelu"})))
    changed.append(key(start=replace(context.start, architecture="timm:another")))
    assert len({usual, *changed}) == 1 + len(changed)
    again = begun(split_folders, tmp_path / "two", model=backbone(tmp_path / "copied"))
    assert embedding._key(again, again.model()) == usual  # wherever its folder lies
    other = begun(split_folders, tmp_path / "three", model=backbone(tmp_path / "other", seed=4))
    assert embedding._key(other, other.model()) != usual


# through ONNX Runtime


needs_onnx = pytest.mark.skipif(not through_onnx.available(), reason="the extra `export`")


@pytest.mark.slow
@needs_onnx
def test_onnx_answers_as_torch_does(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """For any number of images, and taken where it is faster."""
    embedder = embedding._Embedder(context.model().eval())
    x = context.preprocess(context.data.images[ROWS])
    with torch.inference_mode():
        expected = embedder(x).numpy()
    forward = embedding._faster(embedder, x, expected, took=1e9)
    assert forward is not None
    for count in (1, 2, 3, 44):
        np.testing.assert_allclose(forward(x[:count]), expected[:count], rtol=1e-3, atol=1e-4)
    assert embedding._faster(embedder, x, expected + 1, took=1e9) is None  # another answer
    assert embedding._faster(embedder, x, expected, took=0.0) is None  # slower

    monkeypatch.setattr(embedding, "BATCH", 10)
    monkeypatch.setattr(embedding, "WORTH", 0.0)
    monkeypatch.setattr(embedding, "_faster", lambda *_: forward)
    np.testing.assert_allclose(embedded(context, ROWS), expected, rtol=1e-3, atol=1e-4)


@needs_onnx
def test_what_has_no_graph_is_left_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    class Odd(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1) if float(x.sum()) > 0 else -x.flatten(1)

    x = torch.rand(4, 3, 8, 8)
    assert onnx_forward(Odd(), x, x.flatten(1).numpy()) is None
    seen = nn.Flatten()  # a graph that takes other images than these
    assert onnx_forward(seen, x, np.zeros((4, 5), np.float32)) is None
