"""Markov baselines: what followed the last one, two or three behaviors, each order backed by the one below.

P_level(b | h) = trust(h) · count(h, b) / count(h) + (1 − trust(h)) · P_below(b), from the training shares up
to the longest history (Jelinek-Mercer). Histories with about as many events per distinct follower share one
weight, chosen on validation by expectation-maximization (`weights.fit_trust`).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from behaviorlm.baselines.frequency import training_prior
from behaviorlm.baselines.levels import (
    LevelCounts,
    chosen_levels,
    count_levels,
    level_chain,
    level_states,
    state_blocks,
)
from behaviorlm.baselines.timelines import TimelineArrays
from behaviorlm.baselines.weights import LevelEvidence, fit_trust, trust_bucket, tuning_rows
from behaviorlm.files.scratch import ScratchColumn

# Probabilities are built in float64 in blocks of about this many entries.
PROBABILITIES_PER_BLOCK = 4_000_000


@dataclass(frozen=True)
class Markov:
    """Interpolated counts, one level per kind of history, and how far each of a level's states is trusted.

    prior: float64[K]. trust: for each level float64[S] in [0, 1], one per state.
    """

    prior: NDArray[np.float64]
    levels: tuple[LevelCounts, ...]
    trust: tuple[NDArray[np.float64], ...]

    def predict(self, timelines: TimelineArrays, rows: NDArray[np.integer]) -> NDArray[np.float32]:
        """See `Baseline.predict`; earlier events count whatever their split."""
        result = np.empty((len(rows), timelines.behaviors), np.float32)
        step = max(1, PROBABILITIES_PER_BLOCK // timelines.behaviors)
        for begin in range(0, len(rows), step):
            block = np.asarray(rows[begin : begin + step])
            result[begin : begin + step] = np.log(self._probabilities(timelines, block))
        return result

    def _probabilities(self, timelines: TimelineArrays, rows: NDArray[np.integer]) -> NDArray[np.float64]:
        probabilities = np.tile(self.prior, (len(rows), 1))
        for level, states, trust in zip(
            self.levels, level_states(self.levels, timelines, rows), self.trust, strict=True
        ):
            weight = np.where(states >= 0, trust[states], 0.0)
            probabilities *= (1 - weight)[:, None]
            found = np.flatnonzero(states >= 0)
            begin, end = level.starts[states[found]], level.starts[states[found] + 1]
            lengths = end - begin
            row = np.repeat(found, lengths)
            entry = np.arange(lengths.sum()) + np.repeat(begin - (np.cumsum(lengths) - lengths), lengths)
            share = level.counts[entry] / level.totals[states[row]]
            probabilities[row, level.behaviors[entry]] += weight[row] * share
        return probabilities


@dataclass(frozen=True)
class CountedHistories:
    """What all Markov baselines of a log rest on: the shares of all behaviors, the counts of each level of the longest
    chain, and what each says about the targets that weights are chosen on, of which prior_of_target is the share.
    """

    prior: NDArray[np.float64]
    levels: tuple[LevelCounts, ...]
    evidence: tuple[LevelEvidence, ...]
    prior_of_target: NDArray[np.float64]


def count_histories(timelines: TimelineArrays, order: int, use_context: bool) -> CountedHistories:
    """Count once for all that is fitted with this order and context, or less of them."""
    prior = training_prior(timelines)
    levels = count_levels(timelines, level_chain(order, use_context))
    rows, is_counted = tuning_rows(timelines)
    target = timelines.behavior[rows]
    evidence = []
    for level, states in zip(levels, level_states(levels, timelines, rows), strict=True):
        distinct = np.where(states >= 0, level.starts[states + 1] - level.starts[states], 0).astype(
            np.float64
        )
        events = np.where(states >= 0, level.totals[states], 0.0)
        own = _count_of(level, states, target)
        if is_counted:
            distinct -= own == 1
            events, own = events - 1, own - 1
        share = np.divide(own, events, out=np.zeros(len(rows)), where=events > 0)
        evidence.append(LevelEvidence(share, events > 0, trust_bucket(events, distinct).astype(np.int8)))
    return CountedHistories(prior, levels, tuple(evidence), prior[target])


def fit_bigram(timelines: TimelineArrays, counted: CountedHistories | None = None) -> Markov:
    """One table of what followed each behavior in training.

    Ties, and behaviors never followed, by training share.
    """
    counted = counted or count_histories(timelines, 1, False)
    _, levels = chosen_levels(counted.levels, level_chain(1, False))
    # The training shares weigh one event in all, less than one count of any behavior, so they only order
    # ties.
    return Markov(counted.prior, levels, (levels[0].totals / (levels[0].totals + 1),))


def fit_markov(
    timelines: TimelineArrays,
    order: int = 3,
    use_context: bool = False,
    counted: CountedHistories | None = None,
) -> Markov:
    """Interpolated back-off over the last 1 … `order` behaviors.

    With `use_context` every history is refined once more by the context known before the event (and the
    context alone is the lowest level). The weights are chosen on validation; without validation samples, on
    the training targets with their own event left out of the counts. counted: of this log with at least this order and
    context; None: counted here.
    """
    counted = counted or count_histories(timelines, order, use_context)
    places, levels = chosen_levels(counted.levels, level_chain(order, use_context))
    weights = fit_trust([counted.evidence[place] for place in places], counted.prior_of_target)
    trust = [_trust(level, of_bucket) for level, of_bucket in zip(levels, weights, strict=True)]
    return Markov(counted.prior, levels, tuple(trust))


def _trust(level: LevelCounts, of_bucket: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far each state is trusted, float64[S]."""
    found = ScratchColumn(np.float64)
    for states in state_blocks(level):
        distinct = np.diff(level.starts[states.start : states.stop + 1]).astype(np.float64)
        found.append(of_bucket[trust_bucket(level.totals[states], distinct)])
    return found.whole()


def _count_of(
    level: LevelCounts, states: NDArray[np.int64], target: NDArray[np.int32]
) -> NDArray[np.float64]:
    """How often the target followed the state in training, 0 for an unseen state."""
    # Bisection among the behaviors that followed each state, of all rows at once.
    low, end = level.starts[states], level.starts[states + 1]
    end = np.where(states < 0, low, end)
    high = end
    while (low < high).any():
        middle = (low + high) // 2
        is_below = (low < high) & (level.behaviors[np.minimum(middle, len(level.behaviors) - 1)] < target)
        low, high = np.where(is_below, middle + 1, low), np.where(is_below, high, middle)
    found = np.minimum(low, len(level.behaviors) - 1)
    return np.where((low < end) & (level.behaviors[found] == target), level.counts[found], 0.0)
