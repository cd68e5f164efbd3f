"""Durations as an order: how long after a start something happened."""

from fractions import Fraction

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from behaviorlm.times.epochs import REMAINDERS
from behaviorlm.times.exact_numbers import decimal_of, of_distinct, padded_digits
from behaviorlm.times.order import HOURS_AND_MINUTES
from behaviorlm.times.written_times import REMAINDER_DIGITS

Int64 = NDArray[np.int64]
Bool = NDArray[np.bool_]

# 26:03:04.5; 1 day, 2:03:04; 1 days 02:03:04.5; 1.02:03:04. Minutes and seconds alone only with a fraction: 12:30
# could be hours and minutes.
CLOCK = (
    r"^(?P<sign>[+-])?(?:(?P<days>\d{1,7})(?: ?(?:d|days?),? ?|\.| ))?"
    r"(?:(?P<hours>\d{1,7}):)?(?P<minutes>\d{1,2}):(?P<seconds>\d{1,2})(?:[.,](?P<fraction>\d+))?$"
)
# P1DT2H3M4.5S
ISO = (
    r"^(?P<sign>[+-])?P(?:(?P<days>\d{1,7})D)?(?:T(?:(?P<hours>\d{1,9})H)?(?:(?P<minutes>\d{1,9})M)?"
    r"(?:(?P<seconds>\d{1,9})(?:[.,](?P<fraction>\d+))?S)?)?$"
)
TWO = r"^(?P<sign>[+-])?(?P<first>\d{1,7}):(?P<second>\d{2})$"
LONGEST = 2**63 - 1


def read_durations(text: pa.Array, time_format: str | None = None) -> tuple[Int64, Int64, Bool]:
    """Trimmed text as microseconds and what is below one in its 10^18th parts, int64 [n]; readable bool [n].

    Read are hh:mm:ss with a fraction of any length, also over 24 hours and with days before it; mm:ss with a fraction;
    ISO 8601 (PT1H2M3.5S); and plain numbers, as seconds. time_format: of durations of two numbers, which alone are
    then read.
    """
    micro, remainder = np.zeros(len(text), np.int64), np.zeros(len(text), np.int64)
    readable = np.zeros(len(text), bool)
    if time_format is not None:
        _read_two(text, time_format, micro, readable)
        return micro, remainder, readable
    for pattern in (CLOCK, ISO):
        left = np.flatnonzero(~readable)
        if not len(left):
            break
        parts = pc.extract_regex(text.take(pa.array(left)), pattern)
        matched = pc.is_valid(parts).to_numpy(zero_copy_only=False)
        if matched.any():
            _fill(parts.filter(pa.array(matched)), left[matched], pattern, micro, remainder, readable)
    rows = np.flatnonzero(~readable & np.asarray(pc.is_valid(text)))
    if len(rows):
        found = of_distinct(text.take(pa.array(rows)), _seconds)
        micro[rows], remainder[rows], readable[rows] = zip(*found, strict=True)
    return micro, remainder, readable


def _fill(
    parts: pa.StructArray, rows: Int64, pattern: str, micro: Int64, remainder: Int64, readable: Bool
) -> None:
    days, hours, minutes, seconds = (_number(parts, name) for name in ("days", "hours", "minutes", "seconds"))
    fraction = pc.struct_field(parts, "fraction")
    has_fraction, has_hours, has_days = (_is_there(parts, name) for name in ("fraction", "hours", "days"))
    if pattern == CLOCK:
        sound = (minutes < 60) & (seconds < 60) & (has_hours | (has_fraction & ~has_days))
        sound &= ~has_days | (hours < 24)
    else:
        sound = has_days | has_hours | _is_there(parts, "minutes") | _is_there(parts, "seconds")
    value = (((days * 24 + hours) * 60 + minutes) * 60 + seconds) * 1_000_000 + padded_digits(fraction, 0, 6)
    below = padded_digits(fraction, 6, REMAINDER_DIGITS)
    is_negative = pc.equal(pc.struct_field(parts, "sign"), "-").to_numpy(zero_copy_only=False)
    borrowed = is_negative & (below > 0)
    micro[rows] = np.where(is_negative, -value - borrowed, value)
    remainder[rows] = np.where(borrowed, REMAINDERS - below, below)
    readable[rows] = sound


def _read_two(text: pa.Array, time_format: str, micro: Int64, readable: Bool) -> None:
    """Two numbers, read in place: hours and minutes or minutes and seconds, both also above 59 in the first."""
    parts = pc.extract_regex(text, TWO)
    rows = np.flatnonzero(pc.is_valid(parts).to_numpy(zero_copy_only=False))
    if not len(rows):
        return
    parts = parts.take(pa.array(rows))
    first, second = _number(parts, "first"), _number(parts, "second")
    sign = np.where(pc.equal(pc.struct_field(parts, "sign"), "-").to_numpy(zero_copy_only=False), -1, 1)
    unit = 60_000_000 if time_format == HOURS_AND_MINUTES else 1_000_000
    micro[rows] = sign * (first * 60 + second) * unit
    readable[rows] = second < 60


def _is_there(parts: pa.StructArray, name: str) -> Bool:
    return pc.not_equal(pc.struct_field(parts, name), "").to_numpy(zero_copy_only=False)


def _number(parts: pa.StructArray, name: str) -> Int64:
    digits = pc.struct_field(parts, name)
    return pc.if_else(pc.equal(digits, ""), "0", digits).cast(pa.int64()).to_numpy()


def _seconds(text: str) -> tuple[int, int, bool]:
    value = decimal_of(text)
    if value is None:
        return 0, 0, False
    exact = Fraction(value) * 1_000_000
    whole = exact.numerator // exact.denominator
    return (whole, int((exact - whole) * REMAINDERS), True) if abs(whole) < LONGEST else (0, 0, False)
