"""Histories as the log has them: normalized, in order, without what cannot be used or must not be known.

Nothing is refused that can be told instead: what is left out, and why, is said with the answer.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from behaviorlm.errors import DataError
from behaviorlm.events.normalization import normalize
from behaviorlm.log_files.config import context_columns, source_columns
from behaviorlm.log_files.source_files import QUARANTINE_SCHEMA
from behaviorlm.predictor.artifact import EventMapping
from behaviorlm.predictor.requests import Owner, Request, RequestText, request_text
from behaviorlm.timelines.gaps import SINCE_LAST, gap_words, with_gaps
from behaviorlm.timelines.samples import rows_in_order
from behaviorlm.times.moments import read_times
from behaviorlm.times.order import ISO_FORMAT, OrderColumn
from behaviorlm.times.time_patterns import written_by

_ANY_NAME = "x"
"""What stands for the behavior that is asked for."""
_ANY_DAY = date(2000, 1, 1)
_ANY_SESSION = "session"


@dataclass(frozen=True)
class History:
    """A history as the log has it.

    events: behavior, before.*, after.* (strings) in order. given: for each the place of its event among those handed
    over, int64[n]. now: one row, before.*, or another column where there are none. earlier: events of the user
    before the first. owner: whose it is, where what a model makes of it may be kept.
    """

    events: pa.Table
    given: NDArray[np.int64]
    now: pa.Table
    earlier: int = 0
    warnings: tuple[str, ...] = field(default=())
    owner: Owner | None = None

    @property
    def size(self) -> int:
        """Events."""
        return len(self.given)


class _MixedZones(DataError):
    """Times with and without a zone meet, and the log names no zone."""


def read_histories(requests: Sequence[Request], mapping: EventMapping) -> list[History]:
    """Each request's history. Raises DataError naming the request, the event and the value that cannot be read."""
    if not requests:
        return []
    columns = [request_text(f"request {number}", request, mapping) for number, request in enumerate(requests)]
    try:
        return _read(requests, columns, mapping)
    except _MixedZones:
        if len(requests) > 1:  # each may be sound by itself
            pairs = zip(requests, columns, strict=True)
            return [history for one, of in pairs for history in _read([one], [of], mapping)]
        raise


def _read(
    requests: Sequence[Request], columns: Sequence[RequestText], mapping: EventMapping
) -> list[History]:
    """All at once: events of all requests, then what is asked for, in one table."""
    raw, users = _raw_table(columns, mapping)
    usable, unusable = _normalized(raw, columns[0].where, mapping)
    bounds = np.cumsum([0, *(of.size for of in columns)])
    is_event = usable["row"].to_numpy() < bounds[-1]
    asked, events = usable.filter(pa.array(~is_event)), usable.filter(pa.array(is_event))
    unread = set(range(len(requests))) - set((asked["row"].to_numpy() - bounds[-1]).tolist())
    if unread:
        number = min(unread)
        raise DataError(
            f"{columns[number].where}: at: {requests[number].at!r} cannot be read as {mapping.order.first_kind}"
        )
    reasons: list[Counter[str]] = [Counter() for _ in requests]
    for row, reason in zip(unusable["row"].to_pylist(), unusable["reason"].to_pylist(), strict=True):
        reasons[users[row]][reason] += 1
    user = np.array(users, np.int64)[events["row"].to_numpy()]
    has_limit = [
        request.at is not None and of.is_ordered for request, of in zip(requests, columns, strict=True)
    ]
    limits = np.where(has_limit, asked["order"].to_numpy(), np.iinfo(np.int64).max)
    future = events["order"].to_numpy() > limits[user]  # of which a predictor must not know
    for number in user[future].tolist():
        reasons[number]["later than `at`"] += 1
    stands = np.array([not of.is_ordered for of in columns], bool)[user]
    order = np.where(stands, events["row"].to_numpy(), events["order"].to_numpy())
    events = events.set_column(
        events.column_names.index("order"), events.schema.field("order"), pa.array(order)
    )
    sound = events.filter(pa.array(~future))
    in_order, _, _ = rows_in_order(sound, mapping)
    ordered = sound.take(pa.array(in_order.rows))
    rows = ordered["row"].to_numpy()
    user = np.array(users, np.int64)[rows]
    starts = np.searchsorted(user, np.arange(len(requests) + 1))
    ordered, asked = _with_gaps(ordered, asked, starts, columns)
    before, after = context_columns(mapping)
    shown, now = ordered.select(["behavior", *before, *after]), asked.select(before or ["order"])
    found = []
    for number, (request, of_request) in enumerate(zip(requests, columns, strict=True)):
        start, stop = int(starts[number]), int(starts[number + 1])
        past = 0 if mapping.histories_cross_sessions else _before_last_session(in_order.session[start:stop])
        reasons[number]["of an earlier session"], start = past, start + past
        given = rows[start:stop] - bounds[number]
        left_out = of_request.size - len(given) - reasons[number].total()
        found.append(
            History(
                _blind(shown.slice(start, stop - start), mapping, of_request.is_ordered),
                given,
                _blind(now.slice(number, 1), mapping, request.at is not None),
                0 if past else request.earlier_events,
                (*of_request.warnings, *_told(reasons[number], given, left_out, of_request.is_ordered)),
                request.owner,
            )
        )
    return found


