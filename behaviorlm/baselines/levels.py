"""Training counts under each kind of history: after one, two or three behaviors, and in a context known before."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from behaviorlm.baselines.pair_counts import PairCounts, Pairs
from behaviorlm.baselines.timelines import TimelineArrays
from behaviorlm.files.scratch import ScratchColumn

PAIRS_AT_ONCE = 2**20
"""Pairs of a level, with their states, that are looked at together, about (our choice)."""
CONTEXT = 0  # a condition of a level: 0 is the context, k >= 1 the behavior k events back


@dataclass(frozen=True)
class LevelCounts:
    """Training counts under one kind of history.

    base: index of the level whose states this one refines (-1: none). added: the condition added to it. keys:
    int64[S], sorted, one per state: state of the base × number of values + value of the added condition.
    totals: float64[S], events seen in the state. starts: int64[S + 1] into behaviors int32 and counts
    float64, the behaviors that followed. Of a whole log all of them are mapped files.
    """

    base: int
    added: int
    keys: NDArray[np.int64]
    totals: NDArray[np.float64]
    starts: NDArray[np.int64]
    behaviors: NDArray[np.int32]
    counts: NDArray[np.float64]


def level_chain(order: int, use_context: bool) -> list[tuple[int, int]]:
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


def level_states(
    levels: Sequence[LevelCounts], timelines: TimelineArrays, rows: NDArray[np.integer]
) -> list[NDArray[np.int64]]:
    """For each level the state of each row, -1 where training never saw it."""
    states: list[NDArray[np.int64]] = []
    for level in levels:
        key = _key(timelines, rows, states[level.base] if level.base >= 0 else None, level.added)
        found = np.minimum(np.searchsorted(level.keys, key), len(level.keys) - 1)
        states.append(np.where(level.keys[found] == key, found, -1))
    return states


def count_levels(timelines: TimelineArrays, chain: Sequence[tuple[int, int]]) -> tuple[LevelCounts, ...]:
    """Counts are made block by block of the log and lie in scratch files, as does a state of each row, of the levels
    that a later one refines.
    """
    levels: list[LevelCounts] = []
    states: dict[int, NDArray[np.int32]] = {}  # of all training rows
    for number, (base, added) in enumerate(chain):
        of_base = states.get(base)
        table = PairCounts(timelines.behaviors)
        for rows, key in _keys(timelines, of_base, added):
            table.add(key, timelines.behavior[rows])
        levels.append(_level(base, added, table.whole()))
        keys = levels[-1].keys
        if any(later == number for later, _ in chain):
            column = ScratchColumn(np.int32)
            for _, key in _keys(timelines, of_base, added):
                column.append(np.searchsorted(keys, key))
            states[number] = column.whole()
        states = {
            level: of
            for level, of in states.items()
            if any(later == level for later, _ in chain[number + 1 :])
        }
    return tuple(levels)


def _level(base: int, added: int, counted: Iterable[Pairs]) -> LevelCounts:
    """counted: all pairs in order, those of a state together."""
    keys, totals, starts = ScratchColumn(np.int64), ScratchColumn(np.float64), ScratchColumn(np.int64)
    behaviors, counts = ScratchColumn(np.int32), ScratchColumn(np.float64)
    done = 0
    for pairs in counted:
        begins = np.flatnonzero(np.append(True, pairs.key[1:] != pairs.key[:-1]))
        keys.append(pairs.key[begins])
        totals.append(np.add.reduceat(pairs.count, begins, dtype=np.int64))
        starts.append(done + begins)
        behaviors.append(pairs.behavior)
        counts.append(pairs.count)
        done += len(pairs.key)
    starts.append(np.array([done]))
    return LevelCounts(
        base, added, keys.whole(), totals.whole(), starts.whole(), behaviors.whole(), counts.whole()
    )


def state_blocks(level: LevelCounts) -> Iterator[slice]:
    """All states in order, some at a time: those of about PAIRS_AT_ONCE pairs, or one."""
    begin, states = 0, len(level.keys)
    while begin < states:
        room = level.starts[begin] + PAIRS_AT_ONCE
        end = max(begin + 1, int(np.searchsorted(level.starts, room, side="right")) - 1)
        yield slice(begin, end)
        begin = end


def chosen_levels(
    levels: Sequence[LevelCounts], chain: Sequence[tuple[int, int]]
) -> tuple[list[int], tuple[LevelCounts, ...]]:
    """The levels of a shorter chain among those of a longer one, and their places there."""
    place = {_conditions(levels, number): number for number in range(len(levels))}
    wanted: list[tuple[int, ...]] = []
    for base, added in chain:
        wanted.append((*(wanted[base] if base >= 0 else ()), added))
    places = [place[conditions] for conditions in wanted]
    return places, tuple(
        replace(levels[number], base=base) for number, (base, _) in zip(places, chain, strict=True)
    )


def _conditions(levels: Sequence[LevelCounts], number: int) -> tuple[int, ...]:
    """What a level's histories agree in."""
    level = levels[number]
    return (*(_conditions(levels, level.base) if level.base >= 0 else ()), level.added)


def _keys(
    timelines: TimelineArrays, of_base: NDArray[np.int32] | None, added: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Training rows, block by block, and the key of each. of_base: the states of all of them in the level refined."""
    done = 0
    for rows in timelines.training_blocks():
        base = None if of_base is None else of_base[done : done + len(rows)]
        yield rows, _key(timelines, rows, base, added)
        done += len(rows)
