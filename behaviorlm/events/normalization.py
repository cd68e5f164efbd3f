"""From rows of text to events: orders as numbers, clock columns, and a reason for every row that cannot be
used.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from behaviorlm.errors import DataError
from behaviorlm.events.config import EventsConfig, context_columns
from behaviorlm.events.order_keys import key_names, read_order_keys
from behaviorlm.events.source_files import MAX_QUARANTINE_VALUE_CHARACTERS, QUARANTINE_SCHEMA
from behaviorlm.events.times import Times

WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
# Text in which nothing would be seen: control and format characters and all kinds of space.
INVISIBLE = r"^[\p{Cc}\p{Cf}\pZ]*$"
MICROSECONDS_PER_DAY = 86_400_000_000


def events_schema(config: EventsConfig) -> pa.Schema:
    """Schema of normalized events.

    user, group, behavior string; order int64 (microseconds since the epoch in UTC or of a duration, or the integer)
    and the further keys of `order_keys.key_names`, int64; session string, where configured; split_label string, null
    without a split column; before.* and after.* string, null where absent; file int32 (index in the sorted list of
    files); row int64 (see `events.reading`); is_zoned bool: whether the (first) time carried its own zone, null for
    an order without times.
    """
    before, after = context_columns(config)
    return pa.schema(
        [
            pa.field("user", pa.string(), nullable=False),
            pa.field("group", pa.string(), nullable=False),
            *(pa.field(name, pa.int64(), nullable=False) for name in key_names(config.order)),
            *([pa.field("session", pa.string(), nullable=False)] if config.session is not None else []),
            pa.field("behavior", pa.string(), nullable=False),
            pa.field("split_label", pa.string()),
            *(pa.field(name, pa.string()) for name in [*before, *after]),
            pa.field("file", pa.int32(), nullable=False),
            pa.field("row", pa.int64(), nullable=False),
            pa.field("is_zoned", pa.bool_()),
        ]
    )


def normalize(
    raw: pa.Table, quarantine: pa.Table, file_index: int, file_path: str, config: EventsConfig
) -> tuple[pa.Table, pa.Table]:
    """Turn one batch of text (`events.reading.read_table_batches`) into events and quarantined rows.

    Returns (table of `events_schema`, table of `events.source_files.QUARANTINE_SCHEMA` that begins with
    `quarantine`), rows in the order of the file. White space around behaviors and context values is removed;
    newlines and control characters inside stay. Raises DataError where times with and without a zone are
    mixed and no zone is configured.
    """
    raw = raw.combine_chunks()
    user, behavior = _array(raw, "user"), pc.utf8_trim_whitespace(_array(raw, "behavior"))
    group = _array(raw, "group") if config.group is not None else user
    order_text = {column.role: _array(raw, column.role) for column in config.order.columns}
    read = read_order_keys(order_text, config.order, _array(raw, "row"), file_path)
    times = next(iter(read.times.values()), None)

    too_long = pc.greater(pc.utf8_length(behavior), config.max_behavior_characters)
    # Of several reasons the first of this list is given.
    problems = [
        ("empty user", _invisible(user), user),
        ("empty behavior", _invisible(behavior), behavior),
        ("over-long behavior", _mask(too_long), behavior),
        *read.problems,
        ("empty group", _invisible(group), group),
    ]
    if config.session is not None:
        problems.append(("empty session", _invisible(_array(raw, "session")), _array(raw, "session")))
    usable, set_aside = _set_aside(raw, problems, file_path)
    if config.order.time_zone is None:
        for role, found in read.times.items():
            _check_zones(raw, found, usable, file_path, order_text[role])

    columns: dict[str, pa.Array] = {
        "user": user,
        "group": group,
        **{name: pa.array(values) for name, values in read.keys.items()},
        "behavior": behavior,
        "split_label": _array(raw, "split_label")
        if config.split_column
        else pa.nulls(raw.num_rows, pa.string()),
        "file": pa.array(np.full(raw.num_rows, file_index, dtype=np.int32)),
        "row": _array(raw, "row"),
        "is_zoned": pa.array(times.is_zoned) if times is not None else pa.nulls(raw.num_rows, pa.bool_()),
    }
    if config.session is not None:
        columns["session"] = pc.utf8_trim_whitespace(_array(raw, "session"))
    for name in [*(f"before.{name}" for name in config.context_before), *context_columns(config)[1]]:
        columns[name] = _context(_array(raw, name), config.max_context_characters)
    for name in config.clock:
        assert times is not None
        columns[f"before.{name}"] = _clock(times.clock, name)
    schema = events_schema(config)
    rows = pa.array(np.flatnonzero(usable))
    events = pa.table([columns[name].take(rows) for name in schema.names], schema=schema)
    return events, pa.concat_tables([quarantine.cast(QUARANTINE_SCHEMA), *set_aside])


def check_quarantine(
    reasons: Mapping[str, int], event_count: int, config: EventsConfig, table: object = "the quarantine table"
) -> None:
    """Raise DataError if more than `max_quarantine_share` of all rows, events and quarantined ones, are quarantined.

    table: where each quarantined row is listed, for the message.
    """
    quarantined = sum(reasons.values())
    rows = quarantined + event_count
    if rows and quarantined / rows > config.max_quarantine_share:
        listed = ", ".join(
            f"{reason}: {count}" for reason, count in sorted(reasons.items(), key=lambda item: -item[1])
        )
        raise DataError(
            f"{config.dataset}: {quarantined} of {rows} rows cannot be used ({quarantined / rows:.2%}; allowed are "
            f"{config.max_quarantine_share:.2%} by events.max_quarantine_share): {listed}. Each is listed with file "
            f"and row in {table}; correct the log or the mapping, or raise the share"
        )


def _array(table: pa.Table, name: str) -> pa.Array:
    column = table[name]
    return (
        column.chunk(0)
        if column.num_chunks == 1
        else pa.concat_arrays(column.chunks or [pa.array([], column.type)])
    )


def _mask(values: pa.Array) -> np.ndarray:
    return np.asarray(pc.fill_null(values, False))


def _invisible(values: pa.Array) -> np.ndarray:
    """bool[n]: null, or text of which nothing is seen."""
    return np.asarray(pc.fill_null(pc.match_substring_regex(values, INVISIBLE), True))


def _set_aside(
    raw: pa.Table, problems: Sequence[tuple[str, np.ndarray, pa.Array]], file_path: str
) -> tuple[np.ndarray, list[pa.Table]]:
    """bool[n] whether a row can be used, and a table of those that cannot for each (reason, bool[n], values)."""
    usable = np.ones(raw.num_rows, dtype=bool)
    tables = []
    for reason, mask, values in problems:
        bad = np.flatnonzero(mask & usable)
        usable[bad] = False
        if len(bad):
            tables.append(_quarantined(raw, bad, file_path, reason, values))
    return usable, tables


def _quarantined(raw: pa.Table, bad: np.ndarray, file_path: str, reason: str, values: pa.Array) -> pa.Table:
    rows = pa.array(bad)
    shown = pc.utf8_slice_codeunits(values.take(rows), 0, MAX_QUARANTINE_VALUE_CHARACTERS)
    constant = [pa.array([text] * len(bad), pa.string()) for text in (file_path, reason)]
    return pa.table(
        [constant[0], _array(raw, "row").take(rows), constant[1], shown], schema=QUARANTINE_SCHEMA
    )


def _check_zones(
    raw: pa.Table, times: Times, usable: np.ndarray, file_path: str, order_text: pa.Array
) -> None:
    zoned = np.flatnonzero(usable & times.is_zoned)
    naive = np.flatnonzero(usable & ~times.is_zoned)
    if len(zoned) and len(naive):
        with_zone, without = int(zoned[0]), int(naive[0])
        rows = _array(raw, "row")
        raise DataError(
            f"{file_path}: some times have a zone (row {rows[with_zone]}: "
            f"{order_text[with_zone].as_py()!r}) and some have none (row {rows[without]}: "
            f"{order_text[without].as_py()!r}), so they cannot be put in order; set "
            "events.order.time_zone to the zone of those without"
        )


def _context(values: pa.Array, max_characters: int) -> pa.Array:
    """Trimmed and cut context values; null where nothing is seen."""
    trimmed = pc.utf8_trim_whitespace(values)
    # Contexts repeat: the work is done once per distinct value.
    encoded = trimmed.dictionary_encode()
    distinct = encoded.dictionary.cast(pa.string())
    is_long = pc.greater(pc.utf8_length(distinct), max_characters)
    cut = pc.binary_join_element_wise(pc.utf8_slice_codeunits(distinct, 0, max_characters - 1), "…", "")
    distinct = pc.if_else(is_long, cut, distinct)
    distinct = pc.if_else(pa.array(_invisible(distinct)), pa.scalar(None, pa.string()), distinct)
    return distinct.take(encoded.indices)


def _clock(clock: np.ndarray, name: str) -> pa.Array:
    if name == "weekday":
        # The epoch's first day was a Thursday.
        return pa.array(WEEKDAYS).take(pa.array((clock // MICROSECONDS_PER_DAY + 3) % 7))
    hours = pa.array([f"{hour:02d}" for hour in range(24)])
    return hours.take(pa.array(clock // 3_600_000_000 % 24))
