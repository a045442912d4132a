"""Are planted duplicates found, and is nothing else?

    python benchmarks/duplicates.py DATA [--each 200] [--sheet pairs.png] [--scale]

Of random training images of DATA (a folder with splits, such as CIFAR-10 in Parquet) changed copies
are added to the test images, some of each kind, and `check` looks through all of it. Prints the
share that is found, by kind; the seconds, reading included; and how many images of DATA itself it
pairs, which are true near duplicates of DATA or false alarms: pairs with different labels are
nearly always false, and --sheet draws a random sample for the eye. --scale times the comparison of
all pairs at 1,000,000.
"""

import argparse
import io
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw, ImageEnhance

from fewlabels.curate.check import Checked, check
from fewlabels.pixels import perceptual
from fewlabels.pixels.decode import decode
from fewlabels.pool import Pool
from fewlabels.pool.source import Encoded, Joined

Picture = Image.Image
Change = Callable[[Picture, Generator], Picture]


def png(picture: Picture) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def jpeg(quality: int) -> Change:
    def change(picture: Picture, rng: Generator) -> Picture:
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=quality)
        return Image.open(io.BytesIO(file.getvalue()))

    return change


def resized(factor: float) -> Change:
    return lambda picture, rng: picture.resize(
        (round(picture.width * factor), round(picture.height * factor)), Image.Resampling.BICUBIC
    )


def cropped(picture: Picture, rng: Generator) -> Picture:
    """95 % of width and height, anywhere, as large as before."""
    width, height = picture.size
    left, top = rng.random(2) * 0.05
    box = (left * width, top * height, (left + 0.95) * width, (top + 0.95) * height)
    return picture.resize(picture.size, Image.Resampling.BICUBIC, box=box)


def mirrored(picture: Picture, rng: Generator) -> Picture:
    return picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


CHANGES: dict[str, Change] = {
    "none (PNG)": lambda picture, rng: picture,
    "JPEG, quality 95": jpeg(95),
    "JPEG, quality 75": jpeg(75),
    "JPEG, quality 50": jpeg(50),
    "JPEG, quality 30": jpeg(30),
    "half the size": resized(0.5),
    "double the size": resized(2),
    "cropped by 5 %": cropped,
    "brighter by 30 %": lambda picture, rng: ImageEnhance.Brightness(picture).enhance(1.3),
    "darker by 30 %": lambda picture, rng: ImageEnhance.Brightness(picture).enhance(0.7),
    "60 % of the contrast": lambda picture, rng: ImageEnhance.Contrast(picture).enhance(0.6),
    "mirrored": mirrored,
    "grey": lambda picture, rng: picture.convert("L"),
    "mirrored, cropped, JPEG 75": lambda picture, rng: jpeg(75)(
        cropped(mirrored(picture, rng), rng), rng
    ),
}


def planted(pool: Pool, each: int, rng: Generator) -> tuple[Pool, dict[str, list[tuple[str, str]]]]:
    """The pool with copies among its test images; and by kind the names of original and copy."""
    train = np.flatnonzero(np.isin(pool.split, ("train", "")) & (pool.label >= 0))
    names, blobs, label = [], [], []
    told: dict[str, list[tuple[str, str]]] = {}
    for kind, change in CHANGES.items():
        for row in rng.choice(train, each, replace=False).tolist():
            copy = change(decode(pool.source.read(row)), rng)
            names.append(f"planted/{kind}/{row}.png")
            # a copy of a JPEG keeps its pixels: decoding it once is the change
            blobs.append(png(copy))
            label.append(int(pool.label[row]))
            told.setdefault(kind, []).append((pool.source.name(row), names[-1]))
    return replace(
        pool,
        source=Joined(pool.source, Encoded(tuple(names), tuple(blobs))),
        label=np.concatenate([pool.label, label]),
        split=np.concatenate([pool.split, np.full(len(names), "test", pool.split.dtype)]),
        group=None,
    ), told


def together(checked: Checked) -> dict[str, int]:
    """{name: number of the group}, of exact and of near duplicates, the latter where both."""
    groups = [*checked.duplicates, *checked.near.duplicates]
    return {name: number for number, group in enumerate(groups) for name in group}


def sheet(pool: Pool, groups: list[tuple[str, ...]], target: str, side: int = 96) -> None:
    """The first two of each group, side by side."""
    row = {pool.source.name(i): i for i in range(len(pool))}
    across = 5
    down = -(-len(groups) // across)
    drawn = Image.new("RGB", (across * (2 * side + 16), down * (side + 18)), "white")
    text = ImageDraw.Draw(drawn)
    for i, group in enumerate(groups):
        x, y = i % across * (2 * side + 16), i // across * (side + 18)
        for k, name in enumerate(group[:2]):
            picture = decode(pool.source.read(row[name])).resize((side, side))
            drawn.paste(picture, (x + k * (side + 1), y))
        labels = " / ".join(pool.classes[pool.label[row[name]]] for name in group[:2])
        text.text((x, y + side + 2), labels, "black")
    drawn.save(target)


def scale(count: int = 1_000_000) -> None:
    """Seconds to compare all pairs of `count` pictures, from a hundredth of them; one core."""
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**64, count, np.uint64)
    waves = rng.standard_normal((count, 64)).astype(np.float32)
    waves /= np.linalg.norm(waves, axis=1, keepdims=True)
    perceptual._candidates(hashes[:64], waves[:64], 0, 64, True)
    begin = time.perf_counter()
    rows = range(0, count, count // 50)
    for row in rows:
        perceptual._candidates(hashes, waves, row, row + 1, True)
    seconds = (time.perf_counter() - begin) / len(rows) * count
    print(f"all pairs of {count:,}, both ways: {seconds:,.0f} s on one core")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--each", type=int, default=200)
    parser.add_argument("--sheet")
    parser.add_argument("--scale", action="store_true")
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    perceptual.pairs(rng.integers(0, 256, (100, 32, 32), np.uint8))  # compiled before
    own = Pool.scan(given.data, to_train=False)
    pool, told = planted(own, given.each, rng)
    begin = time.perf_counter()
    checked, _ = check(pool)
    seconds = time.perf_counter() - begin
    group = together(checked)
    print(f"{len(pool):,} images in {seconds:.1f} s, reading included\n")
    print("| change | found, of " + f"{given.each} |\n|---|---|")
    for kind, pairs in told.items():
        found = sum(a in group and group[a] == group.get(b) for a, b in pairs)
        print(f"| {kind} | {100 * found / len(pairs):.1f} % |")
    checked, _ = check(own)
    near = checked.near
    images = sum(map(len, near.duplicates))
    other = {copy.name for found in near.contradictions for copy in found}
    print(
        f"\n{given.data} itself: {len(near.duplicates):,} groups of near duplicates hold "
        f"{images:,} of {len(own):,} images ({100 * images / len(own):.2f} %), the largest "
        f"{max(map(len, near.duplicates), default=0)};\ngroups with several labels hold "
        f"{len(other)} images ({100 * len(other) / len(own):.3f} %); images with one in another "
        f"split: {checked.leaking}"
    )
    if given.sheet:
        chosen = rng.permutation(len(near.duplicates))[:60]
        sheet(own, [near.duplicates[i] for i in chosen], given.sheet)
    if given.scale:
        scale()


if __name__ == "__main__":
    main()
