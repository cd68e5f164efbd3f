"""What one look at a log settles for all of it: the unit of its epoch numbers, and that its times can be read at all.

A value of another unit or pattern, later in the log, is quarantined like any that cannot be read.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from behaviorlm.errors import DataError
from behaviorlm.log_files.config import EventsConfig
from behaviorlm.log_files.identity import has_lost_digits
from behaviorlm.times.durations import read_durations
from behaviorlm.times.exact_numbers import read_integers
from behaviorlm.times.moments import read_times, start_of
from behaviorlm.times.order import HOURS_AND_MINUTES, ISO_FORMAT, EpochUnit, OrderColumn
from behaviorlm.times.time_candidates import (
    EARLIEST,
    Meaning,
    advice,
    calendar_pattern,
    credible,
    day_of,
    latest_of,
    meanings,
)

Bool = NDArray[np.bool_]

NUMBER = r"^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$"
IN_SHORT = r"^\d\.\d{4,6}[eE]\+"
"""As spreadsheets and C write numbers of which they leave digits out, where most are so."""
FEW = 0.1
"""Share of first values that may be unreadable before a pattern that reads them is looked for (our choice)."""
MOST_SHOWN = 3


@dataclass(frozen=True)
class Head:
    """The first rows of a file: the order's columns of text by role, their numbers and users."""

    path: str
    columns: dict[str, pa.Array]
    rows: pa.Array
    users: pa.Array | None = None


@dataclass(frozen=True)
class Values:
    """The first values of one column over all files that are not empty, and where each stands. text: trimmed."""

    column: OrderColumn
    text: pa.Array
    places: list[tuple[str, int]]

    def where(self, mask: Bool) -> str:
        """File, row and value of the first one in the mask."""
        index = int(np.flatnonzero(mask)[0])
        path, row = self.places[index]
        return (
            f"{path}, row {row}: {self.text[index].as_py()!r} in {self.column.name!r} (events.order.column)"
        )

    def chosen(self, mask: Bool) -> pa.Array:
        """The texts in the mask."""
        return self.text.filter(pa.array(mask))


@dataclass(frozen=True)
class Settled:
    """What holds for one column: unit and pattern, whether numbers were settled by their moments, and what to tell."""

    epoch_unit: EpochUnit
    time_format: str | None
    by_moments: bool = False
    note: str | None = None


def settle_order(config: EventsConfig, heads: Sequence[Head]) -> tuple[EventsConfig, list[str]]:
    """The mapping with every `auto` of the order replaced by what holds for the log, and what to tell of that.

    Raises DataError where the first values cannot be read, or could mean several things: with a value, and what to
    write in the mapping instead.
    """
    today = datetime.now(UTC).date()  # by it moments of numbers are credible
    needs_hour = "hour" in config.clock
    settled: list[Settled] = []
    problems: list[str] = []
    is_first_time = True
    for column in config.order.columns:
        values = _values(column, heads)
        try:
            if column.kind == "time":
                settled.append(_settle_times(values, config, needs_hour and is_first_time, today))
                is_first_time = False
            else:
                settled.append(_settle_durations(values))
                _check_numbers(values, settled[-1].time_format)
        except DataError as error:
            problems.append(str(error))
    if problems:
        raise DataError("\n".join(problems))
    changes: dict[str, object] = {}
    if len(settled) == 1:
        changes = {"epoch_unit": settled[0].epoch_unit, "time_format": settled[0].time_format}
    else:
        changes["epoch_unit"] = [one.epoch_unit for one in settled]
        changes["time_format"] = [one.time_format for one in settled]
    if any(one.by_moments for one in settled):
        changes["earliest"] = config.order.earliest or EARLIEST
        changes["latest"] = config.order.latest or latest_of(today)
    order = config.order.model_copy(update=changes)
    notes = [one.note for one in settled if one.note is not None]
    return config.model_copy(update={"order": order}), notes


def _values(column: OrderColumn, heads: Sequence[Head]) -> Values:
    texts, places = [], []
    for head in heads:
        trimmed = pc.utf8_trim_whitespace(head.columns[column.role])
        is_there = np.asarray(pc.fill_null(pc.not_equal(trimmed, ""), False))
        texts.append(trimmed.filter(pa.array(is_there)))
        places += [(head.path, row) for row in head.rows.filter(pa.array(is_there)).to_pylist()]
    return Values(column, pa.concat_arrays([pa.array([], pa.string()), *texts]), places)


