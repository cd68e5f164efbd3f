"""The rule of three numbers: codes against the rule itself, the search against a whole grid, and cross-fitting."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from behaviorlm.metrics.outcomes import Choices
from behaviorlm.scoring.decision_rules import anchor_tail_objective, choose_tau
from behaviorlm.scoring.rule_fitting import (
    COARSE,
    FINE,
    FOLDS,
    SHIFTS,
    Codes,
    FittedNumbers,
    Pair,
    cross_fitted_tau,
    fit_numbers,
    fold_of,
    pair_codes,
)
from behaviorlm.scoring.rule_terms import fitted_terms

IS_ANCHOR = np.arange(7) < 3
PRIOR = np.log(np.array([0.4, 0.3, 0.2, 0.05, 0.03, 0.015, 0.005]))


def made(seed: int, samples: int = 300, weight: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Log probabilities float64[n, 7] and targets, some unseen; weight: how far the tail is pushed down in them."""
    random = np.random.default_rng(seed)
    logits = PRIOR + random.normal(0, 1.5, (samples, 7))
    true = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    targets = (true.cumsum(axis=1) > random.random((samples, 1))).argmax(axis=1).astype(np.int32)
    targets[random.random(samples) < 0.03] = -1
    pushed = logits - weight * ~IS_ANCHOR
    return pushed - np.log(np.exp(pushed).sum(axis=1, keepdims=True)), targets


def asked(said: np.ndarray, targets: np.ndarray) -> Callable[[Sequence[Pair]], Codes]:
    return lambda pairs: pair_codes(said, targets, IS_ANCHOR, PRIOR, pairs)


def objective(said: np.ndarray, targets: np.ndarray, scale: float, shift: float, tau: float) -> float:
    """The rule applied as it is served, and measured by the objective itself."""
    terms = fitted_terms(PRIOR, IS_ANCHOR, tail_scale=scale, tail_shift=shift, tau=tau)
    chosen = Choices(targets, terms.scores(said).argmax(axis=1).astype(np.int32), 7)
    found = anchor_tail_objective(chosen, IS_ANCHOR).objective
    assert found is not None
    return found


def with_numbers(said: np.ndarray, targets: np.ndarray, found: FittedNumbers) -> float:
    return objective(said, targets, found.tail_scale, found.tail_shift, found.tau)


def cross_fitted(targets: np.ndarray, found: FittedNumbers) -> float:
    assert found.right is not None
    chosen = Choices(targets, np.where(found.right, targets, -2), 7)
    worth = anchor_tail_objective(chosen, IS_ANCHOR).objective
    assert worth is not None
    return worth


