"""What a caller hands over, as text by column: a history in any form, the context now and the moment.

What cannot be read is refused, naming request, event and column; what is merely not known is told.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from behaviorlm.errors import DataError
from behaviorlm.log_files.config import source_columns
from behaviorlm.predictor.artifact import EventMapping
from behaviorlm.times.order import ISO_FORMAT, OrderColumn
from behaviorlm.times.time_patterns import written_by

Moment = str | int | float | datetime | date
FIRST_GAP = "the time between the first event that was given and the one before is unknown to the predictor"
Owner = tuple[str, str]
"""Whose something is: a tenant, and one of his users."""


@dataclass(frozen=True)
class Request:
    """One prediction that is asked for.

    history: events in any order, oldest first where they have no time: dicts with the log's columns, an Arrow table, a
    pandas or polars frame; None: nothing is known. context: what is known before the next event, by the log's columns.
    at: when that event happens, in the log's own form or as a datetime; an integer where the log is ordered by one.
    earlier_events: how many events of the user lie before the first of `history` (windows start at fixed events of a
    timeline, so that with it the same window is seen as with the whole history). owner: whose history it is, for a
    model that keeps prefixes; None: nothing is kept.
    """

    history: Any = None
    context: Mapping[str, Any] | None = None
    at: Moment | None = None
    earlier_events: int = 0
    owner: Owner | None = None


@dataclass(frozen=True)
class RequestText:
    """A request as rows of text by role. is_ordered: whether any event has an order. warnings: what is not known."""

    where: str
    texts: dict[str, list[str | None]]
    now: dict[str, str | None]
    size: int
    is_ordered: bool
    warnings: list[str]


def request_text(where: str, request: Request, mapping: EventMapping) -> RequestText:
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
    of_order = {column.role: column for column in mapping.order.columns}
    texts = {
        role: [
            _text(value, f"{where}, event {place}, {column!r}", of_order.get(role))
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
            f"no event has the column {mapping.order.names[0]!r}: they are taken in the order in which they stand"
            + (f", {_listed(mapping.clock)} unknown" if mapping.clock else "")
        )
    if request.earlier_events and "since_last" in mapping.clock:
        warnings.append(FIRST_GAP)
    now = _now(where, request, mapping, warnings)
    return RequestText(where, texts, now, size, is_ordered, warnings)


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
    return now | {"order": _text(request.at, f"{where}, at", mapping.order.columns[0])}


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


def _text(value: Any, where: str, order: OrderColumn | None) -> str | None:
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


def _time_text(value: date, order: OrderColumn | None) -> str:
    if order is None or order.time_format in (None, ISO_FORMAT):
        return value.isoformat()
    moment = value if isinstance(value, datetime) else datetime(value.year, value.month, value.day)
    if moment.tzinfo is not None:
        moment = moment.astimezone(ZoneInfo(order.time_zone) if order.time_zone else UTC)
    return written_by(moment, str(order.time_format))


def _listed(names: Sequence[str]) -> str:
    shown = [repr(name)[:60] for name in names[:8]]
    return ", ".join(shown) + (", …" if len(names) > 8 else "")
