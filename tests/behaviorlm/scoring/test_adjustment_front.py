"""The front of logit adjustment, against choices made one strength at a time."""

import numpy as np
import pytest

from behaviorlm.scoring.adjustment_front import adjustment_front
from behaviorlm.scoring.config import FRONT_TAUS
from behaviorlm.scoring.decision_rules import adjusted_choices


def test_a_front_without_a_tail_behavior_of_ten_targets_has_no_area() -> None:
    targets = np.repeat([0, 1], [30, 9])
    scores = np.random.default_rng(0).normal(size=(39, 2))
    choices = adjusted_choices(scores, np.log([0.8, 0.2]), FRONT_TAUS)
    front = adjustment_front(choices, targets.astype(np.int32), np.array([True, False])).to_json()
    assert (front["area"], front["expected_area"]) == (None, None)
    assert all(point["tail_macro_recall"] is None for point in front["points"])
    for point in front["points"]:
        predicted = (scores - point["tau"] * np.log([0.8, 0.2])).argmax(axis=1)
        assert point["anchor_accuracy"] == pytest.approx(np.mean(predicted[:30] == 0))
