"""How fast views are made, beside torchvision, timm, albumentations and kornia, in one run.

    make bench
    python benchmarks/augmentation.py [--seconds 1] [--rounds 5] [--json]

Two tables, each at 32 and at 224 pixels. What counts are the four ratios at the end; --json puts
them into the last line: kernel_ratio_32, kernel_ratio_224, pairs_ratio_32, pairs_ratio_224.

Kernel: one core makes strong views: flip, crop with padding, two random operations, cutout,
normalised float32. Everybody starts from decoded images, in the form that suits him best, and fills
the same batch of 64 again and again, so that nobody pays for fresh memory. The ratio is ours over
the fastest peer that treats each image by itself. kornia draws its operations once for a whole
batch, so it is shown and does not count.

The two operations are RandAugment's, with each library's own interpolation: bilinear for us and
albumentations; nearest, which is less work, for torchvision; bilinear or bicubic for timm. timm's
are always applied (p1), where its default is every other time. albumentations has no RandAugment:
SomeOf picks two from the same list.

Pairs: (weak, strong) views of files on disk, two worker processes or threads, batches of 64. The
ratio is ours over a torchvision + PIL DataLoader, which decodes a file each time it needs it. The
row between has the DataLoader take decoded images from memory: what it gains over decoding is what
a cache is worth, what ours gains over it is what the kernel and its threads are worth. We build
our cache beforehand, once, and reuse the memory of batches, as training does.

All take turns, each for the same time in every round, so that a passing disturbance hurts all. A
rate is the median over the rounds, by the wall clock; a ratio is one of medians. Starting is not
timed. Only a free machine gives ratios to quote: other programs slow worker processes and threads
by different factors (seen on pairs at 32 px: 30x on two free cores, 41x on two busy ones). In the
first table, `cores` well below 1 tells that it was not free.
"""

import argparse
import importlib
import importlib.metadata
import itertools
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import DataLoader, Dataset, RandomSampler

from fewlabels.augment.policy import Policy
from fewlabels.augment.views import Augmenter, compile_kernel
from fewlabels.pixels import cache, decoded
from fewlabels.pixels.loader import Stream, prefetch
from fewlabels.pixels.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from fewlabels.pool.source import Files
from fewlabels.torchvision_repair import repair

repair()  # here, not in main(): worker processes may import this file before torchvision

OPTIONAL = ("albumentations", "kornia")
BATCH, WORKERS = 64, 2
WEAK = "flip(0.5)+crop(0.125)"
STRONG = "flip(0.5)+crop(0.125)+rand(2,m=10)+cutout(0.5)"
# pixels -> how many files, how large their pictures are, and their format
FILES = {32: (2000, 32, "png"), 224: (600, 300, "jpeg")}

Pixels = NDArray[np.uint8]
Making = Generator[int, None, None]  # makes the next views, says how many


@dataclass(frozen=True)
class Contender:
    """`start` begins to make views; the first `skipped` steps of it are not timed."""

    name: str
    start: Callable[[], Making]
    per_image: bool = True
    skipped: int = 1


@dataclass(frozen=True)
class Result:
    """What a contender reached in each round: views or pairs a second, and CPU seconds a second."""

    name: str
    rates: tuple[float, ...]
    cores: tuple[float, ...]
    per_image: bool

    @property
    def median(self) -> float:
        return statistics.median(self.rates)


# ---- taking turns ----


def race(contenders: list[Contender], rounds: int, seconds: float) -> list[Result]:
    """Each contender has `seconds` in every round."""
    laps: list[list[tuple[float, float]]] = [[] for _ in contenders]
    for _ in range(rounds):
        for contender, mine in zip(contenders, laps, strict=True):
            mine.append(lap(contender, seconds))
    return [
        Result(c.name, tuple(r for r, _ in mine), tuple(s for _, s in mine), c.per_image)
        for c, mine in zip(contenders, laps, strict=True)
    ]


def lap(contender: Contender, seconds: float) -> tuple[float, float]:
    """The rate over at least so many seconds, and the CPU seconds of this process a second."""
    with closing(contender.start()) as making:
        for _ in range(contender.skipped):
            next(making)
        made, start, cpu = 0, time.perf_counter(), time.process_time()
        while True:
            made += next(making)
            elapsed = time.perf_counter() - start
            if elapsed >= seconds:
                return made / elapsed, (time.process_time() - cpu) / elapsed


# ---- pictures ----


