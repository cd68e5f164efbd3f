"""How often each behavior followed each state, counted block by block."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Int64 = NDArray[np.int64]
LEAST = 2**20
"""So many pairs are gathered before they are added up, or as many as there are (our choice)."""


@dataclass(frozen=True)
class _Pairs:
    """Pairs with their counts: each once, by state and behavior, once they were added up."""

    key: Int64
    behavior: NDArray[np.int32]
    count: Int64


class PairCounts:
    """Counts of (key of a state, behavior). State: the pairs so far, added up when they have doubled, so that all of it
    costs about as much as sorting once, and memory goes by the different pairs there are.
    """

    def __init__(self, behaviors: int) -> None:
        self._behaviors = behaviors
        self._sum = _Pairs(np.zeros(0, np.int64), np.zeros(0, np.int32), np.zeros(0, np.int64))
        self._new: list[_Pairs] = []

    def add(self, key: Int64, behavior: NDArray[np.int32]) -> None:
        """Count pairs, one a row."""
        self._new.append(_added_up(key, behavior, np.ones(len(key), np.int64), self._behaviors))
        if sum(len(pairs.key) for pairs in self._new) > max(LEAST, len(self._sum.key)):
            self._add_up()

    def whole(self) -> tuple[Int64, Int64, NDArray[np.int32], Int64]:
        """The keys in order, int64[S]; then, by state and behavior: the place of each pair's key, its behavior, its
        count.
        """
        self._add_up()
        found = self._sum
        is_new = np.append(True, found.key[1:] != found.key[:-1])[: len(found.key)]
        return found.key[is_new], np.cumsum(is_new) - 1, found.behavior, found.count

    def _add_up(self) -> None:
        every = [self._sum, *self._new]
        self._new = []
        key = np.concatenate([pairs.key for pairs in every])
        behavior = np.concatenate([pairs.behavior for pairs in every])
        count = np.concatenate([pairs.count for pairs in every])
        self._sum = _added_up(key, behavior, count, self._behaviors)


def _added_up(key: Int64, behavior: NDArray[np.int32], count: Int64, behaviors: int) -> _Pairs:
    order = _order(key, behavior, behaviors)
    key, behavior, count = key[order], behavior[order], count[order]
    is_new = np.append(True, (key[1:] != key[:-1]) | (behavior[1:] != behavior[:-1]))[: len(key)]
    begins = np.flatnonzero(is_new)
    times = np.add.reduceat(count, begins) if len(begins) else count
    return _Pairs(key[begins], behavior[begins], times)


def _order(key: Int64, behavior: NDArray[np.int32], behaviors: int) -> Int64:
    """The places of pairs by state and behavior: one sort where both fit into a number, which is far quicker."""
    if int(key.max(initial=0)) < 2**63 // behaviors - 1:
        return np.argsort(key * behaviors + behavior)
    return np.lexsort((behavior, key))
