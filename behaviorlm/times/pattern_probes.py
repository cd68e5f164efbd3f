"""Whether a pattern fixes the moment: moments are written by it, read back, and compared. A rule, not a list."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pyarrow as pa

from behaviorlm.times.time_patterns import DIRECTIVES, compile_pattern, normal_form
from behaviorlm.times.written_times import Int64, read_written

PARTS = ("year", "month", "day", "hour", "minute", "second")
REMEDIES = {
    "year": "%Y (or %y)",
    "month": "%m (%M is the minute)",
    "day": "%d",
    "hour": "%H, or %I together with %p",
    "minute": "%M",
    "second": "%S",
}
# What a directive tells -> what tells the same and is preferred.
SAME = {
    "short_year": ("year",),
    "month_name": ("month",),
    "hour_of_half": ("hour",),
    "half": ("hour",),
    "day_of_year": ("month", "day"),
    "day": ("iso_week",),
    "month": ("iso_week",),
    "year": ("iso_year",),
    "iso_week": ("month", "day", "year"),
    "iso_year": ("year",),
    "iso_weekday": ("day",),
}
# Between them they differ in every part, in half of the day, and lie in years that %y can tell.
PROBES = (
    datetime(1999, 12, 31, 23, 59, 58, 987654),
    datetime(2000, 2, 29, 0, 0, 0, 0),
    datetime(2015, 7, 4, 12, 30, 15, 250000),
    datetime(2024, 1, 2, 14, 5, 9, 123456),
    datetime(2024, 11, 20, 2, 45, 33, 500000),
    datetime(2031, 8, 17, 11, 11, 11, 1),
)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def pattern_problem(pattern: str, needs_hour: bool = False) -> str | None:
    """Why times written by a strptime pattern cannot be read back, and what to write instead; None where they can.

    Parts that are finer than all that is written may be missing (a date is a moment), others not.
    """
    try:
        compile_pattern(pattern)
    except ValueError as error:
        return str(error)
    if found := re.search(r"(?<!%)(Z|UTC|GMT|[+-]\d\d:?\d\d)$", pattern.strip()):
        return f"{found[0]!r} at its end is a zone, which plain text does not tell; write %z for it"
    lost = _lost(pattern)
    kept = [part for part in PARTS if part not in lost]
    finest = PARTS.index(kept[-1]) if kept else -1
    wanted = max(finest, PARTS.index("hour" if needs_hour else "day"))
    missing = [part for part in PARTS[: wanted + 1] if part in lost]
    idle = _without_effect(pattern)
    if idle is not None:
        return idle
    if not missing:
        return None
    reason = " that events.clock asks for" if missing == ["hour"] and needs_hour and finest < 3 else ""
    remedies = " and ".join(REMEDIES[part] for part in missing)
    return f"it does not tell the {' and the '.join(missing)}{reason}; write {remedies}"


def _lost(pattern: str) -> set[str]:
    """The parts of a moment that differ, for any probe, once it was written by the pattern and read back."""
    texts = [_rendered(pattern, probe) for probe in PROBES]
    written = read_written(pa.array(texts), compile_pattern(pattern))
    lost: set[str] = set()
    for probe, clock, is_readable in zip(PROBES, written.clock.tolist(), written.is_readable, strict=True):
        if not is_readable:
            return set(PARTS)
        found = EPOCH + timedelta(microseconds=clock)
        lost |= {part for part in PARTS if getattr(found, part) != getattr(probe, part)}
    return lost


def _without_effect(pattern: str) -> str | None:
    """What is wrong with a directive whose text may change without any change of the moment; None without any."""
    regex = re.compile(compile_pattern(pattern).regex)
    texts = [_rendered(pattern, probe) for probe in PROBES]
    matches = [regex.match(text) for text in texts]
    if not all(matches):
        return "times written by it cannot be read back; set its parts apart"
    for field in regex.groupindex:
        changed, originals = [], []
        for text, match in zip(texts, matches, strict=True):
            for other in matches:
                if match is None or other is None or other[field] == match[field]:
                    continue
                start, stop = match.span(field)
                changed.append(text[:start] + (other[field] or "") + text[stop:])
                originals.append(text)
        if changed and np.array_equal(_moments(pattern, changed), _moments(pattern, originals)):
            return _idle(field, pattern)
    return None


def _idle(field: str, pattern: str) -> str:
    there = [token for token in re.findall(r"%.", normal_form(pattern)) if token[1:] in DIRECTIVES]
    directive = next(token for token in there if DIRECTIVES[token[1:]][0] == field)
    beside = [
        token
        for token in there
        if DIRECTIVES[token[1:]][0] in SAME.get(field, ()) or field in SAME.get(DIRECTIVES[token[1:]][0], ())
    ]
    if field == "half" and beside:
        return f"{directive} has no effect beside %H, which is the hour of 24; write %I for the hour of 12"
    if field == "half":
        return f"{directive} has no effect without an hour; write %I for the hour of 12"
    if beside:
        return f"{directive} has no effect beside {' and '.join(beside)}; write one of them only"
    wanted = {"iso_week": "%G and %u", "iso_weekday": "%G and %V", "iso_year": "%V and %u"}
    return f"{directive} has no effect here; write it with {wanted.get(field, '%Y')}"


def _moments(pattern: str, texts: Sequence[str]) -> Int64:
    """Moments in UTC, unreadable ones as a number that none has."""
    written = read_written(pa.array(texts), compile_pattern(pattern))
    return np.where(written.is_readable, written.clock - written.offset, np.iinfo(np.int64).min)


def _rendered(pattern: str, probe: datetime) -> str:
    """The probe as Python writes it by the pattern; zones differ from probe to probe."""
    offset = timezone(timedelta(minutes=30 * (probe.day % 5)))
    plain = normal_form(pattern).replace("%Z", "UTC")
    return probe.replace(tzinfo=offset).strftime(plain)
