"""Logit adjustment, the PMI form, the mean per token, and the choice of tau."""

import numpy as np
import pytest
from scipy.special import logsumexp

from behaviorlm.errors import DataError
from behaviorlm.metrics.intervals import measure_outcomes
from behaviorlm.metrics.outcomes import Choices, outcomes
from behaviorlm.scoring.config import CHOICE_TAUS, FRONT_TAUS, TAIL_MINIMUM_TARGETS
from behaviorlm.scoring.decision_rules import (
    AnchorTail,
    TauChoice,
    adjusted_choices,
    anchor_tail_objective,
    choose_tau,
    log_prior,
    logit_adjustment,
    per_token_mean,
    pointwise_mutual_information,
)


def skewed_posterior(seed: int, samples: int = 3000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(exact log posterior, targets, prior) of a Gaussian mixture with a long-tailed prior."""
    generator = np.random.default_rng(seed)
    prior = np.array([0.5, 0.3, 0.08, 0.06, 0.04, 0.02])
    targets = generator.choice(6, samples, p=prior)
    features = np.eye(6)[targets] * 1.5 + generator.normal(size=(samples, 6))
    likelihood = 1.5 * features
    scores = likelihood + np.log(prior)
    return scores - logsumexp(scores, axis=1, keepdims=True), targets, prior


def chosen(scores: np.ndarray, targets: np.ndarray) -> Choices:
    """The behaviors ranked first."""
    return Choices(targets.astype(np.int32), scores.argmax(axis=1).astype(np.int32), scores.shape[1])


def objective(
    scores: np.ndarray, targets: np.ndarray, is_anchor: np.ndarray, minimum: int = TAIL_MINIMUM_TARGETS
) -> AnchorTail:
    return anchor_tail_objective(chosen(scores, targets), is_anchor, minimum)


def tau_of(
    scores: np.ndarray,
    targets: np.ndarray,
    is_anchor: np.ndarray,
    prior: np.ndarray,
    grid: tuple[float, ...] = CHOICE_TAUS,
) -> TauChoice:
    return choose_tau(chosen(scores, targets), adjusted_choices(scores, prior, grid), is_anchor, grid)


def test_the_prior_is_the_share_of_the_training_counts_raised_by_one() -> None:
    prior = log_prior(np.array([9, 0, 4]))
    assert np.exp(prior) == pytest.approx(np.array([10, 1, 5]) / 16)


def test_full_adjustment_of_an_exact_posterior_ranks_by_likelihood_alone() -> None:
    scores, _, prior = skewed_posterior(0)
    adjusted = logit_adjustment(scores, np.log(prior), 1.0)
    likelihood = scores - np.log(prior)
    assert np.array_equal(adjusted.argmax(axis=1), likelihood.argmax(axis=1))
    assert adjusted.dtype == np.float32
    assert np.allclose(logit_adjustment(scores, np.log(prior), 0.0), scores, atol=1e-6)


def test_the_pmi_form_subtracts_a_vector_or_a_matrix_and_the_mean_divides_by_tokens() -> None:
    generator = np.random.default_rng(0)
    scores, matrix = generator.normal(size=(2, 5, 4))
    assert np.allclose(pointwise_mutual_information(scores, matrix), scores - matrix)
    assert np.allclose(pointwise_mutual_information(scores, matrix[0]), scores - matrix[0])
    assert np.allclose(per_token_mean(scores, np.array([1, 2, 3, 4])), scores / [1, 2, 3, 4])


def test_shapes_that_do_not_fit_are_refused() -> None:
    scores = np.zeros((5, 4))
    with pytest.raises(DataError, match="prior"):
        logit_adjustment(scores, np.zeros(3), 1.0)
    with pytest.raises(DataError, match="without history"):
        pointwise_mutual_information(scores, np.zeros(5))
    with pytest.raises(DataError, match="positive"):
        per_token_mean(scores, np.array([1, 2, 0, 4]))


def test_tau_is_the_grid_value_with_the_best_mean_of_anchor_accuracy_and_tail_recall() -> None:
    scores, targets, prior = skewed_posterior(1)
    is_anchor = prior > 0.1
    grid = (0.0, 0.25, 0.5, 1.0, 2.0)
    choice = tau_of(scores, targets, is_anchor, np.log(prior), grid)
    objectives = []
    for tau in grid:
        predicted = (scores - tau * np.log(prior)).argmax(axis=1)
        anchor = np.mean(predicted[is_anchor[targets]] == targets[is_anchor[targets]])
        recalls = [np.mean(predicted[targets == k] == k) for k in range(2, 6)]
        objectives.append((anchor + np.mean(recalls)) / 2)
    assert choice.tau == grid[int(np.argmax(objectives))] > 0
    assert [of_tau.objective for _, of_tau in choice.grid] == pytest.approx(objectives)
    assert choice.chosen.objective == pytest.approx(max(objectives))
    unadjusted = measure_outcomes(outcomes(scores, targets), is_anchor)
    assert choice.grid[0][1].anchor_accuracy == unadjusted["anchor"]["accuracy"]


@pytest.mark.parametrize("grid", [(1.0, 0.5, 0.0, -0.5), (0.5, -0.25, -1.0)])
def test_among_equal_taus_the_nearest_to_none_is_taken_whatever_the_order(grid: tuple[float, ...]) -> None:
    scores = np.eye(3)[np.zeros(20, int)] * 100
    targets = np.repeat([0, 1], 10)
    choice = tau_of(scores, targets, np.array([True, False, False]), np.log([0.6, 0.3, 0.1]), grid)
    assert choice.tau == min(grid, key=abs)
    assert [tau for tau, _ in choice.grid] == sorted(grid)


def test_a_model_that_has_lost_the_prior_gets_it_back_by_a_negative_tau() -> None:
    """Its scores are the likelihood alone and three quarters of the prior taken out on top."""
    scores, targets, prior = skewed_posterior(3, samples=6000)
    is_anchor = prior > 0.1
    over = scores - 1.75 * np.log(prior)
    choice = tau_of(over, targets, is_anchor, np.log(prior))
    objectives = {}
    for tau in CHOICE_TAUS:
        predicted = (over - tau * np.log(prior)).argmax(axis=1)
        anchor = np.mean(predicted[targets < 2] == targets[targets < 2])
        tail = np.mean([np.mean(predicted[targets == k] == k) for k in range(2, 6)])
        objectives[tau] = (anchor + tail) / 2
    assert choice.tau == max(objectives, key=objectives.__getitem__) < 0
    assert choice.chosen.objective == pytest.approx(objectives[choice.tau])
    assert choice.plain.objective == pytest.approx(objectives[0.0])
    assert objectives[choice.tau] > objectives[0.0]


def test_both_grids_hold_no_adjustment_and_reach_to_either_side() -> None:
    assert (FRONT_TAUS[0], FRONT_TAUS[-1], len(FRONT_TAUS)) == (-1, 1.5, 51)
    assert (min(CHOICE_TAUS), max(CHOICE_TAUS)) == (-0.75, 1)
    assert 0.0 in FRONT_TAUS and 0.0 in CHOICE_TAUS


@pytest.mark.parametrize(("minimum", "counted"), [(1, (2, 3, 4)), (3, (2, 3)), (12, (2,)), (13, ())])
def test_the_objective_counts_the_tail_behaviors_of_enough_targets_and_never_others(
    minimum: int, counted: tuple[int, ...]
) -> None:
    """12, 4 and 1 targets of three tail behaviors; the fifth is no target, and one target was never seen."""
    targets = np.array([0] * 20 + [1] * 10 + [2] * 12 + [3] * 4 + [4] + [-1])
    random = np.random.default_rng(6)
    scores = random.normal(size=(len(targets), 6)) + 1.5 * np.eye(6)[targets] * (targets >= 0)[:, None]
    is_anchor = np.array([True, True, False, False, False, False])
    found = objective(scores, targets, is_anchor, minimum)
    predicted = scores.argmax(axis=1)
    anchor = np.mean(predicted[:30] == targets[:30])
    assert found.anchor_accuracy == pytest.approx(anchor)
    if not counted:
        assert found.tail_macro_recall is None and found.objective is None
        return
    tail = np.mean([np.mean(predicted[targets == k] == k) for k in counted])
    assert found.tail_macro_recall == pytest.approx(tail)
    assert found.objective == pytest.approx((anchor + tail) / 2)


def test_with_few_tail_targets_the_objective_is_less_noisy_than_one_of_eight_targets_each() -> None:
    """150 draws of 800 samples, 28 tail behaviors of about 4 targets: by luck one or two have eight."""
    random = np.random.default_rng(8)
    share = np.array([0.43, 0.43, *[0.005] * 28])
    is_anchor = share > 0.1
    found: dict[int, list[float]] = {1: [], 8: []}
    for _ in range(150):
        targets = random.choice(len(share), 800, p=share)
        scores = random.normal(size=(800, 30)) + 2.0 * np.eye(30)[targets]
        for minimum, values in found.items():
            tail = objective(scores, targets, is_anchor, minimum).tail_macro_recall
            values += [] if tail is None else [tail]
    assert len(found[1]) == 150 > len(found[8])
    assert np.std(found[1]) < 0.5 * np.std(found[8])


def test_tau_can_be_chosen_with_a_rare_tail_without_a_tail_and_not_without_samples() -> None:
    scores, targets, prior = skewed_posterior(2, samples=40)
    is_anchor = prior > 0.1
    rare = tau_of(scores, targets, is_anchor, np.log(prior), (0.0, 0.5))
    assert (
        rare.grid[0][1].tail_macro_recall
        == measure_outcomes(outcomes(scores, targets), is_anchor)["tail"]["macro_recall"]
    )
    anchors = is_anchor[targets]
    only = tau_of(scores[anchors], targets[anchors], is_anchor, np.log(prior))
    assert (only.tau, only.chosen.objective, only.plain.objective) == (0.0, None, None)
    assert only.grid[0][1].tail_macro_recall is None and only.grid[0][1].anchor_accuracy is not None
    with pytest.raises(DataError, match=r"split\.validation"):
        tau_of(scores[:0], targets[:0], is_anchor, np.log(prior))
