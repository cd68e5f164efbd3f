"""What written times and numbers could mean: patterns and epochs that read them, for messages of what to write."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from itertools import product

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from behaviorlm.times.durations import read_durations
from behaviorlm.times.epochs import EPOCHS, NAMES, UNITS, read_epochs
from behaviorlm.times.order import EpochUnit
from behaviorlm.times.pattern_probes import pattern_problem
from behaviorlm.times.time_patterns import compile_pattern
from behaviorlm.times.written_times import read_written

EARLIEST = date(2000, 1, 1)
"""Moments of a log that nobody vouched for lie after this day and before a year from now."""
MOST_VALUES = 2_000
FEW_DAYS = 60 * 86_400_000_000
ALL_MEANINGS: list[tuple[EpochUnit, str]] = [
    (unit, epoch)
    for unit, epoch in product(UNITS, EPOCHS)
    if (epoch not in ("excel", "julian") or unit == "days")
    and (epoch == "unix" or unit not in ("hours", "minutes"))
]
NUMERIC_DATES = (
    "%d{0}%m{0}%Y",
    "%m{0}%d{0}%Y",
    "%d{0}%m{0}%y",
    "%m{0}%d{0}%y",
    "%y{0}%m{0}%d",
    "%Y{0}%m{0}%d",
)
DAY_OF_YEAR = "%Y-%j"
# fmt: off
DATES = [
    *(form.format(between) for form in NUMERIC_DATES for between in "/.-"),
    "%d %b %Y", "%d-%b-%Y", "%d/%b/%Y", "%d %b %y", "%d-%b-%y", "%d. %b %Y", "%d %b, %Y", "%d%b%Y", "%d.%b.%Y",
    "%b %d, %Y", "%b %d %Y", "%Y-%b-%d", "%Y %b %d", "%a %b %d %Y", "%a, %d %b %Y", "%a %d %b %Y", "%a, %b %d, %Y",
    "%Y%m%d", "%y%m%d", "%G-W%V-%u", "%GW%V%u", DAY_OF_YEAR, "%d %m %Y",
]
CLOCKS = [
    "%H:%M:%S", "%H:%M", "%H:%M:%S.%f", "%I:%M:%S %p", "%I:%M %p", "%I:%M:%S.%f %p", "%I:%M:%S%p", "%I:%M%p",
    "%I %p", "%H.%M.%S", "%H.%M", "%H-%M-%S", "%Hh%M", "%H%M%S", "%H%M", "%H%M%S.%f", "%H:%M:%S:%f", "%H:%M:%S %f",
]
WHOLE = [
    "%a %b %d %H:%M:%S %Y", "%a %b %d %H:%M:%S %z %Y", "%a %b %d %Y %H:%M:%S GMT%z", "%Y%m%dT%H%M%S",
    "%Y%m%dT%H%M%S%z", "%Y%m%dT%H%M%S.%f%z",
]
# fmt: on
BETWEEN = (" ", "T", ", ", ":", "-", "_", " - ", "")
ZONES = ("", " %z", "%z")
DURATIONS = (
    "They could be durations since a start: set events.order.kind: duration (a time of day without its date is no "
    "moment; where the date is another column, name both: events.order.column: [date, time], kind: [time, duration])"
)
UNKNOWN = "Set events.order.time_format to the strptime pattern by which they are written"
CALENDAR_DIGITS = {8: "%Y%m%d", 10: "%Y%m%d%H", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S", 17: "%Y%m%d%H%M%S%f"}


@dataclass(frozen=True)
class Meaning:
    """A unit and an epoch by which numbers are moments. share: of the numbers whose moments are credible; first, last:
    of all, microseconds since 1970.
    """

    unit: EpochUnit
    epoch: str
    share: float
    first: int
    last: int

    @property
    def described(self) -> str:
        """In words, with the span."""
        return f"{self.unit} since {NAMES[self.epoch]}: {day_of(self.first)} to {day_of(self.last)}"


def credible(moments: NDArray[np.int64], today: date) -> NDArray[np.bool_]:
    """bool [n]: between 2000 and a year from today."""
    first, last = (
        (day - date(1970, 1, 1)) // timedelta(microseconds=1) for day in (EARLIEST, latest_of(today))
    )
    return (moments >= first) & (moments < last + 86_400_000_000)


def latest_of(today: date) -> date:
    """A year from a day."""
    return today + timedelta(days=366)


def meanings(
    numbers: pa.Array, today: date, asked: Iterable[tuple[EpochUnit, str]] = ALL_MEANINGS
) -> list[Meaning]:
    """Those (unit, epoch) by which any of the numbers is a moment, those first that make most of them credible."""
    step = max(1, len(numbers) // MOST_VALUES)
    numbers = numbers.take(pa.array(np.arange(0, len(numbers), step)))
    found = []
    for unit, epoch in asked:
        moments, _, readable = read_epochs(numbers, unit, epoch)
        if readable.any():
            chosen = moments[readable]
            # An epoch may itself lie after 2000: small numbers are not moments for that.
            later = chosen > FEW_DAYS - EPOCHS[epoch] * 1_000_000
            share = float((credible(chosen, today) & later).sum()) / len(numbers)
            found.append(Meaning(unit, epoch, share, int(chosen.min()), int(chosen.max())))
    return sorted(found, key=lambda meaning: -meaning.share)


def calendar_pattern(numbers: pa.Array, today: date) -> str | None:
    """The pattern of numbers that are the digits of dates (20240131), or None."""
    texts = [text.partition(".")[0] for text in numbers.to_pylist() if re.fullmatch(r"\d+(\.0*)?", text)]
    lengths = {len(text) for text in texts}
    pattern = CALENDAR_DIGITS.get(lengths.pop()) if len(lengths) == 1 else None
    if pattern is None:
        return None
    written = read_written(pa.array(texts), compile_pattern(pattern))
    sound = written.is_readable & credible(written.clock, today)
    return pattern if sound.sum() > len(numbers) / 2 else None


@dataclass(frozen=True)
class Candidate:
    """A pattern that reads `count` of the values looked at; moments: int64 of each, where `readable`."""

    pattern: str
    count: int
    moments: NDArray[np.int64]
    readable: NDArray[np.bool_]


def candidate_patterns(values: Sequence[str], needs_hour: bool) -> list[Candidate]:
    """Patterns that read most of some values, those that read as many; each fixes the moment."""
    texts = list(values[:MOST_VALUES])
    patterns = dict.fromkeys(pattern for text in texts[:5] for pattern in _patterns_of(text))
    found: dict[bytes, Candidate] = {}
    for pattern in patterns:
        written = read_written(pa.array(texts, pa.string()), compile_pattern(pattern))
        count = int(written.is_readable.sum())
        if count and pattern_problem(pattern, needs_hour) is None:
            # Of patterns that read the same moments one is enough.
            same = np.where(written.is_readable, written.clock - written.offset, -1).tobytes()
            found.setdefault(same, Candidate(pattern, count, written.clock, written.is_readable))
    most = max((candidate.count for candidate in found.values()), default=0)
    return [candidate for candidate in found.values() if candidate.count == most]


def advice(values: Sequence[str], needs_hour: bool) -> tuple[str, float]:
    """What to write for times that cannot be read as they are, and the share of them that it makes readable."""
    candidates = candidate_patterns(values, needs_hour)
    looked_at = min(len(values), MOST_VALUES)
    if not candidates or candidates[0].count < looked_at / 2:
        _, _, are_durations = read_durations(pa.array(list(values[:MOST_VALUES]), pa.string()))
        share = float(are_durations.mean())
        return (DURATIONS, share) if share > 0.5 else (UNKNOWN, 0.0)
    share = candidates[0].count / looked_at
    if len(candidates) == 1:
        return _one(candidates[0], values, looked_at), share
    examples = []
    differing = _where_they_differ(candidates)
    for candidate in candidates:
        moment = np.datetime64(int(candidate.moments[differing]), "us").astype("M8[s]")
        examples.append(f'"{candidate.pattern}" ({values[differing]} is {str(moment).replace("T", " ")})')
    said = f"{' and '.join(examples)} read {candidates[0].count} of the {looked_at} alike"
    return f"{said}: set events.order.time_format to the one that is right", share


def _one(candidate: Candidate, values: Sequence[str], looked_at: int) -> str:
    said = f'Set events.order.time_format: "{candidate.pattern}", which reads {candidate.count} of the {looked_at}'
    swapped = candidate.pattern.translate(str.maketrans("dm", "md"))
    if swapped == candidate.pattern or not {"%d", "%m"} <= set(re.findall("%.", candidate.pattern)):
        return said
    other = read_written(pa.array(list(values[:looked_at]), pa.string()), compile_pattern(swapped))
    deciding = np.flatnonzero(candidate.readable & ~other.is_readable)
    return f"{said} ({values[int(deciding[0])]!r} decides which is the day)" if len(deciding) else said


def _where_they_differ(candidates: Sequence[Candidate]) -> int:
    first = candidates[0]
    for other in candidates[1:]:
        places = np.flatnonzero(first.readable & other.readable & (first.moments != other.moments))
        if len(places):
            return int(places[0])
    return int(np.flatnonzero(first.readable)[0])


def day_of(moment: int) -> str:
    """The day of a moment, as it is written in ISO 8601."""
    return str(np.datetime64(moment, "us").astype("M8[D]"))


def _patterns_of(text: str) -> Iterator[str]:
    """Patterns that read one text, by its parts: date, what is between, clock, zone."""
    for pattern in WHOLE:
        if _whole(pattern).match(text):
            yield pattern
    for day in DATES:
        found = _beginning(day).match(text)
        # Days of the year have three digits; of fewer, as in 2024-01, they would be months.
        if found and (day != DAY_OF_YEAR or len(found[0]) == len("2024-001")):
            yield from _rests(day, text[found.end() :])
    for clock in CLOCKS:
        if found := _beginning(clock).match(text):
            rest = text[found.end() :]
            yield from (
                f"{clock}{between}{day}"
                for between, day in product((" ", ", "), DATES)
                if rest.startswith(between) and _whole(day).match(rest[len(between) :])
            )


def _rests(day: str, rest: str) -> Iterator[str]:
    if not rest:
        yield day
    for between in BETWEEN:
        if rest.startswith(between):
            for clock, zone in product(CLOCKS, ZONES):
                if _whole(clock + zone).match(rest[len(between) :]):
                    yield f"{day}{between}{clock}{zone}"


@cache
def _whole(pattern: str) -> re.Pattern[str]:
    return re.compile(compile_pattern(pattern).regex)


@cache
def _beginning(pattern: str) -> re.Pattern[str]:
    return re.compile(compile_pattern(pattern).regex.removesuffix("$"))
