"""What is done most at the hour of the day."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from behaviorlm.baselines.frequency import training_prior
from behaviorlm.baselines.timelines import TimelineArrays
from behaviorlm.baselines.weights import best_concentration, tuning_rows

HOUR = "before.hour"
"""The column of the context that it needs."""


@dataclass(frozen=True)
class TimeOfDay:
    """Predicts the training shares of each hour, with those of all hours counted as some events.

    hour_of: int64[contexts], the hour of each combination of context. shares: float64[hours, K].
    """

    hour_of: NDArray[np.int64]
    shares: NDArray[np.float64]

    def predict(self, timelines: TimelineArrays, rows: NDArray[np.integer]) -> NDArray[np.float32]:
        """Log-probabilities float32[len(rows), K]."""
        return np.log(self.shares).astype(np.float32)[self.hour_of[timelines.context[rows]]]


def fit_time_of_day(timelines: TimelineArrays) -> TimeOfDay:
    """Counts of the training events, and the concentration that makes the targets of `tuning_rows` most likely.

    Where these are training events, each is left out of its own counts.
    """
    column = timelines.context_columns.index(HOUR)
    values = [value[column] for value in timelines.context_values]
    code = {value: number for number, value in enumerate(dict.fromkeys(values))}
    hour_of = np.array([code[value] for value in values], np.int64)
    counts = np.zeros((len(code), timelines.behaviors))
    for rows in timelines.training_blocks():
        np.add.at(counts, (hour_of[timelines.context[rows]], timelines.behavior[rows]), 1.0)
    prior, totals = training_prior(timelines), counts.sum(axis=1)
    rows, is_counted = tuning_rows(timelines)
    hour, target = hour_of[timelines.context[rows]], timelines.behavior[rows]
    own, seen = counts[hour, target] - is_counted, totals[hour] - is_counted
    found = best_concentration(own, seen, prior[target])
    return TimeOfDay(hour_of, (counts + found * prior) / (totals[:, None] + found))
