"""ImageNet-C's own files: `<corruption>/<severity>/<class>/…`, as its archives unpack.

Nothing is corrupted here; the images lie there as they were published. So errors can be compared
with others', and with all 1,000 classes and all 15 corruptions the mCE is told.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewlabels.deploy import judges
from fewlabels.deploy.classifier import Classifier
from fewlabels.errors import UserError, one_line
from fewlabels.evaluate.corruptions import EXTRA, NAMES, SEVERITIES
from fewlabels.evaluate.corruptions.scores import c_like_error, mce
from fewlabels.evaluate.intervals import share
from fewlabels.pixels.decode import Unreadable, square
from fewlabels.pool.pool import Pool, Skipped
from fewlabels.pool.threads import each

BATCH = 256
READERS = 2  # threads that decode


def found_in(data: Path) -> dict[str, list[Path]]:
    """The folders of the five severities by corruption, beside each other or in groups (noise/,
    blur/, …); nothing where DATA is something else."""
    found = {}
    for name in (*NAMES, *EXTRA):
        for home in sorted([*data.glob(name), *data.glob(f"*/{name}")]):
            folders = [home / str(severity) for severity in SEVERITIES]
            if all(folder.is_dir() for folder in folders):
                found[name] = folders
                break
    return found


def evaluated(
    classifier: Classifier, data: Path, folders: dict[str, list[Path]], count: judges.Progress
) -> dict[str, Any]:
    """Accuracy in every folder, and what comes of those of the 15 that are there, ready for JSON.
    UserError where an image's class is none of the classifier's."""
    rows: dict[str, list[dict[str, Any]]] = {}
    skipped: list[Skipped] = []
    complete = True
    for name, severities in folders.items():
        for severity, folder in enumerate(severities, 1):

            def tell(done: int, of: int, what: str = f"{name} {severity}") -> None:
                count(what, done, of)

            label, right, unread = _asked(classifier, folder, tell)
            rows.setdefault(name, []).append(share(right).to_json("accuracy"))
            skipped += unread
            complete &= len(np.unique(label)) == judges.IMAGENET
    errors = {
        name: [1 - cell["accuracy"] for cell in row] for name, row in rows.items() if name in NAMES
    }
    told: dict[str, Any] = {"n": min(cell["n"] for row in rows.values() for cell in row)}
    if errors:  # the extra ones are there to choose by
        told |= {"c_like_error": round(c_like_error(errors), 4), "of": len(errors)}
    if complete and len(errors) == len(NAMES):
        told["mce"] = round(mce(errors), 4)
    return {
        "data": str(data.absolute()),
        "skipped": [vars(item) for item in skipped],
        "published": True,
        "corruptions": told | {"accuracy": rows},
    }


def _asked(
    classifier: Classifier, folder: Path, count: Callable[[int, int], None]
) -> tuple[NDArray[np.int64], NDArray[np.bool_], list[Skipped]]:
    """The labels of a folder's images, which are recognised, and what could not be read. Nothing is
    cached: all of ImageNet-C would take half a terabyte."""
    pool, size = Pool.scan(folder, to_train=False), classifier.preprocess.size
    label = judges.numbers(pool.classes, classifier.classes)[pool.label]
    if (label[pool.label >= 0] < 0).any():
        raise UserError(f"{folder}: has classes that the classifier does not know")

    def read(row: int) -> NDArray[np.uint8] | str:
        try:
            return square(pool.source.read(row), size).pixels
        except (OSError, Unreadable) as error:
            return one_line(error)

    asked: list[int] = []
    right: list[NDArray[np.bool_]] = []
    skipped: list[Skipped] = []
    pixels: list[NDArray[np.uint8]] = []
    for row, found in enumerate(each(read, len(pool), READERS)):
        if isinstance(found, str):
            skipped.append(Skipped(f"{folder}/{pool.source.name(row)}", found))
        elif label[row] >= 0:
            asked.append(row)
            pixels.append(found)
        if pixels and (len(pixels) == BATCH or row + 1 == len(pool)):
            said = classifier.judge(np.stack(pixels))[0].argmax(1)
            right.append(said == label[asked[-len(pixels) :]])
            pixels = []
            count(row + 1, len(pool))
    if not asked:
        raise UserError(f"{folder}: no image of it can be read")
    return label[asked], np.concatenate(right), skipped
