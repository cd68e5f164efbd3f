"""From rows of text to events: orders as numbers, clock columns, and a reason for every row that cannot be
used.
"""

import functools
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from behaviorlm.errors import DataError
from behaviorlm.events.order_keys import key_names, read_order_keys
from behaviorlm.log_files.config import EventsConfig, context_columns, source_columns
from behaviorlm.log_files.identity import OneSpelling, behavior_names, identities, is_missing
from behaviorlm.log_files.parquet_text import as_text
from behaviorlm.log_files.source_files import MAX_QUARANTINE_VALUE_CHARACTERS, QUARANTINE_SCHEMA
from behaviorlm.log_files.text import one_chunk
from behaviorlm.times.exact_numbers import flags
from behaviorlm.times.moments import Times

WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MICROSECONDS_PER_DAY = 86_400_000_000


def events_schema(config: EventsConfig) -> pa.Schema:
    """Schema of normalized events.

    user, group, behavior string; order int64 (microseconds since the epoch in UTC or of a duration, or the integer)
    and the further keys of `order_keys.key_names`, int64; session string, where configured; split_label string, null
    without a split column; before.* and after.* string, null where absent; file int32 (index in the list of files); row
    int64 (see `log_files.text`); is_zoned bool: whether the (first) time carried its own zone, null for an order
    without times; respelled uint16: the rules of `log_files.identity` that changed the user (bits 0 to 3), the
    behavior (4 to 7) and the group (8 to 11).
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
            pa.field("respelled", pa.uint16(), nullable=False),
        ]
    )


def normalize(
    raw: pa.Table, quarantine: pa.Table, file_index: int, file_path: str, config: EventsConfig
) -> tuple[pa.Table, pa.Table]:
    """Turn one batch (`log_files.reading.read_table_batches`, typed or not) into events and quarantined rows.

    Returns (table of `events_schema`, table of `log_files.source_files.QUARANTINE_SCHEMA` that begins with
    `quarantine`), rows in the order of the file. Users, groups and behaviors come in one spelling
    (`log_files.identity`); white space around other values is removed; newlines and control characters inside stay.
    Raises DataError where times with and without a zone are mixed and no zone is configured, and for users and groups
    that a float has garbled.
    """
    raw = raw.combine_chunks()
    behaviors = behavior_names(one_chunk(raw["behavior"]), config.null_values)
    users = _identities(raw, "user", file_path, config)
    groups = _identities(raw, "group", file_path, config) if config.group is not None else users
    is_header = _is_header(raw, config)
    behavior = pc.if_else(is_header, pa.scalar(None, pa.string()), behaviors.text)
    order_text = {column.role: one_chunk(raw[column.role]) for column in config.order.columns}
    read = read_order_keys(order_text, config.order, config.null_values, one_chunk(raw["row"]), file_path)
    times = next(iter(read.times.values()), None)

    too_long = pc.greater(pc.utf8_length(behavior), config.max_behavior_characters)
    # Of several reasons the first of this list is given.
    problems = [
        ("repeated header", np.asarray(is_header), one_chunk(raw["behavior"])),
        ("empty user", _null(users.text), one_chunk(raw["user"])),
        ("empty behavior", _null(behavior), one_chunk(raw["behavior"])),
        ("over-long behavior", flags(too_long), behavior),
        *read.problems,
        ("empty group", _null(groups.text), one_chunk(raw["group" if config.group is not None else "user"])),
    ]
    sessions = _identities(raw, "session", file_path, config) if config.session is not None else None
    if sessions is not None:
        problems.append(("empty session", _null(sessions.text), one_chunk(raw["session"])))
    usable, set_aside = _set_aside(raw, problems, file_path, behavior)
    if config.order.time_zone is None:
        for role, found in read.times.items():
            _check_zones(raw, found, usable, file_path, order_text[role])

    nothing = pa.nulls(raw.num_rows, pa.string())
    columns: dict[str, pa.Array] = {
        "user": users.text,
        "group": groups.text,
        **{name: pa.array(values) for name, values in read.keys.items()},
        "behavior": behavior,
        "split_label": _context(one_chunk(raw["split_label"]), config) if config.split_column else nothing,
        "file": pa.array(np.full(raw.num_rows, file_index, dtype=np.int32)),
        "row": one_chunk(raw["row"]),
        "is_zoned": pa.array(times.is_zoned) if times is not None else pa.nulls(raw.num_rows, pa.bool_()),
        "respelled": pa.array(_respelled(users, behaviors, groups if config.group is not None else None)),
        **_context_columns(raw, times, config),
    }
    if sessions is not None:
        columns["session"] = sessions.text
    schema = events_schema(config)
    events = pa.table([columns[name] for name in schema.names], schema=schema)
    if not usable.all():
        events = events.filter(pa.array(usable))
    return events, pa.concat_tables([quarantine.cast(QUARANTINE_SCHEMA), *set_aside])


def check_quarantine(
    reasons: Mapping[str, int],
    event_count: int,
    config: EventsConfig,
    table: object = "the quarantine table",
    examples: Mapping[str, str] | None = None,
) -> None:
    """Raise DataError if more than `max_quarantine_share` of all rows, events and quarantined ones, are quarantined.

    For the message: table, where each quarantined row is listed, and of each reason a row.
    """
    quarantined = sum(reasons.values())
    rows = quarantined + event_count
    if rows and quarantined / rows > config.max_quarantine_share:
        listed = ", ".join(
            f"{reason}: {count}" for reason, count in sorted(reasons.items(), key=lambda item: -item[1])
        )
        shown = "; ".join(f"{row} ({reason})" for reason, row in (examples or {}).items())
        encoding = "; of bytes that are no UTF-8, set events.encoding" if "not UTF-8" in reasons else ""
        raise DataError(
            f"{config.dataset}: {quarantined} of {rows} rows cannot be used ({quarantined / rows:.2%}; allowed are "
            f"{config.max_quarantine_share:.2%} by events.max_quarantine_share): {listed}. "
            f"{f'For example {shown}. ' if shown else ''}Each is listed with "
            f"file and row in {table}; correct the log or the mapping, or raise the share{encoding}"
        )


def _is_header(raw: pa.Table, config: EventsConfig) -> pa.BooleanArray:
    """bool[n]: the names of the columns once more, as files laid one after another have them."""
    if pa.types.is_timestamp(raw.schema.field("order").type):
        return pa.repeat(False, raw.num_rows)
    columns = source_columns(config)
    names = (pc.equal(as_text(one_chunk(raw[role])), columns[role]) for role in ("user", "behavior", "order"))
    return pc.fill_null(functools.reduce(pc.and_, names), False)


def _null(values: pa.Array) -> np.ndarray:
    return np.asarray(values.is_null())


def _identities(raw: pa.Table, role: str, file_path: str, config: EventsConfig) -> OneSpelling:
    """Users or groups in one spelling. Raises DataError where digits were lost."""
    written = one_chunk(raw[role])
    spelled = identities(written, config.null_values)
    if spelled.lost_digits is not None:
        index = spelled.lost_digits
        raise DataError(
            f"{file_path}, row {raw['row'][index]}: the column {source_columns(config)[role]!r} holds "
            f"{written[index].as_py()!r}: such a number has passed through a float or a spreadsheet and lost digits "
            "(floats tell whole numbers apart up to 2^53 only), so that different users may be one; write the column "
            "as text or as an integer where it is made"
        )
    return spelled


def _respelled(users: OneSpelling, behaviors: OneSpelling, groups: OneSpelling | None) -> np.ndarray:
    """uint16[n], as in `events_schema`."""
    bits = users.rules.astype(np.uint16) | behaviors.rules.astype(np.uint16) << 4
    return bits if groups is None else bits | groups.rules.astype(np.uint16) << 8


def _set_aside(
    raw: pa.Table, problems: Sequence[tuple[str, np.ndarray, pa.Array]], file_path: str, behavior: pa.Array
) -> tuple[np.ndarray, list[pa.Table]]:
    """bool[n] whether a row can be used, and a table of those that cannot for each (reason, bool[n], values)."""
    usable = np.ones(raw.num_rows, dtype=bool)
    tables = []
    for reason, mask, values in problems:
        bad = np.flatnonzero(mask & usable)
        usable[bad] = False
        if len(bad):
            rows = pa.array(bad)
            shown, named = (
                pc.utf8_slice_codeunits(as_text(texts.take(rows)), 0, MAX_QUARANTINE_VALUE_CHARACTERS)
                for texts in (values, behavior)
            )
            file, why = (pa.array([text] * len(bad), pa.string()) for text in (file_path, reason))
            columns = [file, one_chunk(raw["row"]).take(rows), why, shown, named]
            tables.append(pa.table(columns, schema=QUARANTINE_SCHEMA))
    return usable, tables


def _check_zones(
    raw: pa.Table, times: Times, usable: np.ndarray, file_path: str, order_text: pa.Array
) -> None:
    zoned = np.flatnonzero(usable & times.is_zoned)
    naive = np.flatnonzero(usable & ~times.is_zoned)
    if len(zoned) and len(naive):
        with_zone, without = int(zoned[0]), int(naive[0])
        rows = one_chunk(raw["row"])
        raise DataError(
            f"{file_path}: some times have a zone (row {rows[with_zone]}: "
            f"{order_text[with_zone].as_py()!r}) and some have none (row {rows[without]}: "
            f"{order_text[without].as_py()!r}), so they cannot be put in order; set "
            "events.order.time_zone to the zone of those without"
        )


def _context_columns(raw: pa.Table, times: Times | None, config: EventsConfig) -> dict[str, pa.Array]:
    names = [*(f"before.{name}" for name in config.context_before), *context_columns(config)[1]]
    columns = {name: _context(one_chunk(raw[name]), config) for name in names}
    for name in config.clock:
        assert times is not None
        columns[f"before.{name}"] = _clock(times.clock, name)
    return columns


def _context(values: pa.Array, config: EventsConfig) -> pa.Array:
    """Trimmed and cut context values; null where nothing is seen or a text stands for nothing."""
    max_characters = config.max_context_characters
    trimmed = pc.utf8_trim_whitespace(values)
    # Contexts repeat: the work is done once per distinct value.
    encoded = trimmed.dictionary_encode()
    distinct = encoded.dictionary.cast(pa.string())
    is_long = pc.greater(pc.utf8_length(distinct), max_characters)
    cut = pc.binary_join_element_wise(pc.utf8_slice_codeunits(distinct, 0, max_characters - 1), "…", "")
    distinct = pc.if_else(is_long, cut, distinct)
    missing = is_missing(distinct, config.null_values)
    distinct = pc.if_else(missing, pa.scalar(None, pa.string()), distinct)
    return distinct.take(encoded.indices)


def _clock(clock: np.ndarray, name: str) -> pa.Array:
    if name == "since_last":
        return pa.nulls(len(clock), pa.string())  # told once a user's events are in order: `with_gaps`
    if name == "weekday":
        # The epoch's first day was a Thursday.
        return pa.array(WEEKDAYS).take(pa.array((clock // MICROSECONDS_PER_DAY + 3) % 7))
    hours = pa.array([f"{hour:02d}" for hour in range(24)])
    return hours.take(pa.array(clock // 3_600_000_000 % 24))
