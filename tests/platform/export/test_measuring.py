"""Calibration finds what was distorted."""

import numpy as np
import pytest

from behaviorlm.metrics.label_probabilities import normalize_label_scores
from behaviorlm.predictor.answers import calibrated
from behaviorlm.predictor.artifact import Calibration
from behaviorlm_ray.export.measuring import most_likely


def test_calibration_finds_the_temperatures_and_the_shift_that_were_taken_out() -> None:
    random = np.random.default_rng(0)
    is_anchor = np.array([True] * 4 + [False] * 6)
    said = normalize_label_scores(random.normal(0, 2, (30_000, 10)))
    truth = Calibration(anchor_temperature=1.6, tail_temperature=0.7, tail_shift=-0.8)
    true = np.exp(calibrated(said, is_anchor, truth))
    targets = (true.cumsum(axis=1) > random.random((30_000, 1))).argmax(axis=1)
    found = most_likely(said, targets, is_anchor)
    assert found.anchor_temperature == pytest.approx(1.6, abs=0.1)
    assert found.tail_temperature == pytest.approx(0.7, abs=0.05)
    assert found.tail_shift == pytest.approx(-0.8, abs=0.1)

    def loss(calibration: Calibration | None) -> float:
        rows = np.arange(len(targets))
        return -float(calibrated(said, is_anchor, calibration)[rows, targets].mean())

    assert loss(found) <= loss(truth) < loss(None)


def test_calibrated_probabilities_sum_to_one_and_without_any_are_the_same() -> None:
    said = normalize_label_scores(np.random.default_rng(1).normal(0, 3, (50, 6)))
    is_anchor = np.arange(6) < 2
    assert calibrated(said, is_anchor, None) is said
    assert np.abs(calibrated(said, is_anchor, Calibration()) - said).max() < 1e-12
    changed = calibrated(said, is_anchor, Calibration(tail_temperature=3, tail_shift=1))
    assert np.exp(changed).sum(axis=1) == pytest.approx(1)
