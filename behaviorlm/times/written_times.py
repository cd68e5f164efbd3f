"""Times written as calendar and clock, read by a pattern: whole columns at a time, exact to any fraction."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from behaviorlm.times.exact_numbers import flags, padded_digits
from behaviorlm.times.time_patterns import MONTHS, WEEKDAYS, Span, TimePattern, layouts

Int64 = NDArray[np.int64]
Bool = NDArray[np.bool_]
Fields = dict[str, Int64]

REMAINDER_DIGITS = 18
"""Digits of a fraction kept beyond microseconds: an int64 holds them. Later ones are cut."""
WIDEST = 64
MICROSECONDS_OF_MINUTE = 60_000_000


@dataclass(frozen=True)
class Written:
    """Times of n rows as written. clock: int64 [n], microseconds since 1970 on the clock they were read from;
    remainder: int64 [n], what is below a microsecond, in its 10^18th parts; offset: int64 [n], microseconds by which
    that clock is ahead of UTC; is_zoned, is_readable: bool [n]. has_hour: bool [n], an hour was written.
    """

    clock: Int64
    remainder: Int64
    offset: Int64
    is_zoned: Bool
    is_readable: Bool
    has_hour: Bool


def read_written(text: pa.Array, pattern: TimePattern) -> Written:
    """Read a column of trimmed text; null is unreadable."""
    count = len(text)
    clock, remainder, offset = (np.zeros(count, np.int64) for _ in range(3))
    is_zoned, is_readable, has_hour = (np.zeros(count, bool) for _ in range(3))
    written = Written(clock, remainder, offset, is_zoned, is_readable, has_hour)
    width = pc.fill_null(pc.binary_length(text), 0).to_numpy(zero_copy_only=False)
    left = width > 0
    for one in np.flatnonzero(np.bincount(np.minimum(width, WIDEST + 1), minlength=1)[: WIDEST + 1]).tolist():
        rows = np.flatnonzero(width == one)
        found = layouts(pattern, one) if one else ()
        octets = _octets(text, rows, one) if found else np.zeros((0, 0), np.uint8)
        for layout in found:
            fields, matched = _read_layout(octets, layout)
            if matched.all():
                _fill(written, rows, fields)
                left[rows] = False
                break
            if matched.any():
                _fill(written, rows[matched], {name: values[matched] for name, values in fields.items()})
                left[rows[matched]] = False
                rows, octets = rows[~matched], np.ascontiguousarray(octets[:, ~matched])
    rows = np.flatnonzero(left)
    if len(rows):
        parts = pc.extract_regex(text.take(pa.array(rows)), pattern.regex)
        is_match = pc.is_valid(parts).to_numpy(zero_copy_only=False)
        if is_match.any():
            _fill(written, rows[is_match], _read_groups(parts.filter(pa.array(is_match))))
    return written


def written_of(moments: pa.Array) -> Written:
    """The same of timestamps from year 1 to 9999, in UTC or without a zone, as their ISO text would be read."""
    numbers = moments.cast(pa.int64()).fill_null(0).to_numpy()
    offset, readable = np.zeros(len(numbers), np.int64), np.asarray(moments.is_valid())
    if moments.type.unit == "ns":
        clock, below = np.divmod(numbers, 1_000)
        remainder = below * 10 ** (REMAINDER_DIGITS - 3)
    else:
        clock = numbers * {"s": 10**6, "ms": 10**3, "us": 1}[moments.type.unit]
        remainder = np.zeros_like(clock)
    is_zoned = np.full(len(numbers), moments.type.tz is not None)
    return Written(clock, remainder, offset, is_zoned & readable, readable, readable.copy())


def _octets(text: pa.Array, rows: Int64, width: int) -> NDArray[np.uint8]:
    """uint8 [width, rows]: the bytes of texts that all have this width."""
    chosen = text if len(rows) == len(text) and not text.null_count else text.take(pa.array(rows))
    offsets = np.frombuffer(chosen.buffers()[1], np.int32)
    start = int(offsets[chosen.offset])
    octets = np.frombuffer(chosen.buffers()[2], np.uint8)[start : start + width * len(rows)]
    return np.ascontiguousarray(octets.reshape(len(rows), width).T)


def _read_layout(octets: NDArray[np.uint8], layout: tuple[Span, ...]) -> tuple[Fields, Bool]:
    """The fields of texts of one width, and which of them have this layout."""
    matched = np.ones(octets.shape[1], bool)
    fields: Fields = {}
    # What stands between digits tells first whether the layout fits.
    for span in sorted(layout, key=lambda span: span.piece.kind != "text"):
        piece, columns = span.piece, octets[span.start : span.start + span.width]
        if piece.kind == "text":
            allowed = np.zeros(matched.shape, bool)
            for octet in piece.allowed:
                allowed |= columns[0] == octet
            matched &= allowed
            if not matched.any():
                return fields, matched
            if piece.field:
                fields[piece.field] = np.zeros(len(matched), np.int64)
        elif piece.kind == "digits":
            fields[piece.field] = _digits(columns, matched)
        elif piece.kind == "fraction":
            fields["microsecond"] = _digits(columns[:6], matched) * 10 ** (6 - min(span.width, 6))
            if span.width > 6:
                beyond = columns[6 : 6 + REMAINDER_DIGITS]
                shift = REMAINDER_DIGITS - len(beyond)
                fields["remainder"] = _digits(beyond, matched) * 10**shift
                _digits(columns[6 + REMAINDER_DIGITS :], matched)
        elif piece.kind == "sign":
            matched &= (columns[0] == ord("+")) | (columns[0] == ord("-"))
            fields["sign"] = np.where(columns[0] == ord("-"), -1, 1)
        elif piece.kind == "half":
            letters = columns | np.uint8(0x20)
            matched &= ((letters[0] == ord("a")) | (letters[0] == ord("p"))) & (letters[1] == ord("m"))
            fields["half"] = (letters[0] == ord("p")).astype(np.int64)
        else:
            fields["month"] = _month(columns | np.uint8(0x20), matched)
    return fields, matched


def _digits(columns: NDArray[np.uint8], matched: Bool) -> Int64:
    """The number in each column of digits; `matched` loses those with anything else."""
    value = np.zeros(columns.shape[1], np.int64 if len(columns) > 4 else np.int16)
    for column in columns:
        digit = column - np.uint8(ord("0"))
        matched &= digit <= 9
        value = value * 10 + digit
    return value.astype(np.int64)


def _month(letters: NDArray[np.uint8], matched: Bool) -> Int64:
    month = np.zeros(letters.shape[1], np.int64)
    for number, name in enumerate(MONTHS, start=1):
        first, second, third = name[:3].encode()
        month[(letters[0] == first) & (letters[1] == second) & (letters[2] == third)] = number
    matched &= month > 0
    return month


def _read_groups(parts: pa.StructArray) -> Fields:
    """The fields of matches of a pattern's regular expression; what was left out is absent or 0."""
    fields: Fields = {}
    for index in range(parts.type.num_fields):
        name = parts.type[index].name
        group = pc.struct_field(parts, index)
        if name == "fraction":
            fields["microsecond"] = padded_digits(group, 0, 6)
            fields["remainder"] = padded_digits(group, 6, REMAINDER_DIGITS)
        elif name == "zone":
            fields.update(_zones(group))
        elif name == "half":
            fields[name] = flags(pc.starts_with(pc.utf8_lower(group), "p")).astype(np.int64)
        elif name in ("month_name", "weekday_name"):
            names = [word[:3] for word in (MONTHS if name == "month_name" else WEEKDAYS)]
            place = pc.index_in(
                pc.utf8_slice_codeunits(pc.utf8_lower(group), 0, 3), value_set=pa.array(names)
            )
            field = "named_month" if name == "month_name" else "weekday"
            fields[field] = place.to_numpy().astype(np.int64) + (name == "month_name")
        else:
            is_there = flags(pc.not_equal(group, ""))
            if is_there.any():
                fields[name] = pc.if_else(pa.array(is_there), group, "0").cast(pa.int64()).to_numpy()
            if name == "hour":
                fields["hour_is_there"] = is_there.astype(np.int64)
    if "named_month" in fields:
        fields.setdefault("month", fields.pop("named_month"))
    return fields


