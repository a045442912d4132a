"""`evaluate`: what a classifier is worth on labelled images, how sure that is, how it breaks.

Strangers, images of classes that the classifier does not know, count for nothing but how well they
are noticed. Where the images are of some of the classes only, as ImageNet-A has 200 of 1,000,
accuracy is also told among these (Hendrycks et al. 2021).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewlabels.deploy.classifier import Classifier
from fewlabels.deploy.judges import Judges, Progress, Rows
from fewlabels.errors import UserError
from fewlabels.evaluate import calibration, metrics, robustness
from fewlabels.evaluate.adversarial import need_gradient
from fewlabels.evaluate.intervals import Array, named, share
from fewlabels.evaluate.unknown import detection
from fewlabels.settings import between

BATCH = 256
CONFUSION = 100  # classes, of which a whole matrix is told
IMAGES = 500  # whose robustness is asked about, where nothing else is said


@dataclass(frozen=True)
class Asked:
    """What is asked beside accuracy and calibration, of at most so many `images` (500), drawn."""

    corruptions: bool = False
    perturbations: bool = False
    adversarial: bool = False
    stress: bool = False
    images: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        between("--images", self.images, 1)
        between("--seed", self.seed, 0)
        kinds = self.corruptions, self.perturbations, self.adversarial, self.stress
        if self.images is not None and not any(kinds):
            raise UserError(
                "evaluate: --images has no effect without --corruptions, --perturbations, "
                "--adversarial or --stress"
            )


def evaluated(
    classifier: Classifier, judges: Judges, asked: Asked, count: Progress
) -> dict[str, Any]:
    """What `evaluate` tells, ready for JSON: every number with its interval and its n."""
    mine = judges.label >= 0
    if not mine.any():
        raise UserError(
            f"{judges.origin}: none of its classes is one of the classifier's "
            f"({', '.join(classifier.classes[:5])}{', …' if len(classifier.classes) > 5 else ''})"
        )
    if asked.adversarial:
        need_gradient(classifier.model)  # before anything takes minutes
    every, strangeness = _said(classifier, judges.images, count)
    p, known = every[mine], judges.take(np.flatnonzero(mine))
    right = p.argmax(1) == known.label
    found: dict[str, Any] = {
        "data": judges.origin,
        "own": judges.own,
        "images": len(judges.label),
        "strangers": int((~mine).sum()),
        "skipped": [vars(item) for item in judges.skipped],
        **named(metrics.single(known.label, p, known.group)),
    }
    occur = np.unique(known.label)
    if 1 < len(occur) < len(classifier.classes):
        among = occur[p[:, occur].argmax(1)] == known.label
        found |= named({"accuracy_among_its_classes": share(among, known.group)})
    if judges.learnt.any():
        found["learnt_from"] = {"images": int(judges.learnt.sum())}
        fresh = ~known.learnt
        if fresh.any():
            others = None if known.group is None else known.group[fresh]
            found["learnt_from"]["others"] = share(right[fresh], others).to_json("accuracy")
    found["classes"] = _classes(classifier, known, p)
    if p.shape[1] <= CONFUSION:
        found["confusion"] = metrics.confusion(known.label, p.argmax(1), p.shape[1]).tolist()
    found["calibration"] = calibration.described(p, right, known.group, asked.seed)
    if classifier.detector is not None and strangeness is not None:
        threshold = classifier.detector.threshold
        noticed = _noticed(strangeness, mine, threshold, judges.group)
        found["unknown"] = {"threshold": threshold} | noticed
    return found | _broken(classifier, known, asked, count)


def _said(
    classifier: Classifier, images: NDArray[np.uint8], count: Progress
) -> tuple[NDArray[np.float64], Array | None]:
    """Probabilities [N, K] and how strange each image is [N]."""
    parts = []
    for start in range(0, len(images), BATCH):
        count("predicting", start, len(images))
        parts.append(classifier.judge(images[start : start + BATCH]))
    p = np.concatenate([part[0] for part in parts])
    scores = [part[1] for part in parts if part[1] is not None]
    return p, np.concatenate(scores) if scores else None


def _classes(classifier: Classifier, known: Judges, p: NDArray[np.float64]) -> list[dict[str, Any]]:
    """Recall, precision and F1 of each class, those of which something can be said."""
    scores = metrics.by_class(known.label, p.argmax(1), p.shape[1], known.group)
    rows = []
    for name, score in zip(classifier.classes, scores, strict=True):
        told = {"recall": score.recall, "precision": score.precision, "f1": score.f1}
        there = {key: value for key, value in told.items() if value is not None}
        rows.append({"class": name, "n": score.n} | named(there))
    return rows


def _noticed(
    scores: Array, known: NDArray[np.bool_], threshold: float, group: Array | None
) -> dict[str, Any]:
    """How many of the known images are flagged, and how well strangers are told from them."""
    flagged = share(scores[known] > threshold, None if group is None else group[known])
    found = {"known_flagged": flagged}
    if not known.all():
        found = detection(scores[known], scores[~known], threshold) | found
    return named(found)


def _broken(classifier: Classifier, known: Judges, asked: Asked, count: Progress) -> dict[str, Any]:
    """What was asked for of robustness."""

    def ask(images: NDArray[np.uint8]) -> Rows:
        said: Rows = classifier.judge(images)[0].argmax(1)
        return said

    fresh = np.flatnonzero(~known.learnt)  # new images tell more, where there are any
    some = _drawn(known.take(fresh) if len(fresh) else known, asked)
    whole = some.images, some.label, some.group
    found: dict[str, Any] = {}
    if asked.corruptions:
        found["corruptions"] = robustness.under_corruptions(ask, *whole, asked.seed, count)
    if asked.perturbations:
        found["perturbations"] = robustness.along_perturbations(
            *(ask, some.images, some.group, asked.seed, count)
        )
    if asked.adversarial:
        found["adversarial"] = robustness.under_attack(
            *(classifier.model, *whole, classifier.preprocess, classifier.device, count)
        )
    if asked.stress:
        found["stress"] = robustness.under_stress(ask, *whole, asked.seed, count)
    return found


def _drawn(judges: Judges, asked: Asked) -> Judges:
    """At most so many of them, drawn by the seed."""
    count, most = len(judges.label), asked.images or IMAGES
    if count <= most:
        return judges
    order = np.random.default_rng(asked.seed).permutation(count)
    return judges.take(np.sort(order[:most]))
