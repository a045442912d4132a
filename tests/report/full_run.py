"""A run folder that has all that a report can show, with numbers that can be checked by hand."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from test_html import make, png

from fewlabels.evaluate.intervals import gain, wilson

CLASSES = ["heron", "stork", "ibis"]
CORRUPTIONS = (
    *("gaussian_noise", "shot_noise", "impulse_noise"),
    *("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    *("snow", "frost", "fog", "brightness"),
    *("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
)


def share(right: int, n: int, name: str = "accuracy") -> dict[str, Any]:
    low, high = wilson(right, n)
    return {name: round(right / n, 4), "interval": [round(low, 4), round(high, 4)], "n": n}


def calibration() -> dict[str, Any]:
    """30 images: 10 of confidence 0.90 with 8 right, 20 of 0.98 with 19 right; ECE 1.6/30."""
    bins: list[dict[str, Any]] = [
        {"low": i / 15, "high": (i + 1) / 15, "n": 0, "confidence": None} for i in range(15)
    ]
    bins[13] |= {"n": 10, "confidence": 0.9, "accuracy": share(8, 10)}
    bins[14] |= {"n": 20, "confidence": 0.98, "accuracy": share(19, 20)}
    return {
        "temperature": {"value": 1.31, "n": 50, "why": ""},
        "as_trained": {"ece": 0.0871, "interval": [0.031, 0.142], "n": 30},
        "ece": {"ece": 0.0533, "interval": [0.008, 0.119], "n": 30},
        "by_chance": 0.074,
        "bins": bins,
        "coverage": [
            {"confidence": c, "coverage": share(n, 30, "coverage"), "answered": share(right, n)}
            for c, n, right in ((0.985, 10, 10), (0.97, 23, 22), (0.95, 26, 24), (0.0, 30, 27))
        ],
        "aurc": {"aurc": 0.02, "interval": [0.01, 0.08], "n": 30},
    }


def robustness(n: int = 200) -> dict[str, Any]:
    """Corruption i of severity s leaves 90 - 10 s - i per cent right; brightness leaves 99."""
    accuracy = {
        name: [share(n * (90 - 10 * s - i) // 100, n) for s in (1, 2, 3, 4, 5)]
        for i, name in enumerate(CORRUPTIONS)
    }
    accuracy["brightness"] = [share(n * 99 // 100, n)] * 5
    clean = np.arange(n) < 0.95 * n

    def level(at: float, right: float) -> dict[str, Any]:
        now = np.arange(n) < right * n
        return {"level": at, "difference": gain(now, clean)} | share(int(right * n), n)

    return {
        "corruptions": {
            "c_like_error": 0.4321,
            "interval": [0.4, 0.47],
            "n": n,
            "accuracy": accuracy,
        },
        "perturbations": {
            "mean_flip_rate": 0.0312,
            "interval": [0.02, 0.04],
            "n": n,
            "flip_rate": {
                "gaussian_noise": {"flip_rate": 0.0123, "interval": [0.01, 0.02], "n": n},
                "zoom_blur": {"flip_rate": 0.051, "interval": [0.04, 0.07], "n": n},
            },
        },
        "adversarial": {
            attack: [
                {"epsilon": epsilon} | share(round(n * (0.95 - 0.1 * i * steep)), n)
                for i, epsilon in enumerate((0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0))
            ]
            for attack, steep in (("fgsm", 1.0), ("pgd", 1.5))
        },
        "stress": [
            {
                "cause": "viewpoint, turned",
                "unit": "degrees",
                "falls_at": 23.4,
                "levels": [level(10, 0.94), level(20, 0.92), level(45, 0.5)],
            },
            {
                "cause": "scale, farther",
                "unit": "of the size",
                "falls_at": 0.617,
                "levels": [level(0.9, 0.95), level(0.5, 0.7)],
            },
            {
                "cause": "illumination, brighter",
                "unit": "of the light",
                "falls_at": None,
                "levels": [level(1.25, 0.95), level(2.5, 0.93)],
            },
        ],
    }


def evaluation(n: int = 200, **more: Any) -> dict[str, Any]:
    """What `evaluate` says of n images of the run's own data, 95 % of them right."""
    return {
        "data": "/photos/birds",
        "own": "data" not in more,
        "images": n,
        "strangers": 0,
        "skipped": [],
        "when": "2026-03-02T10:11:12",
        "command": "fewlabels evaluate runs/1",
        "accuracy": share(95 * n // 100, n),
        **more,
    }


def write_evaluation(folder: Path, number: int, found: dict[str, Any]) -> None:
    (folder / "evaluations").mkdir(exist_ok=True)
    (folder / "evaluations" / f"{number}.json").write_text(json.dumps(found))


def make_full(folder: Path, **more: Any) -> dict[str, Any]:
    """Everything: the result with all keys, heat maps, and one evaluation."""
    result = make(folder, CLASSES)
    result["test"] |= {"balanced_accuracy": 0.885, "balanced_accuracy_interval": [0.721, 0.958]}
    result["test"] |= {"top5_accuracy": 0.981, "top5_accuracy_interval": [0.9, 0.999]}
    result |= {
        "calibration": calibration(),
        "unknown": {
            "threshold": 3.14,
            "why": "",
            "images": "validation images",
            "flagged": share(3, 50, "flagged"),
        },
        "copies": {
            "duplicates": [["a.png", "b.png"], ["c.png", "d.png"], ["e.png", "f.png"]],
            "leaks": [
                [
                    {"name": "c.png", "split": "train", "label": "ibis"},
                    {"name": "d.png", "split": "test", "label": "ibis"},
                ]
            ],
            "contradictions": [
                [
                    {"name": "e.png", "split": "train", "label": "ibis"},
                    {"name": "f.png", "split": "train", "label": "stork"},
                ]
            ],
            "counts": {"duplicates": 3, "leaks": 1, "contradictions": 1, "others": 1},
        },
        "doubtful_labels": [
            {"name": "g.png", "label": "stork", "predicted": "heron", "confidence": 0.9961}
        ],
        "guard": {"said": "2 of 40 were left out.", "left_out": 2, "scored": 40},
        "next": "Label more images, of stork first: these are recognised least.",
    }
    result |= more
    (folder / "result.json").write_text(json.dumps(result))
    rows = pq.read_table(folder / "gallery.parquet").to_pylist()
    rows.append(rows[-1] | {"kind": "stranger", "name": "cat.png"})
    for i, row in enumerate(rows):
        row["heat"] = png(seed=99 + i) if row["kind"] == "wrong" else None
    pq.write_table(pa.Table.from_pylist(rows), folder / "gallery.parquet")
    write_evaluation(folder, 1, evaluation() | robustness())
    return result
