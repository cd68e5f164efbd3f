"""What boosted trees are told of a sample and a behavior that may come: a few numbers of the history and of counting.

Of the last `max_events` events before the sample: how often the behavior is among them, how long ago it last was, how
often it followed what came last. Of the training targets of others: how likely counting calls it. Our choice.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from behaviorlm.baselines.frequency import fit_most_frequent
from behaviorlm.baselines.markov import fit_markov
from behaviorlm.baselines.timelines import HISTORY_ONLY, Baseline, TimelineArrays
from behaviorlm.opponents.windows import Int64, fitting_rows

Float32 = NDArray[np.float32]

OF_HISTORY = ("share", "events_ago", "followed_last", "events_since_last", "events")
"""Numbers of the history: the behavior's share of it; events since its last one, `max_events` + 1 where there is none;
how often it followed an event of the last behavior; how long ago that behavior was before, as `events_ago`; how many
events there are.
"""


def history_features(timelines: TimelineArrays, rows: Int64, max_events: int) -> Float32:
    """The numbers of OF_HISTORY of each row and each behavior, float32[n, K, 5]."""
    behaviors = timelines.behaviors
    place = rows[:, None] - max_events + np.arange(max_events)
    is_there = place >= timelines.user_start[rows][:, None]
    # an event outside of the history, or of a behavior unseen in training, goes into a column of its own
    past = np.where(is_there, timelines.behavior[np.maximum(place, 0)], -1)
    past = np.where(past >= 0, past, behaviors).astype(np.int64)
    number = np.arange(len(rows))
    counts = np.zeros((len(rows), behaviors + 1), np.float32)
    ago = np.full((len(rows), behaviors + 1), max_events + 1, np.float32)
    followed = np.zeros((len(rows), behaviors + 1), np.float32)
    since_last = np.full(len(rows), max_events + 1, np.float32)
    last = past[:, -1]
    for step in range(max_events):
        of_step = past[:, step]
        counts[number, of_step] += 1
        ago[number, of_step] = max_events - step
        if step + 1 < max_events:
            follows = (of_step == last) & (last < behaviors)
            followed[number[follows], past[follows, step + 1]] += 1
            since_last[follows] = max_events - step
    events = is_there.sum(axis=1).astype(np.float32)
    found = np.empty((len(rows), behaviors, len(OF_HISTORY)), np.float32)
    found[..., 0] = counts[:, :-1] / np.maximum(events, 1)[:, None]
    found[..., 1] = ago[:, :-1]
    found[..., 2] = followed[:, :-1]
    found[..., 3] = since_last[:, None]
    found[..., 4] = events[:, None]
    return found


Counting = Sequence[Baseline]
"""Fitted ways to count, whose log-probabilities are each a feature."""


def counted_features(counting: Counting, timelines: TimelineArrays, rows: Int64) -> Float32:
    """float32[n, K, features]."""
    return np.stack([one.predict(timelines, rows) for one in counting], axis=2)


def fit_counting(timelines: TimelineArrays) -> Counting:
    """Of all behaviors alike, after the last one, after the last three with the context, and in the context alone where
    the log has any.
    """
    has_context = timelines.contexts > 1
    found: list[Baseline] = [fit_most_frequent(timelines), fit_markov(timelines, order=1)]
    found.append(fit_markov(timelines, order=3, use_context=has_context))
    if has_context:
        found.append(fit_markov(timelines, order=0, use_context=True))
    return found


@dataclass(frozen=True)
class Featured:
    """Features of rows that were not counted on: those of each fold of the timelines come from the other folds.

    fold: int64[N], of each row of the log; of_fold: counting without it; of_all: counting on all, for other rows.
    """

    max_events: int
    fold: Int64
    of_fold: Sequence[Counting]
    of_all: Counting

    def training(self, timelines: TimelineArrays, rows: Int64) -> Float32:
        """Of training targets, float32[n, K, F]."""
        found: Float32 | None = None
        for number, counted in enumerate(self.of_fold):
            inside = np.flatnonzero(self.fold[rows] == number)
            values = counted_features(counted, timelines, rows[inside])
            if found is None:
                found = np.empty((len(rows), *values.shape[1:]), np.float32)
            found[inside] = values
        return self._with_history(timelines, rows, found)

    def other(self, timelines: TimelineArrays, rows: Int64) -> Float32:
        """Of rows that are no training targets, float32[n, K, F]."""
        return self._with_history(timelines, rows, counted_features(self.of_all, timelines, rows))

    def _with_history(self, timelines: TimelineArrays, rows: Int64, counted: Float32 | None) -> Float32:
        history = history_features(timelines, rows, self.max_events)
        return history if counted is None else np.concatenate([history, counted], axis=2)


def featured(timelines: TimelineArrays, max_events: int, folds: int, seed: int) -> Featured:
    """With so many folds, or fewer of a log with fewer timelines."""
    fold = _folds(timelines, folds, seed)
    of_fold = [
        fit_counting(replace(timelines, split=_without(timelines, fold == number)))
        for number in range(int(fold.max()) + 1)
    ]
    return Featured(max_events, fold, of_fold, fit_counting(timelines))


def _folds(timelines: TimelineArrays, folds: int, seed: int) -> Int64:
    """The fold of each row of the log: timelines with training targets at random by the seed; where there is one only,
    runs of its targets. Without any fold there are others to count.
    """
    train, _ = fitting_rows(timelines)
    starts = np.unique(timelines.user_start[train])
    if len(starts) == 1:
        folds = min(folds, len(train))
        run = np.searchsorted(train, np.arange(len(timelines.behavior))) * folds // len(train)
        return np.minimum(run, folds - 1).astype(np.int64)
    of_timeline = np.random.default_rng([seed, 23]).permutation(len(starts)) % min(folds, len(starts))
    return np.append(of_timeline, 0)[np.searchsorted(starts, timelines.user_start)].astype(np.int64)


def _without(timelines: TimelineArrays, is_left_out: NDArray[np.bool_]) -> NDArray[np.int8]:
    """The splits without those training events."""
    return np.where(is_left_out & (timelines.split == 0), HISTORY_ONLY, timelines.split).astype(np.int8)
