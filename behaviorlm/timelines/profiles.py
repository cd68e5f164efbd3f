"""What a person did most before a history window: known strictly before the window, so that its samples share it.

A profile counts what lies before the last multiple of `stride` at or before the window's start, in the timeline (in the
session, where histories do not cross sessions). So it changes where windows do and nowhere else (our choice).
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from heapq import nsmallest
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Int64 = NDArray[np.int64]
Profile = list[tuple[str, int]]
"""Behaviors with counts, the most frequent first, of equally frequent ones by name."""


def profile_rows(history_start: Int64, window_start: Int64, stride: int) -> Int64:
    """The row before which the profile of each row's window counts; int64 [n]."""
    found: Int64 = history_start + (window_start - history_start) // stride * stride
    return found


def profile_of(behaviors: Iterable[str], most: int) -> Profile:
    """The behaviors that are there most."""
    return _first(Counter(behaviors), most)


def profiles(behaviors: Sequence[str], history_start: Int64, stride: int, most: int) -> list[Profile]:
    """One for each of n rows: at multiples of `stride` what lies before in the row's history, elsewhere nothing."""
    begins = np.flatnonzero(history_start == np.arange(len(history_start))).tolist()
    found: list[Profile] = []
    for begin, end in pairwise([*begins, len(behaviors)]):
        found += profiles_from(behaviors[begin:end], 0, Counter(), stride, most)
    return found


def profiles_from(
    behaviors: Sequence[str], position: int, before: Counter[str], stride: int, most: int
) -> list[Profile]:
    """Those of events of one history that begin at a position of it. before: of the events before them; these are added
    to it.
    """
    found: list[Profile] = [[] for _ in behaviors]
    counted = 0
    for row in range(-position % stride, len(behaviors), stride):
        before.update(behaviors[counted:row])
        counted = row
        found[row] = _first(before, most)
    before.update(behaviors[counted:])
    return found


def _first(counts: Counter[str], most: int) -> Profile:
    return nsmallest(most, counts.items(), key=lambda item: (-item[1], item[0]))
