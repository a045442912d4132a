"""How fast an encoded image becomes a square, on one core, and how near it is to Pillow's.

    python benchmarks/decoding.py [--seconds 1]

Ours (`fewlabels.pixels.decode.square`) beside Pillow's own decoding and antialiased resizing
(BILINEAR, reducing_gap None), beside the same with `draft` and reducing_gap 2, which is Pillow's
faster way, and beside OpenCV alone (imdecode, INTER_LINEAR, which is not antialiased, and
INTER_AREA, which is). They take turns; each time is the processor time of the best turn. The
decibels are the peak signal-to-noise ratio against Pillow's first way, `worst` the largest
difference in levels.

The photographs are scikit-learn's two, resized and saved with the quality named.
"""

import argparse
import io
import time
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_sample_images

from fewlabels.pixels.decode import square

Bytes = NDArray[np.uint8]
Way = Callable[[bytes, int], Bytes]

CASES = (  # what, its size, a JPEG's quality, the side that is asked for
    ("500x375 JPEG 75", (500, 375), 75, 224),
    ("500x375 JPEG 90", (500, 375), 90, 224),
    ("4000x3000 JPEG 90", (4000, 3000), 90, 224),
    ("100x100 JPEG 90", (100, 100), 90, 64),
    ("32x32 PNG", (32, 32), None, 32),
    ("32x32 PNG", (32, 32), None, 64),
)


def fitted(width: int, height: int, size: int) -> tuple[int, int]:
    longer = max(width, height)
    return max(1, round(width * size / longer)), max(1, round(height * size / longer))


def ours(data: bytes, size: int) -> Bytes:
    found = square(data, size)
    left, top, width, height = found.box
    return found.pixels[top : top + height, left : left + width]


def pillow(data: bytes, size: int) -> Bytes:
    image = Image.open(io.BytesIO(data)).convert("RGB")
    return np.asarray(image.resize(fitted(*image.size, size), Image.Resampling.BILINEAR))


def pillow_draft(data: bytes, size: int) -> Bytes:
    image = Image.open(io.BytesIO(data))
    shape = fitted(*image.size, size)
    image.draft("RGB", (2 * shape[0], 2 * shape[1]))
    resized = image.convert("RGB").resize(shape, Image.Resampling.BILINEAR, reducing_gap=2.0)
    return np.asarray(resized)


def opencv(how: int) -> Way:
    def way(data: bytes, size: int) -> Bytes:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        assert image is not None
        resized = cv2.resize(image, fitted(image.shape[1], image.shape[0], size), interpolation=how)
        return np.asarray(cv2.cvtColor(resized, cv2.COLOR_BGR2RGB), np.uint8)

    return way


WAYS: dict[str, Way] = {
    "ours": ours,
    "Pillow": pillow,
    "Pillow, draft": pillow_draft,
    "OpenCV, linear": opencv(cv2.INTER_LINEAR),
    "OpenCV, area": opencv(cv2.INTER_AREA),
}


def photographs(shape: tuple[int, int], quality: int | None) -> list[bytes]:
    files = []
    for pixels in load_sample_images().images:
        file = io.BytesIO()
        resized = Image.fromarray(pixels).resize(shape, Image.Resampling.BICUBIC)
        if quality:
            resized.save(file, "JPEG", quality=quality)
        else:
            resized.save(file, "PNG")
        files.append(file.getvalue())
    return files


def milliseconds(files: list[bytes], size: int, seconds: float) -> dict[str, float]:
    """An image, by way: the best of turns of about `seconds` / 10 each."""
    best: dict[str, float] = {}
    end = time.thread_time() + seconds * len(WAYS)
    while not best or time.thread_time() < end:
        for name, way in WAYS.items():
            start, done = time.thread_time(), 0
            while done == 0 or time.thread_time() - start < seconds / 10:
                for data in files:
                    way(data, size)
                done += len(files)
            took = (time.thread_time() - start) / done * 1000
            best[name] = min(took, best.get(name, took))
    return best


def apart(way: Way, files: list[bytes], size: int) -> tuple[float, int]:
    """Decibels against Pillow (infinite if equal), and the largest difference in levels."""
    pairs = [(way(data, size).astype(int), pillow(data, size).astype(int)) for data in files]
    mean = np.mean([np.mean((one - two) ** 2) for one, two in pairs])
    worst = max(int(abs(one - two).max()) for one, two in pairs)
    return float(10 * np.log10(255**2 / mean)) if mean else float("inf"), worst


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=1.0, help="for each way in each row")
    seconds = parser.parse_args().seconds
    cv2.setNumThreads(1)
    print(f"{'image -> side':26}{'way':16}{'ms':>8}{'Pillow/it':>11}{'dB':>8}{'worst':>7}")
    for name, shape, quality, size in CASES:
        files = photographs(shape, quality)
        for way in WAYS.values():  # imports and compiles what it needs
            way(files[0], size)
        took = milliseconds(files, size, seconds)
        for title, way in WAYS.items():
            decibels, worst = apart(way, files, size)
            print(
                f"{f'{name} -> {size}':26}{title:16}{took[title]:8.3f}"
                f"{took['Pillow'] / took[title]:11.2f}{decibels:8.1f}{worst:7d}"
            )


if __name__ == "__main__":
    main()
