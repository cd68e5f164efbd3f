"""How often each behavior followed each state, counted block by block; what is counted lies in scratch files."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from behaviorlm.files.scratch import ScratchColumn

Int64 = NDArray[np.int64]
PAIRS_AT_ONCE = 2**20
"""Pairs of all blocks that are added up at a time, about (our choice): some 200 MB of them."""


@dataclass(frozen=True)
class Pairs:
    """Pairs and their counts. key: of the state, int64[n]; behavior: int32[n]; count: whole numbers."""

    key: Int64
    behavior: NDArray[np.int32]
    count: NDArray[np.integer]


class PairCounts:
    """Counts of (key of a state, behavior). State: the pairs of each block, added up and in order, in scratch files."""

    def __init__(self, behaviors: int) -> None:
        self._behaviors = behaviors
        self._key, self._behavior = ScratchColumn(np.int64), ScratchColumn(np.int32)
        self._count = ScratchColumn(np.int32)
        self._bounds = [0]

    def add(self, key: Int64, behavior: NDArray[np.int32]) -> None:
        """Count a block of pairs, one a row."""
        pairs = _added_up(Pairs(key, behavior, np.ones(len(key), np.int32)), self._behaviors)
        self._key.append(pairs.key)
        self._behavior.append(pairs.behavior)
        self._count.append(pairs.count)
        self._bounds.append(self._bounds[-1] + len(pairs.key))

    def whole(self) -> Iterator[Pairs]:
        """All pairs, each once, by state and behavior; some at a time, those of a state together."""
        key, behavior, count = self._key.whole(), self._behavior.whole(), self._count.whole()
        blocks = [key[begin:end] for begin, end in pairwise(self._bounds)]
        cuts = _cuts(blocks)
        places = [np.array([0, *np.searchsorted(block, cuts), len(block)]) for block in blocks]
        for number in range(len(cuts) + 1):
            chosen = [
                slice(begin + int(of[number]), begin + int(of[number + 1]))
                for begin, of in zip(self._bounds[:-1], places, strict=True)
                if of[number] < of[number + 1]
            ]
            if chosen:
                columns = ([column[part] for part in chosen] for column in (key, behavior, count))
                pairs = Pairs(*(np.concatenate(column) for column in columns))
                yield pairs if len(chosen) == 1 else _added_up(pairs, self._behaviors)


def _cuts(blocks: list[Int64]) -> Int64:
    """Keys at which all blocks, each in order, are cut so that about PAIRS_AT_ONCE lie between two of them."""
    step = max(1, PAIRS_AT_ONCE // (4 * max(1, len(blocks))))
    some = np.sort(np.concatenate([np.zeros(0, np.int64), *(block[::step] for block in blocks)]))
    return np.unique(some[PAIRS_AT_ONCE // step :: max(1, PAIRS_AT_ONCE // step)])


def _added_up(pairs: Pairs, behaviors: int) -> Pairs:
    order = _order(pairs.key, pairs.behavior, behaviors)
    key, behavior = pairs.key[order], pairs.behavior[order]
    is_new = np.append(True, (key[1:] != key[:-1]) | (behavior[1:] != behavior[:-1]))[: len(key)]
    begins = np.flatnonzero(is_new)
    count = np.add.reduceat(pairs.count[order], begins, dtype=np.int64) if len(begins) else pairs.count
    return Pairs(key[begins], behavior[begins], count)


def _order(key: Int64, behavior: NDArray[np.int32], behaviors: int) -> Int64:
    """The places of pairs by state and behavior: one sort where both fit into a number, which is far quicker."""
    if int(key.max(initial=0)) < 2**63 // behaviors - 1:
        return np.argsort(key * behaviors + behavior)
    return np.lexsort((behavior, key))
