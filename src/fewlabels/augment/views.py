"""Views: what a policy makes of images, as a batch for the model or as pictures."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fewlabels.augment.kernel import Workspace, render, workspace
from fewlabels.augment.operations import WARP
from fewlabels.augment.points import through_points
from fewlabels.augment.policy import Policy
from fewlabels.augment.sampler import Program, sample
from fewlabels.pixels.decoded import Pixels
from fewlabels.pixels.preprocess import Preprocess

_OF_THREAD = threading.local()


@dataclass(frozen=True)
class Augmenter:
    """Renders views of images [N, H, W, 3] (uint8) at the size and with the mean of `preprocess`.

    `fill` is the colour [3] beyond the edge of an image and in a cutout, in 0..255. `threads` share
    the work of a batch; what comes out does not depend on their number. `box` [N, 4] is where the
    picture lies in each image: left, top, width, height in pixels (None: it is the whole image).
    """

    images: Pixels
    preprocess: Preprocess
    fill: NDArray[np.float64]
    seed: int
    threads: int = 1
    box: NDArray[np.int64] | None = None

    def __call__(
        self,
        policy: Policy,
        rows: NDArray[np.int64],
        epoch: NDArray[np.int64],
        view: int,
        out: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """View number `view` of images[rows] in their `epoch`: float32 [B, 3, S, S].

        `out`, contiguous or in channels-last memory, is written instead of a new tensor.
        """
        size = self.preprocess.size
        inside = None if self.box is None else _middle(self.box[rows], *self.images.shape[1:3])
        program = sample(policy, self.seed, epoch, rows, view, size, size, inside)
        if out is None:
            out = torch.empty((len(rows), 3, size, size), dtype=torch.float32)
        planar = out.is_contiguous()
        memory = out if planar else out.permute(0, 2, 3, 1)
        if out.shape != (len(rows), 3, size, size) or not memory.is_contiguous():
            raise ValueError(f"out: {tuple(out.shape)}, strides {out.stride()}")
        mean, std = (np.array(v) * 255 for v in (self.preprocess.mean, self.preprocess.std))
        images, places = self.images, rows
        if not isinstance(images, np.ndarray):  # decoded now; the draws are those of its rows
            images, places = images[rows], np.arange(len(rows))
        execute(
            images, places, program, policy.nearest, self.fill, mean, std,
            memory.numpy(), planar, self.threads,
        )  # fmt: skip
        return out


def execute(
    images: NDArray[np.uint8],
    rows: NDArray[np.int64],
    program: Program,
    nearest: bool,
    fill: NDArray[np.float64],
    mean: NDArray[np.float64],
    std: NDArray[np.float64],
    out: NDArray[Any],
    planar: bool,
    threads: int = 1,
) -> None:
    """Executes a program on images[rows] of [N, H, W, 3] and writes (level - mean) / std to `out`.

    `out`, contiguous, is [B, 3, h, w] if `planar`, else [B, h, w, 3]; float32 or, with mean 0 and
    std 1, uint8. fill, mean and std are [3], in 0..255; the fill is rounded to whole levels.
    """
    (height, width), (h, w) = images.shape[1:3], out.shape[2:] if planar else out.shape[1:3]
    # numba knows arrays, not memory maps, and compiles once for those that are read-only
    flat = np.asarray(images).reshape(len(images), -1).view()
    flat.flags.writeable = False
    colours = _colours(tuple(fill), tuple(mean), tuple(std), out.dtype.name)

    def part(chosen: slice) -> None:
        render(
            flat, height, width, rows[chosen], program.code[chosen], program.operand[chosen],
            nearest, *colours, _workspace(height, width, w),
            out[chosen].reshape(-1), h, w, planar,
        )  # fmt: skip

    chunks = list(_chunks(len(rows), threads))
    if len(chunks) == 1:
        part(chunks[0])
    else:
        list(_pool(threads).map(part, chunks))


def _middle(box: NDArray[np.int64], height: int, width: int) -> NDArray[np.float64]:
    """How much of width and height [B, 2] the largest part in the middle takes that no view of
    shows anything but the picture in `box` [B, 4].

    Between two pixels the kernel blends them: so along an axis with padding it ends in the middle
    of the outermost pixels. In the middle: it then holds for mirrored images too. (A picture that
    is a single pixel across, beside the middle of its square, has no such part.)
    """
    sides = np.array([width, height])
    start, end = box[:, :2], box[:, :2] + box[:, 2:]
    reach = np.minimum(sides / 2 - start, end - sides / 2)
    padded = 2 * reach < sides
    part: NDArray[np.float64] = np.maximum(2 * reach - padded, 1e-6) / sides
    return part


@lru_cache(maxsize=16)
def _colours(
    fill: tuple[float, ...], mean: tuple[float, ...], std: tuple[float, ...], dtype: str
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32], NDArray[Any]]:
    """What `render` needs to know of colours: fill, scale, bias and look."""
    m, s = np.array(mean), np.array(std)
    look = ((np.arange(256) - m[:, None]) * (1.0 / s[:, None])).astype(dtype).ravel()
    scale, bias = (1.0 / s).astype(np.float32), (-m / s).astype(np.float32)
    if dtype == "uint8":
        bias += np.float32(0.5)  # the kernel cuts off the fraction
    colour = np.clip(np.floor(np.array(fill) + 0.5), 0, 255).astype(np.uint8)
    return colour, scale, bias, look


def picture(
    image: NDArray[np.uint8],
    policy: Policy,
    seed: int = 0,
    number: int = 0,
    fill: tuple[float, float, float] = (128, 128, 128),
) -> NDArray[np.uint8]:
    """The view `number` of one image [H, W, 3] of any size, as a picture of the same size."""
    first = np.zeros(1, np.int64)
    program = sample(policy, seed, first, first, number, *image.shape[:2])
    return _one(image, program, policy.nearest, fill)


def warp(
    image: NDArray[np.uint8],
    source: NDArray[np.float64],
    target: NDArray[np.float64],
    nearest: bool = False,
    fill: tuple[float, float, float] = (128, 128, 128),
) -> NDArray[np.uint8]:
    """The image [H, W, 3] with the points `source` moved to `target`: [3, 2] affine, [4, 2] in
    perspective. Points are (x, y) in pixels; (0, 0) is the centre of the upper left one.

    ValueError for points that no such map joins.
    """
    sides = np.array(image.shape[1::-1], np.float64)
    there, here = ((np.asarray(p) - (sides - 1) / 2) / sides for p in (source, target))
    code = np.array([[WARP]], np.int16)
    operand = through_points(here, there).reshape(1, 1, 9)[:, :, :8].astype(np.float32)
    return _one(image, Program(code, operand), nearest, fill)


def _one(
    image: NDArray[np.uint8], program: Program, nearest: bool, fill: tuple[float, float, float]
) -> NDArray[np.uint8]:
    # of the type that training compiles the kernel for anyway
    out = np.empty((1, *image.shape), np.float32)
    images, first = np.ascontiguousarray(image)[None], np.zeros(1, np.int64)
    zero, one = np.zeros(3), np.ones(3)
    execute(images, first, program, nearest, np.array(fill), zero, one, out, planar=False)
    result: NDArray[np.uint8] = np.floor(out[0] + 0.5).astype(np.uint8)
    return result


def _chunks(count: int, threads: int) -> Iterator[slice]:
    """Equal parts of a batch, one or more for each thread."""
    size = max(1, -(-count // threads))
    yield from (slice(start, start + size) for start in range(0, max(1, count), size))


@lru_cache(maxsize=2)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "fewlabels-views")


def _workspace(height: int, width: int, columns: int) -> Workspace:
    """This thread's, of the size it worked on last."""
    key = (height, width, columns)
    if getattr(_OF_THREAD, "key", None) != key:
        _OF_THREAD.key, _OF_THREAD.work = key, workspace(*key)
    work: Workspace = _OF_THREAD.work
    return work


def compiled() -> bool:
    """Whether an earlier process has compiled the kernel and kept the result."""
    return any(Path(render.stats.cache_path).glob("kernel.render-*.nbi"))


def compile_kernel() -> None:
    """Compiles the kernel, or loads what an earlier process compiled."""
    nothing = Augmenter(np.zeros((1, 8, 8, 3), np.uint8), Preprocess(8), np.zeros(3), 0)
    nothing(Policy(), np.zeros(1, np.int64), np.zeros(1, np.int64), 0)