@pytest.mark.parametrize("seed", [0, 1])
def test_the_numbers_are_the_best_of_the_whole_grid_by_brute_force(seed: int) -> None:
    said, targets = made(seed)
    found = fit_numbers(asked(said, targets), targets, IS_ANCHOR, fold_of(np.arange(300) // 10))
    coarse = {
        (pair, shift): objective(said, targets, 2.0**pair.octaves, shift, pair.tau)
        for pair in COARSE
        for shift in SHIFTS[112:145]  # -4 to 4
    }
    assert with_numbers(said, targets, found) >= max(coarse.values()) - 1e-12


def test_a_tail_that_was_pushed_down_is_lifted_again() -> None:
    said, targets = made(3, samples=4000, weight=6.0)
    found = fit_numbers(asked(said, targets), targets, IS_ANCHOR, fold_of(np.arange(4000) // 20))
    assert found.tail_shift > 3
    assert cross_fitted(targets, found) > objective(said, targets, 1, 0, 0) + 0.1


def test_cross_fitting_decides_each_fold_with_the_numbers_of_the_others() -> None:
    said, targets = made(4, samples=200)
    folds = fold_of(np.arange(200) // 4)
    found = fit_numbers(asked(said, targets), targets, IS_ANCHOR, folds)
    chosen = np.zeros(200, np.int32)
    for fold in range(FOLDS):
        rest = folds != fold
        of_rest = fit_numbers(asked(said[rest], targets[rest]), targets[rest], IS_ANCHOR, folds[rest])
        terms = fitted_terms(
            PRIOR,
            IS_ANCHOR,
            tail_scale=of_rest.tail_scale,
            tail_shift=of_rest.tail_shift,
            tau=of_rest.tau,
        )
        chosen[~rest] = terms.scores(said[~rest]).argmax(axis=1)
    assert found.right is not None and np.array_equal(found.right, chosen == targets)


def test_noise_that_is_learned_by_heart_is_not_believed() -> None:
    """Targets that nothing predicts: fitted numbers gain on the samples that they saw, and on no others."""
    gains, believed = [], []
    for seed in range(12):
        random = np.random.default_rng(100 + seed)
        said, _ = made(seed, samples=120)
        targets = random.integers(0, 7, 120).astype(np.int32)
        found = fit_numbers(asked(said, targets), targets, IS_ANCHOR, fold_of(np.arange(120) // 6))
        plain = objective(said, targets, 1, 0, 0)
        gains.append(with_numbers(said, targets, found) - plain)
        believed.append(cross_fitted(targets, found) - plain)
    assert min(gains) > -1e-12 and np.mean(gains) > 0.02
    assert np.mean(believed) < np.mean(gains) / 3


def test_where_nothing_can_be_fitted_the_rule_is_the_plain_one() -> None:
    said, targets = made(5, samples=50)
    folds = fold_of(np.arange(50))
    only_anchors = np.where(targets < 3, targets, -1)
    plain = FittedNumbers(1.0, 0.0, 0.0, None)
    assert fit_numbers(asked(said, only_anchors), only_anchors, IS_ANCHOR, folds) == plain
    one_user = fit_numbers(asked(said, targets), targets, IS_ANCHOR, fold_of(np.zeros(50)))
    assert one_user.right is None and one_user != plain


def test_of_equal_numbers_those_nearest_to_the_plain_rule_are_taken() -> None:
    targets = np.array([0, 3] * 10, np.int32)
    said = np.log(np.full((20, 7), 0.1 / 6))
    said[np.arange(20), targets] = np.log(0.9)
    found = fit_numbers(asked(said, targets), targets, IS_ANCHOR, fold_of(np.arange(20) // 2))
    assert (found.tail_scale, found.tail_shift, found.tau) == (1.0, 0.0, 0.0)
    assert found.right is not None and found.right.all()


def test_folds_keep_groups_together_and_are_about_equal() -> None:
    groups = np.repeat([f"user {number}" for number in range(53)], 3)
    folds = fold_of(groups)
    assert all(len(set(folds[groups == name])) == 1 for name in set(groups))
    assert sorted(np.bincount(folds, minlength=FOLDS).tolist()) == [30, 30, 33, 33, 33]
    order = np.random.default_rng(0).permutation(len(groups))
    assert np.array_equal(fold_of(groups[order]), folds[order])
    assert len(fold_of(np.zeros(0, object))) == 0 and len(FINE) == 9


def test_a_tau_is_judged_by_the_folds_that_did_not_choose_it() -> None:
    random = np.random.default_rng(6)
    grid = (-0.5, 0.0, 0.5, 1.0)
    targets = random.integers(-1, 7, 60).astype(np.int32)
    chosen = random.integers(0, 7, (60, 4)).astype(np.int32)
    folds = fold_of(np.arange(60) // 4)
    found = cross_fitted_tau(chosen == targets[:, None], targets, IS_ANCHOR, folds, grid)
    expected, taus = np.zeros(60, bool), set()
    for fold in range(FOLDS):
        rest = folds != fold
        plain = Choices(targets[rest], chosen[rest, 1], 7)
        tau = choose_tau(plain, chosen[rest], IS_ANCHOR, grid).tau
        expected[~rest] = (chosen[:, grid.index(tau)] == targets)[~rest]
        taus.add(tau)
    assert found is not None and np.array_equal(found, expected) and len(taus) > 1
    assert (
        cross_fitted_tau(chosen == targets[:, None], targets, IS_ANCHOR, np.zeros(60, np.int8), grid) is None
    )
