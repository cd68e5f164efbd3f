"""What the user did most recently: how often what was done so long ago comes next."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from behaviorlm.baselines.frequency import training_prior
from behaviorlm.baselines.timelines import TimelineArrays
from behaviorlm.baselines.weights import best_concentration, tuning_rows

PLACES = 16
"""Behaviors that are told apart by how recent they are (our choice)."""
EVENTS = 64
"""Past events that are looked at (our choice)."""


@dataclass(frozen=True)
class Recency:
    """Predicts the user's most recent behaviors, each once, by their places; the training shares count as
    `concentration`.

    weights: float64[PLACES], how often what stood at a place came next in training where there was one.
    """

    prior: NDArray[np.float64]
    weights: NDArray[np.float64]
    concentration: float

    def predict(self, timelines: TimelineArrays, rows: NDArray[np.integer]) -> NDArray[np.float32]:
        """See `Baseline.predict`; earlier events count whatever their split."""
        places = recent_behaviors(timelines, rows)
        shares = np.tile(self.concentration * self.prior, (len(rows), 1))
        row, place = np.nonzero(places >= 0)
        shares[row, places[row, place]] += self.weights[place]
        return np.log(shares / shares.sum(axis=1, keepdims=True)).astype(np.float32)


def fit_recency(timelines: TimelineArrays) -> Recency:
    """Weights by the training events; the concentration that makes the targets of `tuning_rows` most likely."""
    prior = training_prior(timelines)
    came, stood = np.zeros(PLACES), np.zeros(PLACES)
    for rows in timelines.training_blocks():
        places = recent_behaviors(timelines, rows)
        came += (places == timelines.behavior[rows][:, None]).sum(axis=0)
        stood += (places >= 0).sum(axis=0)
    weights = np.divide(came, stood, out=np.zeros(PLACES), where=stood > 0)
    rows, _ = tuning_rows(timelines)
    target, places = timelines.behavior[rows], recent_behaviors(timelines, rows)
    own = ((places == target[:, None]) * weights).sum(axis=1)
    whole = ((places >= 0) * weights).sum(axis=1)
    return Recency(prior, weights, best_concentration(own, whole, prior[target]))


def recent_behaviors(timelines: TimelineArrays, rows: NDArray[np.integer]) -> NDArray[np.int32]:
    """The different known behaviors before each row in its timeline, the latest first, int32[len(rows), PLACES]; -1
    where there are no more among the last EVENTS events.
    """
    found = np.full((len(rows), PLACES), -1, np.int32)
    for run, inside, asked in timelines.pasts_of(rows, EVENTS):
        found[asked] = _recent_in(run, inside)
    return found


def _recent_in(run: TimelineArrays, rows: NDArray[np.int64]) -> NDArray[np.int32]:
    behavior, start = run.behavior, run.user_start
    order = np.lexsort((behavior, start))  # stable: the events of a user and a behavior in their order
    again = np.full(len(behavior), len(behavior))  # the next row of the timeline with the same behavior
    same = (np.diff(behavior[order]) == 0) & (np.diff(start[order]) == 0)
    again[order[:-1][same]] = order[1:][same]
    found = np.full((len(rows), PLACES), -1, np.int32)
    place = np.zeros(len(rows), np.int64)
    for back in range(1, EVENTS + 1):
        earlier = np.maximum(rows - back, 0)
        is_there = (rows - back >= start[rows]) & (place < PLACES)
        if not is_there.any():
            break
        is_latest = np.flatnonzero(is_there & (again[earlier] >= rows) & (behavior[earlier] >= 0))
        found[is_latest, place[is_latest]] = behavior[earlier[is_latest]]
        place[is_latest] += 1
    return found
