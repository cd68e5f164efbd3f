"""What boosted trees are told, recomputed by plain loops, and that nothing is counted on what it is said of."""

from dataclasses import replace

import numpy as np
import pytest

from behaviorlm.baselines.frequency import training_prior
from behaviorlm.baselines.markov import fit_markov
from behaviorlm.baselines.timelines import HISTORY_ONLY
from behaviorlm.opponents.history_features import featured, history_features
from behaviorlm.timelines.splits import TEST
from tests.behaviorlm.opponents.logs_with_order import changed_at, log_with_order


@pytest.mark.parametrize("max_events", [1, 3, 9])
def test_features_of_the_history_equal_plain_loops(max_events: int) -> None:
    timelines = log_with_order(1, 12)
    rows = np.random.default_rng(0).permutation(len(timelines.behavior))[:60]
    found = history_features(timelines, rows, max_events)
    for place, row in enumerate(rows.tolist()):
        past = timelines.behavior[max(int(timelines.user_start[row]), row - max_events) : row].tolist()
        last = past[-1] if past and past[-1] >= 0 else None
        before = [number for number, one in enumerate(past[:-1]) if one == last]
        since_last = len(past) - before[-1] if before else max_events + 1
        for behavior in range(5):
            at = [number for number, one in enumerate(past) if one == behavior]
            expected = [
                len(at) / max(len(past), 1),
                len(past) - at[-1] if at else max_events + 1,
                sum(past[number + 1] == behavior for number in before),
                since_last,
                len(past),
            ]
            np.testing.assert_allclose(found[place, behavior], expected, rtol=1e-6)


def test_what_is_counted_for_a_training_target_comes_from_other_timelines() -> None:
    timelines = log_with_order(2, 20)
    features = featured(timelines, 4, folds=3, seed=0)
    train = timelines.target_rows(0)[::5]
    found = features.training(timelines, train)
    for number in range(3):
        rest = replace(
            timelines,
            split=np.where(
                (features.fold == number) & (timelines.split == 0), HISTORY_ONLY, timelines.split
            ).astype(np.int8),
        )
        inside = features.fold[train] == number
        assert inside.any() and not inside.all()
        np.testing.assert_allclose(
            found[inside, :, 5], np.log(training_prior(rest))[None].repeat(inside.sum(), 0), rtol=1e-5
        )
        after_last = fit_markov(rest, order=1).predict(rest, train[inside])
        np.testing.assert_allclose(found[inside, :, 6], after_last, rtol=1e-5)
    of_timeline: dict[int, set[int]] = {start: set() for start in timelines.user_start.tolist()}
    for start, number in zip(timelines.user_start.tolist(), features.fold.tolist(), strict=True):
        of_timeline[start].add(number)
    assert all(len(numbers) == 1 for numbers in of_timeline.values())


def test_features_of_a_row_rest_on_what_is_before_it() -> None:
    timelines = log_with_order(3, 20)
    features = featured(timelines, 4, folds=3, seed=0)
    rows = timelines.target_rows(2)[[4]]
    later = changed_at(timelines, np.arange(rows[0], len(timelines.behavior)))
    np.testing.assert_array_equal(features.other(later, rows), features.other(timelines, rows))
    np.testing.assert_array_equal(
        features.other(timelines, np.append(rows, rows - 3))[:1], features.other(timelines, rows)
    )


def test_training_targets_of_a_single_timeline_are_counted_on_its_other_targets() -> None:
    """The other timelines have none, as with users apart: without the whole timeline there is nothing to count."""
    timelines = log_with_order(4, 20)
    first = timelines.user_start == timelines.user_start[timelines.target_rows(0)[0]]
    timelines = replace(timelines, split=np.where(first, timelines.split, TEST).astype(np.int8))
    train = timelines.target_rows(0)
    features = featured(timelines, 4, folds=3, seed=0)
    assert np.bincount(features.fold[train]).min() >= len(train) // 3 and len(features.of_fold) == 3
    assert np.isfinite(features.training(timelines, train)).all()
