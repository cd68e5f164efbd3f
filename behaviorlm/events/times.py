"""Reading times written as text: ISO 8601 and epoch numbers, row by row independent of the other rows."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from behaviorlm.events.config import OrderConfig

# Slashes are accepted because a date that begins with its year can be read in one way only.
ISO_TIME = (
    r"^(?P<year>\d{4})[-/](?P<month>\d{2})[-/](?P<day>\d{2})"
    r"(?:[T ](?P<hour>\d{2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?:[.,](?P<fraction>\d{1,9}))?)?)?"
    r" ?(?P<zone>Z|z|UTC|[+-]\d{2}(?::?\d{2})?)?$"
)
EPOCH_TIME = r"^(?P<whole>-?\d{1,19})(?:\.(?P<fraction>\d{1,9}))?$"

MICROSECONDS = {"seconds": 1_000_000, "milliseconds": 1_000, "microseconds": 1}
# Digits of an epoch number -> its unit. The gaps between are where a number could be two things.
UNIT_OF_DIGITS = {
    9: "seconds",
    10: "seconds",
    12: "milliseconds",
    13: "milliseconds",
    15: "microseconds",
    16: "microseconds",
    18: "nanoseconds",
    19: "nanoseconds",
}
LAST_SECOND = np.datetime64("9999-12-31T23:59:59", "s").astype(np.int64)


@dataclass(frozen=True)
class Times:
    """Times of n rows. `utc` int64[n] microseconds since the epoch; `clock` int64[n] the same for the wall
    clock in the configured zone (without one: as written); `is_zoned` bool[n]: fixed in time by its own text;
    `is_readable` bool[n]; where False the others mean nothing.
    """

    utc: np.ndarray
    clock: np.ndarray
    is_zoned: np.ndarray
    is_readable: np.ndarray


def read_times(text: pa.Array, config: OrderConfig) -> Times:
    """Read a column of times (nulls are unreadable).

    Times without a zone are in `config.time_zone`, else UTC. Of a local hour that comes twice the first is
    meant; a local time that daylight saving skips is the moment of the skip.
    """
    count = len(text)
    utc = np.zeros(count, dtype=np.int64)
    clock = np.zeros(count, dtype=np.int64)
    is_zoned = np.zeros(count, dtype=bool)
    is_readable = np.zeros(count, dtype=bool)
    trimmed = pc.utf8_trim_whitespace(text)
    if config.time_format is not None:
        parsed = pc.strptime(trimmed, format=config.time_format, unit="us", error_is_null=True)
        is_readable = pc.is_valid(parsed).to_numpy(zero_copy_only=False)
        clock = pc.fill_null(parsed.cast(pa.int64()), 0).to_numpy().copy()
        utc = clock.copy()
    else:
        _read_iso(trimmed, utc, clock, is_zoned, is_readable)
        left = np.flatnonzero(~is_readable)
        if len(left):
            _read_epoch(trimmed, left, config.epoch_unit, utc, clock, is_zoned, is_readable)
    if config.time_zone is not None:
        naive = np.flatnonzero(is_readable & ~is_zoned)
        utc[naive] = _local_to_utc(clock[naive], config.time_zone)
        zoned = np.flatnonzero(is_readable & is_zoned)
        clock[zoned] = _utc_to_local(utc[zoned], config.time_zone)
    return Times(utc, clock, is_zoned, is_readable)


def _read_iso(
    text: pa.Array, utc: np.ndarray, clock: np.ndarray, is_zoned: np.ndarray, is_readable: np.ndarray
) -> None:
    parts = pc.extract_regex(text, ISO_TIME)
    rows = np.flatnonzero(pc.is_valid(parts).to_numpy(zero_copy_only=False))
    parts = parts.take(pa.array(rows))
    if not len(rows):
        return
    year, month, day = (_number(parts, name) for name in ("year", "month", "day"))
    hour, minute, second = (_number(parts, name) for name in ("hour", "minute", "second"))
    sound = (month >= 1) & (month <= 12) & (hour < 24) & (minute < 60) & (second < 60)
    first_of_month = ((year - 1970) * 12 + np.where(sound, month, 1) - 1).astype("datetime64[M]")
    days_in_month = (
        (first_of_month + 1).astype("datetime64[D]") - first_of_month.astype("datetime64[D]")
    ).astype(int)
    sound &= (day >= 1) & (day <= days_in_month)
    days = first_of_month.astype("datetime64[D]").astype(np.int64) + day - 1
    seconds = days * 86_400 + hour * 3_600 + minute * 60 + second
    written = seconds * 1_000_000 + _microseconds(parts)

    zone = pc.struct_field(parts, "zone")
    zoned = pc.not_equal(zone, "").to_numpy(zero_copy_only=False)
    offset, offset_is_sound = _zone_offsets(zone)
    sound &= offset_is_sound
    rows, written, offset, zoned = rows[sound], written[sound], offset[sound], zoned[sound]
    is_readable[rows] = True
    clock[rows] = written
    utc[rows] = written - offset
    is_zoned[rows] = zoned


def _read_epoch(
    text: pa.Array,
    left: np.ndarray,
    unit: str,
    utc: np.ndarray,
    clock: np.ndarray,
    is_zoned: np.ndarray,
    is_readable: np.ndarray,
) -> None:
    parts = pc.extract_regex(text.take(pa.array(left)), EPOCH_TIME)
    matched = np.flatnonzero(pc.is_valid(parts).to_numpy(zero_copy_only=False))
    if not len(matched):
        return
    parts, rows = parts.take(pa.array(matched)), left[matched]
    digits = pc.utf8_length(pc.utf8_ltrim(pc.struct_field(parts, "whole"), characters="-")).to_numpy()
    # 19 digits can exceed an int64; a float64 tells which do.
    roughly = pc.struct_field(parts, "whole").cast(pa.float64()).to_numpy()
    fits = np.abs(roughly) < 9.2e18
    whole = pc.if_else(pa.array(fits), pc.struct_field(parts, "whole"), "0").cast(pa.int64()).to_numpy()
    sign = np.where(np.asarray(pc.starts_with(pc.struct_field(parts, "whole"), "-")), -1, 1)
    has_fraction = pc.not_equal(pc.struct_field(parts, "fraction"), "").to_numpy(zero_copy_only=False)
    microseconds = np.zeros(len(rows), dtype=np.int64)
    sound = np.zeros(len(rows), dtype=bool)
    for name in ("seconds", "milliseconds", "microseconds", "nanoseconds"):
        of_unit = (
            np.isin(digits, [count for count, named in UNIT_OF_DIGITS.items() if named == name])
            if unit == "auto"
            else np.full(len(rows), name == unit)
        )
        if name == "nanoseconds":
            of_unit &= ~has_fraction
            microseconds[of_unit] = whole[of_unit] // 1_000
        else:
            scale = MICROSECONDS[name]
            of_unit &= np.abs(whole) <= LAST_SECOND * 1_000_000 // scale
            fraction = _microseconds(parts) * scale // 1_000_000
            microseconds[of_unit] = (whole * scale + sign * fraction)[of_unit]
        sound |= of_unit
    sound &= fits
    is_readable[rows[sound]] = True
    is_zoned[rows[sound]] = True
    utc[rows[sound]] = clock[rows[sound]] = microseconds[sound]


def _number(parts: pa.StructArray, name: str) -> np.ndarray:
    """An optional group of digits as int64, absent ones as 0."""
    digits = pc.struct_field(parts, name)
    return pc.if_else(pc.equal(digits, ""), "0", digits).cast(pa.int64()).to_numpy()


def _microseconds(parts: pa.StructArray) -> np.ndarray:
    """The group `fraction` (of a second), cut to microseconds."""
    padded = pc.utf8_rpad(pc.utf8_slice_codeunits(pc.struct_field(parts, "fraction"), 0, 6), 6, "0")
    return padded.cast(pa.int64()).to_numpy()


def _zone_offsets(zone: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Offsets in microseconds (0 for Z and none) and whether they are possible. There are few distinct
    ones.
    """
    encoded = zone.dictionary_encode()
    offsets, sound = [], []
    for name in encoded.dictionary.to_pylist():
        digits = name[1:].replace(":", "") if name[:1] in ("+", "-") else "0000"
        minutes = int(digits[:2]) * 60 + int(digits[2:] or 0)
        offsets.append(minutes * 60_000_000 * (-1 if name[:1] == "-" else 1))
        sound.append(minutes < 24 * 60 and int(digits[2:] or 0) < 60)
    codes = encoded.indices.to_numpy()
    return np.array(offsets, dtype=np.int64)[codes], np.array(sound, dtype=bool)[codes]


def _local_to_utc(clock: np.ndarray, time_zone: str) -> np.ndarray:
    local = pa.array(clock).cast(pa.timestamp("us"))
    moments = pc.assume_timezone(local, timezone=time_zone, ambiguous="earliest", nonexistent="earliest")
    return moments.cast(pa.int64()).to_numpy()


def _utc_to_local(utc: np.ndarray, time_zone: str) -> np.ndarray:
    moments = pa.array(utc).cast(pa.timestamp("us", tz=time_zone))
    return pc.local_timestamp(moments).cast(pa.int64()).to_numpy()
