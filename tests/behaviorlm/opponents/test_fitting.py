"""Networks: what a row's scores rest on, and that what there is to learn is learned."""

import numpy as np
import pytest

from behaviorlm.baselines.frequency import training_prior
from behaviorlm.baselines.timelines import TimelineArrays
from behaviorlm.opponents.fitting import FittedNetwork, _steps, fit_network
from behaviorlm.opponents.networks import NetworkName
from behaviorlm.opponents.windows import coded_log, fitting_rows
from tests.behaviorlm.opponents.logs_with_order import SMALL, changed_at, log_with_order

MAX_EVENTS = 6
NAMES: tuple[NetworkName, ...] = ("sasrec", "gru4rec", "bert4rec")


@pytest.fixture(scope="module")
def timelines() -> TimelineArrays:
    return log_with_order(users=60)


@pytest.fixture(scope="module", params=NAMES)
def fitted(request: pytest.FixtureRequest, timelines: TimelineArrays) -> FittedNetwork:
    return fit_network(request.param, timelines, MAX_EVENTS, 0, SMALL)


def test_probabilities_sum_to_one_and_beat_the_training_shares(
    fitted: FittedNetwork, timelines: TimelineArrays
) -> None:
    rows = timelines.target_rows(2)
    rows = rows[timelines.behavior[rows] >= 0]
    said = fitted.predict(timelines, rows).astype(np.float64)
    np.testing.assert_allclose(np.exp(said).sum(axis=1), 1, rtol=1e-5)
    targets = timelines.behavior[rows]
    loss = -said[np.arange(len(rows)), targets].mean()
    assert loss < -np.log(training_prior(timelines)[targets]).mean() - 0.05
    assert [fit.learning_rate for fit in fitted.fits] == [1e-2, 3e-2]


def test_scores_of_a_row_rest_on_the_events_before_it_and_on_no_more_than_the_last_few(
    fitted: FittedNetwork, timelines: TimelineArrays
) -> None:
    row = int(np.flatnonzero(np.arange(len(timelines.behavior)) - timelines.user_start > 2 * MAX_EVENTS)[5])
    rows = np.array([row])
    said = fitted.predict(timelines, rows)
    later = np.arange(row, len(timelines.behavior))
    earlier = np.arange(row - MAX_EVENTS)
    for unseen in (later, earlier):
        np.testing.assert_array_equal(fitted.predict(changed_at(timelines, unseen), rows), said)
    for step in range(1, MAX_EVENTS + 1):
        moved = fitted.predict(changed_at(timelines, np.array([row - step])), rows)
        assert np.abs(moved - said).max() > 1e-4, step


def test_scores_of_a_row_do_not_depend_on_which_rows_are_asked_for(
    fitted: FittedNetwork, timelines: TimelineArrays
) -> None:
    rows = np.arange(0, len(timelines.behavior), 7)  # the first of timelines, too, padded with nothing before
    together = fitted.predict(timelines, rows)
    order = np.random.default_rng(0).permutation(len(rows))
    np.testing.assert_allclose(fitted.predict(timelines, rows[order]), together[order], atol=2e-5)
    for place in (0, 3, len(rows) - 1):
        np.testing.assert_allclose(fitted.predict(timelines, rows[[place]])[0], together[place], atol=2e-5)
    assert fitted.predict(timelines, rows[:0]).shape == (0, timelines.behaviors)


def test_a_place_of_a_causal_network_sees_nothing_after_it_in_a_longer_window(
    fitted: FittedNetwork, timelines: TimelineArrays
) -> None:
    """In training a window has many targets: none may see a later one, or its own behavior."""
    if fitted.name == "bert4rec":
        return
    import torch

    log = coded_log(timelines)
    begin = int(np.flatnonzero(np.arange(log.rows) - timelines.user_start == 0)[3])
    rows = np.arange(begin, begin + MAX_EVENTS)

    def at_each_place(previous: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            there = torch.ones(1, MAX_EVENTS, dtype=torch.bool)
            context = torch.from_numpy(log.context(rows))[None]
            vectors = fitted.network(torch.from_numpy(previous)[None], context, there)
            return fitted.network.embedding.scores(vectors)[0].log_softmax(1).numpy()

    found = at_each_place(log.previous(rows))
    np.testing.assert_allclose(found, fitted.predict(timelines, rows), atol=2e-5)
    for place in range(1, MAX_EVENTS):
        changed = log.previous(rows)
        changed[place:] = (changed[place:] + 1) % 4 + 3
        np.testing.assert_allclose(at_each_place(changed)[:place], found[:place], atol=1e-6)


def test_the_same_seed_gives_the_same_scores_and_another_one_others(timelines: TimelineArrays) -> None:
    rows = timelines.target_rows(2)[:20]
    first, again, other = (
        fit_network("gru4rec", timelines, MAX_EVENTS, seed, SMALL).predict(timelines, rows)
        for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_only_training_targets_are_asked_for_in_training(
    name: NetworkName, timelines: TimelineArrays
) -> None:
    """With few shots, too, where the others of the tail are history only."""
    import torch

    from behaviorlm.opponents.networks import network

    log = coded_log(timelines)
    train = fitting_rows(timelines)[0][::3]
    found = network(name, timelines.behaviors, log.sizes, MAX_EVENTS + 1, SMALL)
    fitted = FittedNetwork(name, found, log, MAX_EVENTS, (), torch.device("cpu"))
    asked = [
        inputs.targets[inputs.asked].numpy()
        for inputs in _steps(fitted, train, SMALL, np.random.default_rng(1))
    ]
    counts = np.bincount(np.concatenate(asked), minlength=timelines.behaviors)
    expected = np.bincount(timelines.behavior[train], minlength=timelines.behaviors)
    if name == "bert4rec":  # hides some more than once an epoch, and others not at all
        assert counts.sum() >= len(train) / 4 and not counts[expected == 0].any()
    else:
        assert np.array_equal(counts, expected)
