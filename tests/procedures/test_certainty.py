"""Temperature and threshold of a finished run, from images whose labels it had not seen."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import fewlabels as fl
from fewlabels.evaluate.calibration import temper
from fewlabels.models.ensemble import Ensemble, Member
from fewlabels.pixels.preprocess import Preprocess
from fewlabels.procedures.certainty import Certainty, certainty, tempered
from fewlabels.procedures.chosen import Chosen
from fewlabels.procedures.compare import Compared
from fewlabels.procedures.stage import Trained

SIDE, KNOWN, OTHERS = 16, 40, 400
NOTHING = np.zeros((0, 2))


class Colours(nn.Module):
    """Two classes, by the mean of red and of green."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        with torch.no_grad():
            self.body.weight.zero_()
            for channel in range(3):
                self.body.weight[channel, channel, 1, 1] = 1.0
        self.head = nn.Linear(4, 2, bias=False)
        nn.init.eye_(self.head.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.body(x).mean((2, 3)))
        return logits


def pictures(count: int, seed: int, blue: int = 0) -> tuple[Any, Any]:
    """Red and green noise, in turn; `blue` makes strangers of them."""
    rng = np.random.default_rng(seed)
    label = np.arange(count) % 2
    images = rng.integers(0, 60, (count, SIDE, SIDE, 3)).astype(np.uint8)
    images[np.arange(count), ..., label] += np.uint8(120)
    images[..., 2] += np.uint8(blue)
    return images, label


def finished(
    p: Any = NOTHING,
    compared: Compared | None = None,
    model: nn.Module | None = None,
    **rows: Any,
) -> Chosen:
    """A run on 40 labelled images and 400 others; `rows` are those of its data."""
    known, label = pictures(KNOWN, 0)
    others, truth = pictures(OTHERS, 1)
    empty = np.zeros(0, np.int64)
    whole = {"labelled": np.arange(KNOWN), "held_out": empty, "unlabelled": empty, "val": empty}
    context: Any = SimpleNamespace(
        data=SimpleNamespace(
            images=np.concatenate([known, others]),
            pool=SimpleNamespace(label=np.concatenate([label, truth])),
            **(whole | rows),
        ),
        preprocess=Preprocess(SIDE, (0.0,) * 3, (1.0,) * 3),
        fabric=SimpleNamespace(device=torch.device("cpu")),
        config=SimpleNamespace(seed=0),
        model=lambda weights: model or Colours(),
        val_rows=rows.get("val", empty),
    )
    stage = Trained({}, 1, 1.0, 1, p)
    said = {"fixmatch": p} if len(p) else {}
    return Chosen(context, "fixmatch", (stage,), (), said, {}, "", compared=compared)


def shouting(label: Any, by: float) -> Any:
    """Probabilities that are right 8 times in 10 and `by` too sure of it."""
    logits = np.zeros((len(label), 2))
    said = np.where(np.arange(len(label)) % 5 == 0, 1 - label, label)
    logits[np.arange(len(label)), said] = by * np.log(0.8 / 0.2)
    p = np.exp(logits)
    return p / p.sum(1, keepdims=True)


def test_the_temperature_undoes_shouting() -> None:
    val = np.arange(KNOWN, KNOWN + 200)
    label = pictures(OTHERS, 1)[1][:200]
    found = certainty(finished(shouting(label, 3.0), val=val))
    assert found.temperature.value == pytest.approx(3.0, rel=1e-3)
    assert found.temperature.n == 200
    assert found.images == "validation images"


def test_what_other_models_said_is_no_temperature_of_this_one() -> None:
    """Those of folds, and the trial that had not seen the held-out labels."""
    rows = np.arange(KNOWN)
    label = pictures(KNOWN, 0)[1]
    judged = Compared(rows, {"fixmatch": shouting(label, 2.0)}, label)
    chosen = finished(compared=judged, unlabelled=np.arange(KNOWN, KNOWN + OTHERS))
    assert certainty(chosen).temperature.value == 1.0
    chosen = finished(shouting(label, 2.0), held_out=rows)
    assert certainty(chosen).temperature.value == 1.0


def test_without_judges_it_stays_as_it_is_and_says_why() -> None:
    found = certainty(finished())
    assert found.temperature.value == 1.0
    assert "in val/" in found.temperature.why
    assert found.detector is None
    assert "too few" in found.threshold.why
    assert found.to_json()["unknown"] == {"threshold": None, "why": found.threshold.why}


@pytest.mark.parametrize("kind", ["val", "unlabelled"])
def test_one_known_image_in_twenty_is_flagged_and_strangers_are(kind: str) -> None:
    found = certainty(finished(**{kind: np.arange(KNOWN, KNOWN + OTHERS)}))
    detector = found.detector
    assert detector is not None
    assert found.images == ("validation images" if kind == "val" else "unlabelled images")
    assert detector.threshold == found.threshold.value
    assert detector.path == "body"
    assert found.threshold.flagged.n == OTHERS
    assert flagged(found, 2) == pytest.approx(0.05, abs=0.04)
    assert flagged(found, 2, blue=90) == 1.0


def flagged(found: Certainty, seed: int, blue: int = 0) -> float:
    from fewlabels.deploy.classifier import Classifier

    seen = Preprocess(SIDE, (0.0,) * 3, (1.0,) * 3)
    net = Classifier(Colours(), ("red", "green"), seen, "cpu", detector=found.detector)
    said = net.predict(pictures(400, seed, blue)[0])
    return float(np.mean([one.unknown for one in said]))


def test_labels_that_the_model_knows_set_no_threshold() -> None:
    """Held-out labels are learnt in the end, but for labels only, whose trial has not seen them."""
    chosen = finished(held_out=np.arange(30))
    assert certainty(chosen).detector is None


def test_an_ensemble_has_none() -> None:
    seen: Any = (SIDE, (0.0,) * 3, (1.0,) * 3)
    both = Ensemble([Member(Colours(), *seen, *seen[1:], (0, 1)) for _ in range(2)])
    found = certainty(finished(model=both, val=np.arange(KNOWN, KNOWN + OTHERS)))
    assert found.detector is None
    assert "ensemble" in found.threshold.why


def test_all_that_the_run_says_is_tempered_once() -> None:
    p = np.array([[0.9, 0.1], [0.2, 0.8]])
    chosen = finished(p)
    cool = tempered(chosen, 2.0)
    np.testing.assert_allclose(cool.val["fixmatch"], temper(p, 2.0))
    rows = np.arange(5)
    chosen.context.probabilities = lambda model, rows: np.tile(p[0], (len(rows), 1))  # type: ignore[misc]
    np.testing.assert_allclose(cool.said(rows), temper(np.tile(p[0], (5, 1)), 2.0))
    assert tempered(chosen, 1.0) is chosen


def test_the_artefact_answers_as_the_run_was_measured(split_folders: Path, tmp_path: Path) -> None:
    run = fl.train(
        split_folders,
        out=tmp_path / "run",
        method="fixmatch",
        model="cnn_small",
        steps=4,
        batch_size=4,
        img_size=16,
        device="cpu",
    )
    told = run.result["unknown"]
    assert told["images"] == "unlabelled images"
    assert told["flagged"]["n"] == 24
    detector = fl.load(run).detector
    assert detector is not None
    assert detector.threshold == told["threshold"]
    assert run.result["calibration"]["split"] == "test"
    assert run.result["calibration"]["temperature"]["value"] == 1.0
    assert run.result["calibration"]["ece"]["n"] == 12