def _normalized(raw: pa.Table, where: str, mapping: EventMapping) -> tuple[pa.Table, pa.Table]:
    """As preparation does it: what can be used, and what cannot."""
    try:
        return normalize(raw, QUARANTINE_SCHEMA.empty_table(), 0, "the history", mapping)
    except DataError:
        raise _MixedZones(
            f"{where}: some times of its history or `at` have a zone and some have none, so they cannot be "
            "put in order; give all with a zone, or all without"
        ) from None


def _with_gaps(
    events: pa.Table, asked: pa.Table, starts: NDArray[np.int64], columns: Sequence[RequestText]
) -> tuple[pa.Table, pa.Table]:
    """Both with the time since the event before, where that is context. starts: the first event of each request, and
    the end.
    """
    if SINCE_LAST not in asked.column_names:
        return events, asked
    is_known = (np.diff(starts) > 0) & np.array([of.is_ordered for of in columns])
    last = np.append(events["order"].to_numpy(), 0)[starts[1:] - 1]
    words = gap_words(asked["order"].to_numpy() - last, is_known)
    place = asked.column_names.index(SINCE_LAST)
    told = asked.set_column(place, SINCE_LAST, words)
    return with_gaps(events, np.isin(np.arange(len(events)), starts)), told


def _before_last_session(session: NDArray[np.int64]) -> int:
    """How many events are of earlier sessions than the last: the next event is taken to be one of that."""
    return int(np.searchsorted(session, session[-1])) if len(session) else 0


def _raw_table(columns: Sequence[RequestText], mapping: EventMapping) -> tuple[pa.Table, list[int]]:
    """The text of all events, then of what is asked for, as a log's reader hands it on; the request of each row."""
    users = [number for number, of in enumerate(columns) for _ in range(of.size)] + list(range(len(columns)))
    texts: dict[str, list[str | None]] = {}
    for role in source_columns(mapping):
        if role == "user":
            texts[role] = [f"request {number:012d}" for number in users]
            continue
        given = [text for of in columns for text in of.texts[role]]
        texts[role] = given + [_ANY_NAME if role == "behavior" else of.now.get(role) for of in columns]
    are_ordered = [of.is_ordered for of in columns for _ in range(of.size)]
    for column in mapping.order.columns:
        filler = _any_order(column, _is_naive(columns, column))
        has = [*are_ordered, *(of.now.get(column.role) is not None for of in columns)]
        texts[column.role] = [
            text if is_given else filler for text, is_given in zip(texts[column.role], has, strict=True)
        ]
    if mapping.session is not None:
        has = [
            any(text is not None for text in of.texts["session"]) for of in columns for _ in range(of.size)
        ]
        has += [False for _ in columns]
        texts["session"] = [
            text if is_given else _ANY_SESSION for text, is_given in zip(texts["session"], has, strict=True)
        ]
    raw = {role: pa.array(values, pa.string()) for role, values in texts.items()}
    return pa.table({**raw, "row": pa.array(range(len(users)), pa.int64())}), users


def _any_order(column: OrderColumn, is_naive: bool) -> str:
    """What stands for an order that was not given."""
    if column.kind != "time":
        return "0"
    day = column.earliest or column.latest or _ANY_DAY
    if column.time_format not in (None, ISO_FORMAT):
        return written_by(datetime(day.year, day.month, day.day), str(column.time_format))
    return f"{day}T00:00:00{'' if is_naive else 'Z'}"


def _is_naive(columns: Sequence[RequestText], column: OrderColumn) -> bool:
    """Whether what stands for times that were not given must be without a zone to go with those that were."""
    if column.kind != "time" or column.time_zone is not None:
        return False
    role = column.role
    given = [text for of in columns for text in (*of.texts[role], of.now.get(role)) if text is not None]
    times = read_times(pa.array(given, pa.string()), column)
    return bool((times.is_readable & ~times.is_zoned).any())


def _blind(table: pa.Table, mapping: EventMapping, knows_time: bool) -> pa.Table:
    """Without the clock where the time is not known."""
    if knows_time:
        return table
    for name in mapping.clock:
        place = table.column_names.index(f"before.{name}")
        table = table.set_column(place, f"before.{name}", pa.nulls(len(table), pa.string()))
    return table


def _told(reasons: Counter[str], given: NDArray[np.int64], left_out: int, is_ordered: bool) -> list[str]:
    told = [f"{number} of its events left out: {reason}" for reason, number in reasons.items() if number]
    if left_out:
        told.append(f"{left_out} of its events left out as preparation does: duplicates or repeats")
    if is_ordered and (np.diff(given) < 0).any():
        told.append("the events were not in order of time; they were sorted")
    return told
