"""Features of frozen backbones: computed once for each image, kept on disk, never again.

A file of features belongs to one backbone (its weights, its preprocessing); rows are found by the
image's content. What was computed before a kill is kept too.
"""

import hashlib
import json
import os
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fewlabels.models.built import head
from fewlabels.models.onnx_forward import available, onnx_forward
from fewlabels.models.structure import embed
from fewlabels.pixels import cache
from fewlabels.pixels.cache_folder import FEATURES, NoRoom, default_folder, room, touch
from fewlabels.procedures.prepare import Rows
from fewlabels.procedures.stage import Context

BATCH = 128
PART = 2048  # images in a file
HEADERS = 1000  # bytes of a file beside its arrays, and some more
WORTH = 15.0  # seconds of torch that make it worth to build an ONNX graph

Features = NDArray[np.float32]


def embedded(context: Context, rows: Rows) -> Features:
    """What the head of the run's model at its start sees of these images: [R, F]."""
    if not len(rows):
        return np.zeros((0, 0), np.float32)
    model = context.model().eval()
    home = default_folder() / FEATURES / _key(context, model)
    digests = [context.data.digest[row] for row in rows]
    known = _read(home, set(digests))
    touch(home)
    new = {d: int(r) for d, r in zip(digests, rows, strict=True) if d not in known}
    missing = list(new.values())
    if missing:
        with context.events.stage("features"):
            forward: Callable[[Tensor], Features] | None = None
            for start in range(0, len(missing), PART):
                part = missing[start : start + PART]
                found, forward = _compute(context, model, part, forward, start, len(missing))
                names = [context.data.digest[row] for row in part]
                _write(home, names, found, context.data.cache_limit)
                known.update(zip(names, found, strict=True))
    return np.stack([known[digest] for digest in digests])


class _Embedder(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return embed(self.model, x)


def _compute(
    context: Context,
    model: nn.Module,
    rows: list[int],
    forward: Callable[[Tensor], Features] | None,
    done: int,
    total: int,
) -> tuple[Features, Callable[[Tensor], Features]]:
    """Features of `rows`; and the faster way to compute more, once it has been found out."""
    device = context.fabric.device
    embedder = _Embedder(model)

    @torch.inference_mode()
    def with_torch(x: Tensor) -> Features:
        x = x.to(device, memory_format=context.config.memory_format)
        features: Features = embedder(x).float().cpu().numpy()
        return features

    found = []
    for start in range(0, len(rows), BATCH):
        x = context.preprocess(context.data.images[rows[start : start + BATCH]])
        began = time.monotonic()
        features = (forward or with_torch)(x)
        took = time.monotonic() - began
        found.append(features)
        context.events.count(done + start + len(x), total)
        left = (total - done - start - len(x)) * took / len(x)
        if forward is None and start:  # the first batch pays for set-up
            forward = with_torch
            if left > WORTH and device.type == "cpu" and available():
                forward = _faster(embedder, x, features, took) or with_torch
    return np.concatenate(found), forward or with_torch


def _faster(
    embedder: nn.Module, x: Tensor, features: Features, took: float
) -> Callable[[Tensor], Features] | None:
    forward = onnx_forward(embedder, x, features)
    if forward is None:
        return None
    began = time.monotonic()
    forward(x)
    return forward if time.monotonic() - began < took else None


def _key(context: Context, model: nn.Module) -> str:
    """Names the backbone: its architecture, its weights but for the head, its preprocessing."""
    top = f"{head(model)[0]}."
    about = [
        *(cache.VERSION, context.start.architecture, context.start.arguments),
        context.preprocess.to_json(),
    ]
    digest = hashlib.blake2b(json.dumps(about, sort_keys=True).encode(), digest_size=16)
    for name, value in model.state_dict().items():
        if not name.startswith(top):
            digest.update(name.encode())
            digest.update(value.cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _read(home: Path, wanted: set[str]) -> dict[str, Features]:
    """The features of those images that are kept; parts without any of them are not read."""
    known: dict[str, Features] = {}
    for file in home.glob("*.npz"):
        try:
            with np.load(file) as part:
                digests = part["digest"].tolist()
                if not wanted.isdisjoint(digests):
                    known.update(zip(digests, part["features"], strict=True))
        except Exception:  # damaged, each in its own way: it is computed again
            continue
    return known


def _write(home: Path, digests: list[str], features: Features, limit: int | None) -> None:
    """A part more, if the cache folder has room for it."""
    fresh, names = home / f".{uuid.uuid4().hex}", np.array(digests)
    try:
        held = sum(part.stat().st_size for part in home.glob("*"))
        needed = held + features.nbytes + names.nbytes + HEADERS
        with room(default_folder(), home, needed, limit):
            home.mkdir(parents=True, exist_ok=True)
            with fresh.open("wb") as file:
                np.savez(file, digest=names, features=features)
            os.replace(fresh, home / f"{uuid.uuid4().hex}.npz")
    except (NoRoom, OSError):  # a folder that is full, or not ours: a later run computes them again
        with suppress(OSError):
            fresh.unlink(missing_ok=True)
