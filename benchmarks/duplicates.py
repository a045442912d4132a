"""Are planted duplicates found, and is nothing else?

    python benchmarks/duplicates.py DATA [--each 200] [--sheet pairs.png]
    python benchmarks/duplicates.py DATA --labels 2000 [--of 20000]
    python benchmarks/duplicates.py DATA --weights mobilenetv2.safetensors [--of 5000] [--each 50]
    python benchmarks/duplicates.py DATA --scale

Of random training images of DATA (a folder with splits, such as CIFAR-10 in Parquet) changed copies
are added to the test images, some of each kind, and `check` looks through all of it. Prints the
share that is found, by kind; the seconds, reading included; and how many images of DATA itself it
pairs, which are true near duplicates of DATA or false alarms: pairs with different labels are
nearly always false, and --sheet draws a random sample for the eye. --scale times the comparison at
1,000,000 pictures.

--labels: the same of what `train` keeps on one side, where so many of the training images have a
label. --weights: beside ours, and with changes that ours is not made for, the cosine similarity of
the features of MobileNetV2 at 224 pixels. Its threshold is set where one random image in 200, or in
2,000, is paired with another. Images that ours pairs are left out of these: they are duplicates.
"""

import argparse
import io
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageEnhance

from fewlabels.curate.check import Checked, check
from fewlabels.pixels import cache, perceptual
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


def cropped(by: float) -> Change:
    """What is left of width and height, anywhere, as large as before."""

    def change(picture: Picture, rng: Generator) -> Picture:
        width, height = picture.size
        left, top = rng.random(2) * by
        box = (left * width, top * height, (left + 1 - by) * width, (top + 1 - by) * height)
        return picture.resize(picture.size, Image.Resampling.BICUBIC, box=box)

    return change


def rotated(degrees: float) -> Change:
    """Without the corners that were not in the picture."""

    def change(picture: Picture, rng: Generator) -> Picture:
        width, height = picture.size
        angle = np.radians(degrees)
        by = (1 - 1 / (np.cos(angle) + np.sin(angle))) / 2
        box = (by * width, by * height, (1 - by) * width, (1 - by) * height)
        turned = picture.rotate(degrees, Image.Resampling.BICUBIC)
        return turned.resize(picture.size, Image.Resampling.BICUBIC, box=box)

    return change


