"""How sure a finished run may be: the temperature of its probabilities, and what is unknown to it.

Both are set without a look at the test images. The temperature needs validation images that the
pool brings, whose labels the final model has not seen. What a trial or a fold was validated on will
not do: that was another model, trained for a shorter time on fewer labels. Given its temperature
the final one's calibration error went from 10.2 to 5.6 % in one run and from 8.8 to 17.7 % in
another (CIFAR-10, 250 labels, 90 s).

The threshold of what is unknown comes from such images, too, or from unlabelled ones: these have no
label that the model could know, and what of them is strange makes it the more careful.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fewlabels.evaluate.calibration import Temperature, fit_temperature, temper
from fewlabels.evaluate.unknown import (
    FEWEST,
    Detector,
    Threshold,
    conformal_threshold,
    familiar,
    first_map,
    seen_in,
    strangeness,
)
from fewlabels.models.ensemble import Ensemble
from fewlabels.procedures.chosen import BASELINE, Chosen
from fewlabels.procedures.prepare import Rows, each_class_in_turn
from fewlabels.procedures.probes import FROZEN
from fewlabels.procedures.stage import Weights

LABELLED, JUDGES = 300, 500  # that are looked at, at most


@dataclass(frozen=True, eq=False)
class Certainty:
    """What the artefact holds beside the model."""

    temperature: Temperature
    threshold: Threshold
    images: str = ""  # what kind of images the threshold comes from
    detector: Detector | None = None  # None where there is no threshold

    def to_json(self) -> dict[str, Any]:
        """For `result.json`."""
        found: dict[str, Any] = {"threshold": self.threshold.value, "why": self.threshold.why}
        if self.detector is not None:
            found |= {"images": self.images, "flagged": self.threshold.flagged.to_json("flagged")}
        return {"temperature": vars(self.temperature), "unknown": found}


def certainty(chosen: Chosen) -> Certainty:
    """Fits both; the model has learnt what it will ever learn."""
    data = chosen.context.data
    p = chosen.final.val
    if not len(data.val) or len(p) != len(data.val):
        why = "there are no validation images, in val/, whose labels the model has not seen"
        return _detector(chosen, Temperature(1.0, 0, why))
    logs = np.log(np.maximum(p, 1e-30))
    return _detector(chosen, fit_temperature(logs, data.pool.label[data.val]))


def tempered(chosen: Chosen, temperature: float) -> Chosen:
    """The run as its classifier will answer: the probabilities of its method tempered."""
    if temperature == 1:
        return chosen

    def own(said: dict[str, Any]) -> dict[str, Any]:
        return said | {
            name: temper(p, temperature) for name, p in said.items() if name == chosen.method
        }

    return replace(
        chosen,
        val=own(chosen.val),
        test=own(chosen.test),
        ask=lambda some: temper(chosen.said(some), temperature),
    )


def _detector(chosen: Chosen, temperature: Temperature) -> Certainty:
    context, label = chosen.context, chosen.context.data.pool.label
    known, judges, images, weights = _whom(chosen)
    if len(judges) < FEWEST:
        return Certainty(temperature, conformal_threshold(np.zeros(len(judges))))
    model = context.model(weights).eval()
    if isinstance(model, Ensemble):
        nothing = conformal_threshold(np.zeros(0))
        return Certainty(
            temperature, replace(nothing, why="an ensemble sees each image several ways")
        )
    asked = context.preprocess, context.fabric.device
    path = first_map(model, context.data.images[known[:1]], *asked)
    learnt = seen_in(model, path, context.data.images[known], *asked)
    of = familiar(learnt[0], label[known], learnt[1])
    seen = seen_in(model, path, context.data.images[judges], *asked)
    threshold = conformal_threshold(strangeness(of, *seen))
    assert threshold.value is not None
    if weights is not chosen.final.weights:  # the threshold goes with what ships
        model = context.model(chosen.final.weights).eval()
        known = _some(chosen, context.data.labelled)
        learnt = seen_in(model, path, context.data.images[known], *asked)
        of = familiar(learnt[0], label[known], learnt[1])
    return Certainty(temperature, threshold, images, Detector(of, path, threshold.value))


def _whom(chosen: Chosen) -> tuple[Rows, Rows, str, Weights]:
    """Labelled images that say what is familiar, others that are known and not learnt, what these
    are called, and the weights of the model that has not learnt them."""
    data, final = chosen.context.data, chosen.final.weights
    known = _some(chosen, data.labelled)
    if len(data.val) >= FEWEST:
        return known, _some(chosen, data.val, JUDGES), "validation images", final
    if len(data.unlabelled) >= FEWEST:
        return known, _some(chosen, data.unlabelled, JUDGES), "unlabelled images", final
    # a trial of labels only has not seen these labels; frozen features know none
    if chosen.method in (BASELINE, *FROZEN):
        known = _some(chosen, np.setdiff1d(data.labelled, data.held_out))
        return (
            known,
            _some(chosen, data.held_out, JUDGES),
            "validation images",
            chosen.stages[0].weights,
        )
    return known, data.val, "validation images", final


def _some(chosen: Chosen, rows: Rows, most: int = LABELLED) -> Rows:
    """So many of them at most, of every class."""
    label = chosen.context.data.pool.label
    order = np.random.default_rng(chosen.context.config.seed).permutation(rows)
    return np.sort(each_class_in_turn(order, label)[:most])