def picture(rng: np.random.Generator, side: int) -> Image.Image:
    """Smooth shapes and the noise of a camera."""
    small = Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8))
    smooth = np.asarray(small.resize((side, side), Image.Resampling.BICUBIC))
    noisy = smooth + rng.normal(0, 6, smooth.shape)
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))


def write_pictures(folder: Path, size: int) -> Files:
    """The files of the second table."""
    count, side, suffix = FILES[size]
    names = tuple(f"{number:05d}.{suffix}" for number in range(count))
    rng = np.random.default_rng(1)
    folder.mkdir()
    for name in names:
        picture(rng, side).save(folder / name, quality=90)
    return Files(folder, names)


# ---- first table: the kernel ----


def empty(size: int, planar: bool) -> torch.Tensor:
    """Memory for a batch: channels first, or last as our training has it."""
    memory = torch.contiguous_format if planar else torch.channels_last
    return torch.empty((BATCH, 3, size, size), memory_format=memory)


def ours(images: Pixels, size: int, policy: str) -> Making:
    augment = Augmenter(images, Preprocess(size), np.zeros(3), seed=0)
    rows, parsed, batch = np.arange(BATCH), Policy.parse(policy), empty(size, planar=False)
    for epoch in itertools.count():
        augment(parsed, rows, np.full(BATCH, epoch), 1, batch)
        yield BATCH


def one_by_one(
    view: Callable[[Any], torch.Tensor], images: list[Any], size: int, planar: bool
) -> Making:
    batch = empty(size, planar)
    while True:
        for slot, image in zip(batch, images, strict=True):
            slot[:] = view(image)
        yield BATCH


def whole_batch(view: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor) -> Making:
    while True:
        with torch.no_grad():  # its operations have parameters
            view(images.float() / 255)
        yield BATCH


def torchvision_pil(size: int, strong: bool = True) -> Any:
    from torchvision import transforms

    erasing = transforms.RandomErasing(1.0, scale=(0.0, 0.25), ratio=(1.0, 1.0), inplace=True)
    return transforms.Compose(
        [
            transforms.RandomHorizontalFlip(),
            transforms.RandomCrop(size, padding=size // 8),
            *([transforms.RandAugment(2, 10)] if strong else []),
            transforms.ToTensor(),
            transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD, inplace=True),
            *([erasing] if strong else []),
        ]
    )


