"""Rows that hold several events: lists of them, or several sets of columns."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from behaviorlm.log_files.config import EventsConfig, source_columns
from behaviorlm.log_files.file_config import EventOfRow
from behaviorlm.log_files.json_keys import value_at, with_value


def list_keys(config: EventsConfig) -> list[str]:
    """The keys of the lists of which each item is an event."""
    keys = [config.explode] if isinstance(config.explode, str) else config.explode or []
    return [key for key in keys if isinstance(key, str)]


def events_of_row(config: EventsConfig) -> list[EventOfRow]:
    """The events that a wide row holds; none for rows that are an event each."""
    kinds = config.explode if isinstance(config.explode, list) else []
    return [kind for kind in kinds if isinstance(kind, EventOfRow)]


def file_columns(config: EventsConfig) -> dict[str, str]:
    """What is read of the files: role -> column, as of `source_columns`, but that the events of a wide row each have
    an order and a behavior of their own (order@0, behavior@0, order@1, …).
    """
    columns = source_columns(config)
    kinds = events_of_row(config)
    if kinds:
        del columns["order"], columns["behavior"]
    for number, kind in enumerate(kinds):
        columns[f"order@{number}"] = kind.order
        if kind.behavior is not None:
            columns[f"behavior@{number}"] = kind.behavior
    return columns


def file_schema(config: EventsConfig) -> pa.Schema:
    """A string for each role of `file_columns`, and row int64."""
    return pa.schema([*((role, pa.string()) for role in file_columns(config)), ("row", pa.int64())])


def narrow(wide: pa.Table, quarantine: pa.Table, config: EventsConfig) -> tuple[pa.Table, pa.Table]:
    """A row for each event that wide rows hold, in their order; `row` then counts places for events.

    An event of which neither order nor behavior is there is none.
    """
    kinds = events_of_row(config)
    if not kinds:
        return wide, quarantine
    roles = list(source_columns(config))
    tables = []
    for number, kind in enumerate(kinds):
        order = wide[f"order@{number}"]
        is_there = order.is_valid()
        if kind.behavior is None:
            behavior = pa.chunked_array([pa.repeat(pa.scalar(kind.name, pa.string()), wide.num_rows)])
        else:
            behavior = wide[f"behavior@{number}"]
            is_there = pc.or_(is_there, behavior.is_valid())
        own = {"order": order, "behavior": behavior}
        rows = pc.add(pc.multiply(pc.subtract(wide["row"], 1), len(kinds)), number + 1)
        table = pa.table(
            [own[role] if role in own else wide[role] for role in roles] + [rows], [*roles, "row"]
        )
        tables.append(table.filter(is_there))
    narrowed = pa.concat_tables(tables)
    narrowed = narrowed.take(pa.array(np.argsort(narrowed["row"].to_numpy(), kind="stable")))
    rows = pc.add(pc.multiply(pc.subtract(quarantine["row"], 1), len(kinds)), 1)
    return narrowed, quarantine.set_column(
        quarantine.schema.get_field_index("row"), quarantine.schema.field("row"), rows
    )


def exploded(row: Mapping[str, Any], config: EventsConfig) -> list[Mapping[str, Any]]:
    """The rows of the events of a JSON object: itself, or one for each item of its lists, which run side by side.

    An empty list holds no event. Raises ValueError for what is no list and for lists of different lengths.
    """
    if not list_keys(config):
        return [row]
    lists = {key: value_at(row, key) for key in list_keys(config)}
    for key, items in lists.items():
        if not isinstance(items, list):
            raise ValueError(f"the value of {key!r} is no list, as events.explode says")
    lengths = {key: len(items) for key, items in lists.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"lists of different lengths: {lengths}")
    rows: list[Mapping[str, Any]] = []
    for index in range(next(iter(lengths.values()))):
        event = row
        for key, items in lists.items():
            event = with_value(event, key, items[index])
        rows.append(event)
    return rows


def sound_events(row: Mapping[str, Any], config: EventsConfig) -> list[Mapping[str, Any]]:
    """The same; none where the row will be set aside when it is read."""
    try:
        return exploded(row, config)
    except ValueError:
        return []
