"""Timelines and samples: events in order, what is a target, stable ids, repeats and duplicates."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from behaviorlm.errors import DataError
from behaviorlm.log_files.config import EventsConfig, context_columns
from behaviorlm.log_files.text import one_chunk
from behaviorlm.timelines.config import SplitConfig
from behaviorlm.timelines.gaps import with_gaps
from behaviorlm.timelines.ordering import Ordering, directions, put_in_order, same_as_before, value_codes
from behaviorlm.timelines.sample_ids import SAMPLE_ID_TYPE, sample_ids
from behaviorlm.timelines.splits import (
    SPLIT_NAMES,
    TRAIN,
    assign_splits,
    check_split_settings,
    torn_user,
    user_starts,
)


def timeline_schema(config: EventsConfig) -> pa.Schema:
    """Schema of timelines: rows by user, order, file, row (see `ordering.put_in_order`).

    user, group, behavior string; position int32 (0-based in the timeline); session_position int32 (0-based in the
    session), only where histories do not cross sessions; order int64, the first of the order's columns; before.*,
    after.* string; split int8 (0 train, 1 validation, 2 test); is_target bool; is_repeat bool (same behavior as the
    event before); sample_id fixed_size_binary(16).
    """
    before, after = context_columns(config)
    return pa.schema(
        [
            pa.field("user", pa.string(), nullable=False),
            pa.field("group", pa.string(), nullable=False),
            pa.field("position", pa.int32(), nullable=False),
            *([] if config.histories_cross_sessions else [pa.field("session_position", pa.int32())]),
            pa.field("order", pa.int64(), nullable=False),
            pa.field("behavior", pa.string(), nullable=False),
            *(pa.field(name, pa.string()) for name in [*before, *after]),
            pa.field("split", pa.int8(), nullable=False),
            pa.field("is_target", pa.bool_(), nullable=False),
            pa.field("is_repeat", pa.bool_(), nullable=False),
            pa.field("sample_id", SAMPLE_ID_TYPE, nullable=False),
        ]
    )


@dataclass(frozen=True)
class Before:
    """What the events of a user before a segment leave behind for it.

    whole: how many events the user has in all. events: those before. behavior, order, group: of the last one of them.
    held_out: those in validation and test.
    """

    whole: int
    events: int = 0
    behavior: str | None = None
    order: int | None = None
    group: str | None = None
    held_out: int = 0

    def after(self, timelines: pa.Table) -> "Before":
        """The same after a segment of so many events."""
        if not len(timelines):
            return self
        last = {name: timelines[name][-1].as_py() for name in ("behavior", "order", "group")}
        held_out = self.held_out + int((timelines["split"].to_numpy() != TRAIN).sum())
        return Before(self.whole, self.events + len(timelines), held_out=held_out, **last)


NOTHING = Before(0)


def build_timelines(
    events: pa.Table,
    events_config: EventsConfig,
    split_config: SplitConfig,
    min_history: int,
    dataset: str,
    before: Before | None = None,
) -> tuple[pa.Table, dict[str, int]]:
    """Timelines of all users in `events` (normalized events; every user's rows must all be here).

    before: `events` are a segment of one user's, all those between two orders of a log without sessions.

    Returns (table of `timeline_schema`, counts). An event is a target if at least `min_history` events of its
    user (of its session, where histories do not cross sessions) come before it. Ties in order are broken by file and
    row. Independent of the order of the rows of `events`.
    Counts: users, events_read, events, tied_events (same user and order as the event before), ascending_rows and
    descending_rows (see `ordering.directions`), exact_duplicates, duplicates_dropped, repeats (after dropping
    duplicates), repeats_dropped, targets, <split>_events, <split>_targets, users_all_train, train_after_held_out
    (training events with an earlier event of their user in another split). They add up over partitions by user.

    Raises ConfigError for a split by a column that is not configured; DataError for unknown split labels, a
    user in several groups when whole groups are split, and times of a user with and without zone and none
    configured.
    """
    check_split_settings(split_config, events_config)
    events = events.combine_chunks()
    _check_zones(events, events_config)
    known = before or NOTHING
    order, is_repeat, counts = rows_in_order(events, events_config, known.behavior)
    table = _needed(events, events_config).take(pa.array(order.rows)).combine_chunks()
    if events_config.group is None:
        table = table.append_column("group", table["user"])
    starts = user_starts(one_chunk(table["user"]))
    is_first = np.isin(np.arange(table.num_rows), starts) & (known.events == 0)
    table = with_gaps(table, is_first, known.order)
    sizes = np.diff(np.append(starts, table.num_rows))
    if split_config.by == "group":
        _check_groups(table, starts, known.group)
    position = (known.events + np.arange(table.num_rows) - np.repeat(starts, sizes)).astype(np.int32)
    in_history = position if events_config.histories_cross_sessions else _in_session(order)
    columns = {
        "position": position,
        "session_position": in_history,
        "split": assign_splits(
            table.append_column("position", pa.array(position)),
            split_config,
            None if before is None else before.whole,
        ),
        "is_target": in_history >= min_history,
        "is_repeat": is_repeat,
        "sample_id": sample_ids(
            dataset, one_chunk(table["user"]).take(pa.array(starts)), sizes, known.events
        ),
    }
    schema = timeline_schema(events_config)
    arrays = [columns[name] if name in columns else one_chunk(table[name]) for name in schema.names]
    timelines = pa.table(arrays, schema=schema)
    counts.update(_count(timelines, starts, known))
    return timelines, counts


def _needed(events: pa.Table, config: EventsConfig) -> pa.Table:
    """The columns that timelines are made of; a group that is the user is not among them."""
    names = {*timeline_schema(config).names, "split_label"}
    if config.group is None:
        names.remove("group")
    return events.select([name for name in events.column_names if name in names])


def rows_in_order(
    events: pa.Table, config: EventsConfig, before: str | None = None
) -> tuple[Ordering, np.ndarray, dict[str, int]]:
    """Which rows stay, in order; whether each repeats the one before; what was counted on the way.

    before: the behavior of the event before, where these are a segment of one user's.
    """
    order = put_in_order(events, config)
    counts = {"events_read": events.num_rows, **directions(events, order, config)}
    is_duplicate = _later_duplicates(events, config, order)
    counts["exact_duplicates"] = int(is_duplicate.sum())
    counts["duplicates_dropped"] = 0
    if config.exact_duplicates == "drop":
        counts["duplicates_dropped"] = counts["exact_duplicates"]
        order = _kept(order, ~is_duplicate)
    counts["tied_events"] = int(order.is_tied.sum())

    behavior = value_codes(events["behavior"])[order.rows]
    # Where histories do not cross sessions, an event has no event before it in another one.
    within = (order.user,) if config.histories_cross_sessions else (order.user, order.session)
    is_repeat = same_as_before(*within, behavior)
    if before is not None and len(order.rows):
        is_repeat[0] = events["behavior"][int(order.rows[0])].as_py() == before
    counts["repeats"] = int(is_repeat.sum())
    counts["repeats_dropped"] = 0
    if config.collapse_repeats:
        counts["repeats_dropped"] = counts["repeats"]
        order = _kept(order, ~is_repeat)
        is_repeat = np.zeros(len(order.rows), dtype=bool)
    return order, is_repeat, counts


def _in_session(order: Ordering) -> NDArray[np.int32]:
    """The place of each event in its session, int32[n]."""
    begins = np.flatnonzero(~same_as_before(order.user, order.session))
    lengths = np.diff(np.append(begins, len(order.rows)))
    return (np.arange(len(order.rows)) - np.repeat(begins, lengths)).astype(np.int32)


def _kept(order: Ordering, stays: np.ndarray) -> Ordering:
    return Ordering(order.rows[stays], order.user[stays], order.session[stays], order.is_tied[stays])


def training_target_counts(timelines: pa.Table) -> dict[str, int]:
    """Number of training targets per behavior, for `vocabulary.build_vocabulary`; adds up over partitions."""
    wanted = pc.and_(timelines["is_target"], pc.equal(timelines["split"], TRAIN))
    counted = timelines["behavior"].filter(wanted).value_counts()
    return {entry["values"]: entry["counts"] for entry in counted.to_pylist()}


def _later_duplicates(events: pa.Table, config: EventsConfig, order: Ordering) -> np.ndarray:
    """bool[n] over the rows in order: equal in everything but file and row to one before it."""
    # Equal rows lie within one run of ties, and few rows do: only those are looked at.
    sorting = order.rows
    is_tied = order.is_tied & same_as_before(order.user, order.session)
    in_run = is_tied.copy()
    in_run[:-1] |= is_tied[1:]
    candidates = np.flatnonzero(in_run)
    is_duplicate = np.zeros(len(sorting), dtype=bool)
    tied = events.take(pa.array(sorting[candidates]))
    before, after = context_columns(config)
    key: np.ndarray = np.cumsum(~is_tied)[candidates]
    group = [] if config.group is None else ["group"]
    for name in ["behavior", *group, "split_label", *before, *after]:
        codes = value_codes(tied[name])
        # Both are at most the number of rows, so their product cannot overflow.
        key = np.unique(key * (codes.max(initial=0) + 1) + codes, return_inverse=True)[1].astype(np.int64)
    # Stable, so the first of equal keys stays first.
    grouped = np.argsort(key, kind="stable")
    repeats_key = key[grouped][1:] == key[grouped][:-1]
    is_duplicate[candidates[grouped[1:][repeats_key]]] = True
    return is_duplicate


def _check_zones(events: pa.Table, config: EventsConfig) -> None:
    if (
        not config.order.has_time
        or config.order.time_zone is not None
        or "is_zoned" not in events.column_names
    ):
        return
    kinds = pc.unique(events["is_zoned"]).drop_null().to_pylist()
    if len(kinds) == 2:
        example = {}
        for is_zoned in (True, False):
            index = pc.index(events["is_zoned"], is_zoned).as_py()
            example[is_zoned] = f"file {events['file'][index]}, row {events['row'][index]}"
        raise DataError(
            f"{config.dataset}: some times have a zone ({example[True]}) and some have none "
            f"({example[False]}), so they "
            "cannot be put in order; set events.order.time_zone to the zone of those without"
        )


def _check_groups(table: pa.Table, starts: np.ndarray, before: str | None) -> None:
    if before is not None and len(table) and table["group"][0].as_py() != before:
        raise DataError(torn_user(table["user"][0].as_py(), before, table["group"][0].as_py()))
    group = value_codes(table["group"])
    same_user = np.ones(len(group), dtype=bool)
    same_user[starts] = False
    torn = np.flatnonzero(same_user & (group != np.roll(group, 1)))
    if len(torn):
        index = int(torn[0])
        groups = (table["group"][place].as_py() for place in (index - 1, index))
        raise DataError(torn_user(table["user"][index].as_py(), *groups))


def _count(timelines: pa.Table, starts: np.ndarray, before: Before) -> dict[str, int]:
    split = timelines["split"].to_numpy()
    is_target = timelines["is_target"].to_numpy()
    is_new = before.events == 0
    counts = {"users": len(starts) * is_new, "events": timelines.num_rows, "targets": int(is_target.sum())}
    for index, name in enumerate(SPLIT_NAMES):
        counts[f"{name}_events"] = int((split == index).sum())
        counts[f"{name}_targets"] = int((is_target & (split == index)).sum())
    with_held_out = np.add.reduceat((split != TRAIN).astype(np.int64), starts) if len(starts) else np.zeros(0)
    counts["users_all_train"] = int((with_held_out == 0).sum())
    if before.whole:  # counted where a user's last event is, and of all of them
        is_last = before.events + timelines.num_rows == before.whole
        counts["users_all_train"] *= is_last and before.held_out == 0
    held_out_before = before.held_out + np.cumsum(split != TRAIN) - (split != TRAIN)
    of_others = np.repeat(held_out_before[starts], np.diff(np.append(starts, len(split))))
    if before.held_out:
        of_others = np.zeros(len(split), np.int64)
    counts["train_after_held_out"] = int(((held_out_before > of_others) & (split == TRAIN)).sum())
    return counts
