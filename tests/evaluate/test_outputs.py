import json

import numpy as np
import pytest

from fewlabels.errors import UserError
from fewlabels.evaluate.outputs import Outputs
from fewlabels.evaluate.predictions import softmax


def test_numbers_are_learnt_standardised_and_told_in_their_unit() -> None:
    label = np.array([[100.0, 7.0, -1.0], [300.0, 7.0, 1.0]])
    outputs = Outputs.of("regression", label)
    np.testing.assert_allclose(outputs.taught(label), [[-1, 0, -1], [1, 0, 1]])
    np.testing.assert_allclose(outputs.read(outputs.taught(label)), label)
    assert np.isnan(outputs.taught(np.full((1, 3), np.nan))).all()


def test_classes_by_themselves_and_one_class() -> None:
    logits = np.array([[-1000.0, 0.0, 1000.0]], np.float32)
    outputs = Outputs.of("multi", np.array([[True, False, True]]))
    assert outputs.read(logits).tolist() == [[0.0, 0.5, 1.0]]
    assert outputs.taught(np.array([[True, False]])).tolist() == [[1.0, 0.0]]
    np.testing.assert_array_equal(Outputs().read(logits), softmax(logits))


def test_what_the_artefact_holds() -> None:
    for outputs in (
        Outputs(),
        Outputs("multi"),
        Outputs.of("regression", np.array([[1.0, 2.0], [4.0, 2.0]])),
    ):
        assert Outputs.from_json(json.loads(json.dumps(outputs.to_json()))) == outputs
    assert Outputs().to_json() == {}
    Outputs().need_one_class("evaluate")
    with pytest.raises(UserError, match="evaluate: is for runs of one class an image"):
        Outputs("multi").need_one_class("evaluate")
