"""Habits: counted from the past at hand as plain loops count, mixed as the formula says, worth what validation says."""

from itertools import pairwise, product

import numpy as np
import pytest

from behaviorlm.baselines.habits import Habits, counted_at, counted_in, fit_habits
from behaviorlm.baselines.timelines import TimelineArrays
from behaviorlm.baselines.weights import CONCENTRATION_GRID
from tests.behaviorlm.baselines.test_recency_hour_and_fusion import BEHAVIORS, random_timelines


def past_of(timelines: TimelineArrays, row: int) -> list[int]:
    return timelines.behavior[timelines.user_start[row] : row].tolist()


def counted(past: list[int]) -> tuple[list[int], list[int]]:
    """How often each behavior is there, and how often it followed what came last."""
    pairs = [two for one, two in pairwise(past) if one == past[-1]]
    return [past.count(one) for one in range(BEHAVIORS)], [pairs.count(one) for one in range(BEHAVIORS)]


@pytest.mark.parametrize("seed", range(3))
def test_a_log_and_a_request_with_the_same_past_are_counted_alike_as_by_loops(seed: int) -> None:
    """Unknown behaviors, -1, are among them, and pasts without any event."""
    timelines = random_timelines(seed)
    rows = np.random.default_rng(seed).permutation(len(timelines.behavior))
    pasts = [past_of(timelines, row) for row in rows]
    expected = [counted(past) for past in pasts]
    assert any(past and past[-1] < 0 for past in pasts) and [] in pasts
    for found in (counted_at(timelines, rows), counted_in(pasts, BEHAVIORS)):
        for place in (0, 1):
            assert found[place].tolist() == [of[place] for of in expected]


def test_the_mixture_is_that_of_its_formula_and_an_empty_past_says_what_anybody_does() -> None:
    anybody = np.log(np.random.default_rng(1).dirichlet(np.ones(BEHAVIORS), 3))
    pasts = [[], [4], [0, 1, 0, -1, 1, 0]]
    found = np.exp(Habits(of_user=5, of_last=2).log_probabilities(anybody, *counted_in(pasts, BEHAVIORS)))
    np.testing.assert_allclose(found[:2].sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(found[0], np.exp(anybody[0]), rtol=1e-12)
    of_user = (np.array([3, 2, 0, 0, 0]) + 5 * np.exp(anybody[2])) / (5 + 5)  # an unknown one is none
    np.testing.assert_allclose(found[2], (np.array([0, 1, 0, 0, 0]) + 2 * of_user) / (1 + 2), rtol=1e-12)


def test_weights_are_those_of_an_exhaustive_search() -> None:
    random = np.random.default_rng(2)
    anybody, weights = random.uniform(0.05, 0.9, 40), random.uniform(0.5, 3, 40)
    seen = random.integers(0, 30, 40).astype(float)
    own, times = random.binomial(seen.astype(int), 0.4).astype(float), np.floor(seen / 3)
    followed = random.binomial(times.astype(int), 0.5).astype(float)

    def loss(of_user: float, of_last: float) -> float:
        below = (own + of_user * anybody) / (seen + of_user)
        return float(-weights @ np.log((followed + of_last * below) / (times + of_last)))

    least = min(loss(*pair) for pair in product(CONCENTRATION_GRID, repeat=2))
    found = fit_habits(anybody, own, followed, seen, times, weights)
    assert loss(found.of_user, found.of_last) == pytest.approx(least, rel=1e-9)


@pytest.mark.parametrize("has_habits", [False, True])
def test_habits_weigh_nothing_where_nobody_has_any(has_habits: bool) -> None:
    """Everybody draws from the same shares, or each from his own."""
    random = np.random.default_rng(3)
    shares = np.array([0.4, 0.3, 0.15, 0.1, 0.05])
    of_users = random.dirichlet(2 * shares, 300) if has_habits else np.tile(shares, (300, 1))
    drawn = np.array([random.choice(BEHAVIORS, 26, p=of) for of in of_users])
    own, followed = counted_in(list(drawn[:, :-1]), BEHAVIORS)
    target, place = drawn[:, -1], np.arange(300)
    seen, times = own.sum(axis=1), followed.sum(axis=1)
    found = fit_habits(shares[target], own[place, target], followed[place, target], seen, times, np.ones(300))
    said = found.log_probabilities(np.tile(np.log(shares), (300, 1)), own, followed)
    gain = float((said[place, target] - np.log(shares[target])).mean())
    assert (gain > 0.2) if has_habits else (gain < 0.01 and found.of_user >= 200)
