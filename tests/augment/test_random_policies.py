"""Random policies on images of random sizes: nothing but the image is looked at, and all of it.

What the kernel works with lies amid bytes that are 0 in one run and 255 in another: the results of
both must be the same, and the bytes stay. So the kernel neither writes beyond its arrays, nor does
what it reads there, or before it has written there, reach the result.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from rendering import Bytes, random_policy

from fewlabels.augment import views
from fewlabels.augment.kernel import Workspace, workspace
from fewlabels.augment.policy import Policy
from fewlabels.augment.sampler import Program, sample

AMID = 1 << 14  # bytes on either side
Size = tuple[int, int]


def amid(size: int, byte: int) -> tuple[Bytes, Bytes]:
    """An array of so many bytes, all `byte`, and the larger one in the middle of which it lies."""
    whole = np.full(size + 2 * AMID, byte, np.uint8)
    return whole[AMID : AMID + size], whole


def guarded(height: int, width: int, columns: int, byte: int) -> tuple[Workspace, list[Bytes]]:
    """A workspace in arrays from `amid`, and these."""
    work, wholes = workspace(height, width, columns), []
    for name, array in work._asdict().items():
        if not name.endswith("_read"):
            inner, whole = amid(array.nbytes, byte)
            wholes.append(whole)
            work = work._replace(**{name: inner.view(array.dtype).reshape(array.shape)})
    one, two = work.one.view(), work.two.view()
    one.flags.writeable = two.flags.writeable = False
    return work._replace(one_read=one, two_read=two), wholes


def made(
    image: Bytes, program: Program, nearest: bool, size: Size, kind: type, planar: bool, byte: int,
    monkeypatch: pytest.MonkeyPatch,
) -> NDArray[np.float64]:  # fmt: skip
    """The view [h, w, 3] amid `byte`."""
    (height, width), (h, w) = image.shape[:2], size
    work, wholes = guarded(height, width, w, byte)
    monkeypatch.setattr(views, "_workspace", lambda *_: work)
    inner, whole = amid(image.size, byte)
    inner[:] = image.ravel()
    target, around = amid(h * w * 3 * np.dtype(kind).itemsize, byte)
    out: NDArray[Any] = target.view(kind).reshape((1, 3, h, w) if planar else (1, h, w, 3))
    fill, zero, one = np.array([250.0, 3.0, 128.0]), np.zeros(3), np.ones(3)
    rows = np.zeros(1, np.int64)
    views.execute(
        inner.reshape(1, *image.shape), rows, program, nearest, fill, zero, one, out, planar
    )
    assert (inner == image.ravel()).all()
    for array in (*wholes, whole, around):
        assert (array[:AMID] == byte).all()
        assert (array[-AMID:] == byte).all()
    levels: NDArray[np.float64] = (out[0].transpose(1, 2, 0) if planar else out[0]).astype(float)
    return levels


def random_size(rng: np.random.Generator) -> Size:
    """From 1 x 1 to 1000 x 37 or 37 x 1000, small ones as often as large."""
    long, short = int(1001 ** rng.random()), int(38 ** rng.random())
    return (long, short) if rng.random() < 0.5 else (short, long)


# beyond what doubles hold: no number comes of these
TOO_FAR = ["+".join(["scale(0.05)"] * 240), "+".join(["shear_x(360)+shear_y(-360)"] * 70)]
CASES: list[tuple[int, str | None, Size | None]] = [(seed, None, None) for seed in range(120)]
CASES += [(seed, None, size) for seed in range(3) for size in ((1, 1), (1000, 37), (37, 1000))]
CASES += [(0, text, None) for far in TOO_FAR for text in (far, f"nearest+{far}", f"elastic+{far}")]


@pytest.mark.parametrize(("seed", "text", "size"), CASES)
def test_random_policy(
    seed: int, text: str | None, size: Size | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng((seed, 7))
    policy = Policy.parse(text or random_policy(rng))
    source = size or random_size(rng)
    result = source if seed % 2 else random_size(rng)
    image = rng.integers(0, 256, (*source, 3), np.uint8)
    zero = np.zeros(1, np.int64)
    program = sample(policy, seed, zero, zero, 0, *result)
    assert np.isfinite(program.operand).all()

    def view(kind: type, planar: bool, byte: int) -> NDArray[np.float64]:
        return made(image, program, policy.nearest, result, kind, planar, byte, monkeypatch)

    levels = view(np.float32, True, 255)  # begun as NaN
    assert np.isfinite(levels).all()
    assert levels.min() >= 0
    assert levels.max() <= 255
    assert (view(np.float32, True, 0) == levels).all()
    assert (view(np.float32, False, 255) == levels).all()
    rounded = np.floor(levels + 0.5)
    assert (view(np.uint8, False, 0) == rounded).all()
    assert (view(np.uint8, True, 255) == rounded).all()
    if policy.nearest:
        assert (levels == rounded).all()


@pytest.mark.slow
def test_no_index_is_out_of_bounds(tmp_path: Path) -> None:
    """The kernel compiled with a check of every index, half a minute, runs these tests and more."""
    here = Path(__file__).parent
    files = [here / f"test_{name}.py" for name in ("random_policies", "kernel", "colours", "views")]
    environment = {"NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-m", "not slow", "-p", "no:cacheprovider", *files],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
