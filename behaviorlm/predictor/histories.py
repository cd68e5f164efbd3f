"""What a caller hands over, as events: a history in any form, the context now and the moment, read as the log was.

Nothing is refused that can be told instead: what cannot be used is left out, and the answer says so.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from behaviorlm.errors import DataError
from behaviorlm.events.config import OrderConfig, context_columns, source_columns
from behaviorlm.events.normalization import normalize
from behaviorlm.events.source_files import QUARANTINE_SCHEMA
from behaviorlm.events.times import read_times
from behaviorlm.predictor.artifact import EventMapping
from behaviorlm.timelines.samples import rows_in_order

_ANY_NAME = "x"
"""What stands for the behavior that is asked for."""
_ANY_TIME = "2000-01-01T00:00:00Z"

Moment = str | int | float | datetime | date
Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Request:
    """One prediction that is asked for.

    history: events in any order, oldest first where they have no time: dicts with the log's columns, an Arrow table, a
    pandas or polars frame; None: nothing is known. context: what is known before the next event, by the log's columns.
    at: when that event happens, in the log's own form or as a datetime; an integer where the log is ordered by one.
    earlier_events: how many events of the user lie before the first of `history` (windows start at fixed events of a
    timeline, so that with it the same window is seen as with the whole history).
    """

    history: Any = None
    context: Mapping[str, Any] | None = None
    at: Moment | None = None
    earlier_events: int = 0


@dataclass(frozen=True)
class History:
    """A history as the log has it.

    events: behavior, before.*, after.* (strings) in order. given: for each the place of its event among those handed
    over, int64[n]. now: one row, before.*. earlier: events of the user before the first.
    """

    events: pa.Table
    given: NDArray[np.int64]
    now: pa.Table
    earlier: int = 0
    warnings: tuple[str, ...] = field(default=())

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
    columns = [_columns(f"request {number}", request, mapping) for number, request in enumerate(requests)]
    try:
        return _read(requests, columns, mapping)
    except _MixedZones:
        if len(requests) > 1:  # each may be sound by itself
            pairs = zip(requests, columns, strict=True)
            return [history for one, of in pairs for history in _read([one], [of], mapping)]
        raise


@dataclass(frozen=True)
class _Columns:
    """Text by role, without that of the order where no event has one; warnings of what was not understood."""

    where: str
    texts: dict[str, list[str | None]]
    now: dict[str, str | None]
    size: int
    is_ordered: bool
    warnings: list[str]


def _columns(where: str, request: Request, mapping: EventMapping) -> _Columns:
    if not isinstance(request.earlier_events, int) or request.earlier_events < 0:
        raise DataError(
            f"{where}: earlier_events must be a whole number from 0, not {request.earlier_events!r}"
        )
    given, size = _values(where, request.history)
    roles = {role: column for role, column in source_columns(mapping).items() if role != "user"}
    if size and mapping.behavior not in given:
        raise DataError(
            f"{where}: no event of the history has the column {mapping.behavior!r}, the behavior; columns there: "
            f"{', '.join(map(repr, given)) or 'none'}"
        )
    texts = {
        role: [
            _text(value, f"{where}, event {place}, {column!r}", mapping.order if role == "order" else None)
            for place, value in enumerate(given.get(column, [None] * size))
        ]
        for role, column in roles.items()
    }
    warnings = []
    unknown = sorted(set(given) - set(roles.values()) - {mapping.user, mapping.group or mapping.user})
    if unknown:
        warnings.append(f"columns of the history that the log did not have were not used: {_listed(unknown)}")
    is_ordered = any(text is not None for text in texts["order"])
    if size and not is_ordered:
        warnings.append(
            f"no event has the column {mapping.order.column!r}: they are taken in the order in which they stand"
            + (f", {_listed(mapping.clock)} unknown" if mapping.clock else "")
        )
    now = _now(where, request, mapping, warnings)
    return _Columns(where, texts, now, size, is_ordered, warnings)


def _now(where: str, request: Request, mapping: EventMapping, warnings: list[str]) -> dict[str, str | None]:
    """The context of the next event by role; what is missing or not understood is added to the warnings."""
    context = {} if request.context is None else request.context
    if not isinstance(context, Mapping):
        raise DataError(f"{where}: context must be keys and values, not {type(context).__name__}")
    unknown = sorted(str(name) for name in context if name not in mapping.context_before)
    if unknown:
        known = _listed(mapping.context_before) if mapping.context_before else "none"
        warnings.append(f"context that the log did not have was not used: {_listed(unknown)}; known: {known}")
    missing = [name for name in mapping.context_before if name not in context]
    if missing:
        warnings.append(f"context that was not given is unknown to the predictor: {_listed(missing)}")
    if request.at is None and mapping.clock:
        warnings.append(f"`at` was not given, so {_listed(mapping.clock)} of the next event are unknown")
    now = {
        f"before.{name}": _text(context.get(name), f"{where}, context {name!r}", None)
        for name in mapping.context_before
    }
    return now | {"order": _text(request.at, f"{where}, at", mapping.order)}


def _read(requests: Sequence[Request], columns: Sequence[_Columns], mapping: EventMapping) -> list[History]:
    """All at once: events of all requests, then what is asked for, in one table."""
    raw, users = _raw_table(columns, mapping)
    try:
        events, unusable = normalize(raw, QUARANTINE_SCHEMA.empty_table(), 0, "the history", mapping)
    except DataError:
        raise _MixedZones(
            f"{columns[0].where}: some times of its history or `at` have a zone and some have none, so they cannot be "
            "put in order; give all with a zone, or all without"
        ) from None
    bounds = np.cumsum([0, *(of.size for of in columns)])
    moments = _moments(events, int(bounds[-1]))
    for number, request in enumerate(requests):
        if number not in moments:
            raise DataError(
                f"{columns[number].where}: at: {request.at!r} cannot be read as {mapping.order.kind}"
            )
    is_event = events["row"].to_numpy() < bounds[-1]
    asked, events = events.filter(pa.array(~is_event)), events.filter(pa.array(is_event))
    reasons: list[Counter[str]] = [Counter() for _ in requests]
    for row, reason in zip(unusable["row"].to_pylist(), unusable["reason"].to_pylist(), strict=True):
        reasons[users[row]][reason] += 1
    user = np.array(users, np.int64)[events["row"].to_numpy()]
    future = _after(events, user, requests, columns, moments)
    for number in user[future].tolist():
        reasons[number]["later than `at`"] += 1
    stands = np.array([not of.is_ordered for of in columns], bool)[user]
    order = np.where(stands, events["row"].to_numpy(), events["order"].to_numpy())
    events = events.set_column(
        events.column_names.index("order"), events.schema.field("order"), pa.array(order)
    )
    sound = events.filter(pa.array(~future))
    sorting, _, _ = rows_in_order(sound, mapping)
    ordered = sound.take(pa.array(sorting))
    rows = ordered["row"].to_numpy()
    user = np.array(users, np.int64)[rows]
    starts = np.searchsorted(user, np.arange(len(requests) + 1))
    before, after = context_columns(mapping)
    shown, now = ordered.select(["behavior", *before, *after]), asked.select(before)
    found = []
    for number, (request, of_request) in enumerate(zip(requests, columns, strict=True)):
        start, stop = int(starts[number]), int(starts[number + 1])
        given = rows[start:stop] - bounds[number]
        left_out = of_request.size - len(given) - reasons[number].total()
        found.append(
            History(
                _blind(shown.slice(start, stop - start), mapping, of_request.is_ordered),
                given,
                _blind(now.slice(number, 1), mapping, request.at is not None),
                request.earlier_events,
                (*of_request.warnings, *_told(reasons[number], given, left_out, of_request.is_ordered)),
            )
        )
    return found


def _raw_table(columns: Sequence[_Columns], mapping: EventMapping) -> tuple[pa.Table, list[int]]:
    """The text of all events, then of what is asked for, as a log's reader hands it on; the request of each row."""
    users = [number for number, of in enumerate(columns) for _ in range(of.size)] + list(range(len(columns)))
    any_order = _ANY_TIME if mapping.order.kind == "time" else "0"
    texts: dict[str, list[str | None]] = {}
    for role in source_columns(mapping):
        if role == "user":
            texts[role] = [f"{number:012d}" for number in users]
            continue
        values: list[str | None] = []
        for of in columns:
            blank = role == "order" and not of.is_ordered
            values += [None] * of.size if blank else of.texts[role]
        texts[role] = values + [_ANY_NAME if role == "behavior" else of.now.get(role) for of in columns]
    naive = _is_naive(columns, mapping)
    if naive:
        any_order = _ANY_TIME.removesuffix("Z")
    if mapping.order.time_format is not None:
        any_order = datetime(2000, 1, 1).strftime(mapping.order.time_format)
    ordered = [of.is_ordered for of in columns for _ in range(of.size)]
    ordered += [of.now["order"] is not None for of in columns]
    texts["order"] = [text if has else any_order for text, has in zip(texts["order"], ordered, strict=True)]
    raw = {role: pa.array(values, pa.string()) for role, values in texts.items()}
    return pa.table({**raw, "row": pa.array(range(len(users)), pa.int64())}), users


