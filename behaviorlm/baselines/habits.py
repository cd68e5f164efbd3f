"""A person's own habits on what is likely of anybody: per-user Markov, backed by per-user frequency, backed by that.

P(b) = (n_last(b) + c_last · F(b)) / (n_last + c_last), F(b) = (n(b) + c_user · P_anybody(b)) / (n + c_user): b was done
n(b) times of n, and n_last(b) times of n_last after what came last. A linear mixture in which habits have the share
n / (n + c), more the longer the past is (our choice). Nothing of it is kept: it is counted from the past at hand.
"""

from collections.abc import Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from behaviorlm.baselines.frequency import past_counts
from behaviorlm.baselines.per_user_markov import transitions
from behaviorlm.baselines.timelines import TimelineArrays
from behaviorlm.baselines.weights import CONCENTRATION_GRID
from behaviorlm.config import Settings

Float64 = NDArray[np.float64]


class Habits(Settings):
    """For how many events of a person's past counts what is below."""

    of_user: float = Field(
        gt=0,
        description="Events that what is likely of anybody counts for; the fewer, the more habits count.",
    )
    of_last: float = Field(
        gt=0, description="Events that the person's frequencies count for after a behavior."
    )

    def log_probabilities(self, anybody: NDArray[np.floating], own: Float64, followed: Float64) -> Float64:
        """Normalized, float64[n, K] like all that is given. anybody: log probabilities, normalized. own, followed: how
        often each behavior is in the past, and how often it followed there what came last.
        """
        frequencies = _backed(own, np.exp(anybody.astype(np.float64)), self.of_user)
        found: Float64 = np.log(_backed(followed, frequencies, self.of_last))
        return found


def counted_at(timelines: TimelineArrays, rows: NDArray[np.integer]) -> tuple[Float64, Float64]:
    """`own` and `followed` before rows of a log, float64[n, K]; earlier events count whatever their split."""
    return past_counts(timelines, rows), transitions(timelines, rows)


def counted_in(
    pasts: Sequence[Sequence[int] | NDArray[np.integer]], behaviors: int
) -> tuple[Float64, Float64]:
    """The same of pasts: ids of behaviors, the latest last, -1 for unknown ones."""
    own, followed = np.zeros((2, len(pasts), behaviors))
    for row, past in enumerate(pasts):
        ids = np.asarray(past, np.int64)
        next_ones = ids[1:][ids[:-1] == ids[-1]] if len(ids) else ids
        for counts, events in ((own, ids), (followed, next_ones)):
            counts[row] = np.bincount(events[events >= 0], minlength=behaviors)
    return own, followed


def fit_habits(
    anybody: Float64, own: Float64, followed: Float64, seen: Float64, times: Float64, weights: Float64
) -> Habits:
    """The pair of CONCENTRATION_GRID under which n targets are most likely; of equal pairs that with the least habits.

    Of each target, float64[n]: its probability without habits, how often it is in the past and followed there what came
    last, out of how many events in the past and after what came last, and its weight.
    """

    def likelihood(pair: tuple[float, ...]) -> float:
        of_user, of_last = pair
        frequency = (own + of_user * anybody) / (seen + of_user)
        return float(
            np.average(np.log((followed + of_last * frequency) / (times + of_last)), weights=weights)
        )

    of_user, of_last = max(product(CONCENTRATION_GRID[::-1], repeat=2), key=likelihood)
    return Habits(of_user=of_user, of_last=of_last)


def _backed(counts: Float64, below: Float64, concentration: float) -> Float64:
    found: Float64 = (counts + concentration * below) / (counts.sum(axis=1, keepdims=True) + concentration)
    return found