def captioned(picture: Picture, rng: Generator) -> Picture:
    """A band of white over the lowest eighth."""
    drawn = picture.convert("RGB")
    width, height = drawn.size
    drawn.paste((255, 255, 255), (0, height - height // 8, width, height))
    return drawn


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
    "cropped by 5 %": cropped(0.05),
    "brighter by 30 %": lambda picture, rng: ImageEnhance.Brightness(picture).enhance(1.3),
    "darker by 30 %": lambda picture, rng: ImageEnhance.Brightness(picture).enhance(0.7),
    "60 % of the contrast": lambda picture, rng: ImageEnhance.Contrast(picture).enhance(0.6),
    "mirrored": mirrored,
    "grey": lambda picture, rng: picture.convert("L"),
    "mirrored, cropped, JPEG 75": lambda picture, rng: jpeg(75)(
        cropped(0.05)(mirrored(picture, rng), rng), rng
    ),
}
FURTHER: dict[str, Change] = {
    "cropped by 10 %": cropped(0.1),
    "cropped by 15 %": cropped(0.15),
    "cropped by 25 %": cropped(0.25),
    "cropped by 40 %": cropped(0.4),
    "rotated by 2 degrees": rotated(2),
    "rotated by 5 degrees": rotated(5),
    "rotated by 10 degrees": rotated(10),
    "a white band over an eighth": captioned,
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
        source=Joined((pool.source, Encoded(tuple(names), tuple(blobs)))),
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


def tied(own: Pool, labels: int, of: int, each: int, rng: Generator) -> None:
    """What `train` keeps on one side, of `of` images with few labels and copies in the test."""
    from fewlabels.procedures.near_duplicates import near_duplicates

    rows = rng.permutation(np.flatnonzero(np.isin(own.split, ("train", "")) & (own.label >= 0)))
    whole, told = planted(own.take(np.sort(rows[:of])), each, rng)
    train = np.flatnonzero(whole.split != "test")
    nameless = np.zeros(len(whole), np.bool_)
    nameless[rng.permutation(train)[labels:]] = True
    pool = whole.without_labels(nameless)
    pixels = cache.build(pool.source, cache.fingerprint(pool.source), 64)
    begin = time.perf_counter()
    near = near_duplicates(pool, pixels)
    seconds = time.perf_counter() - begin
    print(f"{len(pool):,} images, {labels:,} labelled ones in training, and the copies in test:")
    print(f"{seconds:.1f} s on top of decoding; {'; '.join(near.notes) or 'no notes'}\n")
    at = {whole.source.name(row): near.known[row] for row in range(len(whole))}
    print(f"| change | tied, of {each} |\n|---|---|")
    for kind, pairs in told.items():
        print(f"| {kind} | {100 * np.mean([at[a] == at[b] for a, b in pairs]):.1f} % |")
    first = near.known
    other = first != np.arange(len(first))
    wrong = whole.label[first] != whole.label
    print(f"\n{other.sum():,} images are tied to another, {(other & wrong).sum()} of another label")


def embedded(pictures: list[Picture], weights: str) -> NDArray[np.float32]:
    """Pooled features of MobileNetV2 at length 1, [N, 1280]."""
    import torch

    from fewlabels.models import catalog
    from fewlabels.models.onnx_forward import onnx_forward

    def seen(some: list[Picture]) -> torch.Tensor:
        pixels = [np.asarray(picture.convert("RGB").resize((224, 224))) for picture in some]
        return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2) / 127.5 - 1

    model = catalog.build("mobilenetv2_100", None, weights).model.eval()
    model.reset_classifier(0)
    x = seen(pictures[:32])
    with torch.inference_mode():
        forward = onnx_forward(model, x, model(x).numpy())
    assert forward is not None
    parts = [pictures[start : start + 32] for start in range(0, len(pictures), 32)]
    features = np.concatenate([forward(seen(part)) for part in parts])
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def beside_embeddings(own: Pool, weights: str, of: int, each: int, rng: Generator) -> None:
    """Recall of ours, and of the cosine similarity of embeddings, by kind of change."""
    train = np.flatnonzero(own.split == "train")
    rows = rng.choice(train, of, replace=False).tolist()
    pictures = [decode(own.source.read(row)) for row in rows]
    told: list[tuple[str, int]] = []
    for kind, change in (CHANGES | FURTHER).items():
        for number in rng.choice(of, each, replace=False).tolist():
            told.append((kind, number))
            pictures.append(change(pictures[number], rng))
    begin = time.perf_counter()
    grey = np.stack([perceptual.small(picture) for picture in pictures])
    ours = perceptual.clusters(len(grey), perceptual.pairs(grey).pairs)
    print(f"ours: {time.perf_counter() - begin:.1f} s")
    begin = time.perf_counter()
    features = embedded(pictures, weights)
    print(f"embeddings: {time.perf_counter() - begin:.1f} s")
    alone = np.flatnonzero(np.bincount(ours[:of], minlength=len(grey))[ours[:of]] == 1)
    alike = features[alone] @ features[alone].T
    np.fill_diagonal(alike, -1)
    nearest = np.sort(alike.max(1))[::-1]
    limits = {part: nearest[int(part * len(nearest))] for part in (0.005, 0.0005)}
    print(f"{of - len(alone)} of {of} are paired by ours; thresholds {limits}\n")
    print(f"| change, {each} of each | ours | embeddings, 0.5 % | 0.05 % |\n|---|---|---|---|")
    for kind in CHANGES | FURTHER:
        which = [(of + i, number) for i, (k, number) in enumerate(told) if k == kind]
        cells = [np.mean([ours[a] == ours[b] for a, b in which])]
        cosine = np.array([features[a] @ features[b] for a, b in which])
        cells += [np.mean(cosine > limit) for limit in limits.values()]
        print(f"| {kind} | {' | '.join(f'{100 * cell:.0f} %' for cell in cells)} |")


def scale(count: int = 1_000_000, anchors: int = 10_000) -> None:
    """Seconds to compare all pairs of `count` pictures, and `anchors` with all; from a part of
    them, on one core."""
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**64, count, np.uint64)
    waves = rng.standard_normal((count, 64)).astype(np.float32)
    waves /= np.linalg.norm(waves, axis=1, keepdims=True)
    perceptual._candidates(hashes[:64], waves[:64], 0, 64, True, 0.65)
    begin = time.perf_counter()
    rows = range(0, count, count // 50)
    for row in rows:
        perceptual._candidates(hashes, waves, row, row + 1, True, 0.65)
    seconds = (time.perf_counter() - begin) / len(rows)
    print(f"all pairs of {count:,}, both ways: {seconds * count:,.0f} s on one core")
    begin = time.perf_counter()
    perceptual._candidates(hashes, waves, 0, anchors // 20, True, 0.65)
    seconds = 20 * (time.perf_counter() - begin)
    print(f"{anchors:,} with all of them: {seconds:,.0f} s on one core")


def looked_through(own: Pool, data: str, each: int, picture: str | None, rng: Generator) -> None:
    """What `check` finds of planted copies, and in DATA itself."""
    pool, told = planted(own, each, rng)
    begin = time.perf_counter()
    checked, _ = check(pool)
    seconds = time.perf_counter() - begin
    group = together(checked)
    print(f"{len(pool):,} images in {seconds:.1f} s, reading included\n")
    print(f"| change | found, of {each} |\n|---|---|")
    for kind, pairs in told.items():
        found = sum(a in group and group[a] == group.get(b) for a, b in pairs)
        print(f"| {kind} | {100 * found / len(pairs):.1f} % |")
    checked, _ = check(own)
    near = checked.near
    images = sum(map(len, near.duplicates))
    other = {copy.name for found in near.contradictions for copy in found}
    print(
        f"\n{data} itself: {len(near.duplicates):,} groups of near duplicates hold "
        f"{images:,} of {len(own):,} images ({100 * images / len(own):.2f} %), the largest "
        f"{max(map(len, near.duplicates), default=0)};\ngroups with several labels hold "
        f"{len(other)} images ({100 * len(other) / len(own):.3f} %); images with one in another "
        f"split: {checked.leaking}"
    )
    if picture:
        chosen = rng.permutation(len(near.duplicates))[:60]
        sheet(own, [near.duplicates[i] for i in chosen], picture)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--each", type=int, default=200)
    parser.add_argument("--labels", type=int)
    parser.add_argument("--of", type=int, default=20_000)
    parser.add_argument("--weights")
    parser.add_argument("--sheet")
    parser.add_argument("--scale", action="store_true")
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    perceptual.pairs(rng.integers(0, 256, (100, 32, 32), np.uint8))  # compiled before
    own = Pool.scan(given.data, to_train=False)
    if given.scale:
        scale()
    elif given.weights:
        beside_embeddings(own, given.weights, given.of, given.each, rng)
    elif given.labels is not None:
        tied(own, given.labels, given.of, given.each, rng)
    else:
        looked_through(own, given.data, given.each, given.sheet, rng)


if __name__ == "__main__":
    main()
