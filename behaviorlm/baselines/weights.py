"""How the baselines' few weights are chosen: by likelihood of the validation targets, never of test ones."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from behaviorlm.baselines.timelines import TimelineArrays
from behaviorlm.timelines.splits import TRAIN, VALIDATION

# In events: a user with n past events is trusted n / (n + concentration).
CONCENTRATION_GRID = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1e3, 1e4, 1e6)

# Upper edges of the buckets of "events per distinct follower" that share one weight, and the last, open
# bucket.
BUCKET_EDGES = (1.0, 1.5, 2.0, 3.0, 5.0, 9.0, 20.0)
BUCKETS = len(BUCKET_EDGES) + 1
MOST_TARGETS = 2**20
"""Targets on which weights are chosen (our choice): more would cost memory and time and change no weight by much."""


@dataclass(frozen=True)
class LevelEvidence:
    """What one level of history says about the targets that weights are tuned on, arrays over those targets.

    share: float64, the target's share among what followed the history (0 where the history is new).
    is_seen: bool, whether training saw the history. bucket: whole numbers below BUCKETS.
    """

    share: NDArray[np.float64]
    is_seen: NDArray[np.bool_]
    bucket: NDArray[np.integer]


def tuning_rows(timelines: TimelineArrays) -> tuple[NDArray[np.int64], bool]:
    """Rows on which weights are chosen, and whether their own events are among the training counts.

    The validation targets of known behaviors; without any, the training targets, whose own event must then be
    left out of the counts (leave one out). Of many those of every so many timelines, about MOST_TARGETS.
    """
    for split in (VALIDATION, TRAIN):
        number = sum(len(rows) for rows in _known_targets(timelines, split))
        if number:
            rows = _of_some_timelines(timelines, split, -(-number // MOST_TARGETS))
            return rows, split == TRAIN
    return np.zeros(0, np.int64), False


def _known_targets(timelines: TimelineArrays, split: int) -> Iterator[NDArray[np.int64]]:
    """Rows of the samples of known behaviors, some at a time."""
    for rows in timelines.target_blocks(split):
        known = rows[timelines.behavior[rows] >= 0]
        if len(known):
            yield known


def _of_some_timelines(timelines: TimelineArrays, split: int, step: int) -> NDArray[np.int64]:
    """Of every so many timelines, of those that have known targets, the rows of these."""
    number, last, found = -1, -1, []
    for rows in _known_targets(timelines, split):
        start = timelines.user_start[rows]
        of_row = number + np.cumsum(np.append(start[0] != last, start[1:] != start[:-1]))
        found.append(rows[of_row % step == 0])
        number, last = int(of_row[-1]), int(start[-1])
    return np.concatenate(found)


def best_concentration(
    own: NDArray[np.float64], seen: NDArray[np.floating], below: NDArray[np.float64]
) -> float:
    """The value c of CONCENTRATION_GRID under which n targets are most likely, by (own + c · below) / (seen + c).

    Of equal ones, and without any target, the smallest.

    Of each target, float64[n]: how often it was counted, out of how many, and its probability otherwise.
    """

    def loss(concentration: float) -> float:
        return float(-np.log((own + concentration * below) / (seen + concentration)).mean())

    return min(CONCENTRATION_GRID, key=loss) if len(own) else CONCENTRATION_GRID[0]


def trust_bucket(events: NDArray[np.float64], distinct: NDArray[np.float64]) -> NDArray[np.int64]:
    """Bucket of histories with so many events and distinct followers (Chen and Goodman's average count)."""
    return np.searchsorted(BUCKET_EDGES, events / np.maximum(distinct, 1.0) - 1e-9).astype(np.int64)


def fit_trust(
    levels: Sequence[LevelEvidence], prior: NDArray[np.float64], iterations: int = 200
) -> list[NDArray[np.float64]]:
    """Interpolation weights by expectation-maximization, float64[BUCKETS] per level.

    P_level = trust[bucket] · share + (1 − trust[bucket]) · P_below, where the lowest "below" is `prior`, the
    float64 share of each target among all training events; a history that training never saw passes on
    P_below. Starts from one half, counts one prior observation of one half per bucket, and ends when the mean
    log-likelihood gains less than 1e-7. A target no level has seen never gets probability 0, because `prior`
    is positive.
    """
    trust = [np.full(BUCKETS, 0.5) for _ in levels]
    # Unseen histories are in a bucket of their own, whose weight is 0.
    buckets = [np.where(level.is_seen, level.bucket, BUCKETS) for level in levels]
    previous = -np.inf
    for _ in range(iterations if len(prior) else 0):
        probability, weights = [prior], []
        for level, bucket, of_bucket in zip(levels, buckets, trust, strict=True):
            weights.append(np.append(of_bucket, 0.0)[bucket])
            probability.append(weights[-1] * level.share + (1 - weights[-1]) * probability[-1])
        likelihood = float(np.log(probability[-1]).mean())
        if likelihood - previous < 1e-7:
            break
        previous = likelihood
        # How likely each target came through a level at all, from the highest level down.
        reached = np.ones(len(prior))
        for index in reversed(range(len(levels))):
            here = reached * weights[index] * levels[index].share / probability[index + 1]
            taken = np.bincount(buckets[index], here, minlength=BUCKETS + 1)[:BUCKETS]
            offered = np.bincount(buckets[index], reached, minlength=BUCKETS + 1)[:BUCKETS]
            trust[index] = (taken + 0.5) / (offered + 1.0)
            reached = reached - here
    return trust
