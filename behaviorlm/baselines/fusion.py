"""Several ways to count made one by the places that each gives a behavior.

A behavior's worth is the sum of 1 / (60 + place) over the members' rankings (reciprocal-rank fusion; Cormack, Clarke
and Buettcher 2009). Its probability is taken as proportional to a power of that (our choice): the ranking is the
fusion's, and decision rules have something to weigh.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from behaviorlm.baselines.timelines import Baseline, TimelineArrays
from behaviorlm.baselines.weights import tuning_rows

ADDED = 60.0
"""To each place, counted from 1, as in the paper."""
POWERS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0)
"""From which the one is chosen that makes the targets of `tuning_rows` most likely."""
MOST = 4_000_000
"""Of tuning rows so many are taken, evenly, that there are about so many probabilities (our choice)."""


@dataclass(frozen=True)
class Fusion:
    """The members' rankings fused."""

    members: Sequence[Baseline]
    power: float

    def predict(self, timelines: TimelineArrays, rows: NDArray[np.integer]) -> NDArray[np.float32]:
        """Log-probabilities float32[len(rows), K]."""
        return _powered(np.log(fused(self.members, timelines, rows)), self.power).astype(np.float32)


def fit_fusion(members: Sequence[Baseline], timelines: TimelineArrays) -> Fusion:
    """Of fitted members; the power is chosen."""
    rows, _ = tuning_rows(timelines)
    rows = rows[:: max(1, len(rows) * timelines.behaviors // MOST)]
    if not len(rows):
        return Fusion(members, POWERS[0])
    logs = np.log(fused(members, timelines, rows))
    place, target = np.arange(len(rows)), timelines.behavior[rows]

    def likelihood(power: float) -> float:
        return float(_powered(logs, power)[place, target].mean())

    return Fusion(members, max(POWERS, key=likelihood))


def fused(
    members: Sequence[Baseline], timelines: TimelineArrays, rows: NDArray[np.integer]
) -> NDArray[np.float64]:
    """The worth of each behavior; float64[len(rows), K]. Equal ones are placed by their index."""
    worth = np.zeros((len(rows), timelines.behaviors))
    places = 1 / (ADDED + 1 + np.arange(timelines.behaviors))
    for member in members:
        order = np.argsort(-member.predict(timelines, rows), axis=1, kind="stable")
        np.put_along_axis(worth, order, np.take_along_axis(worth, order, 1) + places, 1)
    return worth


def _powered(logs: NDArray[np.float64], power: float) -> NDArray[np.float64]:
    """Log-probabilities proportional to a power of what has these logarithms."""
    scores = power * (logs - logs.max(axis=1, keepdims=True))
    found: NDArray[np.float64] = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    return found
