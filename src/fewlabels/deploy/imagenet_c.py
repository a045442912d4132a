"""ImageNet-C's own files: `<corruption>/<severity>/<class>/…`, as its archives unpack.

Nothing is corrupted here; the images lie there as they were published. So errors can be compared
with others', and with all 1,000 classes and all 15 corruptions the mCE is told.
"""

from pathlib import Path
from typing import Any

import numpy as np

from fewlabels.deploy import judges
from fewlabels.deploy.classifier import Classifier
from fewlabels.errors import UserError
from fewlabels.evaluate.corruptions import EXTRA, NAMES, SEVERITIES
from fewlabels.evaluate.corruptions.scores import c_like_error, mce
from fewlabels.evaluate.intervals import share
from fewlabels.pool.pool import Skipped

BATCH = 256


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
    classifier: Classifier,
    run: Path,
    data: Path,
    folders: dict[str, list[Path]],
    count: judges.Progress,
) -> dict[str, Any]:
    """Accuracy on every folder, and what comes of them, ready for JSON. UserError where an image's
    class is none of the classifier's."""
    rows: dict[str, list[dict[str, Any]]] = {}
    errors: dict[str, list[float]] = {}
    skipped: list[Skipped] = []
    complete = True
    for name, severities in folders.items():
        for folder in severities:
            asked = judges.find(
                *(run, classifier.classes, classifier.preprocess.size, str(folder), count)
            )
            if (asked.label < 0).any():
                raise UserError(f"{folder}: has classes that the classifier does not know")
            right = np.concatenate(
                [
                    classifier.judge(asked.images[at : at + BATCH])[0].argmax(1)
                    == asked.label[at : at + BATCH]
                    for at in range(0, len(asked.label), BATCH)
                ]
            )
            accuracy = share(right)
            rows.setdefault(name, []).append(accuracy.to_json("accuracy"))
            errors.setdefault(name, []).append(1 - accuracy.value)
            skipped += asked.skipped
            complete &= len(np.unique(asked.label)) == judges.IMAGENET
    n = min(cell["n"] for row in rows.values() for cell in row)
    told = {"c_like_error": round(c_like_error(errors), 4), "n": n, "accuracy": rows}
    if complete and set(NAMES) <= set(errors):
        told["mce"] = round(mce({name: errors[name] for name in NAMES}), 4)
    return {
        "data": str(data.absolute()),
        "skipped": [vars(item) for item in skipped],
        "published": True,
        "corruptions": told,
    }
