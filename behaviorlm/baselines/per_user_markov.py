"""What followed the last behavior in the user's own past, backed by the user's frequencies."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from behaviorlm.baselines.frequency import PerUserFrequency, fit_per_user_frequency, own_past, past_counts
from behaviorlm.baselines.timelines import TimelineArrays
from behaviorlm.baselines.weights import best_concentration, tuning_rows

_BEFORE_ALL = -2
"""In place of the last behavior of a timeline's first event."""


@dataclass(frozen=True)
class PerUserMarkov:
    """Predicts the shares of what followed the last behavior in the timeline, `below` counted as so many events."""

    below: PerUserFrequency
    concentration: float

    def predict(self, timelines: TimelineArrays, rows: NDArray[np.integer]) -> NDArray[np.float32]:
        """See `Baseline.predict`; earlier events count whatever their split."""
        below = np.exp(self.below.predict(timelines, rows).astype(np.float64))
        past = transitions(timelines, rows)
        seen = past.sum(axis=1, keepdims=True)
        shares = (past + self.concentration * below) / (seen + self.concentration)
        return np.log(shares).astype(np.float32)


def fit_per_user_markov(timelines: TimelineArrays) -> PerUserMarkov:
    """Frequencies first; then the concentration that makes the targets of `tuning_rows` most likely."""
    below = fit_per_user_frequency(timelines)
    rows, _ = tuning_rows(timelines)
    target = timelines.behavior[rows]
    own, seen = own_past(timelines, rows)
    backed = (own + below.concentration * below.prior[target]) / (seen + below.concentration)
    followed, times = np.empty(len(rows)), np.empty(len(rows))
    for run, inside, places in timelines.pasts_of(rows):
        by_last, place = _by_last(run)
        followed[places], times[places] = own_past(by_last, place[inside])
    return PerUserMarkov(below, best_concentration(followed, times, backed))


def transitions(timelines: TimelineArrays, rows: NDArray[np.integer]) -> NDArray[np.float64]:
    """How often each known behavior followed what came last in the timeline before each row, float64[len(rows), K]."""
    past = np.empty((len(rows), timelines.behaviors))
    for run, inside, places in timelines.pasts_of(rows):
        by_last, place = _by_last(run)
        past[places] = past_counts(by_last, place[inside])
    return past


def _by_last(timelines: TimelineArrays) -> tuple[TimelineArrays, NDArray[np.int64]]:
    """The events as timelines of their own, one for each user and last behavior; where each row is there."""
    behavior, start = timelines.behavior, timelines.user_start
    rows = np.arange(len(behavior))
    last = np.where(start < rows, behavior[np.maximum(rows - 1, 0)], _BEFORE_ALL)
    order = np.lexsort((rows, last, start))
    is_new = np.append(True, (np.diff(start[order]) != 0) | (np.diff(last[order]) != 0))
    place = np.empty(len(rows), np.int64)
    place[order] = rows
    begins = np.maximum.accumulate(np.where(is_new, rows, 0))
    return replace(timelines, behavior=behavior[order], user_start=begins), place
