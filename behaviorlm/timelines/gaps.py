"""Time since the user's event before, in words: context that is known before the event, like the clock (our choice).

It needs the order of a user's events, so it is told once they are in order; until then its column is empty.
"""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

SINCE_LAST = "before.since_last"
SECONDS = {
    "<1m": 60,
    "<5m": 300,
    "<15m": 900,
    "<1h": 3600,
    "<3h": 3 * 3600,
    "<6h": 6 * 3600,
    "<12h": 12 * 3600,
    "<1d": 86_400,
    "<3d": 3 * 86_400,
    "<7d": 7 * 86_400,
}
"""Less than so many seconds, by the word for it."""
LONGER = ">7d"


def gap_words(microseconds: NDArray[np.int64], is_known: NDArray[np.bool_]) -> pa.Array:
    """The word for each gap, string; null where it is not known."""
    words = np.array([*SECONDS, LONGER], dtype=object)
    edges = np.array(list(SECONDS.values()), np.int64) * 1_000_000
    found = words[np.searchsorted(edges, microseconds, side="right")]
    return pa.array(found, pa.string(), mask=~is_known)


def with_gaps(events: pa.Table, is_first: NDArray[np.bool_], before: int | None = None) -> pa.Table:
    """Events in order, with what is said of the gap before each, where their context has it.

    is_first: bool[n], whether an event is its user's first. order: int64, microseconds. before: the order of the event
    before the first of these, where they are not the first of their user.
    """
    if SINCE_LAST not in events.column_names:
        return events
    order = events["order"].to_numpy()
    words = gap_words(np.diff(order, prepend=order[:1] if before is None else before), ~is_first)
    return events.set_column(events.column_names.index(SINCE_LAST), SINCE_LAST, words)
