"""`evaluate`: what a run's classifier is worth on labelled images, how sure that is, and how it
breaks.

Without DATA the run's own test images are asked about. Images of classes that the classifier does
not know are strangers: they count for nothing but how well strangers are noticed. Where DATA has
some of the classes only, as ImageNet-A has 200 of 1,000, accuracy is also told among these.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fewlabels.deploy.artefact import Saved
from fewlabels.errors import UserError
from fewlabels.evaluate import calibration, metrics, robustness
from fewlabels.evaluate.intervals import Estimate, share
from fewlabels.evaluate.predictions import probabilities
from fewlabels.evaluate.robustness import Progress
from fewlabels.pixels import cache
from fewlabels.pool.pool import Pool, Skipped
from fewlabels.training.folder import RunFolder

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Asked:
    """What is asked beside accuracy and calibration; `images`: of at most so many images, drawn."""

    corruptions: bool = False
    perturbations: bool = False
    adversarial: bool = False
    stress: bool = False
    images: int = 1000
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Judges:
    """Labelled images [N] that a classifier is asked about."""

    origin: str
    names: tuple[str, ...]
    images: NDArray[np.uint8]  # [N, S, S, 3]
    label: Rows  # index into the classifier's classes; -1: of a class that it does not know
    group: Rows | None
    learnt: NDArray[np.bool_]  # whether the run has learnt from the same image
    skipped: tuple[Skipped, ...]

    def take(self, rows: Rows) -> "Judges":
        return replace(
            self,
            names=tuple(self.names[row] for row in rows),
            images=self.images[rows],
            label=self.label[rows],
            group=None if self.group is None else self.group[rows],
            learnt=self.learnt[rows],
        )


def find(run: Path, saved: Saved, data: str | None, count: Progress) -> Judges:
    """The images of DATA that have a label: its test images, or all where it has none; without DATA
    those of the run. UserError where there are none."""
    used = _used(run)
    if data is None:
        origin, own = _own(run)
        pool = Pool.scan(origin)
        mine = [row for row in range(len(pool)) if pool.source.name(row) in own]
    else:
        pool = Pool.scan(data)
        labelled = pool.label >= 0
        test = labelled & (pool.split == "test")
        mine = np.flatnonzero(test if test.any() else labelled).tolist()
    if not mine:
        raise UserError(f"{data or run}: has no labelled images to be asked about")
    pool = pool.take(np.array(mine, np.int64))
    digest = cache.fingerprint(pool.source, progress=lambda done, of: count("reading", done, of))
    pixels = cache.build(
        pool.source,
        digest,
        saved.preprocess.size,
        progress=lambda done, of: count("decoding", done, of),
    )
    fine = np.flatnonzero(pixels.readable)
    known = {name: number for number, name in enumerate(saved.classes)}
    number = np.array([known.get(name, -1) for name in pool.classes], np.int64)
    learnt = {name for name, how in used.items() if how in ("labelled", "held out", "unlabelled")}
    names = [pool.source.name(row) for row in range(len(pool))]
    return Judges(
        origin=pool.origin,
        names=tuple(names),
        images=pixels.images,
        label=number[pool.label],
        group=pool.group,
        learnt=np.array([d in learnt for d in digest]),
        skipped=tuple(
            Skipped(names[row], pixels.reason[row]) for row in np.flatnonzero(~pixels.readable)
        ),
    ).take(fine)


def evaluated(
    saved: Saved, judges: Judges, asked: Asked, device: str, count: Progress
) -> dict[str, Any]:
    """What `evaluate` tells, ready for JSON: every number with its interval and its n."""
    known = judges.take(np.flatnonzero(judges.label >= 0))
    if not len(known.label):
        raise UserError(
            f"{judges.origin}: none of its classes is one of the classifier's "
            f"({', '.join(saved.classes[:5])}, …)"
        )
    p = _probabilities(saved, known.images, device)
    predicted, right = p.argmax(1), p.argmax(1) == known.label
    found: dict[str, Any] = {
        "data": judges.origin,
        "images": len(judges.label),
        "strangers": len(judges.label) - len(known.label),
        "skipped": [vars(item) for item in judges.skipped],
        **_named(metrics.single(known.label, p, known.group)),
    }
    occur = np.unique(known.label)
    if len(occur) < len(saved.classes):
        among = occur[p[:, occur].argmax(1)] == known.label
        found |= _named({"accuracy_among_its_classes": share(among, known.group)})
    if judges.learnt.any():
        found["learnt_from"] = {"images": int(judges.learnt.sum())}
        fresh = ~known.learnt
        if fresh.any():
            others = None if known.group is None else known.group[fresh]
            found["learnt_from"]["others"] = share(right[fresh], others).to_json("accuracy")
    found["classes"] = [
        {"class": name, "n": score.n} | _scores(score)
        for name, score in zip(
            saved.classes,
            metrics.by_class(known.label, predicted, len(saved.classes), known.group),
            strict=True,
        )
    ]
    found["confusion"] = metrics.confusion(known.label, predicted, len(saved.classes)).tolist()
    found["calibration"] = _calibration(p, right, known.group, asked.seed)
    some = _drawn(known, asked)

    def ask(images: NDArray[np.uint8]) -> Rows:
        said: Rows = _probabilities(saved, images, device).argmax(1)
        return said

    whole = some.images, some.label, some.group
    if asked.corruptions:
        found["corruptions"] = robustness.under_corruptions(ask, *whole, asked.seed, count)
    if asked.perturbations:
        found["perturbations"] = robustness.along_perturbations(ask, some.images, asked.seed, count)
    if asked.adversarial:
        model, preprocess = saved.built.model, saved.preprocess
        found["adversarial"] = robustness.under_attack(model, *whole, preprocess, device, count)
    if asked.stress:
        found["stress"] = robustness.under_stress(ask, *whole, asked.seed, count)
    return found


def _calibration(
    p: NDArray[np.float64], right: NDArray[np.bool_], group: Rows | None, seed: int
) -> dict[str, Any]:
    sure = p.max(1)
    return {
        **_named({"ece": calibration.ece(sure, right, group, seed)}),
        "by_chance": round(calibration.ece_by_chance(sure, seed), 4),
        "bins": [
            {"low": one.low, "high": one.high, "n": one.count, "confidence": one.confidence}
            | (_named({"accuracy": one.accuracy}) if one.accuracy else {})
            for one in calibration.reliability(sure, right, group)
        ],
        "coverage": [
            {"confidence": round(point.confidence, 4)}
            | _named({"coverage": point.coverage})
            | {"answered": point.accuracy.to_json("accuracy")}
            for point in calibration.coverage_curve(sure, right, group)
        ],
        **_named({"aurc": calibration.aurc(sure, right, group, seed)}),
    }


def _probabilities(saved: Saved, images: NDArray[np.uint8], device: str) -> NDArray[np.float64]:
    return probabilities(saved.built.model, images, saved.preprocess, device, saved.tta)


def _scores(score: metrics.ClassScore) -> dict[str, Any]:
    """Recall, precision and F1 of a class, those of which something can be said."""
    found = {"recall": score.recall, "precision": score.precision, "f1": score.f1}
    return _named({name: value for name, value in found.items() if value is not None})


def _named(found: Mapping[str, Estimate]) -> dict[str, Any]:
    """{name: {name, "interval", "n"}}: each number as it stands in `result.json`."""
    return {name: estimate.to_json(name) for name, estimate in found.items()}


def _drawn(judges: Judges, asked: Asked) -> Judges:
    """At most so many of them, drawn by the seed."""
    count = len(judges.label)
    if count <= asked.images:
        return judges
    return judges.take(
        np.sort(np.random.default_rng(asked.seed).permutation(count)[: asked.images])
    )


def _used(run: Path) -> dict[str, str]:
    """How the run has used an image, by its content; nothing where it does not say."""
    table = run / "splits.parquet"
    if not table.is_file():  # an artefact alone
        return {}
    columns = pq.read_table(table, columns=["digest", "used"]).to_pydict()
    return dict(zip(columns["digest"], columns["used"], strict=True))


def _own(run: Path) -> tuple[str, set[str]]:
    """Where the run's images lie, and the names of its test images. UserError where it has none."""
    config, table = RunFolder.open(run).read_config(), run / "splits.parquet"
    columns = pq.read_table(table, columns=["name", "used"]).to_pydict() if table.is_file() else {}
    names = zip(columns.get("name", ()), columns.get("used", ()), strict=True)
    own = {name for name, used in names if used == "test"}
    if not own:
        raise UserError(f"{run}: has no test images; name labelled DATA")
    return str(config["data"]), own
