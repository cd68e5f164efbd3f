"""Epoch numbers: a count of units since a moment, read exactly."""

from fractions import Fraction

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from behaviorlm.times.exact_numbers import DIGITS, decimal_of, flags, of_distinct, padded_digits
from behaviorlm.times.order import EpochUnit

Int64 = NDArray[np.int64]
Bool = NDArray[np.bool_]

# Microseconds of a unit.
UNITS: dict[EpochUnit, Fraction] = {
    "days": Fraction(86_400_000_000),
    "hours": Fraction(3_600_000_000),
    "minutes": Fraction(60_000_000),
    "seconds": Fraction(1_000_000),
    "milliseconds": Fraction(1_000),
    "microseconds": Fraction(1),
    "ticks": Fraction(1, 10),
    "nanoseconds": Fraction(1, 1_000),
}
# Seconds from each epoch's beginning to 1970.
EPOCHS = {
    "unix": 0,
    "2001": -978_307_200,
    "1904": 2_082_844_800,
    "1601": 11_644_473_600,
    "1900": 2_208_988_800,
    "0001": 62_135_596_800,
    # Serial day 1 is 1900-01-01 with a 29th of February 1900 that never was.
    "excel": 2_209_161_600,
    # Julian days begin at noon.
    "julian": 210_866_760_000,
}
NAMES = {
    "unix": "1970 (unix)",
    "2001": "2001 (Apple)",
    "1904": "1904 (Macintosh)",
    "1601": "1601 (Windows, WebKit)",
    "1900": "1900 (NTP)",
    "0001": "the year 1 (.NET)",
    "excel": "1899-12-30 (Excel's serial days)",
    "julian": "4713 BC (Julian days)",
}
FIRST = -62_135_596_800_000_000
LAST = 253_402_300_799_999_999
"""The years 1 to 9999, in microseconds since 1970."""
WITH_FRACTION = r"^(?P<whole>\d{1,19})\.(?P<fraction>\d*)$"
REMAINDERS = 10**18
MILLISECOND = 1_000


def read_epochs(text: pa.Array, unit: EpochUnit, epoch: str) -> tuple[Int64, Int64, Bool]:
    """Numbers as moments: microseconds since 1970, what is below one in its 10^18th parts, int64 [n]; readable: bool.

    Fractions and exponents are exact, but those of days are rounded to milliseconds: tables hold days as doubles.
    Outside of the years 1 to 9999 nothing is readable.
    """
    count = len(text)
    moments, remainders = np.zeros(count, np.int64), np.zeros(count, np.int64)
    readable = np.zeros(count, bool)
    left = flags(pc.not_equal(text, ""))
    if unit != "days":
        _read_plain(text, unit, epoch, moments, remainders, readable)
        left &= ~readable
    rows = np.flatnonzero(left)
    if len(rows):
        found = of_distinct(text.take(pa.array(rows)), lambda value: _exactly(value, unit, epoch))
        moments[rows], remainders[rows], readable[rows] = zip(*found, strict=True)
    return moments, remainders, readable


def _read_plain(
    text: pa.Array, unit: EpochUnit, epoch: str, moments: Int64, remainders: Int64, readable: Bool
) -> None:
    """Read whole columns of plain numbers without sign and exponent in place; others stay unreadable."""
    whole = flags(pc.match_substring_regex(text, DIGITS))
    rows = np.flatnonzero(whole)
    numbers, fits = _int64(text if whole.all() else text.take(pa.array(rows)))
    _scale(rows, numbers, fits, unit, epoch, moments, remainders, readable)
    left = np.flatnonzero(~whole)
    if not len(left):
        return
    parts = pc.extract_regex(text.take(pa.array(left)), WITH_FRACTION)
    matched = pc.is_valid(parts).to_numpy(zero_copy_only=False)
    if not matched.any():
        return
    parts, rows = parts.filter(pa.array(matched)), left[matched]
    numbers, fits = _int64(pc.struct_field(parts, "whole"))
    digits = pc.struct_field(parts, "fraction")
    # Microseconds of a unit are 10^shift; what its fraction tells begins so many digits later.
    shift = len(str(int(UNITS[unit]))) - 1 if UNITS[unit] >= 1 else 1 - len(str(UNITS[unit].denominator))
    if UNITS[unit] != Fraction(10) ** shift:
        return
    _scale(rows, numbers, fits, unit, epoch, moments, remainders, readable)
    if shift > 0:
        moments[rows] += padded_digits(digits, 0, shift)
    remainders[rows] += padded_digits(digits, max(shift, 0), 18 + min(shift, 0))


def _scale(
    rows: Int64,
    numbers: Int64,
    fits: Bool,
    unit: EpochUnit,
    epoch: str,
    moments: Int64,
    remainders: Int64,
    readable: Bool,
) -> None:
    size, start = UNITS[unit], -EPOCHS[epoch] * 1_000_000
    most = min(int((LAST - start) / size), 2**63 - 1)
    sound = fits & (numbers <= most)
    sound &= numbers >= min(int((FIRST - start) / size) if start < FIRST else 0, 2**63 - 1)
    numbers = np.where(sound, numbers, 0)
    if size >= 1:
        moments[rows] = numbers * int(size) + start
    else:
        moments[rows] = numbers // size.denominator + start
        remainders[rows] = numbers % size.denominator * (REMAINDERS // size.denominator)
    readable[rows] = sound


def _int64(digits: pa.Array) -> tuple[Int64, Bool]:
    """Up to 19 digits as numbers (0 where they do not fit), and whether they fit into 64 bits."""
    try:
        return digits.cast(pa.int64()).to_numpy(), np.ones(len(digits), bool)
    except pa.ArrowInvalid:
        unsigned = digits.cast(pa.uint64()).to_numpy()
        fits = unsigned < 2**63
        return np.where(fits, unsigned, 0).astype(np.int64), fits


def _exactly(text: str, unit: EpochUnit, epoch: str) -> tuple[int, int, bool]:
    """(microseconds since 1970, remainder, whether it is a number that lies in the years 1 to 9999)."""
    value = decimal_of(text)
    if value is None:
        return 0, 0, False
    exact = Fraction(value) * UNITS[unit]
    if unit == "days":
        exact = Fraction(round(exact / MILLISECOND) * MILLISECOND)
    exact -= EPOCHS[epoch] * 1_000_000
    moment = exact.numerator // exact.denominator
    if not FIRST <= moment <= LAST:
        return 0, 0, False
    return moment, int((exact - moment) * REMAINDERS), True
