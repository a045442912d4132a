"""USB's FixMatch on a pool of ours, on the CPU: what `usb.py` runs and times.

    python benchmarks/usb_fixmatch.py POOL.csv ROWS.jsonl --draw 0 --steps 3000
        [--seconds 15 --threads 2 --workers 1 --every 5]

`semilearn` trains: its Trainer, its FixMatch with its hooks, its loaders, samplers and RandAugment,
its SGD and schedule; nothing of its code is changed. What is given to it:

- the images as fewlabels decodes them at 32 px, and our `cnn_small`, wrapped to answer as its nets
  do; the settings in GIVEN, all others as it ships them;
- its views of CIFAR-10, but no mirroring: neither system mirrors these images;
- `.cuda()` means "stay here": its code moves everything to a GPU. For that reason its hook that
  times by CUDA events is taken out; and those that evaluate and save in between, to its advantage;
- stand-ins for what it imports and FixMatch on images never uses (UNUSED), where not installed.

A row is written every few seconds of training: the steps, the seconds of training, those spent on
rows so far (no training, and not counted), and the test accuracy of the moving average and of the
model itself.
"""

import argparse
import json
import random
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import torch
from torch import Tensor, nn

from fewlabels.models import catalog
from fewlabels.pixels import cache
from fewlabels.pool.pool import Pool
from fewlabels.torchvision_repair import repair

SIZE = 32
GIVEN = {"algorithm": "fixmatch", "net": "cnn_small", "dataset": "none", "img_size": SIZE}
GIVEN |= {"batch_size": 16, "uratio": 4, "epoch": 1, "gpu": 0, "distributed": False}
UNUSED = ("aim", "skimage.util", "torchaudio", "wandb", "transformers", "transformers.data")
UNUSED += ("transformers.file_utils", "transformers.tokenization_utils_base")
WITHOUT = ("TimerHook", "EvaluationHook", "CheckpointHook")


class Answering(nn.Module):
    """A network in the form that semilearn asks for. FixMatch does not use the features."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        built = catalog.sized(catalog.build("cnn_small", classes, "none"), SIZE, classes)
        self.model = built.model

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        logits = self.model(x)
        return {"logits": logits, "feat": logits}


def stand_in() -> None:
    """For what is not here: a GPU, and packages that are imported for other kinds of data."""
    repair()
    absent = [name for name in UNUSED if find_spec(name.partition(".")[0]) is None]
    for name in absent:
        sys.modules[name.partition(".")[0]] = sys.modules[name] = MagicMock()
    Tensor.cuda = lambda self, *_, **__: self
    nn.Module.cuda = lambda self, *_, **__: self
    torch.cuda.set_device = lambda *_: None


class Watch:
    """Writes the rows."""

    def __init__(self, asked: argparse.Namespace, x: Tensor, y: Tensor) -> None:
        self.asked, self.x, self.y = asked, x, y
        self.looking, self.last, self.began = 0.0, 0.0, 0.0

    def before_run(self, algorithm: Any) -> None:
        self.began = time.monotonic()

    def after_train_step(self, algorithm: Any) -> None:
        start = time.monotonic()
        seconds = start - self.began - self.looking
        over = seconds >= self.asked.seconds or algorithm.it + 1 >= self.asked.steps
        if seconds - self.last < self.asked.every and not over:
            return
        itself = self.accuracy(algorithm.model)
        algorithm.ema.apply_shadow()
        average = self.accuracy(algorithm.model)
        algorithm.ema.restore()
        self.last = seconds
        self.looking += time.monotonic() - start
        row = {"step": algorithm.it + 1, "seconds": seconds, "looking": self.looking}
        with self.asked.rows.open("a") as file:
            file.write(json.dumps(row | {"average": average, "itself": itself}) + "\n")
        if over:
            raise SystemExit

    @torch.no_grad()
    def accuracy(self, model: nn.Module) -> float:
        model.eval()
        right = [model(x)["logits"].argmax(1) for x in self.x.split(256)]
        model.train()
        return float((torch.cat(right) == self.y).float().mean())


def train(asked: argparse.Namespace) -> None:
    from semilearn import BasicDataset, Trainer, get_algorithm, get_config, get_data_loader
    from semilearn.core.hooks import Hook
    from semilearn.datasets.augmentation import RandAugment
    from torchvision import transforms

    pool = Pool.scan(asked.pool)
    images = cache.build(pool.source, cache.fingerprint(pool.source), SIZE).images
    learnt, test = pool.split == "train", pool.split == "val"
    labelled, classes = learnt & (pool.label >= 0), len(pool.classes)
    pixels = images[learnt].reshape(-1, 3) / 255
    told = {"num_classes": classes, "num_train_iter": asked.steps, "seed": asked.draw}
    told |= {"save_dir": str(asked.rows.with_suffix(""))}
    config = get_config(GIVEN | told)

    padding = int(SIZE * (1 - config.crop_ratio))
    crop = transforms.RandomCrop(SIZE, padding=padding, padding_mode="reflect")
    normalise = transforms.Normalize(pixels.mean(0).tolist(), pixels.std(0).tolist())
    plain = transforms.Compose([transforms.ToTensor(), normalise])
    weak = transforms.Compose([crop, plain])
    strong = transforms.Compose([crop, RandAugment(3, 5), plain])
    known = BasicDataset("fixmatch", images[labelled], pool.label[labelled], classes, weak)
    unknown = BasicDataset("fixmatch", images[learnt], None, classes, weak, True, strong)
    many, workers = config.batch_size * config.uratio, asked.workers
    loader = get_data_loader(config, known, config.batch_size, num_workers=workers)
    other = get_data_loader(config, unknown, many, num_workers=2 * workers)  # as its own do

    def network(num_classes: int, **_: object) -> nn.Module:
        return Answering(num_classes)

    algorithm = get_algorithm(config, network, tb_log=None, logger=None)
    y = torch.from_numpy(pool.label[test])
    watch = type("Watching", (Watch, Hook), {})(asked, torch.stack([*map(plain, images[test])]), y)
    algorithm.register_hook(watch, None, "LOWEST")
    for name in WITHOUT:
        del algorithm.hooks_dict[name]
    Trainer(config, algorithm).fit(loader, other, None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("pool")
    parser.add_argument("rows", type=Path)
    parser.add_argument("--draw", type=int, default=0)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so many")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--every", type=float, default=5.0, help="seconds between two rows")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    random.seed(asked.draw)
    np.random.seed(asked.draw)  # noqa: NPY002 (what semilearn draws from)
    torch.manual_seed(asked.draw)
    stand_in()
    train(asked)


if __name__ == "__main__":
    main()