def _zones(zone: pa.Array) -> Fields:
    """sign, zone_hour and zone_minute of each; `utc` where any is written. There are few distinct ones."""
    encoded = zone.dictionary_encode()
    found = []
    for name in encoded.dictionary.to_pylist():
        digits = name[1:].replace(":", "") if name[:1] in ("+", "-") else ""
        sign = -1 if name[:1] == "-" else 1
        found.append((sign, int(digits[:2] or 0), int(digits[2:] or 0), int(name != "")))
    columns = np.array(found, np.int64).reshape(-1, 4)[encoded.indices.to_numpy()].T
    return dict(zip(("sign", "zone_hour", "zone_minute", "zone_is_there"), columns, strict=True))


def _fill(written: Written, rows: Int64, fields: Mapping[str, Int64]) -> None:
    """Write the moments of these fields into `rows`."""
    zero = np.zeros(len(rows), np.int64)
    days, sound = _days(fields, zero)
    hour = fields.get("hour")
    if hour is None and "hour_of_half" in fields:
        half = fields["hour_of_half"]
        sound &= (half >= 1) & (half <= 12)
        hour = half % 12 + 12 * fields.get("half", zero)
    minute, second = fields.get("minute", zero), fields.get("second", zero)
    written.has_hour[rows] = (fields.get("hour_is_there", zero + 1) > 0) & (hour is not None)
    hour = zero if hour is None else hour
    sound &= (hour < 24) & (minute < 60) & (second < 60)
    if "weekday" in fields:
        sound &= (days + 3) % 7 == fields["weekday"]
    zone_minute = fields.get("zone_minute", zero)
    minutes = fields.get("zone_hour", zero) * 60 + zone_minute
    sound &= (minutes < 24 * 60) & (zone_minute < 60)
    seconds = (days * 24 + hour) * 3_600 + minute * 60 + second
    written.clock[rows] = seconds * 1_000_000 + fields.get("microsecond", zero)
    if "remainder" in fields:
        written.remainder[rows] = fields["remainder"]
    if "sign" in fields:
        written.offset[rows] = fields["sign"] * minutes * MICROSECONDS_OF_MINUTE
    written.is_zoned[rows] = (
        fields["zone_is_there"] > 0 if "zone_is_there" in fields else bool({"utc", "sign"} & fields.keys())
    )
    written.is_readable[rows] = sound


