"""The coverage curve against scikit-learn, for the first answer and for the first five."""

import numpy as np
import pytest
from sklearn.metrics import precision_score, top_k_accuracy_score

from behaviorlm.metrics.coverage import FIRST, coverage_curve
from behaviorlm.metrics.outcomes import outcomes

THRESHOLDS = [step / 20 for step in range(20)]


def test_the_curve_is_what_scikit_learn_says_of_the_answered_samples() -> None:
    random = np.random.default_rng(3)
    scores = random.normal(0, 2, (400, 9))
    targets = (scores + random.normal(0, 2, scores.shape)).argmax(axis=1)
    said = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    found = outcomes(scores, targets)
    curve = coverage_curve(found.confidence, found.rank, THRESHOLDS)
    assert curve[0].coverage == 1.0 and curve[-1].coverage < 0.2
    for point in curve:
        answered = said.max(axis=1) >= point.min_probability
        assert point.coverage == pytest.approx(np.mean(answered))
        first = precision_score(targets[answered], said[answered].argmax(axis=1), average="micro")
        assert point.precision == pytest.approx(first)
        five = top_k_accuracy_score(targets[answered], said[answered], k=FIRST, labels=np.arange(9))
        assert point.recall_at_5 == pytest.approx(five) and five > first


def test_a_target_that_training_never_saw_is_wrong_and_without_an_answer_nothing_is_claimed() -> None:
    curve = coverage_curve(np.array([0.4, 0.6, 0.6]), np.array([0, -1, 3]), [0.5, 0.7])
    assert (curve[0].coverage, curve[0].precision, curve[0].recall_at_5) == (pytest.approx(2 / 3), 0.0, 0.5)
    assert (curve[1].coverage, curve[1].precision, curve[1].recall_at_5) == (0.0, None, None)
