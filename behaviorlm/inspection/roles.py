"""Which column plays which role: by what it is called, by what it holds, and by how it goes together with others."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from behaviorlm.inspection.columns import Column
from behaviorlm.inspection.name_words import (
    BEHAVIOR,
    GROUP,
    LESS_TIME,
    PERHAPS_BEHAVIOR,
    PERHAPS_USER,
    SESSION,
    SPLIT_VALUES,
    STEP,
    TIME,
    USER,
    speaks_for,
)

MOST_CANDIDATES = 6
MOST_BEHAVIORS = 5_000
LONG_TEXT = 80
MANY_TIES = 0.01


@dataclass(frozen=True)
class Scored:
    """A column for a role: how much speaks for it, and what, in words."""

    column: Column
    score: float
    reason: str


@dataclass(frozen=True)
class Ordered:
    """Columns in an order. ties: share of a user's events that are equal in it to another. in_file: share of a user's
    neighboring rows that follow it.
    """

    columns: tuple[Column, ...]
    ties: float
    in_file: float


def users(columns: Sequence[Column]) -> list[Scored]:
    """Columns that may name the user, the likeliest first."""
    return _ranked(scored for column in columns if (scored := _as_user(column)) is not None)


def behaviors(columns: Sequence[Column], user: Column) -> list[Scored]:
    """Columns that may name the behavior of that user, the likeliest first."""
    return _ranked(scored for column in columns if (scored := _as_behavior(column, user)) is not None)


def _as_user(column: Column) -> Scored | None:
    name = speaks_for(column.name, USER, PERHAPS_USER)
    if column.kind == "number" and name < 2:
        return None
    if column.kind in ("time", "duration", "list", "empty", "yes or no") or column.distinct < 2:
        return None
    score, said = name, ["called like a user"] if name >= 2 else ["called like one who acts"] if name else []
    if speaks_for(column.name, SESSION):
        score -= 1.5
    if column.rows_each >= 3:
        score += 1
    elif column.rows_each < 1.5:
        score -= 2.5
    if column.nulls > 0.5:
        score -= 2
    if column.characters > LONG_TEXT:
        score -= 2
    if column.distinct < 5:
        score -= 0.5
    if column.kind in ("UUID", "whole number") and column.distinct > 20:
        score += 0.3
    said.append(f"{column.distinct:,} different ones, {column.rows_each:,.1f} rows each")
    return Scored(column, score, "; ".join(said))


def _as_behavior(column: Column, user: Column) -> Scored | None:
    if (
        column is user
        or column.kind in ("time", "duration", "number", "list", "empty")
        or column.distinct < 2
    ):
        return None
    name = speaks_for(column.name, BEHAVIOR, PERHAPS_BEHAVIOR)
    score, said = name, ["called like a behavior"] if name >= 2 else []
    is_id = speaks_for(column.name, SESSION) or speaks_for(column.name, USER)
    if is_id:
        score -= 2
    if 3 <= column.distinct <= MOST_BEHAVIORS and column.rows_each >= 5:
        score += 1
    elif column.rows_each < 2:
        score -= 2
    score += {"text": 1.0, "whole number": -1.0, "UUID": -3.0, "yes or no": -1.0}.get(column.kind, 0.0)
    if column.kind == "text" and column.share_of_codes > 0.5:
        score -= 1.5
    if column.nulls > 0.5:
        score -= 2
    if column.characters > LONG_TEXT:
        score -= 2
    varied = share_of_users_with_several(column, user)
    if varied < 0.3:
        score -= 3
    said.append(
        f"{column.distinct:,} different ones, {column.rows_each:,.0f} rows each; they change within {varied:.0%} of "
        "the users"
    )
    return Scored(column, score, "; ".join(said))


def share_of_users_with_several(column: Column, user: Column) -> float:
    """Of users with two rows or more, the share that has two values of the column or more."""
    rows = (user.codes >= 0) & (column.codes >= 0)
    users_of = user.codes[rows]
    several = np.bincount(users_of, minlength=user.distinct) > 1
    pairs = np.unique(users_of.astype(np.int64) * max(column.distinct, 1) + column.codes[rows])
    values = np.bincount(pairs // max(column.distinct, 1), minlength=user.distinct)
    return float((values[several] > 1).mean()) if several.any() else 0.0


def determines(one: Column, other: Column) -> bool:
    """Whether each value of `one` goes with one value of `other` only (all but 1 %, where both are there)."""
    rows = (one.codes >= 0) & (other.codes >= 0)
    if not rows.any():
        return False
    keys = np.unique(one.codes[rows].astype(np.int64) * max(other.distinct, 1) + other.codes[rows])
    owners = keys // max(other.distinct, 1)
    return len(keys) <= 1.01 * len(np.unique(owners))


def orders(columns: Sequence[Column], user: Column, taken: Sequence[Column]) -> list[Ordered]:
    """Ways to put the events of a user in order, the likeliest first: times, then steps; several columns for ties."""
    times = sorted(
        (column for column in columns if column.kind == "time"), key=lambda column: -_time_score(column, user)
    )
    steps = [
        column
        for column in columns
        if column.kind == "whole number"
        and column is not user
        and column not in taken
        and column.nulls < 0.05
        and column.distinct > 1
    ]
    steps.sort(key=lambda column: -speaks_for(column.name, STEP))
    durations = [column for column in columns if column.kind == "duration"]
    found = [ordered(user, [column]) for column in times[:MOST_CANDIDATES]]
    if found and found[0].ties > MANY_TIES:
        more = [
            ordered(user, [found[0].columns[0], extra]) for extra in [*durations, *steps[:MOST_CANDIDATES]]
        ]
        breaking = [one for one in more if one.ties < found[0].ties / 2 and _is_believed(one)]
        found = [*sorted(breaking, key=lambda one: (round(one.ties, 3), -one.in_file))[:2], *found]
    if not found:
        alone = [ordered(user, [column]) for column in [*steps, *durations]]
        pairs = [ordered(user, pair) for pair in permutations(steps[:MOST_CANDIDATES], 2)]
        tried = [one for one in [*alone, *pairs] if one.ties < 0.5]
        tried.sort(key=lambda one: (round(one.ties, 2), len(one.columns), -_step_score(one)))
        found = tried[: 2 * MOST_CANDIDATES]
    return found


def ordered(user: Column, by: Sequence[Column]) -> Ordered:
    """How well columns order the events of each user."""
    keys = [order_of(column) for column in by]
    rows = (user.codes >= 0) & np.logical_and.reduce([readable for _, readable in keys])
    users_of = user.codes[rows]
    values = [key[rows] for key, _ in keys]
    if not len(users_of):
        return Ordered(tuple(by), 1.0, 0.0)
    place = np.arange(len(users_of))
    in_file = np.lexsort((place, users_of))
    steps = [value[in_file][1:] for value in values], [value[in_file][:-1] for value in values]
    same_user = users_of[in_file][1:] == users_of[in_file][:-1]
    later, equal = _compare(*steps)
    follows = float(later[same_user & ~equal].mean()) if (same_user & ~equal).any() else 0.0
    by_order = np.lexsort((*values[::-1], users_of))
    tied = users_of[by_order][1:] == users_of[by_order][:-1]
    for value in values:
        tied &= value[by_order][1:] == value[by_order][:-1]
    return Ordered(tuple(by), float(tied.sum() / len(users_of)), follows)


def order_of(column: Column) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """(int64[n] that orders rows, bool[n] where it is known) of a column of times, durations or whole numbers."""
    if column.moments is not None:
        return column.moments.order, column.moments.is_readable
    texts = column.distinct_values.to_pylist()
    numbers = np.array([_whole(text) for text in texts] or [0], object)
    known = np.array([number is not None for number in numbers])
    values = np.array([number or 0 for number in numbers], np.int64)
    codes = np.maximum(column.codes, 0)
    return values[codes], known[codes] & (column.codes >= 0)


def session(columns: Sequence[Column], user: Column) -> Column | None:
    """A column that is called a session and holds several events of one user each."""
    for column in columns:
        is_usable = column.kind in ("text", "whole number", "UUID", "time") and column.nulls < 0.2
        if column is user or not is_usable or column.rows_each < 2:
            continue
        if speaks_for(column.name, SESSION) >= 2 and determines(column, user):
            return column
    return None


def group(columns: Sequence[Column], user: Column, behavior: Column) -> Column | None:
    """A column that is called a group and puts each user in one of several."""
    for column in columns:
        if (
            column in (user, behavior)
            or column.kind not in ("text", "whole number", "UUID")
            or column.nulls > 0.01
        ):
            continue
        is_smaller = 2 <= column.distinct <= 0.95 * user.distinct
        if is_smaller and speaks_for(column.name, GROUP) >= 2 and determines(user, column):
            return column
    return None


def split(columns: Sequence[Column]) -> Column | None:
    """A column of split labels."""
    for column in columns:
        is_usable = column.kind == "text" and 2 <= column.distinct <= 4 and column.nulls < 0.05
        if is_usable and {value.casefold() for value in column.distinct_values.to_pylist()} <= SPLIT_VALUES:
            return column
    return None


def contexts(
    columns: Sequence[Column], user: Column, behavior: Column, taken: Sequence[Column]
) -> list[Column]:
    """Columns that may tell something of an event beyond its behavior, those first that tell most."""
    found = {}
    for column in columns:
        if (
            column in taken
            or column in (user, behavior)
            or column.kind not in ("text", "whole number", "yes or no")
        ):
            continue
        is_sized = 2 <= column.distinct <= 500 and column.rows_each >= 10 and column.characters <= 40
        if (
            not is_sized
            or column.nulls > 0.5
            or speaks_for(column.name, SESSION)
            or speaks_for(column.name, USER)
        ):
            continue
        if determines(behavior, column) or determines(user, column):
            continue
        found[column.name] = column
    return sorted(found.values(), key=lambda column: (column.kind == "whole number", column.distinct > 50))


def _ranked(scored: Iterator[Scored]) -> list[Scored]:
    return sorted(scored, key=lambda one: -one.score)


def _time_score(column: Column, user: Column) -> float:
    assert column.moments is not None
    score = speaks_for(column.name, TIME) - 2 * (speaks_for(column.name, LESS_TIME) > 0) - 4 * column.nulls
    one = ordered(user, [column])
    varied = share_of_users_with_several(column, user)
    return score + column.moments.has_hour + one.in_file - 2 * one.ties - 3 * (varied < 0.3)


def _is_believed(one: Ordered) -> bool:
    """Whether a further column is a step: called so, or one by which rows follow each other in the files."""
    return (
        speaks_for(one.columns[-1].name, STEP) > 0 or one.columns[-1].kind == "duration" or one.in_file > 0.99
    )


def _step_score(one: Ordered) -> float:
    return sum(speaks_for(column.name, STEP) for column in one.columns) / len(one.columns) + 3 * one.in_file


def _compare(
    after: Sequence[NDArray[np.int64]], before: Sequence[NDArray[np.int64]]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(later, equal), by the first column, then the next."""
    later, equal = np.zeros(len(after[0]), bool), np.ones(len(after[0]), bool)
    for one, other in zip(after, before, strict=True):
        later |= equal & (one > other)
        equal &= one == other
    return later, equal


def _whole(text: str) -> int | None:
    try:
        number = int(text.partition(".")[0])
    except ValueError:
        return None
    return number if -(2**63) <= number < 2**63 else None