def _settle_times(values: Values, config: EventsConfig, needs_hour: bool, today: date) -> Settled:
    column = values.column
    times = read_times(values.text, column)
    read = times.is_readable.copy()
    numbers = np.asarray(pc.match_substring_regex(values.text, NUMBER)) & ~read
    settled = Settled(column.epoch_unit, column.time_format)
    is_open = column.time_format is None and column.epoch_unit == "auto"
    if is_open and numbers.sum() > FEW * len(read):
        settled = _settle_numbers(values, numbers, config, today, is_alone=not read.any())
        read |= numbers
        if settled.time_format is not None:
            _check_hour(values, settled.time_format, needs_hour)
    elif is_open and numbers.any():
        # A few numbers among times: their unit if it shows, else they go to the quarantine.
        found = meanings(values.chosen(numbers), today, _asked(column.epoch))
        if found and found[0].share > 0.5:
            settled = Settled(found[0].unit, None, by_moments=True)
            read |= numbers
    if is_open and settled == Settled("auto", None) and read.any():
        settled = Settled("auto", ISO_FORMAT)
    unread = ~read
    if unread.sum() > FEW * len(read):
        _refuse_unread(values, unread, needs_hour, today)
    if needs_hour and read.any() and not times.has_hour[times.is_readable].any() and not numbers.any():
        raise DataError(
            f"{values.where(times.is_readable)} is a date without an hour, which events.clock asks for: take hour "
            "out of events.clock, or name a column with the time of day too"
        )
    return settled


def _check_hour(values: Values, pattern: str, needs_hour: bool) -> None:
    if needs_hour and "%H" not in pattern:
        every = np.ones(len(values.text), bool)
        raise DataError(
            f'{values.where(every)} is a date ("{pattern}") without an hour, which events.clock asks for: take hour '
            "out of events.clock"
        )


def _refuse_unread(values: Values, unread: Bool, needs_hour: bool, today: date) -> None:
    """Refuse times of which most cannot be read, or many where it shows how they are written."""
    text, column = values.chosen(unread), values.column
    most = unread.sum() > 0.5 * len(unread)
    how = f"by time_format {column.time_format!r}" if column.time_format else "as ISO 8601"
    if not column.time_format and column.epoch_unit != "auto":
        how += f" or as {column.epoch_unit} since {column.epoch}"
    begin = (
        f"{values.where(unread)} is no time {how}, like {unread.sum():,} of the {len(unread):,} looked at."
    )
    if most and np.asarray(pc.match_substring_regex(text, NUMBER)).mean() > 0.5:
        raise DataError(f"{begin} {_numbers_could_be(text, today)}")
    said, share = advice(text.to_pylist(), needs_hour)
    if most or share > 0.9:
        raise DataError(f"{begin} {said}")


def _settle_numbers(
    values: Values, numbers: Bool, config: EventsConfig, today: date, is_alone: bool
) -> Settled:
    """The unit of numbers, or the pattern of their digits. Raises DataError where that is not sure."""
    text, column = values.chosen(numbers), values.column
    found = meanings(text, today, _asked(column.epoch))
    if sum(one.share for one in found) > 0.5:
        rounded = np.asarray(pc.match_substring_regex(values.text, IN_SHORT)) & has_lost_digits(values.text)
        if rounded.sum() > 0.5 * len(text):
            _refuse_rounded(values, rounded)
        _refuse_two_units(values, numbers, found, config, today)
        best = found[0]
        index = int(np.flatnonzero(numbers)[0])
        example = values.text[index].as_py()
        moment = read_times(pa.array([example]), _with_unit(column, best.unit)).utc[0]
        written = str(np.datetime64(int(moment), "us").astype("M8[s]")).replace("T", " ")
        note = f"{column.name}: numbers are {best.described} ({example} is {written} UTC)"
        return Settled(best.unit, None, by_moments=True, note=note)
    pattern = calendar_pattern(text, today) if is_alone and column.epoch == "unix" else None
    if pattern is not None:
        note = f'{column.name}: numbers are the digits of dates (events.order.time_format: "{pattern}")'
        return Settled("auto", pattern, note=note)
    raise DataError(_what_numbers_mean(values, numbers, found, today))


def _asked(epoch: str) -> list[tuple[EpochUnit, str]]:
    return [(unit, epoch) for unit in _PLAIN_UNITS[epoch]]


_COMMON: tuple[EpochUnit, ...] = ("seconds", "milliseconds", "microseconds", "nanoseconds")
_PLAIN_UNITS: dict[str, tuple[EpochUnit, ...]] = {
    "unix": _COMMON,
    "2001": _COMMON,
    "1904": _COMMON,
    "1900": _COMMON,
    "1601": (*_COMMON, "ticks"),
    "0001": (*_COMMON, "ticks"),
    "excel": ("days",),
    "julian": ("days",),
}
"""Units that `auto` chooses among: others are rare, and are only suggested."""


def _with_unit(column: OrderColumn, unit: EpochUnit) -> OrderColumn:
    """The column as one of times without a zone, in this unit."""
    return replace(
        column, kind="time", time_zone=None, time_format=None, epoch_unit=unit, earliest=None, latest=None
    )