def torchvision_v2(size: int) -> Any:
    from torchvision.transforms import v2

    return v2.Compose(
        [
            v2.RandomHorizontalFlip(),
            v2.RandomCrop(size, padding=size // 8),
            v2.RandAugment(2, 10),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(IMAGENET_MEAN, IMAGENET_STD, inplace=True),
            v2.RandomErasing(1.0, scale=(0.0, 0.25), ratio=(1.0, 1.0), inplace=True),
        ]
    )


def timm_pil(size: int) -> Any:
    from timm.data.auto_augment import rand_augment_transform
    from timm.data.random_erasing import RandomErasing
    from torchvision import transforms

    return transforms.Compose(
        [
            transforms.RandomHorizontalFlip(),
            transforms.RandomCrop(size, padding=size // 8),
            rand_augment_transform("rand-m10-n2-p1"),
            transforms.ToTensor(),
            transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD, inplace=True),
            RandomErasing(1.0, min_area=0.0, max_area=0.25, min_aspect=1.0, device="cpu"),
        ]
    )


def albumentations_view(a: Any, size: int) -> Callable[[Pixels], torch.Tensor]:
    """RandAugment's list from what albumentations has; where there is a choice, the faster one."""
    operations = [
        a.NoOp(p=1),
        a.AutoContrast(p=1),
        a.Equalize(mode="cv", p=1),
        a.RandomBrightnessContrast((-0.3, 0.3), (0, 0), p=1),
        a.RandomBrightnessContrast((0, 0), (-0.3, 0.3), p=1),
        a.ColorJitter((1, 1), (1, 1), (0.7, 1.3), (0, 0), p=1),
        a.Sharpen((0.0, 0.3), p=1),
        a.Posterize(7, p=1),
        a.Solarize((0.67, 0.67), p=1),
        a.Affine(rotate=(-10, 10), p=1),
        a.Affine(shear={"x": (-6, 6), "y": (0, 0)}, p=1),
        a.Affine(shear={"x": (0, 0), "y": (-6, 6)}, p=1),
        a.Affine(translate_percent={"x": (-0.15, 0.15), "y": (0, 0)}, p=1),
        a.Affine(translate_percent={"x": (0, 0), "y": (-0.15, 0.15)}, p=1),
    ]
    side = (1 / size, 0.5)
    view = a.Compose(
        [
            a.HorizontalFlip(p=0.5),
            a.Pad(size // 8, p=1),
            a.RandomCrop(size, size, p=1),
            a.SomeOf(operations, n=2, replace=True, p=1),
            a.CoarseDropout((1, 1), side, side, p=1),
            a.Normalize(IMAGENET_MEAN, IMAGENET_STD, p=1),
            a.ToTensorV2(p=1),
        ]
    )

    def call(image: Pixels) -> torch.Tensor:
        made: torch.Tensor = view(image=image)["image"]
        return made

    return call


def kornia_view(size: int) -> Any:
    k, auto = importlib.import_module("kornia.augmentation"), "kornia.augmentation.auto"
    return k.AugmentationSequential(
        k.RandomHorizontalFlip(p=0.5),
        k.RandomCrop((size, size), padding=size // 8),
        importlib.import_module(auto).RandAugment(n=2, m=10),
        k.RandomErasing(scale=(0.0001, 0.25), ratio=(1.0, 1.0), p=1.0),
        k.Normalize(torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD), p=1.0),
    )


def optional_peers() -> dict[str, Any]:
    """The modules that the extra `bench` brings, as far as they are there."""
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # it would ask PyPI for a newer version
    found = {}
    for name in OPTIONAL:
        try:
            found[name] = importlib.import_module(name)
        except ImportError as error:
            print(f"{name} is left out ({error}); it comes with the extra: fewlabels[bench]")
    if "albumentations" in found:
        importlib.import_module("cv2").setNumThreads(1)
    return found


def kernel_contenders(size: int, peers: dict[str, Any]) -> list[Contender]:
    """Ours first, then ours with the nearest pixel, then the peers."""
    rng = np.random.default_rng(0)
    pictures = [picture(rng, size) for _ in range(BATCH)]
    arrays = [np.asarray(p) for p in pictures]
    images = np.stack(arrays)
    planar = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
    contenders = [
        Contender("fewlabels", partial(ours, images, size, STRONG)),
        Contender("fewlabels, nearest", partial(ours, images, size, f"nearest+{STRONG}")),
    ]

    def peer(name: str, view: Any, given: list[Any], planar: bool = True) -> None:
        contenders.append(Contender(name, partial(one_by_one, view, given, size, planar)))

    peer("torchvision, PIL", torchvision_pil(size), pictures)
    peer("torchvision, v2", torchvision_v2(size), list(planar))
    peer("timm", timm_pil(size), pictures)
    if "albumentations" in peers:
        view = albumentations_view(peers["albumentations"], size)
        peer("albumentations", view, arrays, planar=False)
    if "kornia" in peers:
        start = partial(whole_batch, kornia_view(size), planar)
        contenders.append(Contender("kornia (one draw a batch)", start, per_image=False))
    return contenders


def kernel_ratio(
    size: int, rounds: int, seconds: float, peers: dict[str, Any]
) -> tuple[float, str]:
    """Ours over the fastest peer by the image, and that peer's name."""
    results = race(kernel_contenders(size, peers), rounds, seconds)
    print(f"\nKernel, {size} px: strong views a second, one core, {rounds} rounds of {seconds:g} s")
    show(results, cores=True)
    fastest = max((r for r in results[2:] if r.per_image), key=lambda r: r.median)
    return results[0].median / fastest.median, fastest.name


# ---- second table: pairs from disk ----


@dataclass(frozen=True, eq=False)
class Pairs(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """(weak, strong) by torchvision and PIL, of files or of images [N, S, S, 3] in memory."""

    images: Files | Pixels
    size: int
    weak: Any
    strong: Any

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, torch.Tensor]:
        if isinstance(self.images, Files):
            with Image.open(self.images.root / self.images.paths[row]) as file:
                image = file.convert("RGB")
            if image.size != (self.size, self.size):
                image = image.resize((self.size, self.size), Image.Resampling.BILINEAR)
        else:
            image = Image.fromarray(self.images[row])
        return self.weak(image), self.strong(image)


def loaded_pairs(pairs: Pairs) -> Making:
    """By worker processes; epochs without an end, so that none is waited for."""
    endless = RandomSampler(pairs, num_samples=10**9)
    for weak, _ in DataLoader(pairs, BATCH, sampler=endless, num_workers=WORKERS):
        yield len(weak)


def our_pairs(images: decoded.Pixels, size: int) -> Making:
    """By threads, into memory that is used again: as training does it."""
    augment = Augmenter(images, Preprocess(size), np.zeros(3), seed=0)
    stream = Stream(np.arange(len(images)), seed=0, name=0)
    weak, strong = Policy.parse(WEAK), Policy.parse(STRONG)
    memory = [[empty(size, planar=False) for _ in range(2)] for _ in range(WORKERS + 2)]

    def make(step: int) -> tuple[torch.Tensor, torch.Tensor]:
        rows, epoch = stream.at(step * BATCH, BATCH)
        first, second = memory[step % len(memory)]
        return augment(weak, rows, epoch, 1, first), augment(strong, rows, epoch, 2, second)

    with closing(prefetch(make, 0, WORKERS)) as batches:
        for made, _ in batches:
            yield len(made)


def pairs_ratio(size: int, rounds: int, seconds: float, folder: Path) -> float:
    """Ours over the DataLoader that decodes."""
    files = write_pictures(folder / f"{size}", size)
    start = time.perf_counter()
    digest = cache.fingerprint(files, WORKERS)
    images = cache.build(files, digest, size, WORKERS, folder=folder / "cache").images
    built = time.perf_counter() - start
    weak, strong = torchvision_pil(size, strong=False), torchvision_pil(size)
    contenders = [
        Contender("fewlabels", partial(our_pairs, images, size), skipped=2 * (WORKERS + 2)),
        Contender(
            "torchvision, cached",
            partial(loaded_pairs, Pairs(np.array(images), size, weak, strong)),
            skipped=WORKERS,
        ),
        Contender(
            "torchvision, PIL",
            partial(loaded_pairs, Pairs(files, size, weak, strong)),
            skipped=WORKERS,
        ),
    ]
    results = race(contenders, rounds, seconds)
    print(
        f"\nPairs, {size} px: (weak, strong) a second, {WORKERS} workers, {len(files):,} files, "
        f"{rounds} rounds of {seconds:g} s\nour cache was built in {built:.2f} s, once"
    )
    show(results, cores=False)
    mine, cached, decoding = (r.median for r in results)
    print(f"of which the cache {cached / decoding:.1f}x, kernel and threads {mine / cached:.1f}x")
    return mine / decoding


# ---- what is printed ----


def show(results: list[Result], cores: bool) -> None:
    """A row a contender; how many times faster ours is stands at the end."""
    head = f"{'':<26}{'median':>10}{'lowest':>10}{'highest':>10}{'ours':>8}"
    print(head + (f"{'cores':>12}" if cores else ""))
    for result in results:
        low, high, times = min(result.rates), max(result.rates), results[0].median / result.median
        row = f"{result.name:<26}{result.median:>10,.0f}{low:>10,.0f}{high:>10,.0f}{times:>7.1f}x"
        used = f"{min(result.cores):.2f}-{max(result.cores):.2f}"
        print(row + (f"{used:>12}" if cores else ""))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=1.0, help="of a turn; pairs: 4 times that")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="the ratios again, in the last line")
    arguments = parser.parse_args()
    rounds, seconds = arguments.rounds, arguments.seconds

    torch.set_num_threads(1)
    compile_kernel()
    peers = optional_peers()
    left_out = [name for name in OPTIONAL if name not in peers]
    packages = ("torch", "torchvision", "timm", "pillow", *peers)
    print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages))
    ratios: dict[str, float] = {}
    lines = []
    for size in FILES:
        ratio, peer = kernel_ratio(size, rounds, seconds, peers)
        ratios[f"kernel_ratio_{size}"] = ratio
        without = "" if "albumentations" in peers else " present; albumentations is left out"
        lines.append(f"kernel, {size} px: {ratio:.1f}x {peer}, the fastest peer{without}")
    with tempfile.TemporaryDirectory() as folder:
        for size in FILES:
            ratio = pairs_ratio(size, rounds, 4 * seconds, Path(folder))
            ratios[f"pairs_ratio_{size}"] = ratio
            lines.append(f"pairs, {size} px: {ratio:.1f}x a torchvision + PIL DataLoader")
    print("\n" + "\n".join(lines))
    if arguments.json:
        found = {name: round(ratio, 2) for name, ratio in ratios.items()}
        print(json.dumps(found | ({"left_out": left_out} if left_out else {})))


if __name__ == "__main__":
    main()
