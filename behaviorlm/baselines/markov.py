"""Markov baselines: what followed the last one, two or three behaviors, each order backed by the one below.

P_level(b | h) = trust(h) · count(h, b) / count(h) + (1 − trust(h)) · P_below(b), from the training shares up
to the longest history (Jelinek-Mercer). Histories with about as many events per distinct follower share one
weight, chosen on validation by expectation-maximization (`weights.fit_trust`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from behaviorlm.baselines.frequency import training_prior
from behaviorlm.baselines.pair_counts import PairCounts
from behaviorlm.baselines.timelines import TimelineArrays
from behaviorlm.baselines.weights import LevelEvidence, fit_trust, trust_bucket, tuning_rows

# Probabilities are built in float64 in blocks of about this many entries.
PROBABILITIES_PER_BLOCK = 4_000_000

CONTEXT = 0  # a condition of a level: 0 is the context, k >= 1 the behavior k events back


@dataclass(frozen=True)
class LevelCounts:
    """Training counts under one kind of history.

    base: index of the level whose states this one refines (-1: none). added: the condition added to it. keys:
    int64[S], sorted, one per state: state of the base × number of values + value of the added condition.
    totals: float64[S], events seen in the state. starts: int64[S + 1] into behaviors int32 and counts
    float64, the behaviors that followed.
    """

    base: int
    added: int
    keys: NDArray[np.int64]
    totals: NDArray[np.float64]
    starts: NDArray[np.int64]
    behaviors: NDArray[np.int32]
    counts: NDArray[np.float64]


@dataclass(frozen=True)
class Markov:
    """Interpolated counts, one level per kind of history, and how far each of a level's states is trusted.

    prior: float64[K]. trust: for each level float64[S] in [0, 1], one per state.
    """

    prior: NDArray[np.float64]
    levels: tuple[LevelCounts, ...]
    trust: tuple[NDArray[np.float64], ...]

    def predict(self, timelines: TimelineArrays, rows: NDArray[np.integer]) -> NDArray[np.float32]:
        """Log-probabilities float32[len(rows), K].

        History is what the timeline shows before the row, any split.
        """
        result = np.empty((len(rows), timelines.behaviors), np.float32)
        step = max(1, PROBABILITIES_PER_BLOCK // timelines.behaviors)
        for begin in range(0, len(rows), step):
            block = np.asarray(rows[begin : begin + step])
            result[begin : begin + step] = np.log(self._probabilities(timelines, block))
        return result

    def _probabilities(self, timelines: TimelineArrays, rows: NDArray[np.integer]) -> NDArray[np.float64]:
        probabilities = np.tile(self.prior, (len(rows), 1))
        for level, states, trust in zip(
            self.levels, _states(self.levels, timelines, rows), self.trust, strict=True
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


def fit_bigram(timelines: TimelineArrays) -> Markov:
    """One table of what followed each behavior in training.

    Ties, and behaviors never followed, by training share.
    """
    levels = _count_levels(timelines, [(-1, 1)])
    # The training shares weigh one event in all, less than one count of any behavior, so they only order
    # ties.
    return Markov(training_prior(timelines), levels, (levels[0].totals / (levels[0].totals + 1),))


def fit_markov(timelines: TimelineArrays, order: int = 3, use_context: bool = False) -> Markov:
    """Interpolated back-off over the last 1 … `order` behaviors.

    With `use_context` every history is refined once more by the context known before the event (and the
    context alone is the lowest level). The weights are chosen on validation; without validation samples, on
    the training targets with their own event left out of the counts.
    """
    prior = training_prior(timelines)
    levels = _count_levels(timelines, _chain(order, use_context))
    rows, is_counted = tuning_rows(timelines)
    target = timelines.behavior[rows]
    evidence = []
    for level, states in zip(levels, _states(levels, timelines, rows), strict=True):
        distinct = np.where(states >= 0, np.diff(level.starts)[states], 0).astype(np.float64)
        events = np.where(states >= 0, level.totals[states], 0.0)
        own = _count_of(level, states, target, timelines.behaviors)
        if is_counted:
            distinct -= own == 1
            events, own = events - 1, own - 1
        share = np.divide(own, events, out=np.zeros(len(rows)), where=events > 0)
        evidence.append(LevelEvidence(share, events > 0, trust_bucket(events, distinct)))
    weights = fit_trust(evidence, prior[target])
    trust = [
        of_bucket[trust_bucket(level.totals, np.diff(level.starts).astype(np.float64))]
        for of_bucket, level in zip(weights, levels, strict=True)
    ]
    return Markov(prior, levels, tuple(trust))


def _chain(order: int, use_context: bool) -> list[tuple[int, int]]:
    """(base level, added condition) of each level, lowest first."""
    chain: list[tuple[int, int]] = [(-1, CONTEXT)] if use_context else []
    history = -1
    for steps in range(1, order + 1):
        chain.append((history, steps))
        history = len(chain) - 1
        if use_context:
            chain.append((history, CONTEXT))
    return chain


def _condition(
    timelines: TimelineArrays, rows: NDArray[np.integer], added: int
) -> tuple[NDArray[np.int64], int]:
    """The value of a condition at each row, and the number of values it can have."""
    if added == CONTEXT:
        return timelines.context[rows].astype(np.int64), timelines.contexts
    before = rows - added
    inside = before >= timelines.user_start[rows]
    behavior = timelines.behavior[np.maximum(before, 0)].astype(np.int64)
    # 0: before the timeline began, 1: a behavior unseen in training.
    return np.where(inside, behavior + 2, 0), timelines.behaviors + 2


def _key(
    timelines: TimelineArrays,
    rows: NDArray[np.integer],
    base: NDArray[np.integer] | None,
    added: int,
) -> NDArray[np.int64]:
    """Of a level at each row, from the state of the level that it refines, if any; -1 where that was never seen."""
    value, values = _condition(timelines, rows, added)
    if base is None:
        return value
    return np.where(base >= 0, base.astype(np.int64) * values + value, -1)


def _states(
    levels: Sequence[LevelCounts], timelines: TimelineArrays, rows: NDArray[np.integer]
) -> list[NDArray[np.int64]]:
    """For each level the state of each row, -1 where training never saw it."""
    states: list[NDArray[np.int64]] = []
    for level in levels:
        key = _key(timelines, rows, states[level.base] if level.base >= 0 else None, level.added)
        found = np.minimum(np.searchsorted(level.keys, key), len(level.keys) - 1)
        states.append(np.where(level.keys[found] == key, found, -1))
    return states


def _count_levels(timelines: TimelineArrays, chain: Sequence[tuple[int, int]]) -> tuple[LevelCounts, ...]:
    """Counts are made block by block of the log; of all of it a state of each row is kept, of one level at a time."""
    levels: list[LevelCounts] = []
    states: dict[int, list[NDArray[np.int32]]] = {}  # of each block
    for number, (base, added) in enumerate(chain):
        of_base = states.get(base)
        table = PairCounts(timelines.behaviors)
        for block, rows in enumerate(timelines.training_blocks()):
            key = _key(timelines, rows, None if of_base is None else of_base[block], added)
            table.add(key, timelines.behavior[rows])
        keys, state, behaviors, counts = table.whole()
        levels.append(
            LevelCounts(
                base=base,
                added=added,
                keys=keys,
                totals=np.bincount(state, counts, minlength=len(keys)).astype(np.float64),
                starts=np.searchsorted(state, np.arange(len(keys) + 1)),
                behaviors=behaviors,
                counts=counts.astype(np.float64),
            )
        )
        if any(later == number for later, _ in chain):
            states[number] = [
                np.searchsorted(
                    keys, _key(timelines, rows, None if of_base is None else of_base[block], added)
                ).astype(np.int32)
                for block, rows in enumerate(timelines.training_blocks())
            ]
        states = {
            level: of
            for level, of in states.items()
            if any(later == level for later, _ in chain[number + 1 :])
        }
    return tuple(levels)


def _count_of(
    level: LevelCounts, states: NDArray[np.int64], target: NDArray[np.int32], behaviors: int
) -> NDArray[np.float64]:
    """How often the target followed the state in training, 0 for an unseen state."""
    pairs = np.repeat(np.arange(len(level.totals)), np.diff(level.starts)) * behaviors + level.behaviors
    wanted = states * behaviors + target
    found = np.minimum(np.searchsorted(pairs, wanted), len(pairs) - 1)
    return np.where((states >= 0) & (pairs[found] == wanted), level.counts[found], 0.0)