def _is_naive(columns: Sequence[_Columns], mapping: EventMapping) -> bool:
    """Whether what stands for times that were not given must be without a zone to go with those that were."""
    if mapping.order.kind != "time" or mapping.order.time_zone is not None:
        return False
    given = [text for of in columns for text in (*of.texts["order"], of.now["order"]) if text is not None]
    times = read_times(pa.array(given, pa.string()), mapping.order)
    return bool((times.is_readable & ~times.is_zoned).any())


def _moments(events: pa.Table, first: int) -> dict[int, int]:
    """The order of what is asked for, by request."""
    rows, order = events["row"].to_numpy(), events["order"].to_numpy()
    return {int(row) - first: int(value) for row, value in zip(rows, order, strict=True) if row >= first}


def _after(
    events: pa.Table,
    user: NDArray[np.int64],
    requests: Sequence[Request],
    columns: Sequence[_Columns],
    moments: Mapping[int, int],
) -> NDArray[np.bool_]:
    """bool[n]: events that come after what is asked for, of which a predictor must not know."""
    limits = [
        moments[number] if request.at is not None and of.is_ordered else np.iinfo(np.int64).max
        for number, (request, of) in enumerate(zip(requests, columns, strict=True))
    ]
    return events["order"].to_numpy() > np.array(limits, np.int64)[user]


