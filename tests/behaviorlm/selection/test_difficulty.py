"""Measures of difficulty against scipy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax, softmax
from scipy.stats import entropy, rankdata

from behaviorlm.errors import DataError
from behaviorlm.selection.difficulty import align_judges, difficulty_measures


def random_scores(seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    scores = (generator.normal(size=(200, 15)) * 4 - 30).astype(np.float32)
    return scores, generator.integers(0, 15, 200)


@pytest.mark.parametrize("seed", range(3))
def test_every_measure_equals_its_definition_in_scipy(seed: int) -> None:
    scores, targets = random_scores(seed)
    measures = difficulty_measures(scores, targets)
    exact = log_softmax(scores.astype(np.float64), axis=1)
    rows = np.arange(200)
    nll = -exact[rows, targets]
    others = exact.copy()
    others[rows, targets] = -np.inf
    assert np.allclose(measures["nll"], nll, rtol=1e-12, atol=1e-12)
    assert np.array_equal(measures["rank"], rankdata(-scores, axis=1)[rows, targets] - 1)
    assert np.allclose(measures["margin"], others.max(axis=1) - exact[rows, targets], atol=1e-12)
    assert np.allclose(measures["excess"], nll - entropy(softmax(scores.astype(np.float64), axis=1), axis=1))
    assert all(values.dtype == np.float64 for values in measures.values())


def test_the_excess_over_all_outcomes_averages_to_zero_under_the_prediction() -> None:
    scores, _ = random_scores(9)
    row = np.repeat(scores[:1], 15, axis=0)
    excess = difficulty_measures(row, np.arange(15))["excess"]
    assert excess @ softmax(scores[0].astype(np.float64)) == pytest.approx(0, abs=1e-6)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_easiest_target_is_the_first_by_every_measure_and_the_margin_tells_it(seed: int) -> None:
    scores = np.repeat(np.random.default_rng(seed).normal(size=(1, 8)), 8, axis=0)
    measures = difficulty_measures(scores, np.arange(8))
    first = int(scores[0].argmax())
    for name, values in measures.items():
        assert values.argmin() == first, name
    assert ((measures["margin"] < 0) == (measures["rank"] == 0)).all()


def test_blocks_of_rows_and_impossible_labels_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, targets = random_scores(4)
    scores[:, 14] = -np.inf
    targets = np.minimum(targets, 13)
    whole = difficulty_measures(scores, targets)
    without = difficulty_measures(scores[:, :14], targets)
    monkeypatch.setattr("behaviorlm.metrics.label_probabilities.SCORES_PER_BLOCK", 31)
    blocks = difficulty_measures(scores, targets)
    for name in whole:
        assert np.allclose(whole[name], without[name]), name
        assert np.array_equal(whole[name], blocks[name]), name


def test_unseen_targets_and_damaged_scores_are_refused() -> None:
    scores, targets = random_scores(5)
    with pytest.raises(DataError, match="inside the vocabulary"):
        difficulty_measures(scores, np.where(targets == 3, -1, targets))
    scores[17, 2] = np.nan
    with pytest.raises(DataError, match="row 17"):
        difficulty_measures(scores, targets)


def test_two_judges_share_the_hardest_samples_of_a_behavior_and_each_keeps_its_order() -> None:
    random = np.random.default_rng(6)
    behavior, judge = random.integers(0, 3, 600), (random.random(600) < 0.3).astype(int)
    truth = random.normal(size=600)
    difficulty = truth * np.where(judge == 1, 3.0, 1.0) + 20.0 * judge
    aligned = align_judges(difficulty, behavior, judge)
    for index in range(3):
        members = np.flatnonzero(behavior == index)
        hardest = members[np.argsort(-aligned[members])[: len(members) // 2]]
        assert judge[hardest].mean() == pytest.approx(judge[members].mean(), abs=0.02)
        assert judge[members[np.argsort(-difficulty[members])[: len(members) // 4]]].mean() == 1.0
        assert difficulty[members].min() <= aligned[members].min()
        assert aligned[members].max() <= difficulty[members].max()
        for one in (0, 1):
            own = members[judge[members] == one]
            assert np.array_equal(np.argsort(aligned[own]), np.argsort(truth[own]))


def test_one_judge_of_a_behavior_is_left_as_it_is_and_ties_stay_ties() -> None:
    difficulty = np.array([3.0, 1.0, 2.0, 2.0, 7.0, 9.0])
    behavior, judge = np.array([0, 0, 1, 1, 1, 1]), np.array([1, 1, 0, 0, 1, 1])
    aligned = align_judges(difficulty, behavior, judge)
    assert aligned[:2].tolist() == [3.0, 1.0]
    assert aligned[2] == aligned[3] == pytest.approx(4.5), "the middle of 2, 2, 7, 9"
    assert aligned[4] < aligned[2] < aligned[5]
