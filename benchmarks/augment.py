"""How fast views are made: our kernel beside torchvision's transforms, same images, one core.

    python benchmarks/augment.py

Both make the strong view of training: flip, crop, two random operations, cutout, normalise. Ours
starts from the cache and handles a batch; theirs starts from PIL images, as a data loader would.
What counts is the ratio, in the last column; both are timed in the same run, alternately.
"""

import time
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image

from fewlabels.augment.policy import Policy
from fewlabels.augment.views import Augmenter, compile_kernel
from fewlabels.models.torchvision_repair import repair
from fewlabels.pixels.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess

SECONDS = 3.0
POLICY = Policy.parse("flip(0.5)+crop(0.125)+rand(2)+cutout(0.5)")


def rate(work: Callable[[int], int]) -> float:
    """Images a second: calls work(0), work(1), … for a while; it returns how many it made."""
    work(0)
    made, call, start = 0, 0, time.perf_counter()
    while time.perf_counter() - start < SECONDS:
        call += 1
        made += work(call)
    return made / (time.perf_counter() - start)


def main() -> None:
    torch.set_num_threads(1)
    repair()
    from torchvision import transforms

    compile_kernel()
    print(f"{'pixels':>6} {'torchvision':>12} {'fewlabels':>12} {'ratio':>6}   images a second")
    for size in (32, 224):
        rng = np.random.default_rng(0)
        small = rng.integers(0, 256, (64, 8, 8, 3), np.uint8)
        pictures = [
            Image.fromarray(p).resize((size, size), Image.Resampling.BICUBIC) for p in small
        ]
        images = np.stack([np.asarray(p) for p in pictures])
        ours = Augmenter(images, Preprocess(size), np.zeros(3), seed=0)
        rows = np.arange(64)
        theirs = transforms.Compose(
            [
                transforms.RandomHorizontalFlip(),
                transforms.RandomCrop(size, padding=size // 8),
                transforms.RandAugment(2, 10),
                transforms.ToTensor(),
                transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
                transforms.RandomErasing(1.0, scale=(0.0, 0.25), ratio=(1.0, 1.0)),
            ]
        )
        peer = rate(lambda _: len(torch.stack([theirs(p) for p in pictures])))  # noqa: B023
        mine = rate(lambda call: len(ours(POLICY, rows, np.full(64, call), 1)))  # noqa: B023
        print(f"{size:>6} {peer:>12,.0f} {mine:>12,.0f} {mine / peer:>5.1f}x")


if __name__ == "__main__":
    main()