def _blind(table: pa.Table, mapping: EventMapping, knows_time: bool) -> pa.Table:
    """Without the clock where the time is not known."""
    if knows_time:
        return table
    for name in mapping.clock:
        place = table.column_names.index(f"before.{name}")
        table = table.set_column(place, f"before.{name}", pa.nulls(len(table), pa.string()))
    return table


def _told(reasons: Counter[str], given: NDArray[np.int64], left_out: int, is_ordered: bool) -> list[str]:
    told = [f"{number} of its events left out: {reason}" for reason, number in reasons.items()]
    if left_out:
        told.append(f"{left_out} of its events left out as preparation does: duplicates or repeats")
    if is_ordered and (np.diff(given) < 0).any():
        told.append("the events were not in order of time; they were sorted")
    return told


def _values(where: str, history: Any) -> tuple[dict[str, list[Any]], int]:
    """The values of a history by column, and how many events it has. Raises DataError."""
    if history is None:
        return {}, 0
    try:
        table = _arrow(history)
        if table is not None:
            if len(set(table.column_names)) < table.num_columns:
                raise DataError(f"{where}: a column of the history is there twice: {table.column_names}")
            return {name: table[name].to_pylist() for name in table.column_names}, table.num_rows
    except (pa.ArrowException, ValueError, OverflowError) as error:
        raise DataError(f"{where}: the history cannot be read: {error}") from None
    if isinstance(history, str | bytes | Mapping) or not isinstance(history, Sequence):
        raise DataError(
            f"{where}: history must be a list of dicts, an Arrow table, or a pandas or polars frame, not "
            f"{type(history).__name__}"
        )
    names: dict[str, None] = {}
    for place, event in enumerate(history):
        if not isinstance(event, Mapping):
            raise DataError(f"{where}: event {place} must be keys and values, not {event!r:.100}")
        names |= dict.fromkeys(map(str, event))
    return {name: [event.get(name) for event in history] for name in names}, len(history)


def _arrow(history: Any) -> pa.Table | None:
    """A table, whoever's it is; None for anything else."""
    library = type(history).__module__.partition(".")[0]
    if library == "polars" and hasattr(history, "to_arrow"):
        history = history.to_arrow()
    elif library == "pandas" and hasattr(history, "columns"):
        history = pa.Table.from_pandas(history, preserve_index=False)
    if isinstance(history, pa.RecordBatch):
        history = pa.Table.from_batches([history])
    if not isinstance(history, pa.Table):
        return None
    for place, found in enumerate(history.schema):
        if pa.types.is_timestamp(found.type) and found.type.unit == "ns":  # finer than a datetime
            kind = pa.timestamp("us", found.type.tz)
            history = history.set_column(place, found.name, pc.cast(history.column(place), kind, safe=False))
    return history


def _text(value: Any, where: str, order: OrderConfig | None) -> str | None:
    """A value as a log's reader hands it on; order: that of times. Raises DataError for what is no plain value."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or (isinstance(value, float | date) and value != value):  # NaN, NaT
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    try:
        if isinstance(value, str):
            value.encode()
            return value
        if isinstance(value, date):  # a datetime, too
            return _time_text(value, order)
        if isinstance(value, int):
            return str(value)
        if isinstance(value, float):
            return str(int(value)) if value.is_integer() else repr(value)
    except (ValueError, OverflowError) as error:  # half of a character; a number of thousands of digits
        raise DataError(f"{where}: the value cannot be written as text: {error}") from None
    raise DataError(f"{where}: {value!r:.100} is no plain value: give text, a number or a time")


def _time_text(value: date, order: OrderConfig | None) -> str:
    if order is None or order.time_format is None:
        return value.isoformat()
    if isinstance(value, datetime) and value.tzinfo is not None:
        value = value.astimezone(ZoneInfo(order.time_zone) if order.time_zone else UTC)
    return value.strftime(order.time_format)


def _listed(names: Sequence[str]) -> str:
    shown = [repr(name)[:60] for name in names[:8]]
    return ", ".join(shown) + (", …" if len(names) > 8 else "")