def _days(fields: Mapping[str, Int64], zero: Int64) -> tuple[Int64, Bool]:
    """Days since 1970 of the date, int64 [n], and whether there is such a date."""
    if "iso_week" in fields and "iso_year" in fields:
        return _days_of_week_date(fields, zero)
    if "year" in fields:
        year = fields["year"]
    else:
        # POSIX: 69 to 99 are of the last century.
        short = fields.get("short_year", zero)
        year = short + np.where(short < 69, 2000, 1900)
    first_days, lengths = _calendar()
    if "day_of_year" in fields and "month" not in fields:
        day = fields["day_of_year"]
        start = first_days[year * 12]
        return start + day - 1, (day >= 1) & (day <= first_days[year * 12 + 12] - start)
    month, day = fields.get("month", zero + 1), fields.get("day", zero + 1)
    sound = (month >= 1) & (month <= 12)
    place = year * 12 + np.where(sound, month, 1) - 1
    sound &= (day >= 1) & (day <= lengths[place])
    return first_days[place] + day - 1, sound


def _days_of_week_date(fields: Mapping[str, Int64], zero: Int64) -> tuple[Int64, Bool]:
    first_days, _ = _calendar()
    year, week, weekday = fields["iso_year"], fields["iso_week"], fields.get("iso_weekday", zero + 1)
    # Week 1 is the one with the 4th of January.
    fourth = first_days[year * 12] + 3
    monday = fourth - (fourth + 3) % 7
    following = first_days[year * 12 + 12] + 3
    weeks = (following - (following + 3) % 7 - monday) // 7
    return monday + (week - 1) * 7 + weekday - 1, (week >= 1) & (week <= weeks)


@cache
def _calendar() -> tuple[Int64, Int64]:
    """The first day of each month of the years 0 to 9999, and the one after, since 1970; and how many days each has."""
    months = np.arange("0000-01", "10000-02", dtype="datetime64[M]").astype("datetime64[D]").astype(np.int64)
    return months, np.diff(months)
