"""The Bayes rule of the endpoint against brute force: no decision function of a small world reaches more."""

from itertools import product

import numpy as np
import pytest
from scipy.stats import poisson

from behaviorlm.scoring.decision_rules import log_prior
from behaviorlm.scoring.rule_terms import (
    NOT_COUNTED,
    Terms,
    adjusted_terms,
    bayes_shift,
    chance_to_count,
    fitted_terms,
)

CONTEXTS, BEHAVIORS = 4, 6
IS_ANCHOR = np.arange(BEHAVIORS) < 2
COUNTED = np.array([False, False, True, True, True, False])
"""The last behavior is too rare to count."""


def world(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """P(x), float64[4], and p*(b | x), float64[4, 6], with two frequent behaviors."""
    random = np.random.default_rng(seed)
    contexts = random.dirichlet(np.ones(CONTEXTS))
    frequency = np.array([8, 6, 1.5, 1, 0.5, 0.1])
    return contexts, np.array([random.dirichlet(frequency) for _ in range(CONTEXTS)])


def expected_endpoint(
    choice: tuple[int, ...], contexts: np.ndarray, truth: np.ndarray, counts: np.ndarray = COUNTED
) -> float:
    """(anchor accuracy + tail macro recall) / 2 of a decision function, each an expected share of expected targets.

    counts: how much of each recall there is in the mean.
    """
    happens = contexts @ truth
    hits = np.zeros(BEHAVIORS)
    for context, behavior in enumerate(choice):
        hits[behavior] += contexts[context] * truth[context, behavior]
    recall = np.average(hits[2:] / happens[2:], weights=counts[2:])
    return float(hits[:2].sum() / happens[:2].sum() + recall) / 2


def best_of_all(contexts: np.ndarray, truth: np.ndarray, counts: np.ndarray = COUNTED) -> float:
    """Of all 6 ** 4 decision functions."""
    every = product(range(BEHAVIORS), repeat=CONTEXTS)
    return max(expected_endpoint(choice, contexts, truth, counts) for choice in every)


def chosen(shift: np.ndarray, said: np.ndarray) -> tuple[int, ...]:
    return tuple(Terms(np.ones(BEHAVIORS), shift).scores(np.log(said)).argmax(axis=1).tolist())


@pytest.mark.parametrize("seed", range(20))
def test_the_bayes_rule_reaches_what_the_best_decision_function_does(seed: int) -> None:
    contexts, truth = world(seed)
    prior = np.log(contexts @ truth)
    rule = chosen(bayes_shift(prior, None, IS_ANCHOR, COUNTED), truth)
    assert expected_endpoint(rule, contexts, truth) == pytest.approx(best_of_all(contexts, truth), abs=1e-12)
    assert 5 not in rule, "it gains nothing"


@pytest.mark.parametrize("seed", range(20))
def test_where_only_the_chance_to_count_is_known_none_is_better_either(seed: int) -> None:
    contexts, truth = world(seed)
    prior = np.log(contexts @ truth)
    counts = chance_to_count(np.exp(prior), 30, 1)
    rule = chosen(bayes_shift(prior, None, IS_ANCHOR, counts), truth)
    best = best_of_all(contexts, truth, counts)
    assert expected_endpoint(rule, contexts, truth, counts) == pytest.approx(best, abs=1e-12)


@pytest.mark.parametrize("minimum", [1, 2, 10])
def test_the_chance_to_count_is_that_of_poissons_law(minimum: int) -> None:
    shares = np.array([0.0, 1e-9, 1e-4, 0.003, 0.01, 0.9])
    for samples in (1, 400, 100_000):
        expected = poisson.sf(minimum - 1, shares * samples)
        assert chance_to_count(shares, samples, minimum) == pytest.approx(expected, rel=1e-12, abs=0)


def test_where_hardly_any_of_the_tail_counts_the_likelier_one_still_gains_more() -> None:
    """As with ten targets and a validation part of 100 samples: chances of 1e-17 and 1e-27, no noise of rounding."""
    shares = np.array([0.5, 0.4979, 1e-3, 8e-4, 2e-4, 1e-4])
    shift = bayes_shift(np.log(shares), None, IS_ANCHOR, chance_to_count(shares, 100, 10))
    assert (np.diff(shift[~IS_ANCHOR]) < -1).all() and shift.min() > NOT_COUNTED / 2


def test_where_nothing_of_the_tail_can_count_it_comes_last() -> None:
    shift = bayes_shift(np.log(np.full(6, 1 / 6)), None, IS_ANCHOR, np.zeros(6))
    assert np.array_equal(shift < NOT_COUNTED / 2, ~IS_ANCHOR) and np.isfinite(shift).all()


def test_other_rules_do_not_reach_it() -> None:
    plain, adjusted = [], []
    for seed in range(20):
        contexts, truth = world(seed)
        best, prior = best_of_all(contexts, truth), np.log(contexts @ truth)
        plain.append(best - expected_endpoint(chosen(np.zeros(BEHAVIORS), truth), contexts, truth))
        shift = adjusted_terms(prior, 1.0).shift
        adjusted.append(best - expected_endpoint(chosen(shift, truth), contexts, truth))
    assert max(plain) > 0.05 and max(adjusted) > 0.01


@pytest.mark.parametrize("seed", range(20))
def test_a_predictor_tuned_on_another_mix_is_brought_back_first(seed: int) -> None:
    contexts, truth = world(seed)
    happens = contexts @ truth
    mix = np.array([0.2, 0.2, 0.2, 0.2, 0.15, 0.05])
    said = truth * mix / happens  # what the truth is under the other mix, by Bayes' theorem
    said /= said.sum(axis=1, keepdims=True)
    best = best_of_all(contexts, truth)
    back = chosen(bayes_shift(np.log(happens), np.log(mix), IS_ANCHOR, COUNTED), said)
    assert expected_endpoint(back, contexts, truth) == pytest.approx(best, abs=1e-12)


def test_without_being_brought_back_it_is_not_the_best() -> None:
    lost = []
    for seed in range(20):
        contexts, truth = world(seed)
        happens = contexts @ truth
        said = truth / happens
        said /= said.sum(axis=1, keepdims=True)
        as_said = chosen(bayes_shift(np.log(happens), None, IS_ANCHOR, COUNTED), said)
        lost.append(best_of_all(contexts, truth) - expected_endpoint(as_said, contexts, truth))
    assert min(lost) >= 0 and max(lost) > 0.05


def test_what_does_not_count_comes_last_by_its_probability_and_first_where_nothing_else_is_there() -> None:
    is_anchor = np.array([True, False, False, False])
    counted = np.array([False, True, False, False])
    prior = log_prior(np.array([50, 5, 1, 0]))
    shift = bayes_shift(prior, None, is_anchor, counted)
    scores = Terms(np.ones(4), shift).scores(np.log(np.array([[1e-9, 1e-12, 0.3, 0.7]])))
    assert np.argsort(-scores[0]).tolist() == [0, 1, 3, 2] and scores.min() > 2 * NOT_COUNTED
    assert shift[0] == pytest.approx(-np.log(51 / 60)) and shift[1] == pytest.approx(-np.log(6 / 60))
    alone = Terms(np.ones(4), shift).scores(np.array([[-np.inf, -np.inf, -1.0, -np.inf]]))
    assert alone.argmax() == 2


def test_only_the_ratio_of_temperatures_and_the_difference_of_shifts_can_be_told_from_choices() -> None:
    random = np.random.default_rng(5)
    said = np.log(random.dirichlet(np.ones(6), 500))
    prior = np.log(random.dirichlet(np.ones(6)))
    temperature, shift, tau = np.where(IS_ANCHOR, 2.0, 0.8), np.where(IS_ANCHOR, -0.3, 0.9), 0.4
    written_out = said / temperature + shift - tau * prior
    # multiplied by the anchors' temperature, less the anchors' shift
    terms = fitted_terms(prior, IS_ANCHOR, tail_scale=2.0 / 0.8, tail_shift=2.0 * 1.2, tau=2.0 * tau)
    assert np.array_equal(terms.scores(said).argmax(axis=1), written_out.argmax(axis=1))
