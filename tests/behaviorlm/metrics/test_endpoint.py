"""The endpoint from choices alone against the one from whole outcomes, and by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from behaviorlm.metrics.endpoint import Endpoint, anchor_accuracy, endpoint, tail_macro_recall
from behaviorlm.metrics.intervals import measure_outcomes
from behaviorlm.metrics.outcomes import Choices, outcomes


@given(seed=st.integers(0, 10**6), behaviors=st.integers(2, 30))
def test_it_is_the_endpoint_of_the_metrics(seed: int, behaviors: int) -> None:
    random = np.random.default_rng(seed)
    targets = random.integers(-1, behaviors, random.integers(1, 300))
    is_anchor = random.random(behaviors) < 0.4
    found = outcomes(random.integers(0, 4, (len(targets), behaviors)).astype(np.float32), targets)
    metrics = measure_outcomes(found, is_anchor)
    expected = Endpoint(metrics["anchor"]["accuracy"], metrics["tail"]["macro_recall_at_least_10"])
    choices = Choices(found.target, found.predicted, behaviors)
    assert endpoint(choices, is_anchor) == expected
    least = tail_macro_recall(choices, is_anchor, 10)
    assert (least is None) == (expected.tail_macro_recall is None)
    assert least is None or least == pytest.approx(expected.tail_macro_recall, abs=1e-12)


def test_by_hand() -> None:
    targets = np.array([0, 0, 0, 0, *[1] * 10, 2, -1], np.int32)
    predicted = np.array([0, 1, 0, 0, *[1] * 6, *[0] * 4, 2, 2], np.int32)
    is_anchor = np.array([True, False, False])
    choices = Choices(targets, predicted, 3)
    assert endpoint(choices, is_anchor) == Endpoint(0.75, 0.6)
    assert tail_macro_recall(choices, is_anchor, 1) == pytest.approx((0.6 + 1.0) / 2)
    assert tail_macro_recall(choices, is_anchor, 11) is None
    assert anchor_accuracy(choices, np.array([False, False, False])) is None
