"""Reading a column of times: as ISO 8601, by a pattern or as epoch numbers, each row independent of the others."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from behaviorlm.times.epochs import read_epochs
from behaviorlm.times.order import ISO_FORMAT, OrderColumn
from behaviorlm.times.time_patterns import ISO, compile_pattern
from behaviorlm.times.written_times import read_written, written_of

Int64 = NDArray[np.int64]
Bool = NDArray[np.bool_]

DIGITS_ONLY = "%Y%m%d"
"""What a pattern of calendar digits begins with; others may have literal text."""


@dataclass(frozen=True)
class Times:
    """Times of n rows. `utc` int64[n] microseconds since the epoch; `remainder` int64[n] what is below one, in its
    10^18th parts; `clock` int64[n] microseconds of the wall clock in the configured zone (without one: as written);
    `is_zoned` bool[n]: fixed in time by its own text; `is_readable` bool[n]; where False the others mean nothing;
    `is_in_range` bool[n]: between the configured earliest and latest; `has_hour` bool[n]: more than a date.
    """

    utc: Int64
    remainder: Int64
    clock: Int64
    is_zoned: Bool
    is_readable: Bool
    is_in_range: Bool
    has_hour: Bool


def read_times(trimmed: pa.Array, column: OrderColumn) -> Times:
    """Read a column of trimmed text, or of timestamps as their text would be (nulls are unreadable).

    Times without a zone are in `column.time_zone`, else UTC. Of a local hour that comes twice the first is
    meant; a local time that daylight saving skips is the moment of the skip. Numbers are read only where the unit is
    known: `auto` is settled by a look at the whole log (`events.settling`).
    """
    pattern = ISO
    if column.time_format not in (None, ISO_FORMAT):
        assert column.time_format is not None
        pattern = compile_pattern(column.time_format)
        if column.time_format.startswith(DIGITS_ONLY):
            trimmed = pc.replace_substring_regex(trimmed, r"\.0+$", "")
    is_typed = pa.types.is_timestamp(trimmed.type)
    written = written_of(trimmed) if is_typed else read_written(trimmed, pattern)
    clock, utc, remainder = written.clock, written.clock - written.offset, written.remainder
    is_zoned, is_readable, has_hour = written.is_zoned, written.is_readable, written.has_hour
    if column.time_format is None and column.epoch_unit != "auto" and not is_typed:
        left = np.flatnonzero(~is_readable)
        if len(left):
            text = trimmed if len(left) == len(trimmed) else trimmed.take(pa.array(left))
            utc[left], remainder[left], is_readable[left] = read_epochs(text, column.epoch_unit, column.epoch)
            clock[left] = utc[left]
            is_zoned[left] = has_hour[left] = True
    if column.time_zone is not None:
        naive = np.flatnonzero(is_readable & ~is_zoned)
        utc[naive] = _local_to_utc(clock[naive], column.time_zone)
        zoned = np.flatnonzero(is_readable & is_zoned)
        clock[zoned] = _utc_to_local(utc[zoned], column.time_zone)
    is_in_range = np.ones(len(utc), bool)
    if column.earliest is not None:
        is_in_range &= utc >= start_of(column.earliest)
    if column.latest is not None:
        is_in_range &= utc < start_of(column.latest + timedelta(days=1))
    return Times(utc, remainder, clock, is_zoned, is_readable, is_in_range, has_hour)


def reads_as_written(column: OrderColumn) -> bool:
    """Whether a timestamp means what its ISO text does."""
    return column.kind == "time" and column.time_format in (None, ISO_FORMAT)


def start_of(day: date) -> int:
    """The first moment of a day in UTC, microseconds since 1970."""
    return (datetime(day.year, day.month, day.day) - datetime(1970, 1, 1)) // timedelta(microseconds=1)


def _local_to_utc(clock: Int64, time_zone: str) -> Int64:
    local = pa.array(clock).cast(pa.timestamp("us"))
    moments = pc.assume_timezone(local, timezone=time_zone, ambiguous="earliest", nonexistent="earliest")
    return moments.cast(pa.int64()).to_numpy()


def _utc_to_local(utc: Int64, time_zone: str) -> Int64:
    moments = pa.array(utc).cast(pa.timestamp("us", tz=time_zone))
    return pc.local_timestamp(moments).cast(pa.int64()).to_numpy()
