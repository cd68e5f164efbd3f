"""A mapping for a log that nobody described: each key with its reason and what else it could be."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from behaviorlm.errors import DataError
from behaviorlm.inspection import roles
from behaviorlm.inspection.choices import Choice
from behaviorlm.inspection.columns import Column
from behaviorlm.inspection.sample import Sample, mapping_of
from behaviorlm.log_files.config import EventsConfig
from behaviorlm.timelines.config import SplitConfig

MOST_CONTEXTS = 3
"""Context columns that are proposed: each makes every line of history longer (our choice)."""
MOST_OTHERS = 4
CLOSE = 1.5
"""How far behind the best a column may be to be named as an alternative."""
FEW_EVENTS = 8
"""Events of a user, in the middle, below which a split inside of users leaves too little (our choice)."""
NOT_SURE = 1.0
MUCH_LOST = 0.1
"""Share of unusable rows up to which the proposal allows them (our choice): more is no log with a few bad rows."""


@dataclass(frozen=True)
class Proposal:
    """Choices for `events`, `split` and `prompt` in the order of the file, and what could not be told, in sentences."""

    name: str
    events: tuple[Choice, ...]
    split: tuple[Choice, ...]
    prompt: tuple[Choice, ...]
    doubts: tuple[str, ...]

    @property
    def mapping(self) -> EventsConfig:
        """The choices as a mapping. Raises ConfigError."""
        return mapping_of(_nested(self.events))

    @property
    def split_config(self) -> SplitConfig:
        """The choices for the split."""
        return SplitConfig.model_validate(_nested(self.split))

    def with_quarantine(self, lost: Mapping[str, int], rows: int) -> "Proposal":
        """The same with a quarantine as large as the sample needs, where that is more than allowed and still little.

        lost: rows by reason.
        """
        share = sum(lost.values()) / max(rows, 1)
        if not self.mapping.max_quarantine_share < share <= MUCH_LOST:
            return self
        reasons = ", ".join(f"{reason}: {count:,}" for reason, count in lost.items())
        allowed = ceil(share * 150) / 100
        said = (
            f"{share:.1%} of the rows looked at cannot be used ({reasons}); CHECK that the mapping is not why"
        )
        choice = Choice("max_quarantine_share", allowed, said, ("correct the log, and leave this out",))
        return replace(self, events=(*self.events, choice))


def propose(sample: Sample, columns: Sequence[Column], paths: Sequence[str]) -> Proposal:
    """Raises DataError where there is no column for the user, the behavior or the order: which, and what is there."""
    who = roles.users(columns)
    if not who:
        raise DataError(_nobody("the user", columns))
    user, what = _user_and_behavior(columns, who)
    if not what:
        raise DataError(_nobody("the behavior", columns))
    behavior = what[0].column
    found = roles.orders(columns, user.column, [behavior])
    if not found:
        raise DataError(_nobody("the order (a time or a step)", columns))
    order = found[0]
    labels = roles.split(columns)
    grouping = roles.group(columns, user.column, behavior)
    sitting = roles.session(columns, user.column)
    taken = [*order.columns, *filter(None, (labels, grouping, sitting))]
    name = name_of(paths)
    events = [
        Choice("dataset", name, "part of every sample's id: keep it once chosen"),
        Choice("paths", list(sample.paths), ""),
        *sample.choices,
        Choice("user", user.column.name, user.reason, _others(who, user)),
        Choice("behavior", behavior.name, what[0].reason, _others(what, what[0])),
        _order(found),
        *_zone(order.columns),
        *_told(sitting, grouping, labels),
        *_context(columns, order.columns, user.column, behavior, taken),
    ]
    middle = float(np.median(user.column.counts)) if sample.is_all else None  # events of a user
    return Proposal(
        name,
        tuple(events),
        (_split(labels, grouping, middle),),
        tuple(_windows(middle)),
        tuple(_doubts(user, what, order)),
    )


def name_of(paths: Sequence[str]) -> str:
    """A name for the log after its first path."""
    parts = [part for part in PurePosixPath(paths[0]).parts if not set("*?[=") & set(part)]
    stem = (parts[-1] if parts else "log").partition(".")[0]
    kept = "".join(sign if sign.isascii() and (sign.isalnum() or sign in "-_") else "_" for sign in stem)
    return kept.strip("_-") or "log"


def _user_and_behavior(
    columns: Sequence[Column], who: Sequence[roles.Scored]
) -> tuple[roles.Scored, list[roles.Scored]]:
    """The pair for which most speaks."""
    best: tuple[roles.Scored, list[roles.Scored]] = who[0], []
    score = -np.inf
    for user in who[: roles.MOST_CANDIDATES]:
        what = roles.behaviors(columns, user.column)
        if what and user.score + what[0].score > score:
            best, score = (user, what), user.score + what[0].score
    return best


def _order(found: Sequence[roles.Ordered]) -> Choice:
    best = found[0]
    several = len(best.columns) > 1
    settings = [
        column.moments.settings if column.moments is not None else {"kind": "integer"}
        for column in best.columns
    ]
    value: dict[str, Any] = {
        "column": [column.name for column in best.columns] if several else best.columns[0].name
    }
    for key in ("kind", "time_format", "epoch", "epoch_unit"):
        default = {"time_format": None, "epoch": "unix", "epoch_unit": "auto"}.get(key)
        given = [one.get(key, default) for one in settings]
        if any(one != default for one in given):
            value[key] = given if several else given[0]
    reasons = [column.moments.reason for column in best.columns if column.moments is not None] or [
        "a step number"
    ]
    reasons.append(f"{best.ties:.1%} of the events are equal in it to the user's event before")
    if best.in_file > 0.5:
        reasons.append(f"the rows of a user follow it in {best.in_file:.0%} of the file")
    others = [f"[{', '.join(column.name for column in one.columns)}]" for one in found[1 : 1 + MOST_OTHERS]]
    first = best.columns[0].moments
    others += [f"its values as {other}" for other in (first.others if first is not None else ())]
    return Choice("order", value, "; ".join(reasons), tuple(others))


def _zone(order: Sequence[Column]) -> Iterator[Choice]:
    """Where the zone is open: a remark, for nothing in the log tells it."""
    moments = next((column.moments for column in order if column.kind == "time"), None)
    if moments is None:
        return
    if moments.share_zoned == 0 and moments.has_hour:
        yield Choice(
            "",
            None,
            "the times name no zone and count as UTC: add time_zone: Europe/Berlin (or whichever) to order",
        )
    elif moments.has_hour:
        yield Choice(
            "", None, "add time_zone to order for the clock of the users' place: without one it is UTC"
        )


def _told(sitting: Column | None, grouping: Column | None, labels: Column | None) -> Iterator[Choice]:
    if sitting is not None:
        reason = f"{sitting.distinct:,} different ones, {sitting.rows_each:,.1f} rows each, all of one user"
        yield Choice("session", sitting.name, reason, ("leave it out: all events of a user by the order",))
    if grouping is not None:
        yield Choice(
            "group", grouping.name, f"{grouping.distinct:,} groups; each user is in one", ("the user",)
        )
    if labels is not None:
        values = ", ".join(map(str, labels.distinct_values.to_pylist()))
        yield Choice("split_column", labels.name, f"its values are {values}", ("split.by: time",))


def _context(
    columns: Sequence[Column],
    order: Sequence[Column],
    user: Column,
    behavior: Column,
    taken: Sequence[Column],
) -> Iterator[Choice]:
    moments = next((column.moments for column in order if column.kind == "time"), None)
    if moments is not None:
        if moments.has_hour:
            yield Choice(
                "clock", ["weekday", "hour"], "the times tell the hour; both are known before the event"
            )
        else:
            yield Choice("clock", ["weekday"], "the times are dates; the weekday is known before the event")
    found = roles.contexts(columns, user, behavior, taken)
    if found:
        names = [column.name for column in found]
        reason = (
            "known only once the event happened, to be safe: what gives the answer away makes every number worthless. "
            "Move to context_before what your application knows before the event"
        )
        others = tuple(names[MOST_CONTEXTS : MOST_CONTEXTS + 12])
        yield Choice("context_after", names[:MOST_CONTEXTS], reason, others)


def _split(labels: Column | None, grouping: Column | None, middle: float | None) -> Choice:
    if labels is not None:
        return Choice("by", "column", f"the log brings its own in {labels.name!r}")
    if middle is not None and middle < FEW_EVENTS:
        what = "groups" if grouping is not None else "users"
        return Choice(
            "by",
            "group",
            f"half of the users have {middle:.0f} events or fewer: whole {what} go to a part",
            ("time",),
        )
    return Choice("by", "time", "the last events of each user are for validation and test", ("group",))


def _windows(middle: float | None) -> Iterator[Choice]:
    if middle is None:
        most, reason = 16, "past events that a sample sees; how many a user has cannot be told by these rows"
    else:
        most = 32 if middle >= 100 else 16 if middle >= 12 else 8
        reason = f"past events that a sample sees; half of the users have {middle:.0f} events or fewer"
    yield Choice("max_events", most, reason)
    yield Choice("stride", most // 2, "half of it: neighboring samples share tokens")


def _others(scored: Sequence[roles.Scored], chosen: roles.Scored) -> tuple[str, ...]:
    near = [one for one in scored if one.column is not chosen.column and one.score > chosen.score - CLOSE]
    return tuple(one.column.name for one in near[:MOST_OTHERS])


def _doubts(user: roles.Scored, what: Sequence[roles.Scored], order: roles.Ordered) -> Iterator[str]:
    if user.score < NOT_SURE:
        yield f"no column looks like the user; {user.column.name!r} is the likeliest"
    if what[0].score < NOT_SURE:
        yield f"no column looks like the behavior; {what[0].column.name!r} is the likeliest"
    if len(what) > 1 and what[1].score > what[0].score - 0.5:
        yield f"the behavior may as well be {what[1].column.name!r}"
    if order.ties > roles.MANY_TIES:
        yield f"{order.ties:.0%} of the events are tied in the order: files and rows decide between them"


def _nobody(role: str, columns: Sequence[Column]) -> str:
    shown = ", ".join(
        f"{column.name} ({column.kind}, {column.distinct:,} different)" for column in columns[:40]
    )
    return (
        f"no column can be {role}; what is there: {shown}. Write a mapping (docs/own_logs.md) and look at it with "
        "--mapping"
    )


def _nested(choices: Sequence[Choice]) -> Mapping[str, Any]:
    return {choice.key: choice.value for choice in choices if choice.key}
