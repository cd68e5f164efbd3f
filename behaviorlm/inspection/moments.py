"""Columns that are times: how to read them, settled as a run would, or by what is likeliest where it would ask."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from behaviorlm.errors import DataError
from behaviorlm.events.settling import Head, settle_order
from behaviorlm.inspection.name_words import IDENTIFIERS, STEP, TIME, speaks_for, words_of
from behaviorlm.log_files.config import EventsConfig
from behaviorlm.times.durations import read_durations
from behaviorlm.times.moments import read_times
from behaviorlm.times.order import OrderColumn, OrderConfig
from behaviorlm.times.time_candidates import Candidate, candidate_patterns, meanings

MOST_VALUES = 2_000
MOST = 0.9
"""Share of the values that must be read for a column to be times (our choice)."""
EPOCHS_BY_USE = ("unix", "excel", "2001", "1601", "0001", "1904", "1900", "julian")
"""Of epochs that fit equally well the more common one is proposed (our choice)."""
LIKE_A_TIME = r"^.{0,12}\d{1,4}[^0-9]{1,8}\d{1,2}.{0,40}$|^\d{8,19}(\.\d+)?$"
MANY_DIGITS = r"^\d{9,19}(\.\d+)?$"


@dataclass(frozen=True)
class Moments:
    """A column of times or durations as it is read.

    settings: keys of `events.order` beside column. order: int64[n], places in time, equal for equal moments to the last
    digit, where is_readable. others: how else it could be read, in words. has_hour: whether most tell more than the
    date. share_zoned: with a zone in their text.
    """

    kind: str
    settings: dict[str, Any]
    reason: str
    others: tuple[str, ...]
    order: NDArray[np.int64]
    is_readable: NDArray[np.bool_]
    has_hour: bool
    share_zoned: float


def read_moments(name: str, kind: str, trimmed: pa.Array) -> Moments | None:
    """The column as times, else as durations; None where it is neither. trimmed: text, null where empty."""
    values = trimmed.drop_null()
    step = max(1, len(values) // MOST_VALUES)
    few = values.take(pa.array(np.arange(0, len(values), step)))
    is_called_time = speaks_for(name, TIME) > 0
    is_called_number = bool(set(words_of(name)) & (IDENTIFIERS | STEP)) and not is_called_time
    if kind != "text" and is_called_number:
        return None
    pattern = LIKE_A_TIME if kind == "text" or is_called_time else MANY_DIGITS
    if not len(few) or np.asarray(pc.match_substring_regex(few, pattern)).mean() < MOST:
        return None
    found = _settled(few) or _likeliest(few, kind)
    if found is not None:
        settings, reason, others = found
        times = read_times(trimmed, _column(settings))
        readable = times.is_readable & np.asarray(trimmed.is_valid())
        if kind != "text" and not is_called_time and settings.get("epoch", "unix") != "unix":
            return None  # any number is a moment since some epoch
        if readable.sum() >= MOST * len(values):
            midnight = times.clock[readable] % 86_400_000_000 == 0
            has_hour = bool(times.has_hour[readable].mean() > 0.5 and not midnight.all())
            zoned = float(times.is_zoned[readable].mean())
            order = _places(times.utc, times.remainder)
            return Moments("time", settings, reason, others, order, readable, has_hour, zoned)
    if kind == "text":
        order, _, readable = read_durations(trimmed)
        readable = np.asarray(readable) & np.asarray(trimmed.is_valid())
        if readable.sum() >= MOST * len(values):
            reason = "hh:mm:ss since a start"
            return Moments("duration", {"kind": "duration"}, reason, (), order, readable, False, 0.0)
    return None


def _places(utc: NDArray[np.int64], remainder: NDArray[np.int64]) -> NDArray[np.int64]:
    """int64[n]: the place of each moment among all."""
    if not remainder.any():
        return utc
    by_time = np.lexsort((remainder, utc))
    later = (np.diff(utc[by_time]) != 0) | (np.diff(remainder[by_time]) != 0)
    places = np.empty(len(utc), np.int64)
    places[by_time] = np.append(0, np.cumsum(later))
    return places


Found = tuple[dict[str, Any], str, tuple[str, ...]]


def _settled(values: pa.Array) -> Found | None:
    """As a run settles it with no key set."""
    config = EventsConfig(dataset="log", paths=["log"], user="u", behavior="b", order=OrderConfig(column="t"))
    try:
        settled, _ = settle_order(config, [Head("log", {"order": values}, pa.array(range(len(values))))])
    except DataError:
        return None
    column = settled.order.columns[0]
    if column.epoch_unit != "auto":
        return {"kind": "time", "epoch_unit": column.epoch_unit}, f"{column.epoch_unit} since 1970", ()
    if column.time_format not in (None, "iso"):
        return {"kind": "time", "time_format": column.time_format}, "the digits of dates", ()
    return {"kind": "time"}, "ISO 8601", ()


def _likeliest(values: pa.Array, kind: str) -> Found | None:
    """What reads most values where a run would ask: of patterns that differ, the one of the shortest span."""
    if kind == "text":
        candidates = candidate_patterns(values.to_pylist(), False)
        if not candidates or candidates[0].count < MOST * min(len(values), MOST_VALUES):
            return None
        best, *rest = sorted(candidates, key=_span_of)
        reason = f"{best.pattern} reads {best.count} of {min(len(values), MOST_VALUES)} values looked at"
        if rest:
            reason += (
                ", and the span that it makes is the shortest; CHECK which is the day and which the month"
            )
        swapped = best.pattern.translate(str.maketrans("dm", "md"))
        others = tuple(candidate.pattern for candidate in rest) or ((swapped,) if "%b" in swapped else ())
        return {"kind": "time", "time_format": best.pattern}, reason, others[:3]
    found = [one for one in meanings(values, datetime.now(UTC).date()) if one.share > MOST]
    if not found:
        return None
    found.sort(key=lambda one: (-round(one.share, 2), EPOCHS_BY_USE.index(one.epoch)))
    others = tuple(one.described for one in found[1:4])
    settings = {"kind": "time", "epoch": found[0].epoch, "epoch_unit": found[0].unit}
    return settings, f"{found[0].described}; CHECK the span", others


def _span_of(candidate: Candidate) -> tuple[int, bool]:
    chosen = candidate.moments[candidate.readable]
    # Of equal spans the day first, as most of the world writes.
    return int(chosen.max() - chosen.min()), bool(re.search("%m.%d", candidate.pattern))


def _column(settings: dict[str, Any]) -> OrderColumn:
    return OrderConfig.model_validate({"column": "t", **settings}).columns[0]
