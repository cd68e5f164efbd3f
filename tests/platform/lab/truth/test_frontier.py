"""Frontier and violations: the bound holds for honest predictors, and one that knows what is hidden is caught."""

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from behaviorlm_lab.truth.frontier import (
    best_choices,
    endpoint_frontier,
    endpoint_values,
    expected,
    group_frontier,
    group_values,
    macro_recall_bound,
    measured,
)
from behaviorlm_lab.truth.probabilities import filtered_timelines, windowed_timelines
from behaviorlm_lab.truth.violations import DifferenceSums, Violation, best_of, comparisons, freedman_bound
from behaviorlm_lab.world.errands import errands_world
from behaviorlm_lab.world.generator import UNKNOWN, Floats, Generator, Integers, timeline_of
from behaviorlm_lab.world.process import default_world

USERS = 150


def violations(
    probabilities: Floats, is_anchor: NDArray[np.bool_], targets: Integers, choices: Integers
) -> list[Violation]:
    """The comparisons in which choices int[n] are beyond p* float64[n, K]."""
    compared = comparisons(probabilities.sum(axis=0), is_anchor)
    sums = DifferenceSums(compared)
    sums.add(probabilities, targets, choices, best_of(compared, probabilities))
    return sums.violations()


def predictors(world: Generator) -> tuple[np.ndarray, Integers, dict[str, Integers]]:
    """p*, targets, and choices by name; `cheat` knows persona and state."""
    lives = [world.simulate_life(21, user, (20, 40)) for user in range(USERS)]
    timelines = [timeline_of(world, life.events) for life in lives]
    p = np.concatenate(filtered_timelines(world, timelines))
    targets = np.concatenate([timeline.behaviors for timeline in timelines])
    starts = [np.maximum(0, np.arange(len(timeline)) // 4 * 4 - 4) for timeline in timelines]
    window = np.concatenate(windowed_timelines(world, timelines, starts))
    hidden, frequent = [], []
    for life, timeline in zip(lives, timelines, strict=True):
        counts = p.mean(axis=0).copy()
        for position, behavior in enumerate(timeline.behaviors):
            before = int(timeline.behaviors[position - 1]) if position else UNKNOWN
            hour = int(timeline.hours[position])
            hidden.append(world.hidden_probabilities(life.persona, life.states[position], hour, before))
            frequent.append(counts.argmax())
            counts[behavior] += 1
    values = endpoint_values(p.sum(axis=0), np.asarray(world.is_common))
    choices = {
        "truth": p.argmax(axis=1),
        "truth in a window": window.argmax(axis=1),
        "truth for macro recall": best_choices(p, values[0]),
        "random": np.random.default_rng(0).integers(0, p.shape[1], len(p)),
        "frequent for the user": np.array(frequent),
        "rarest": np.full(len(p), int(p.sum(axis=0).argmin())),
        "cheat": np.stack(hidden).argmax(axis=1),
    }
    return p, targets, choices


@pytest.mark.parametrize("make", [default_world, errands_world], ids=["main", "errands"])
def test_a_predictor_that_knows_the_hidden_is_caught_and_honest_ones_are_not(
    make: Callable[[], Generator],
) -> None:
    world = make()
    is_anchor = np.asarray(world.is_common)
    p, targets, choices = predictors(world)
    found = {name: violations(p, is_anchor, targets, choice) for name, choice in choices.items()}
    caught = {violation.comparison for violation in found.pop("cheat")}
    assert {"accuracy", "anchor and tail accuracy", "its own choices"} <= caught
    assert not any(found.values()), found


def test_a_cheat_that_hides_inside_the_frontier_is_caught_by_its_own_choices() -> None:
    """It predicts the burst that it knows of, elsewhere at random: no better than the truth, but too lucky."""
    world = default_world()
    p, targets, choices = predictors(world)
    is_anchor = np.asarray(world.is_common)
    cheat = np.where(is_anchor[choices["cheat"]], choices["random"], choices["cheat"])
    found = {violation.comparison for violation in violations(p, is_anchor, targets, cheat)}
    assert "its own choices" in found and "accuracy" not in found


@given(seed=st.integers(0, 10**6))
def test_no_other_choice_has_a_larger_expected_value(seed: int) -> None:
    random = np.random.default_rng(seed)
    p = random.dirichlet(np.ones(4), 3)
    is_anchor = np.array([True, True, False, False])
    for values in group_values(is_anchor, np.array([0.1, 0.5, 0.8])):
        best = best_choices(p, values)
        reached = (values[best] * p[np.arange(3), best]).sum()
        for other in product(range(4), repeat=3):
            assert reached >= (values[list(other)] * p[np.arange(3), list(other)]).sum() - 1e-12


def test_the_frontier_trades_anchor_for_tail_and_holds_the_best_of_each() -> None:
    world = default_world()
    is_anchor = np.asarray(world.is_common)
    p, targets, choices = predictors(world)
    curve = group_frontier(p, is_anchor, targets)
    assert (np.diff(curve.expected_anchor_accuracy) >= -1e-12).all()
    assert (np.diff(curve.expected_tail_accuracy) <= 1e-12).all()
    middle = int(np.flatnonzero(np.isclose(curve.weights, 0.5))[0])
    assert curve.expected_accuracy[middle] == pytest.approx(p.max(axis=1).mean())
    assert curve.expected_accuracy.max() == curve.expected_accuracy[middle]
    best = measured(choices["truth"], is_anchor, targets)
    assert (curve.accuracy[middle], curve.tail_accuracy[middle]) == (best["accuracy"], best["tail_accuracy"])
    bound, realized = macro_recall_bound(p, is_anchor, targets)
    endpoint = endpoint_frontier(p, is_anchor, targets)
    assert bound >= endpoint.expected_tail_macro_recall.max() - 1e-12
    assert bound >= curve.expected_tail_macro_recall.max() - 1e-12
    assert abs(bound - realized) < 0.06


def test_measured_counts_by_hand() -> None:
    is_anchor = np.array([True, False, False])
    targets = np.array([0, 0, *[1] * 10, 2, -1])
    choices = np.array([0, 1, *[1] * 4, *[0] * 6, 2, 2])
    result = measured(choices, is_anchor, targets)
    assert result["accuracy"] == pytest.approx(6 / 14)
    assert result["anchor_accuracy"] == 0.5
    assert result["tail_accuracy"] == pytest.approx(5 / 12)  # the unseen target belongs to the tail
    assert result["tail_macro_recall"] == pytest.approx(0.4)  # behavior 2 has fewer than ten targets


def test_the_bound_on_chance_holds_for_rare_hits_where_a_normal_one_would_not() -> None:
    """40 trials of chance 1/1000: the sum passes the bound at level 0.01 in less than 1 % of the draws."""
    random = np.random.default_rng(0)
    chance, trials = 0.001, 40
    sums = random.binomial(trials, chance, 100_000) - trials * chance
    variance = trials * chance * (1 - chance)
    assert (sums > freedman_bound(variance, 1 - chance, 0.01)).mean() < 0.01
    assert (sums > 2.33 * np.sqrt(variance)).mean() > 0.01


def test_expected_is_the_mean_of_what_is_measured_over_many_draws() -> None:
    random = np.random.default_rng(4)
    p = random.dirichlet(np.full(6, 0.4), 300)
    is_anchor = np.array([True, True, False, False, False, False])
    choices = random.integers(0, 6, len(p))
    draws = [(p.cumsum(axis=1) > random.random((len(p), 1))).argmax(axis=1) for _ in range(2000)]
    found = [measured(choices, is_anchor, targets) for targets in draws]
    for name, value in expected(choices, p, is_anchor).items():
        assert value is not None
        drawn = np.array([one[name] for one in found])
        # a ratio of two sums: its mean is off by the order of one part in the number of targets
        assert abs(value - drawn.mean()) < 0.005 + 4 * drawn.std() / np.sqrt(len(drawn))


def test_what_no_behavior_or_sample_counts_for_is_none_and_not_zero() -> None:
    p = np.full((30, 4), 0.25)
    is_anchor = np.array([True, True, True, False])
    found = expected(np.zeros(30, np.int64), p, is_anchor)
    assert found["tail_macro_recall"] is None  # 7.5 targets of the one tail behavior
    assert (found["accuracy"], found["anchor_accuracy"], found["tail_accuracy"]) == (0.25, 1 / 3, 0.0)
    assert set(expected(np.zeros(0, np.int64), p[:0], is_anchor).values()) == {None}
    curve = endpoint_frontier(p, is_anchor, np.zeros(30, np.int64))
    assert np.isnan(curve.expected_tail_macro_recall).all() and np.isnan(curve.tail_macro_recall).all()
    assert np.isnan(macro_recall_bound(p, is_anchor, np.zeros(30, np.int64))).all()


def test_expected_of_the_best_choices_is_the_frontier() -> None:
    p, targets, _ = predictors(default_world())
    is_anchor = np.asarray(default_world().is_common)
    curve = group_frontier(p, is_anchor, targets)
    for index, values in enumerate(group_values(is_anchor)):
        best = expected(best_choices(p, values), p, is_anchor)
        assert best["anchor_accuracy"] == curve.expected_anchor_accuracy[index]
        assert best["tail_macro_recall"] == curve.expected_tail_macro_recall[index]
