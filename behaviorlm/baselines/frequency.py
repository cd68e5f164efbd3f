"""Baselines without order: the most frequent behaviors overall, and those of the user so far."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from behaviorlm.baselines.timelines import TimelineArrays
from behaviorlm.baselines.weights import best_concentration, tuning_rows

EVENTS_PER_BLOCK = 2**20
"""Events that are counted at a time (our choice)."""


def training_prior(timelines: TimelineArrays) -> NDArray[np.float64]:
    """Share of each behavior among the training events, float64[K], counts raised by one."""
    counts = np.ones(timelines.behaviors)
    for rows in timelines.training_blocks():
        counts += np.bincount(timelines.behavior[rows], minlength=timelines.behaviors)
    return counts / counts.sum()


@dataclass(frozen=True)
class MostFrequent:
    """Predicts the training shares for everybody."""

    prior: NDArray[np.float64]

    def predict(self, timelines: TimelineArrays, rows: NDArray[np.integer]) -> NDArray[np.float32]:
        """Log-probabilities float32[len(rows), K]."""
        return np.tile(np.log(self.prior).astype(np.float32), (len(rows), 1))


@dataclass(frozen=True)
class PerUserFrequency:
    """Predicts the user's own past shares, with the training shares counted as `concentration` events."""

    prior: NDArray[np.float64]
    concentration: float

    def predict(self, timelines: TimelineArrays, rows: NDArray[np.integer]) -> NDArray[np.float32]:
        """See `Baseline.predict`; earlier events count whatever their split."""
        past = past_counts(timelines, rows)
        seen = past.sum(axis=1, keepdims=True)
        shares = (past + self.concentration * self.prior[None, :]) / (seen + self.concentration)
        return np.log(shares).astype(np.float32)


def fit_most_frequent(timelines: TimelineArrays) -> MostFrequent:
    """Counts of the training events; nothing else is fitted."""
    return MostFrequent(training_prior(timelines))


def fit_per_user_frequency(timelines: TimelineArrays) -> PerUserFrequency:
    """Training shares, and the concentration that makes the targets of `tuning_rows` most likely."""
    prior = training_prior(timelines)
    rows, _ = tuning_rows(timelines)
    own, seen = own_past(timelines, rows)
    return PerUserFrequency(prior, best_concentration(own, seen, prior[timelines.behavior[rows]]))


def past_counts(timelines: TimelineArrays, rows: NDArray[np.integer]) -> NDArray[np.float64]:
    """How often each known behavior occurred in the timeline before each row, float64[len(rows), K].

    Looks at what lies between the rows that are asked for and the beginnings of their timelines, each event once.
    """
    behaviors = timelines.behaviors
    if not len(rows):
        return np.empty((0, behaviors))
    order = np.argsort(rows, kind="stable")
    wanted = np.asarray(rows, np.int64)[order]
    start = timelines.user_start[wanted]
    is_first = np.append(True, start[1:] != start[:-1])
    # Events since the row before that is asked for in the same timeline, or since its beginning.
    since = np.where(is_first, start, np.append(0, wanted[:-1]))
    ends = np.cumsum(wanted - since)
    counts = np.zeros((len(rows), behaviors))
    for begin in range(0, int(ends[-1]), EVENTS_PER_BLOCK):
        event = np.arange(begin, min(begin + EVENTS_PER_BLOCK, int(ends[-1])))
        owner = np.searchsorted(ends, event, side="right")
        behavior = timelines.behavior[wanted[owner] - ends[owner] + event]
        known = behavior >= 0
        first, last = int(owner[0]), int(owner[-1]) + 1
        cell = (owner[known] - first) * behaviors + behavior[known]
        found = np.bincount(cell, minlength=(last - first) * behaviors)
        counts[first:last] += found.reshape(-1, behaviors)
    np.cumsum(counts, axis=0, out=counts)  # whole numbers, so exact
    group = np.flatnonzero(is_first)
    before = np.concatenate([np.zeros((1, behaviors)), counts[group[1:] - 1]])
    counts -= before[np.cumsum(is_first) - 1]
    result = np.empty(counts.shape)
    result[order] = counts
    return result


def own_past(
    timelines: TimelineArrays, rows: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """For each row: past events of its own behavior, and past events of known behaviors, in its timeline."""
    own, seen = np.empty(len(rows)), np.empty(len(rows))
    for run, inside, places in timelines.pasts_of(rows):
        own[places], seen[places] = _own_past_in(run, inside)
    return own, seen


def _own_past_in(run: TimelineArrays, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    behavior, start = run.behavior, run.user_start
    known_before = np.append(0, np.cumsum(behavior >= 0))
    # Sorted by (timeline, behavior, row), the place within a run is the number of earlier equal events.
    order = np.lexsort((behavior, start))
    new_run = np.append(True, (np.diff(behavior[order]) != 0) | (np.diff(start[order]) != 0))
    run_start = np.maximum.accumulate(np.where(new_run, np.arange(len(order)), 0))
    earlier = np.empty(len(order), np.int64)
    earlier[order] = np.arange(len(order)) - run_start
    return earlier[rows], known_before[rows] - known_before[start[rows]]
