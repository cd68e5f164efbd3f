"""Values of Arrow's types as the text that they would be in a CSV file: full digits, no exponents, value by value."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_EXACT = float(2**53)
FIRST_SECOND, END_SECOND = -62_135_596_800, 253_402_300_800
"""Of the years 1 to 9999, since 1970."""
_UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def is_readable(value_type: pa.DataType) -> bool:
    """Whether values of a type are read as text."""
    if isinstance(value_type, pa.BaseExtensionType):
        return value_type == pa.uuid() or is_readable(value_type.storage_type)
    if pa.types.is_dictionary(value_type):
        return is_readable(value_type.value_type)
    return any(
        test(value_type)
        for test in (
            _is_text,
            pa.types.is_fixed_size_binary,
            pa.types.is_boolean,
            pa.types.is_integer,
            pa.types.is_floating,
            pa.types.is_decimal,
            pa.types.is_temporal,
            pa.types.is_null,
        )
    ) and not pa.types.is_interval(value_type)


def may_stay(values: pa.Array) -> bool:
    """Whether what values mean is what their text would: timestamps of the years 1 to 9999, in UTC or without a zone,
    and text in a dictionary that is no larger than they are.
    """
    if pa.types.is_dictionary(values.type):
        return (
            values.type == pa.dictionary(pa.int32(), pa.string())
            and len(values.dictionary) <= len(values)
            and is_sound(values.dictionary)
        )
    if not pa.types.is_timestamp(values.type) or values.type.tz not in (None, "UTC"):
        return False
    ends = pc.min_max(values.cast(pa.int64()))
    if not ends["min"].is_valid:
        return True
    per_second = _UNITS[values.type.unit]
    return ends["min"].as_py() >= FIRST_SECOND * per_second and ends["max"].as_py() < END_SECOND * per_second


def is_sound(text: pa.Array) -> bool:
    """Whether it is UTF-8: some writers call any bytes text."""
    try:
        text.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def as_text(values: pa.Array) -> pa.Array:
    """The values as strings, or as bytes that are still to be checked.

    Whole floating numbers are written without a fraction, NaN is null, durations are hours:minutes:seconds. Raises
    pa.ArrowInvalid for what has no text, such as a time in a zone that is not known here, and ValueError for bytes of
    a fixed size that are no text.
    """
    value_type = values.type
    if isinstance(value_type, pa.BaseExtensionType):
        return _uuids(values.storage) if value_type == pa.uuid() else as_text(values.storage)
    if pa.types.is_dictionary(value_type):
        return as_text(values.dictionary).take(values.indices)
    if pa.types.is_fixed_size_binary(value_type):
        return _fixed(values)
    if (
        pa.types.is_binary(value_type)
        or pa.types.is_large_binary(value_type)
        or value_type == pa.binary_view()
    ):
        return values.cast(pa.binary())
    if pa.types.is_floating(value_type):
        return _floats(values)
    if pa.types.is_decimal(value_type):
        return _where_exponent(values.cast(pa.string()), values, lambda value: format(value, "f"))
    if pa.types.is_duration(value_type):
        return _durations(values)
    if pa.types.is_timestamp(value_type) and value_type.tz == "UTC":
        return _moments(values)
    return values.cast(pa.string())


def _moments(values: pa.Array) -> pa.Array:
    """As the cast writes them, which takes 16 times as long where there is a zone."""
    naive = values.cast(pa.timestamp(values.type.unit)).cast(pa.string())
    # of a year beyond what times without a zone are written for
    if pc.any(pc.starts_with(naive, "<")).as_py():
        return values.cast(pa.string())
    return pc.binary_join_element_wise(naive, "Z", "")


def _is_text(value_type: pa.DataType) -> bool:
    return value_type in (
        pa.string(),
        pa.large_string(),
        pa.string_view(),
        pa.binary(),
        pa.large_binary(),
        pa.binary_view(),
    )


def _floats(values: pa.Array) -> pa.Array:
    try:
        return values.cast(pa.int64()).cast(pa.string())  # all are whole, as most such columns are
    except pa.ArrowInvalid:
        pass
    values = pc.if_else(pc.is_nan(values.cast(pa.float64())), pa.scalar(None, values.type), values)
    wide = values.cast(pa.float64())
    is_whole = pc.and_(pc.equal(pc.floor(wide), wide), pc.less_equal(pc.abs(wide), _EXACT))
    digits = pc.cast(pc.if_else(is_whole, wide, 0.0), pa.int64()).cast(pa.string())
    if pa.types.is_float16(values.type):
        # Arrow writes all digits that a half float has as a larger one, not the shortest that name it.
        texts = _each(values, _shortest)
    else:
        texts = _where_exponent(values.cast(pa.string()), values, _shortest)
    return pc.if_else(is_whole, digits, texts)


def _shortest(value: np.floating[Any]) -> str:
    return np.format_float_positional(value, unique=True, trim="-") if np.isfinite(value) else str(value)


def _where_exponent(texts: pa.Array, values: pa.Array, write: Callable[[Any], str]) -> pa.Array:
    """The texts, where they have an exponent as `write` writes the value."""
    has_exponent = pc.fill_null(pc.match_substring_regex(texts, "[eE]"), False)
    if not pc.any(has_exponent).as_py():
        return texts
    return pc.replace_with_mask(texts, has_exponent, _each(values.filter(has_exponent), write))


def _each(values: pa.Array, write: Callable[[Any], str]) -> pa.Array:
    if pa.types.is_floating(values.type):
        known = values.to_numpy(zero_copy_only=False)
        written = [write(value) for value in known]
        return pc.if_else(values.is_valid(), pa.array(written, pa.string()), pa.scalar(None, pa.string()))
    return pa.array([None if value is None else write(value) for value in values.to_pylist()], pa.string())


def _durations(values: pa.Array) -> pa.Array:
    """hh:mm:ss with as many digits of a second as the unit has; hours go on above 24."""
    per_second = _UNITS[values.type.unit]
    digits = len(str(per_second)) - 1

    def written(count: int | None) -> str | None:
        if count is None:
            return None
        seconds, fraction = divmod(abs(count), per_second)
        text = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
        return f"{'-' * (count < 0)}{text}{f'.{fraction:0{digits}d}' if digits else ''}"

    return pa.array([written(count) for count in values.cast(pa.int64()).to_pylist()], pa.string())


def _uuids(storage: pa.Array) -> pa.Array:
    """16 bytes as 8-4-4-4-12 digits."""
    if not len(storage):
        return pa.array([], pa.string())
    whole = storage.fill_null(bytes(16))
    raw = np.frombuffer(whole.buffers()[1], np.uint8)[16 * whole.offset :][: 16 * len(whole)].reshape(-1, 16)
    text = np.full((len(whole), 36), ord("-"), np.uint8)
    digits = np.frombuffer(b"0123456789abcdef", np.uint8)
    places = np.array([place for place in range(36) if place not in (8, 13, 18, 23)])
    text[:, places[0::2]], text[:, places[1::2]] = digits[raw >> 4], digits[raw & 15]
    written = pa.Array.from_buffers(pa.binary(36), len(whole), [None, pa.py_buffer(text.tobytes())])
    return pc.if_else(
        storage.is_valid(), written.cast(pa.binary()).cast(pa.string()), pa.scalar(None, pa.string())
    )


def _fixed(values: pa.Array) -> pa.Array:
    try:
        return values.cast(pa.binary()).cast(pa.string())
    except pa.ArrowInvalid:
        raise ValueError("bytes of a fixed size that are not text") from None