def _refuse_two_units(
    values: Values, numbers: Bool, found: Sequence[Meaning], config: EventsConfig, today: date
) -> None:
    first, others = found[0], [one for one in found[1:] if one.share > config.max_quarantine_share]
    if not others:
        return
    places = np.flatnonzero(numbers)
    shown = []
    for meaning in (first, others[0]):
        times = read_times(values.text.take(pa.array(places)), _with_unit(values.column, meaning.unit))
        mask = np.zeros(len(numbers), bool)
        mask[places[times.is_readable & credible(times.utc, today)]] = True
        shown.append(f"{values.where(mask)}: {meaning.unit}")
    raise DataError(
        f"numbers of two units in one column ({'; '.join(shown)}): write them in one, or set events.order.epoch_unit, "
        "and those of another go to the quarantine"
    )


def _what_numbers_mean(values: Values, numbers: Bool, found: Sequence[Meaning], today: date) -> str:
    column = values.column
    begin = f"{values.where(numbers)} is a number whose unit is not sure"
    if column.epoch != "unix":
        begin += f" (events.order.epoch: {column.epoch})"
    # The readings next to the window say most.
    middle = start_of(EARLIEST)
    would = "; ".join(
        one.described for one in sorted(found, key=lambda one: abs(one.first - middle))[:MOST_SHOWN]
    )
    said = f"{begin}: no unit puts most between {EARLIEST} and {latest_of(today)} ({would or 'none reads them'})."
    return f"{said} {_numbers_could_be(values.chosen(numbers), today)}"


def _numbers_could_be(text: pa.Array, today: date) -> str:
    """Units and epochs that make most numbers credible moments, as what to write."""
    fits = [one for one in meanings(text, today) if one.share > 0.5]
    remedies = [
        f"events.order.epoch: {one.epoch}, epoch_unit: {one.unit} ({day_of(one.first)} to {day_of(one.last)})"
        for one in fits[:MOST_SHOWN]
    ]
    pattern = calendar_pattern(text, today)
    if pattern is not None:
        remedies.append(f'events.order.time_format: "{pattern}"')
    if remedies:
        said = f"It could be {' or '.join(remedies)}: set what is right"
    else:
        said = "Set events.order.epoch_unit and events.order.epoch if they are moments"
    return f"{said}; if they are no moments but steps, kind: integer, or a time since a start, kind: duration"


def _settle_durations(values: Values) -> Settled:
    """What durations of two numbers are. Raises DataError where others have three, so that nothing tells."""
    column = values.column
    as_it_is = Settled(column.epoch_unit, column.time_format)
    if column.kind != "duration" or column.time_format is not None:
        return as_it_is
    two = read_durations(values.text, HOURS_AND_MINUTES)[2]
    if two.sum() <= FEW * len(two):
        return as_it_is
    three = read_durations(values.text)[2]
    if three.any():
        raise DataError(
            f"{values.where(two)} could be hours and minutes or minutes and seconds, beside {values.where(three)}: "
            "write all as hh:mm:ss"
        )
    # Alone they are in the same order either way.
    note = f"{column.name}: {values.text[0].as_py()} is read as hours and minutes"
    return Settled(column.epoch_unit, HOURS_AND_MINUTES, note=note)


def _refuse_rounded(values: Values, rounded: Bool) -> None:
    if rounded.any():
        raise DataError(
            f"{values.where(rounded)}: such a number has passed through a float or a spreadsheet and lost digits, so "
            "that events which differ are equal; write the column as text or as an integer where it is made"
        )


def _check_numbers(values: Values, time_format: str | None) -> None:
    """Refuse a column of which most first values are no whole numbers, or no durations, saying what they are."""
    column = values.column
    if column.kind == "integer":
        in_short = np.asarray(pc.match_substring_regex(values.text, "[eE]"))
        _refuse_rounded(values, in_short & has_lost_digits(values.text))
        _, read, beyond = read_integers(values.text)
        read |= beyond
        what = "no whole number"
    else:
        _, _, read = read_durations(values.text, time_format)
        what = "no duration (hh:mm:ss.ff)"
    unread = ~read
    if not unread.sum() > 0.5 * len(unread):
        return
    text = values.chosen(unread)
    as_time = read_times(text, _with_unit(column, "auto")).is_readable
    if as_time.sum() > 0.5 * len(text):
        said = "They are times: set events.order.kind: time"
    elif np.asarray(pc.match_substring_regex(text, NUMBER)).sum() > 0.5 * len(text):
        said = "They have fractions: set events.order.kind: duration for seconds since a start, or time for moments"
    elif read_durations(text)[2].sum() > 0.5 * len(text):
        said = "They are durations: set events.order.kind: duration"
    else:
        said = "Name the column that orders the events, or its kind (time, integer, duration)"
    raise DataError(
        f"{values.where(unread)} is {what}, like {unread.sum():,} of the {len(unread):,} looked at. {said}"
    )
