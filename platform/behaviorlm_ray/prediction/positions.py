"""From the events of a part to the positions that are asked about, and the history of each."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from behaviorlm.log_files.config import EventsConfig, context_columns
from behaviorlm.predictor.artifact import Artifact, event_mapping
from behaviorlm.predictor.histories import History, read_histories
from behaviorlm.predictor.requests import Request
from behaviorlm.timelines.gaps import SINCE_LAST, gap_words, with_gaps
from behaviorlm.timelines.samples import rows_in_order
from behaviorlm.timelines.splits import user_starts
from behaviorlm_ray.prediction.plan import Wanted

Int64 = NDArray[np.int64]


@dataclass(frozen=True)
class Timelines:
    """Whole users in order, and what is asked about them.

    events: user, order, behavior, before.*, after.*. first, size: of each of n positions, the user's first row and how
    many of his events come before; by user, then by size. begin: the first row of the history, later than `first` where
    histories do not cross sessions. has_next: bool[n], whether the event is there that comes next. now: one row,
    before.*: what is known of an event that is not there; until: its order, None: not known. unknown: int64[rows + 1],
    how many events up to each row have a behavior that the vocabulary does not hold. users: how many there are.
    """

    events: pa.Table
    first: Int64
    size: Int64
    begin: Int64
    has_next: NDArray[np.bool_]
    now: pa.Table
    until: int | None
    unknown: Int64
    users: int

    def __len__(self) -> int:
        return len(self.first)

    @property
    def next_row(self) -> Int64:
        """The row of the next event; what it means where there is none: the row after the user's last."""
        return self.first + self.size


def timelines(events: pa.Table, mapping: EventsConfig, wanted: Wanted, artifact: Artifact) -> Timelines:
    """Events of whole users, in any order, as preparation would have them."""
    if wanted.until is not None:
        events = events.filter(pc.less_equal(events["order"], wanted.until))
    events = events.combine_chunks()
    order, _, _ = rows_in_order(events, mapping)
    before, after = context_columns(mapping)
    table = (
        events.select(["user", "order", "behavior", *before, *after])
        .take(pa.array(order.rows))
        .combine_chunks()
    )
    starts = user_starts(pc.cast(table["user"], pa.string()).combine_chunks())
    table = with_gaps(table, np.isin(np.arange(len(table)), starts))
    sizes = np.diff(np.append(starts, len(table)))
    first, size = _positions(starts, sizes, table["order"].to_numpy(), wanted)
    has_next = size < sizes[np.searchsorted(starts, first, side="right") - 1]
    known = pc.is_in(table["behavior"], pa.array(artifact.names, pa.string())).to_numpy()
    [of_none] = read_histories([Request(at=wanted.moment)], event_mapping(mapping))
    return Timelines(
        table,
        first,
        size,
        _begins(first, size, has_next, order.session, mapping),
        has_next,
        of_none.now,
        wanted.until,
        np.concatenate([[0], np.cumsum(~known)]).astype(np.int64),
        len(starts),
    )


def histories(lines: Timelines, chosen: Sequence[int], artifact: Artifact) -> list[History]:
    """Of the chosen positions, each cut to what any part of the predictor looks at."""
    before = lines.now.column_names
    shown = lines.events.select([name for name in lines.events.column_names if name not in ("user", "order")])
    context = lines.events.select(before)
    counting = artifact.counting
    longest = max(artifact.prompt.max_events, counting.order + 1 if counting else 0)
    is_whole = artifact.prompt.profile or (counting is not None and counting.habits is not None)
    found = []
    for place in chosen:
        begin, row = int(lines.begin[place]), int(lines.next_row[place])
        seen = row - begin if is_whole else min(row - begin, longest)
        now = context.slice(row, 1) if lines.has_next[place] else _now(lines, row - 1, row > begin)
        found.append(History(shown.slice(row - seen, seen), np.arange(seen), now, row - begin - seen))
    return found


def _now(lines: Timelines, last: int, has_last: bool) -> pa.Table:
    """What is known of an event that is not there, after a row that is the user's last."""
    if SINCE_LAST not in lines.now.column_names or lines.until is None or not has_last:
        return lines.now
    gap = lines.until - lines.events["order"][last].as_py()
    words = gap_words(np.array([gap]), np.ones(1, bool))
    return lines.now.set_column(lines.now.column_names.index(SINCE_LAST), SINCE_LAST, words)


def _begins(
    first: Int64, size: Int64, has_next: NDArray[np.bool_], session: Int64, mapping: EventsConfig
) -> Int64:
    """Where histories begin. What comes after the last event of a user is taken to be of the same session."""
    if mapping.histories_cross_sessions or not len(session):
        return first
    changes = np.flatnonzero(np.append(True, session[1:] != session[:-1]))
    of = first + size - ~has_next
    return np.maximum(first, changes[np.searchsorted(changes, of, side="right") - 1])


def _positions(starts: Int64, sizes: Int64, order: Int64, wanted: Wanted) -> tuple[Int64, Int64]:
    """First row and number of events before, of each position that is asked for."""
    if wanted.kind == "latest":
        return starts, sizes
    per_user = sizes + 1  # the last one: what comes after all
    first = np.repeat(starts, per_user)
    size = np.arange(len(first)) - np.repeat(np.cumsum(per_user) - per_user, per_user)
    if wanted.since is None:
        return first, size
    is_last = size == np.repeat(sizes, per_user)
    next_order = np.append(order, 0)[np.where(is_last, len(order), first + size)]
    kept = is_last | (next_order >= wanted.since)
    return first[kept], size[kept]
