"""Orders that can be read and yet are doubtful: clocks of twelve hours, and numbers that begin anew on the way."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from behaviorlm.events.settling import Head
from behaviorlm.log_files.config import EventsConfig
from behaviorlm.times.durations import read_durations
from behaviorlm.times.exact_numbers import read_integers
from behaviorlm.times.moments import read_times
from behaviorlm.times.order import OrderColumn

LEAST_CLOCKS, LEAST_HOURS = 100, 11
"""So many times, over so many hours of the clock, show whether it has twelve or twenty-four (our choice)."""
MICROSECONDS_PER_HOUR = 3_600_000_000
MOST_FALLS = 0.3
"""Share of a user's neighbors in the files that fall back where an order mostly rises (our choice)."""
LEAST_NEIGHBORS = 10
LEAST_SHARED = 0.1
"""Share of values found in several files from which on these number their rows alike (our choice)."""


def doubts_of_order(config: EventsConfig, heads: Sequence[Head]) -> list[str]:
    """What looks wrong with the order, in sentences. config: as settled. heads: in the order of the files."""
    found = [_halved_clock(column, heads) for column in config.order.columns if column.kind == "time"]
    found += [_repeated_hour(column, heads) for column in config.order.columns if column.kind == "time"]
    if len(config.order.columns) == 1 and config.order.first_kind != "time" and config.session is None:
        found.append(_begins_anew(config.order.columns[0], heads))
    return [doubt for doubt in found if doubt is not None]


def _halved_clock(column: OrderColumn, heads: Sequence[Head]) -> str | None:
    """Whether the hours are those of a clock of twelve whose AM and PM are lost."""
    text = pa.concat_arrays([pa.array([], pa.string()), *(head.columns[column.role] for head in heads)])
    written = pc.utf8_trim_whitespace(text)
    times = read_times(written, replace(column, epoch_unit="auto", time_zone=None))
    told = times.is_readable & times.has_hour
    hours = np.unique(times.clock[told] // MICROSECONDS_PER_HOUR % 24)
    pattern = column.time_format or ""
    if told.sum() < LEAST_CLOCKS or "%p" in pattern or len(hours) < LEAST_HOURS:
        return None
    if hours[0] < 1 or hours[-1] > 12:
        return None
    return (
        f"{column.name}: none of {int(told.sum()):,} times is of the hour 0 or of one above 12: if its clock has 12 "
        "hours, AM and PM are lost, and the events of a day are out of order; write the column with them "
        "(time_format: %I … %p)"
    )


def _repeated_hour(column: OrderColumn, heads: Sequence[Head]) -> str | None:
    """Whether times lie in a local hour that summer time repeats, so that two moments are written alike."""
    if column.time_zone is None:
        return None
    text = pa.concat_arrays([pa.array([], pa.string()), *(head.columns[column.role] for head in heads)])
    times = read_times(pc.utf8_trim_whitespace(text), column)
    naive = np.flatnonzero(times.is_readable & ~times.is_zoned)
    local = pa.array(times.clock[naive]).cast(pa.timestamp("us"))
    first, last = (
        pc.assume_timezone(local, timezone=column.time_zone, ambiguous=which, nonexistent="earliest")
        for which in ("earliest", "latest")
    )
    twice = naive[np.asarray(pc.not_equal(first, last), dtype=bool)]
    if not len(twice):
        return None
    path, row = _place(heads, int(twice[0]))
    return (
        f"{column.name}: {len(twice):,} of {len(text):,} times looked at lie in an hour that summer time repeats in "
        f"{column.time_zone}, such as {text[int(twice[0])].as_py()!r} in {path}, row {row}: the first of the two is "
        "meant, so that events of both are mixed; times with a zone or in UTC would keep them apart"
    )


def _begins_anew(column: OrderColumn, heads: Sequence[Head]) -> str | None:
    """Whether the order of a user's rows, as the files have them, rises but for falls back to where it began."""
    known = [head for head in heads if head.users is not None]
    if not known:
        return None
    text = pa.concat_arrays([head.columns[column.role] for head in known])
    values, is_read = _numbers(pc.utf8_trim_whitespace(text), column)
    users = pa.concat_arrays([head.users for head in known]).dictionary_encode()
    codes = np.asarray(pc.fill_null(users.indices, -1))
    rows = np.flatnonzero(is_read & (codes >= 0))
    # A user's rows one after another, in the order of the files.
    rows = rows[np.argsort(codes[rows], kind="stable")]
    same = codes[rows][1:] == codes[rows][:-1]
    before, after = values[rows][:-1], values[rows][1:]
    file = np.repeat(np.arange(len(known)), [len(head.rows) for head in known])[rows]
    if not _is_shared(values[rows], file):
        # Each file has numbers of its own: those of another may well be lower.
        same &= file[1:] == file[:-1]
    falls = np.flatnonzero(same & (after < before))
    neighbors = int(same.sum())
    if not len(falls) or neighbors < LEAST_NEIGHBORS or len(falls) > MOST_FALLS * neighbors:
        return None
    # Rows that are late fall a little; an order that begins anew falls to where it began.
    low, high = values[rows].min(), values[rows].max()
    quarter = (high - low) / 4
    deep = falls[(after[falls] < low + 2 * quarter) & (before[falls] - after[falls] > quarter)]
    if len(deep) < len(falls) / 2:
        return None
    at = int(rows[deep[0] + 1])
    path, row = _place(known, at)
    return (
        f"{column.name}: in the order of the files a user's values rise, but fall back {len(falls):,} times of "
        f"{neighbors:,} among the first rows, such as to {text[at].as_py()!r} in {path}, row {row}: if it begins anew "
        "(each day, session or file), events are put out of order; name the column that tells these apart before it "
        "(events.order.column: [date, time]), or as events.session"
    )


def _is_shared(values: NDArray[np.float64], file: NDArray[np.int64]) -> bool:
    """Whether many of the values are in several files."""
    once = np.unique(np.column_stack([values, file]), axis=0)
    _, files = np.unique(once[:, 0], return_counts=True)
    return bool((files > 1).sum() > LEAST_SHARED * len(files))


def _numbers(text: pa.Array, column: OrderColumn) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    if column.kind == "integer":
        values, is_read, _ = read_integers(text)
        return values.astype(np.float64), is_read
    values, _, is_read = read_durations(text, column.time_format)
    return values.astype(np.float64), is_read


def _place(heads: Sequence[Head], index: int) -> tuple[str, int]:
    """File and row of a value, counted over all heads."""
    for head in heads:
        if index < len(head.rows):
            return head.path, head.rows[index].as_py()
        index -= len(head.rows)
    raise IndexError(index)
