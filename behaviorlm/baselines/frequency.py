"""Baselines without order: the most frequent behaviors overall, and those of the user so far."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from behaviorlm.baselines.timelines import TimelineArrays
from behaviorlm.baselines.weights import CONCENTRATION_GRID, best_concentration, tuning_rows

# Rows of the log are taken in blocks of about this many counts.
COUNTS_PER_BLOCK = 4_000_000


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
        """Log-probabilities float32[len(rows), K].

        Every earlier event of the timeline counts, whatever its split.
        """
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
    target = timelines.behavior[rows]
    own, seen = own_past(timelines, rows)

    def negative_log_likelihood(concentration: float) -> float:
        return float(-np.log((own + concentration * prior[target]) / (seen + concentration)).mean())

    return PerUserFrequency(
        prior, best_concentration(negative_log_likelihood) if len(rows) else CONCENTRATION_GRID[0]
    )


def past_counts(timelines: TimelineArrays, rows: NDArray[np.integer]) -> NDArray[np.float64]:
    """How often each known behavior occurred in the timeline before each row, float64[len(rows), K].

    Looks at the timelines from the first row's to the last row only, so that asking in slices costs little more.
    """
    result = np.empty((len(rows), timelines.behaviors))
    if not len(rows):
        return result
    order = np.argsort(rows, kind="stable")
    wanted = np.asarray(rows)[order]
    carried = np.zeros(timelines.behaviors)  # counts of the timeline that runs into the block
    step = max(1, COUNTS_PER_BLOCK // max(1, timelines.behaviors))
    stop = int(wanted[-1]) + 1
    for begin in range(int(timelines.user_start[wanted[0]]), stop, step):
        end = min(begin + step, stop)
        behavior = timelines.behavior[begin:end]
        start = timelines.user_start[begin:end]
        first, last = np.searchsorted(wanted, [begin, end])
        if first < last:
            result[order[first:last]] = _counts_in_block(
                behavior, start - begin, wanted[first:last] - begin, carried
            )
        last_start = int(start[-1])
        if last_start >= begin:
            carried = np.zeros(timelines.behaviors)
        tail = behavior[max(last_start, begin) - begin :]
        carried = carried + np.bincount(tail[tail >= 0], minlength=timelines.behaviors)
    return result


def _counts_in_block(
    behavior: NDArray[np.int32],
    start: NDArray[np.int64],
    inside: NDArray[np.integer],
    carried: NDArray[np.float64],
) -> NDArray[np.float64]:
    """The counts at the rows `inside` a block; `start` is below 0 for the timeline of which `carried` came before."""
    one_hot = np.zeros((len(behavior) + 1, len(carried)), np.int32)
    known = np.flatnonzero(behavior >= 0)
    one_hot[known + 1, behavior[known]] = 1
    cumulative = one_hot.cumsum(axis=0, dtype=np.int32)
    base = np.maximum(start[inside], 0)
    counts = (cumulative[inside] - cumulative[base]).astype(np.float64)
    counts[start[inside] < 0] += carried
    return counts


def own_past(
    timelines: TimelineArrays, rows: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """For each row: past events of its own behavior, and past events of known behaviors, in its timeline."""
    own, seen = np.empty(len(rows)), np.empty(len(rows))
    for run, inside, places in timelines.whole_timelines(rows):
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
