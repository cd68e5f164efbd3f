"""Numbers written as text, read exactly: whole numbers, and those with a fraction or an exponent."""

from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Int64 = NDArray[np.int64]
Bool = NDArray[np.bool_]
Value = TypeVar("Value")

DIGITS = r"^\d{1,19}$"
# As table tools write whole numbers, beside nulls as fractions of zeros.
WHOLE_NUMBER = r"^[+-]?\d{1,19}(?:\.0*)?$"
SMALLEST, LARGEST = -(2**63), 2**63 - 1
LARGEST_UNSIGNED = 2**64 - 1
MOST_DIGITS = 400
"""Longer numbers are not read: no order or time has so many digits."""


def read_integers(text: pa.Array) -> tuple[Int64, Bool, Bool]:
    """Whole numbers int64 [n] of trimmed text (0 where unreadable), which are readable, and which are beyond 64 bits.

    `5.0` and `1e3` are whole numbers, `5.5` is none. Beyond are 2^63 to 2^64 - 1: numbers without a sign.
    """
    numbers = np.zeros(len(text), np.int64)
    is_whole = flags(pc.match_substring_regex(text, WHOLE_NUMBER))
    chosen = text if is_whole.all() else text.filter(pa.array(is_whole))
    try:
        plain = pc.replace_substring_regex(chosen, r"(^\+)|(\.0*$)", "")
        numbers[is_whole] = plain.cast(pa.int64()).to_numpy()
        left = ~is_whole & flags(pc.is_valid(text))
        readable = is_whole.copy()
    except pa.ArrowInvalid:  # 19 digits, and more than 64 bits hold
        left, readable = flags(pc.is_valid(text)), np.zeros(len(text), bool)
    beyond = np.zeros(len(text), bool)
    rows = np.flatnonzero(left)
    if len(rows):
        values = of_distinct(text.take(pa.array(rows)), _integer)
        readable[rows] = [value is not None and SMALLEST <= value <= LARGEST for value in values]
        beyond[rows] = [value is not None and LARGEST < value <= LARGEST_UNSIGNED for value in values]
        numbers[rows] = [
            value if value is not None and SMALLEST <= value <= LARGEST else 0 for value in values
        ]
    return numbers, readable, beyond


def of_distinct(text: pa.Array, function: Callable[[str], Value]) -> list[Value]:
    """The function of each text, called once for each distinct one."""
    encoded = text.dictionary_encode()
    values = [function(value) for value in encoded.dictionary.to_pylist()]
    return [values[code] for code in encoded.indices.to_pylist()]


def padded_digits(text: pa.Array, start: int, count: int) -> Int64:
    """So many digits from a place on of texts of digits, as if zeros followed: parts of fractions; int64 [n]."""
    chosen = pc.utf8_slice_codeunits(text, start, start + count)
    return pc.utf8_rpad(chosen, count, "0").cast(pa.int64()).to_numpy()


def decimal_of(text: str) -> Decimal | None:
    """The exact number that is written; None for what is none, nan, infinite or absurdly long."""
    if len(text) > MOST_DIGITS or "_" in text or not text.isascii():
        return None
    try:
        value = Decimal(text)
    except InvalidOperation:
        return None
    if value.is_finite() and not value:
        return Decimal(0)
    return value if value.is_finite() and -MOST_DIGITS < value.adjusted() < 40 else None


def _integer(text: str) -> int | None:
    value = decimal_of(text)
    if value is None:
        return None
    whole = int(value)
    return whole if whole == value else None


def flags(values: pa.Array) -> Bool:
    """Booleans as bool [n]; null is False."""
    return np.asarray(pc.fill_null(values, False))
