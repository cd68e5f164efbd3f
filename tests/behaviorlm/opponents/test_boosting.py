"""Boosted trees: probabilities, what they rest on, and what is said where LightGBM is missing."""

import sys
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from behaviorlm.baselines.frequency import training_prior
from behaviorlm.baselines.timelines import TimelineArrays
from behaviorlm.errors import ConfigError, DataError
from behaviorlm.opponents.boosting import FittedTrees, fit_trees
from behaviorlm.opponents.budget import BoostingBudget
from behaviorlm.opponents.names import OPPONENTS, OpponentName, budget_of, require_installed
from behaviorlm.opponents.registry import fit_opponent
from tests.behaviorlm.opponents.logs_with_order import changed_at, log_with_order

BUDGET = BoostingBudget(least_in_leaf=10, leaves=7, most_rounds=60, folds=3)


@pytest.fixture(scope="module")
def fitted() -> FittedTrees:
    pytest.importorskip("lightgbm")
    return fit_trees(log_with_order(users=60), 6, 0, BUDGET)


def test_probabilities_sum_to_one_and_rest_on_the_history(fitted: FittedTrees) -> None:
    timelines = log_with_order(users=60)
    rows = timelines.target_rows(2)
    rows = rows[timelines.behavior[rows] >= 0]
    said = fitted.predict(timelines, rows).astype(np.float64)
    np.testing.assert_allclose(np.exp(said).sum(axis=1), 1, rtol=1e-5)
    targets = timelines.behavior[rows]
    loss = -said[np.arange(len(rows)), targets].mean()
    assert loss < -np.log(training_prior(timelines)[targets]).mean() - 0.15


def test_probabilities_are_the_shares_where_nothing_else_is_to_be_known() -> None:
    """Whatever is drawn beside a target: as often as it comes, or from all behaviors alike."""
    pytest.importorskip("lightgbm")
    shares = np.array([0.6, 0.2, 0.1, 0.07, 0.03])
    behavior = np.random.default_rng(0).choice(5, size=60 * 30, p=shares).astype(np.int32)
    rows = np.arange(len(behavior))
    split = np.array([0, 1, 2], np.int8)[np.minimum(rows % 30 // 20 + (rows % 30 >= 25), 2)]
    zeros = np.zeros(len(rows), np.int32)
    timelines = TimelineArrays(behavior, rows - rows % 30, rows % 30 > 0, split, zeros, 5)
    fitted = fit_trees(timelines, 6, 0, BUDGET)
    said = np.exp(fitted.predict(timelines, timelines.target_rows(2)).astype(np.float64))
    np.testing.assert_allclose(said.mean(axis=0), shares, atol=0.04)


def test_scores_rest_on_what_is_before_a_row_and_not_on_other_rows(fitted: FittedTrees) -> None:
    timelines = log_with_order(users=60)
    rows = timelines.target_rows(2)[:40]
    said = fitted.predict(timelines, rows)
    order = np.random.default_rng(0).permutation(40)
    np.testing.assert_array_equal(fitted.predict(timelines, rows[order]), said[order])
    later = changed_at(timelines, np.arange(rows[7], len(timelines.behavior)))
    np.testing.assert_array_equal(fitted.predict(later, rows[:8])[7], said[7])
    again = fit_trees(timelines, 6, 0, BUDGET)
    np.testing.assert_array_equal(again.predict(timelines, rows), said)
    assert [fit.learning_rate for fit in again.fits] == list(BUDGET.learning_rates)


def test_a_missing_lightgbm_is_told_with_the_extra_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    with pytest.raises(ConfigError, match=r"evaluation\.opponents.*behaviorlm\[opponents\]"):
        require_installed("lightgbm")
    require_installed("sasrec")
    with pytest.raises(ConfigError, match=r"behaviorlm\[opponents\]"):
        fit_opponent("lightgbm", log_with_order(), 4, 0, BUDGET)


@pytest.mark.parametrize("name", get_args(OpponentName))
def test_nothing_is_fitted_without_training_targets(name: OpponentName) -> None:
    assert name in OPPONENTS
    timelines = log_with_order()
    timelines = replace(timelines, is_target=np.zeros_like(timelines.is_target))
    with pytest.raises(DataError, match="training samples"):
        fit_opponent(name, timelines, 4, 0, budget_of(name))
