"""What is kept of label scores, against a whole sort of each row."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from behaviorlm.metrics.score_summary import TOP, summarize_scores


@given(seed=st.integers(0, 10**6), behaviors=st.integers(2, 12))
def test_it_is_that_of_a_whole_sort_with_ties_and_impossible_behaviors(seed: int, behaviors: int) -> None:
    random = np.random.default_rng(seed)
    scores = np.round(random.normal(size=(20, behaviors)) * 2).astype(np.float32)
    scores[random.random(scores.shape) < 0.3] = -np.inf
    scores[:, 0] = np.where(np.isneginf(scores).all(axis=1), 0, scores[:, 0])
    targets = random.integers(-1, behaviors, 20)
    found = summarize_scores(scores, targets)
    for row, target, own, normalizer, top, top_scores in zip(
        scores.tolist(),
        targets.tolist(),
        found.target_score,
        found.log_normalizer,
        found.top,
        found.top_scores,
        strict=True,
    ):
        assert top.tolist() == sorted(range(behaviors), key=lambda k: (-row[k], k))[:TOP]
        assert top_scores.tolist() == [row[k] for k in top]
        assert np.isnan(own) if target < 0 else own == row[target]
        assert normalizer == pytest.approx(np.log(np.exp(row).sum()), abs=1e-9)
